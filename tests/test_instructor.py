"""The instructor edition: every exercise is answered and right, links lead somewhere, nobody's notes are lost."""

import dataclasses
import re
import urllib.parse
from pathlib import Path

import nbformat
import pytest

from classroom import instructor
from course_utils import clinic
from course_utils.exercises import BY_NOTEBOOK
from course_utils.exercises.start import q1

ROOT = Path(__file__).resolve().parents[1]

NOTEBOOKS = instructor.find_notebooks()
START, _, LOSS, CNN, *_ = NOTEBOOKS
NAMES = {path.name for path in NOTEBOOKS}


def read(path):
    return nbformat.read(path, as_version=4)


@pytest.fixture(scope="module")
def all_made(tmp_path_factory):
    """All editions, in a folder with a blank and letters of another script that lies outside of the course."""
    folder = tmp_path_factory.mktemp("made") / "für die 教师"
    assert instructor.make(NOTEBOOKS, folder) == []
    return folder


@pytest.fixture
def one(monkeypatch):
    """One question alone is asked, in notebook 00; returns what puts another in its place."""

    def ask(**changes):
        monkeypatch.setitem(BY_NOTEBOOK, START.stem, (dataclasses.replace(q1, **changes),))

    return ask


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_exercise_is_answered_and_nothing_else_is_changed(path, all_made):
    cells = read(all_made / path.name).cells
    assert "Instructor edition" in cells[0].source
    made = {cell.id: cell for cell in cells[1:] if not cell.id.startswith("notes-")}
    lesson = {cell.id: cell for cell in read(path).cells}
    assert made.keys() == lesson.keys()
    replies = 0
    for name, cell in lesson.items():
        if "NO ANSWER YET" in str(cell.get("outputs")):
            *before, reply = made[name].outputs
            assert reply.data["text/plain"].startswith("RIGHT: ") and "<b>RIGHT</b>" in reply.data["text/html"]
            assert before == cell.outputs[:-1]
            assert not re.search(r"= ?\.\.\.$|^ +\.\.\.$|=\.\.\.\)", made[name].source, flags=re.MULTILINE)
            replies += 1
        elif cell.cell_type == "code":
            assert made[name] == cell
    patients = len(clinic.PATIENTS) if path.stem == "05_diagnosing_training" else 0
    assert replies == len(BY_NOTEBOOK.get(path.stem, ())) + patients
    assert sum(cell.id.startswith("notes-") for cell in cells) == replies


def test_the_notes_say_what_the_check_says_to_each_mistake(all_made):
    (notes,) = [cell.source for cell in read(all_made / START.name).cells if cell.id == "notes-start-q1"]
    assert notes.count("<div") == len(q1.mistakes) + len(q1.hints)
    assert "<b>drops the last batch (36)</b>: You have counted three batches an epoch." in notes
    (notes,) = [cell.source for cell in read(all_made / "05_diagnosing_training.ipynb").cells if cell.id == "notes-ada"]
    assert notes.count("<div") == len(clinic.DIAGNOSES) - 1 and "<b>rate too low</b>" not in notes


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_links_and_pictures_lead_to_what_exists(path, all_made):
    text = "\n".join(cell.source for cell in read(all_made / path.name).cells if cell.cell_type == "markdown")
    targets = [target for target in instructor.LINK.findall(text) if not target.startswith("http")]
    assert targets
    for target in targets:
        assert (all_made / urllib.parse.unquote(target)).exists(), target


def test_in_the_course_folder_links_stay_short_and_an_edition_that_is_not_there_is_no_target():
    for beside, target in (({START.name}, "../notebooks/03_cnn_fine_tuning.ipynb"), (NAMES, CNN.name)):
        cells = instructor.edition(START, ROOT / "instructor", beside).cells
        assert f"[{START.stem}](../notebooks/{START.name})" in cells[0].source
        assert f"]({target})" in "\n".join(cell.source for cell in cells)


def test_a_solution_that_is_not_right_stops_it_before_anything_is_written(tmp_path, one, capsys):
    one(solution_code="updates = 50 // 16 * 12")
    assert instructor.main([*map(str, NOTEBOOKS[:2]), "--out", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "The solution of start.q1 does not pass its check. NOT YET: You have counted three batches" in said
    assert list(tmp_path.iterdir()) == []


def test_an_exercise_that_stands_otherwise_in_the_notebook_is_named(tmp_path, one):
    one(fills="answer")
    with pytest.raises(ValueError, match="start.q1 does not stand in its notebook as it is asked"):
        instructor.make([START], tmp_path)


def test_a_question_that_no_cell_asks_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(BY_NOTEBOOK, START.stem, (q1, dataclasses.replace(q1, name="start.q2")))
    with pytest.raises(ValueError, match="00_start_here.ipynb does not ask start.q2"):
        instructor.make([START], tmp_path)


def test_what_somebody_has_changed_stays_and_the_others_are_made(tmp_path, capsys):
    names = ["00", "02", "--out", str(tmp_path)]
    assert instructor.main(names) == 0
    changed = read(tmp_path / START.name)
    changed.cells[1].source += "\n\nAsk the room."
    nbformat.write(changed, tmp_path / START.name)
    (tmp_path / LOSS.name).unlink()
    capsys.readouterr()
    assert instructor.main(names) == 1
    said = capsys.readouterr()
    assert said.out.startswith("Made 1 of 2 notebooks") and (tmp_path / LOSS.name).exists()
    assert said.err.startswith("00_start_here.ipynb: changed since made") and "--out" in said.err
    assert read(tmp_path / START.name).cells[1].source.endswith("Ask the room.")


def test_what_was_only_run_again_is_made_anew(tmp_path):
    instructor.make([START], tmp_path)
    again = read(tmp_path / START.name)
    for cell in again.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    nbformat.write(again, tmp_path / START.name)
    assert instructor.make([START], tmp_path) == []
    assert "RIGHT: " in str([cell.get("outputs") for cell in read(tmp_path / START.name).cells])


@pytest.mark.parametrize("content", [b"", b"my notes", b"[1]", b"\xff\xfe"])
def test_what_is_no_notebook_of_ours_stays(content, tmp_path):
    (tmp_path / START.name).write_bytes(content)
    assert instructor.make([START], tmp_path) == [tmp_path / START.name]
    assert (tmp_path / START.name).read_bytes() == content


def test_the_notebooks_themselves_are_never_written_over():
    before = START.read_bytes()
    assert instructor.make([START], START.parent) == [START]
    assert START.read_bytes() == before


def test_notebooks_are_found_by_number_name_or_file(capsys):
    assert instructor.find_notebooks(["03b", "00_start_here", "notebooks/02_loss_derivation.ipynb"]) == [
        START,
        LOSS,
        START.with_name("03b_article_script.ipynb"),
    ]
    assert instructor.main(["33"]) == 1
    assert "There is no notebook 33. There are: 00_start_here, " in capsys.readouterr().err
