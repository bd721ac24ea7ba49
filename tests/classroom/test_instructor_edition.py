"""The instructor edition runs: each notebook alone in a new folder, answers included, compared with what it holds.

So it is also shown that a notebook needs no file that another one left: nothing else lies in its folder, nor in the
home folder.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from classroom import instructor

ROOT = Path(__file__).resolve().parents[2]


def nbval(path: Path, home: Path) -> subprocess.CompletedProcess:
    """Run a notebook under nbval as the tests of the course do, in a home of its own."""
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "-p", "no:cacheprovider"]
    own = dict.fromkeys(("HOME", "USERPROFILE"), str(home)) | {"COURSE_PROGRESS": str(home / "progress.json")}
    return subprocess.run(
        [*command, "--nbval-cell-timeout=1800", str(path)],
        cwd=ROOT, env={**os.environ, **own}, capture_output=True, text=True, encoding="utf-8", errors="replace",
    )  # fmt: skip


@pytest.fixture
def home(tmp_path):
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.mark.slow
@pytest.mark.parametrize("path", instructor.find_notebooks(), ids=lambda path: path.stem)
def test_an_edition_runs_where_nothing_else_is(path, tmp_path, home):
    instructor.make([path], tmp_path / "instructor")
    done = nbval(tmp_path / "instructor" / path.name, home)
    assert done.returncode == 0, done.stdout + done.stderr
    cells = nbformat.read(tmp_path / "instructor" / path.name, as_version=4).cells
    said = re.findall(r"(\d+) (passed|skipped)", done.stdout.splitlines()[-1])  # what is typed by hand is skipped
    assert sum(int(number) for number, _ in said) == sum(cell.cell_type == "code" for cell in cells), done.stdout


def test_a_wrong_answer_makes_the_run_fail(tmp_path, home):
    (path,) = instructor.find_notebooks(["00"])
    instructor.make([path], tmp_path)
    notebook = nbformat.read(tmp_path / path.name, as_version=4)
    notebook.cells = [cell for cell in notebook.cells if cell.id in ("exercises-import", "start-q1")]
    nbformat.write(notebook, tmp_path / path.name)
    assert nbval(tmp_path / path.name, home).returncode == 0
    notebook.cells[1].source = notebook.cells[1].source.replace("ceil", "floor")
    nbformat.write(notebook, tmp_path / path.name)
    done = nbval(tmp_path / path.name, home)
    assert done.returncode == 1 and "1 failed, 1 passed" in done.stdout
    assert "You have counted three batches an epoch" in done.stdout
