"""Make the instructor edition of the notebooks: exercises answered, with hints and what the check says to mistakes.

    python -m classroom.instructor                  all notebooks, into the folder instructor
    python -m classroom.instructor 03 05 --out DIR  two of them, into another folder

The outputs of the lessons are those that the notebooks hold; those of the answers are computed here, and an answer that
its own check does not call right stops everything. A file that was edited since it was made here stays as it is.
"""

import argparse
import hashlib
import json
import os
import re
import sys
import urllib.parse
from collections.abc import Iterable
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from course_utils.clinic import PATIENTS, wrong_diagnoses
from course_utils.device import use_cpu_threads
from course_utils.exercises import BY_NOTEBOOK
from course_utils.exercises.clinic import opinion_on
from course_utils.exercises.question import Question, Reply, short
from course_utils.files import write_atomically

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
MARK = "instructor_edition"  # in the metadata of what is made here: the fingerprint of its text and code
NOTE = """> **Instructor edition** of [{name}]({link}), made by `python -m classroom.instructor`. {what}
> Write notes of your own into it, if you like: a file that was changed is never written over."""
ANSWERS = """The exercises are answered; folded below
> each answer stands what the check says to a wrong one, and the hints, which your students get one at a time."""
NO_ANSWERS = "It has no exercise with a check."
CHANGED = """{files}: changed since made, so left as it is.
To get the new edition, give yours another name, or choose another folder by --out."""
CHECK = re.compile(r"^exercises\.(\w+\.q\d+)\.check\(", re.MULTILINE)
EXAMINE = re.compile(r'^exercises\.clinic\.examine\("(\w+)", diagnosis=\.\.\.\)', re.MULTILINE)
LINK = re.compile(r"(?<=\]\()[^)\s#]+")  # where a link or a picture leads, without the place in the page


def find_notebooks(names: Iterable[str] = ()) -> list[Path]:
    """The course's notebooks by number ("03b") or name; all of them where none is named. Raises ValueError."""
    there = sorted(NOTEBOOKS.glob("*.ipynb"))
    wanted = {Path(name).stem for name in names}
    found = [path for path in there if not wanted or wanted & {path.stem, path.stem.partition("_")[0]}]
    known = {name for path in found for name in (path.stem, path.stem.partition("_")[0])}
    if unknown := sorted(wanted - known):
        raise ValueError(f"There is no notebook {unknown[0]}. There are: {', '.join(path.stem for path in there)}.")
    return found


def edition(path: Path, folder: Path, beside: set[str]) -> NotebookNode:
    """The instructor edition of a notebook, for a folder; `beside`: the file names of the editions that are there too.

    Links and pictures lead from that folder to the course's files, and to editions where there are any. Raises
    ValueError where an exercise does not stand in the notebook as it is asked, or where its solution does not pass.
    """
    notebook = nbformat.read(path, as_version=4)
    waiting = {question.name: question for question in BY_NOTEBOOK.get(path.stem, ())}
    note = NOTE.format(name=path.stem, link=link(folder, path), what=ANSWERS if waiting else NO_ANSWERS)
    cells = [nbformat.v4.new_markdown_cell(note, id="edition")]
    for cell in notebook.cells:
        cells.append(cell)
        if cell.cell_type == "markdown":
            cell.source = LINK.sub(lambda found: moved(found[0], folder, beside), cell.source)
        elif asked := CHECK.search(cell.source):
            cells.append(answer(cell, waiting.pop(asked[1])))
        elif asked := EXAMINE.search(cell.source):
            cells.append(diagnose(cell, asked[1]))
    if waiting:
        raise ValueError(f"{path.name} does not ask {', '.join(waiting)}.")
    notebook.cells = cells
    notebook.metadata[MARK] = fingerprint(notebook)
    return notebook


def link(folder: Path, target: Path) -> str:
    """A link from a file in the folder. Raises ValueError where none leads there: on Windows, from another drive."""
    return urllib.parse.quote(Path(os.path.relpath(target, folder)).as_posix())


def moved(target: str, folder: Path, beside: set[str]) -> str:
    """A link's target in a notebook, as it has to be in the folder."""
    if target in beside or not (NOTEBOOKS / target).exists():  # also the addresses of web pages
        return target
    return link(folder, NOTEBOOKS / target)


def answer(cell: NotebookNode, question: Question) -> NotebookNode:
    """Put the solution and the reply to it into an exercise's cell; returns the cell of notes to stand below it."""
    if not cell.source.startswith(question.cell):
        raise ValueError(f"{question.name} does not stand in its notebook as it is asked. Was it answered there?")
    cell.source = question.solution_code + cell.source.removeprefix(question.cell)
    names: dict = {}
    exec(question.solution_code, names)
    put_reply(cell, question.name, question.reply(names[question.fills]))
    replies = {}
    for mistake in question.mistakes:
        wrong = mistake.answer() if question.kind == "model" else mistake.answer
        value = f" ({short(wrong)})" if question.kind == "value" else ""
        replies[mistake.name + value] = question.reply(wrong).text
    hints = {f"Hint {number}": hint for number, hint in enumerate(question.hints, start=1)}
    return notes(question.name, "What the check says to a wrong answer, and the hints", replies | hints)


def diagnose(cell: NotebookNode, patient: str) -> NotebookNode:
    """Put the diagnosis of a patient into its cell in notebook 05; returns the cell of notes to stand below it."""
    diagnosis = PATIENTS[patient].diagnosis
    cell.source = cell.source.replace("diagnosis=...", f'diagnosis="{diagnosis}"')
    put_reply(cell, patient, opinion_on(patient, diagnosis))
    return notes(patient, "What the curves say to every other diagnosis", wrong_diagnoses(patient))


def put_reply(cell: NotebookNode, name: str, reply: Reply) -> None:
    """Put the reply to a right answer in the place of the reply to none. Raises ValueError where it is not right."""
    if reply.verdict != "RIGHT":
        raise ValueError(f"The solution of {name} does not pass its check. {reply}")
    cell.outputs = [
        output for output in cell.outputs if "NO ANSWER YET" not in output.get("data", {}).get("text/plain", "")
    ]
    shown = {"text/plain": repr(reply), "text/html": reply._repr_html_()}
    cell.outputs.append(nbformat.v4.new_output("display_data", shown))


def notes(name: str, title: str, texts: dict[str, str]) -> NotebookNode:
    """A folded cell; each of the texts looks as it does where the notebook shows it."""
    shown = "\n".join(Reply(what, text)._repr_html_() for what, text in texts.items())
    source = f"<details><summary>{title}</summary>\n\n{shown}\n\n</details>"
    return nbformat.v4.new_markdown_cell(source, id=f"notes-{name.replace('.', '-')}")


def fingerprint(notebook: NotebookNode) -> str:
    """What its text and code are known by again; running it changes nothing of that."""
    sources = [[cell.cell_type, cell.source] for cell in notebook.cells]
    return hashlib.sha256(json.dumps(sources).encode("utf-8")).hexdigest()


def is_own(path: Path) -> bool:
    """Whether it is somebody's own: there, and not as it was made here."""
    if not path.exists():
        return False
    try:
        notebook = nbformat.read(path, as_version=4)
        return notebook.metadata.get(MARK) != fingerprint(notebook)
    except Exception:  # no notebook at all
        return True


def make(paths: list[Path], folder: Path) -> list[Path]:
    """Write the editions of notebooks into a folder; returns the files that were left, since somebody changed them.

    Nothing is written unless all of them can be made.
    """
    own = [folder / path.name for path in paths if is_own(folder / path.name)]
    beside = {path.name for path in [*paths, *folder.glob("*.ipynb")]}
    made = {path.name: edition(path, folder, beside) for path in paths if folder / path.name not in own}
    for name, notebook in made.items():
        write_atomically(folder / name, (nbformat.writes(notebook) + "\n").encode("utf-8"))
    return own


def main(arguments: list[str] | None = None) -> int:
    """Make the editions; the exit status is 1 where one was not made."""
    parser = argparse.ArgumentParser(prog="python -m classroom.instructor", description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", metavar="NOTEBOOK", help="its number or name (default: all)")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "instructor", metavar="DIR", help="where (default: instructor)"
    )
    args = parser.parse_args(arguments)
    try:
        use_cpu_threads()
        paths, folder = find_notebooks(args.notebooks), args.out.resolve()
        own = make(paths, folder)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"Made {len(paths) - len(own)} of {len(paths)} notebooks in {folder.name}")
    if own:
        print(CHANGED.format(files=", ".join(path.name for path in own)), file=sys.stderr)
    return 1 if own else 0


if __name__ == "__main__":
    sys.exit(main())
