"""What holds for every notebook as committed: executed, tidy, in the course's frame, silent about the machine."""

import getpass
import re
import socket
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
BOX = "> **Found since this was written.**"
FOUND = {  # the sections with a verdict that does not hold
    "03_cnn_fine_tuning": [7],
    "05_diagnosing_training": [4],
    "05b_over_fitting_and_cost": [3],
    "06_text_fine_tuning": [6, 8],
    "07_recommender_fine_tuning": [5, 6],
}
MACHINE = re.compile(r"(?:/home/|/root/|/tmp/|/Users/|/opt/|/usr/|/var/|[A-Z]:\\\\?Users)[\w./\\-]*")

pytestmark = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def prose(notebook):
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def test_it_was_executed_from_top_to_bottom_without_errors(path):
    cells = code_cells(read(path))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        wanted = "raises-exception" in cell.metadata.get("tags", [])
        assert any(output.output_type == "error" for output in cell.outputs) == wanted, cell.source


def test_outputs_tell_nothing_of_the_machine(path):
    text = "\n".join(str(cell.outputs) for cell in code_cells(read(path)))
    names = {socket.gethostname(), getpass.getuser()} - {"root", "runner", "localhost"}
    assert not MACHINE.findall(text)
    assert not [name for name in names if len(name) > 3 and name in text]
    assert "Warning" not in text
    assert not re.search(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d", text)


def test_cells_are_short_and_none_ends_in_a_semicolon(path):
    for cell in code_cells(read(path)):
        assert not cell.source.rstrip().endswith(";"), cell.source
        assert len(cell.source.splitlines()) <= 35, cell.source


def test_pictures_have_alt_text_and_exist(path):
    notebook = read(path)
    for alt, target in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", prose(notebook)):
        assert len(alt) > 15, target
        assert not target.startswith("http"), f"{target} is hot-linked"
        assert (path.parent / target).resolve().is_file(), target
    for cell in code_cells(notebook):
        for output in cell.outputs:
            assert "image/png" not in output.get("data", {}), (
                f"plots.show displays a figure with its text: {cell.source}"
            )
            for tag in re.findall(r"<img\b[^>]*>", output.get("data", {}).get("text/html", "")):
                assert re.search(r'alt="[^"]{16,}"', tag), cell.source


def test_the_frame_is_there(path):
    notebook = read(path)
    text = prose(notebook)
    first = notebook.cells[0].source
    assert first.startswith("# ")
    assert re.search(r"\*\*You will\*\*", first)
    objectives = re.findall(r"^- .+?[;.]$", first.split("**You will**")[1].split("\n\n")[0], re.MULTILINE | re.DOTALL)
    assert 3 <= len(objectives) <= 4
    for promise in ("**Time and cost**", "**Before**", "**In the article**"):
        assert promise in first, promise
    assert text.count("## What you can do now") == 1
    assert text.split("## What you can do now")[1].count("<details>") >= 3
    levels = [len(hashes) for hashes in re.findall(r"^(#+) ", text, re.MULTILINE)]
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:], strict=False))


def test_a_verdict_that_does_not_hold_has_its_box_and_the_summary_names_it(path):
    lesson, _, summary = prose(read(path)).partition("## What you can do now")
    sections = re.split(r"^## ", lesson, flags=re.MULTILINE)
    boxed = [int(section.partition(".")[0]) for section in sections if BOX in section]
    assert boxed == FOUND.get(path.stem, [])
    assert set(boxed) <= {int(number) for number in re.findall(r"Section (\d+):", summary.partition(BOX)[2])}


def test_it_is_small_and_its_metadata_is_neutral(path):
    notebook = read(path)
    assert path.stat().st_size < 1_000_000
    assert notebook.metadata.kernelspec == {
        "display_name": "Python 3 (ipykernel)",
        "language": "python",
        "name": "python3",
    }
    assert "version" not in notebook.metadata.get("language_info", {})
    assert not [cell for cell in notebook.cells if "execution" in cell.metadata]


def test_no_place_is_left_to_fill_in(path):
    notebook = read(path)
    assert not re.search(r"XXX|TODO", prose(notebook) + "".join(cell.source for cell in code_cells(notebook)))
