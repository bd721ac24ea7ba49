"""Show which exercises are solved: right, tried, or still open."""

from __future__ import annotations

import argparse
from collections import Counter
from contextlib import suppress
from pathlib import Path

from course_utils.doctor.machine import described
from course_utils.exercises import BY_NOTEBOOK
from course_utils.exercises.memory import progress_file, states_in


def add_arguments(parser: argparse.ArgumentParser) -> None:
    about = "progress files of a class, or a folder of them: a table, a line each"
    parser.add_argument("files", metavar="FILE", nargs="*", type=Path, help=about)


def run(args: argparse.Namespace) -> int:
    """Print a line an exercise, or a line for each of a class. Raises what `read_class` raises."""
    if args.files:
        print_class(read_class(args.files))
        return 0
    states = {}
    try:
        states = states_in(progress_file())
    except FileNotFoundError:  # nothing was answered yet
        pass
    except (OSError, ValueError, RuntimeError) as error:
        print(f"Your progress cannot be read, so every exercise is shown as open. {described(error)}")
    for notebook, questions in BY_NOTEBOOK.items():
        right = sum(states.get(question.name) == "right" for question in questions)
        print(f"{notebook}: {right} of {len(questions)}")
        for question in questions:
            print(f"  {states.get(question.name, 'open'):5}  {question.name:15} {question.title}")
    with suppress(RuntimeError):  # a system that knows no home
        file, home = progress_file(), Path.home()
        print("Kept in", Path("~", file.relative_to(home)) if file.is_relative_to(home) else file)
    return 0


def read_class(paths: list[Path]) -> dict[str, dict[str, str]]:
    """{name of a file: what it holds}, of files and of all .json in folders. Raises OSError or ValueError."""
    files = [file for path in paths for file in (sorted(path.glob("*.json")) if path.is_dir() else [path])]
    people = {file.stem: states_in(file) for file in files}
    if len(people) < len(files) or not people:
        raise ValueError("Give each person's file a name of its own, anna.json and so on; a folder must hold some.")
    return people


def print_class(people: dict[str, dict[str, str]]) -> None:
    """How many answers of each notebook everybody has right; then the exercises where most are stuck."""
    columns = {notebook.partition("_")[0]: questions for notebook, questions in BY_NOTEBOOK.items()}
    width = max(len(name) for name in [*people, "of"])
    print(f"{'':{width}}", *(f"{number:>3}" for number in columns), " all")
    for name, states in people.items():
        right = [sum(states.get(question.name) == "right" for question in part) for part in columns.values()]
        print(f"{name:{width}}", *(f"{count:3}" for count in right), f"{sum(right):4}")
    totals = [len(part) for part in columns.values()]
    print(f"{'of':{width}}", *(f"{total:3}" for total in totals), f"{sum(totals):4}")
    questions = [question.name for part in columns.values() for question in part]
    stuck = Counter(name for states in people.values() for name in questions if states.get(name) == "tried")
    for name, count in stuck.most_common(5):
        print(f"tried, and not yet right: {name} ({count})")
