"""docs/teaching.md, held to the repository: its notebooks, sections, cells, exercises and minutes exist."""

import contextlib
import io
import math
import re
from pathlib import Path

import nbformat
import pytest

from course_utils.clinic import PATIENTS
from course_utils.exercises import BY_NOTEBOOK

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "teaching.md").read_text(encoding="utf-8")
NOTEBOOKS = {path.stem.partition("_")[0]: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
READ = {number: nbformat.read(path, as_version=4) for number, path in NOTEBOOKS.items()}
QUESTIONS = {question.name: question for questions in BY_NOTEBOOK.values() for question in questions}
MINUTES = {"value": 4, "model": 6, "function": 8}  # of an exercise alone, by its kind; in a plan a patient takes 5
FIELDS = ("The point", "Stuck", "Ask the room", "Demo", "Set", "Skip when late", "Fell behind")

SECTIONS = dict(re.findall(r"^### (\d\db?c?) [^\n]+\n(.*?)(?=^##)", TEXT, flags=re.M | re.S))
PLANS = re.findall(r"^### (Half a day|One day|Two days)\n(.*?)(?=^##|^\*\*Late)", TEXT, flags=re.M | re.S)


def field(number: str, name: str) -> str:
    """What a notebook's section says under one of FIELDS, in one line."""
    found = re.search(rf"^- \*\*{name}\*\*: (.*?)(?=^- \*\*|\Z)", SECTIONS[number], flags=re.M | re.S)
    return " ".join(found[1].split())


def headings(number: str) -> set[str]:
    prose = "\n".join(cell.source for cell in READ[number].cells if cell.cell_type == "markdown")
    return set(re.findall(r"^#+ (.+)$", prose, flags=re.M))


def code(number: str) -> dict[int, str]:
    """The code cells by the number that stands left of them."""
    cells = (cell for cell in READ[number].cells if cell.cell_type == "code" and cell.source.strip())
    return dict(enumerate((cell.source for cell in cells), start=1))


def italics(text: str) -> list[str]:
    return re.findall(r"(?<!\*)\*([^*\n]+)\*(?!\*)", text)


def cells_named(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\[(\d+)\]", text)]


def reading_minutes(number: str) -> float:
    """180 words a minute above the exercises; half a minute a code cell and a figure; three a patient."""
    words = cells = figures = patients = 0
    for cell in READ[number].cells:
        if cell.cell_type == "markdown":
            prose, exercises, _ = cell.source.partition("## Exercises")
            prose = re.sub(r"```.*?```", "", prose, flags=re.S)
            words += len(re.findall(r"[A-Za-z][\w'’-]*", re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", prose)))
            if exercises:
                break
        elif "exercises.clinic.examine" in cell.source:
            patients += 1
        elif cell.source.strip():
            cells += 1
            data = [output.get("data", {}) for output in cell.outputs]
            figures += sum("image/png" in shown or "<img" in shown.get("text/html", "") for shown in data)
    return words / 180 + (cells + figures) / 2 + 3 * patients


def table_of_notebooks() -> dict[str, list[str]]:
    part = TEXT.split("## The course in one table")[1].split("## ")[0]
    rows = (line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("| ["))
    return {re.search(r"\[(\w+)\]", row[0])[1]: row for row in rows}


def rows_of_plan(text: str) -> list[list[str]]:
    """[minutes, what, notebook, how] of each row of a plan."""
    lines = re.findall(r"^\| (\d+ \|.*) \|$", text, flags=re.M)
    return [[cell.strip() for cell in line.split("|")] for line in lines]


# --- the table and the plans ----------------------------------------------------------------------------------------


def test_the_table_has_every_notebook_with_the_readmes_seconds():
    table, readme = table_of_notebooks(), (ROOT / "README.md").read_text(encoding="utf-8")
    assert list(table) == list(NOTEBOOKS)
    for number, row in table.items():
        measured = re.search(rf"^\| \[{number} [^|]+\|[^|]+\|[^|]+\| (\d+ s) \|", readme, flags=re.M)[1]
        assert row[2] == measured, number
        assert NOTEBOOKS[number].name in row[0]


@pytest.mark.parametrize("number", NOTEBOOKS)
def test_reading_minutes_are_counted(number):
    stated = int(table_of_notebooks()[number][1].split()[0])
    counted = reading_minutes(number)
    assert abs(stated - counted) <= max(3, 0.1 * counted), f"{number}: {counted:.0f} minutes by the rule"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rounded = int(re.search(rf"^\| \[{number} [^|]+\|[^|]+\| (\d+) min \|", readme, flags=re.M)[1])
    assert rounded % 5 == 0 and abs(rounded - counted) <= 5, f"README, {number}: {counted:.0f} minutes by the rule"
    assert re.search(rf"\b{rounded} minutes", READ[number].cells[0].source), "the notebook's own line"


@pytest.mark.parametrize("number", NOTEBOOKS)
def test_exercise_minutes_follow_the_stated_rule(number):
    questions = BY_NOTEBOOK.get(NOTEBOOKS[number].stem, ())
    _, _, _, minutes, count, _ = table_of_notebooks()[number]
    assert int(count) == len(questions)
    assert int(minutes.split()[0]) == sum(MINUTES[question.kind] for question in questions)


def test_the_plans_add_up():
    assert [name for name, _ in PLANS] == ["Half a day", "One day", "Two days"]
    for name, text in PLANS:
        rows = rows_of_plan(text)
        counted = [int(row[0]) for row in rows if name == "Half a day" or row[1] != "break"]
        stated = int(re.search(r"^\| \*\*(\d+)\*\* \| \*\*total", text, flags=re.M)[1])
        assert sum(counted) == stated == (210 if name == "Half a day" else 390), name
        work = 0
        for minutes, what, *_ in rows:
            work = 0 if what == "break" else work + int(minutes)
            assert work <= 150, f"{name}: nobody can sit that long without a break"


@pytest.mark.parametrize(("plan", "row"), [(name, row) for name, text in PLANS for row in rows_of_plan(text)])
def test_a_row_of_a_plan_names_what_exists_and_has_time_for_it(plan, row):
    minutes, what, number, how = int(row[0]), *row[1:]
    assert what in ("talk", "show", "run", "exercise", "project", "break")
    if what == "break":
        return
    assert set(italics(how)) <= headings(number)
    assert what not in ("show", "run") or italics(how), "which section?"
    if what == "run":
        seconds = int(table_of_notebooks()[number][2].split()[0])
        assert 60 * minutes >= 5 * seconds, "laptops are slow, and people look at what comes out"
    if what == "exercise":
        names = re.findall(r"\b\w+\.\w+\b", how)
        patients = [name for name in names if name.partition(".")[2] in PATIENTS]
        asked = [QUESTIONS[name] for name in names if name not in patients]
        assert all(question in BY_NOTEBOOK[NOTEBOOKS[number].stem] for question in asked)
        needed = 5 * len(patients) + sum(MINUTES[question.kind] for question in asked)
        assert minutes == 5 * math.ceil(needed / 5)


# --- notebook by notebook -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", NOTEBOOKS)
def test_each_notebook_has_all_its_fields_and_what_they_name_exists(number):
    assert list(SECTIONS) == list(NOTEBOOKS)
    assert re.findall(r"^- \*\*([^*]+)\*\*: ", SECTIONS[number], flags=re.M) == list(FIELDS)
    for name in FIELDS:
        assert len(field(number, name)) > 20, name
    for name in ("Set", "Skip when late", "Fell behind"):
        assert {text for text in italics(field(number, name)) if " > " not in text} <= headings(number), name
    assert italics(field(number, "Skip when late")), "a section that can be left out, by its heading"
    for name in re.findall(r"\b\w+\.q\d\b", SECTIONS[number]):
        assert QUESTIONS[name] in BY_NOTEBOOK[NOTEBOOKS[number].stem], name
    assert set(cells_named(SECTIONS[number])) <= set(code(number))


@pytest.mark.parametrize("number", NOTEBOOKS)
def test_a_demonstration_changes_what_stands_in_its_cell(number):
    demo = field(number, "Demo")
    assert "Seen" in demo
    change = re.match(r"In cell \[(\d+)\] change `([^`]+)` to ", demo)
    if change is None:
        assert re.match(r"(After|Put) .*cell \[\d+\]", demo), "which cell?"
    else:
        assert change[2] in code(number)[int(change[1])]


@pytest.mark.parametrize("number", [number for number in NOTEBOOKS if number != "03b"])
def test_who_fell_behind_can_do_the_exercises_after_the_cells_that_are_named(number, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # the logs of notebook 04
    monkeypatch.setenv("COURSE_PROGRESS", str(tmp_path / "progress.json"))
    named = cells_named(field(number, "Fell behind").split("alone: cell")[1])
    answers = [place for place, source in code(number).items() if re.search(r"^exercises\.\w+\.q\d", source, re.M)]
    names = {"__name__": "__main__"}
    with contextlib.redirect_stdout(io.StringIO()) as said:
        for place in named + answers:
            exec(compile(code(number)[place], f"{number}, cell {place}", "exec"), names)
    assert len(answers) == len(BY_NOTEBOOK[NOTEBOOKS[number].stem])
    assert said.getvalue().count("NO ANSWER YET") == len(answers)
