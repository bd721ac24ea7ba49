"""The first notebook and the doctor on a computer that is unlike the one the course was written on.

All at once, and for real: the course lies in a folder with blanks and Chinese characters and may only be read; the
console knows no Chinese; nothing can fork, and processes start by "spawn"; there is no HOME and no name of a user; and
a file that the course opens as text without naming the encoding is an error. The student works in a copy.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FIRST = Path("notebooks", "00_start_here.ipynb")
PICTURE = r"src=\"data:image/png;base64,"  # as it stands in JSON

# Python runs this file before anything else: in the commands, in the notebook's kernel and in every child of theirs.
SITECUSTOMIZE = """
import multiprocessing, os, warnings

def no_fork():
    raise OSError("there is no fork here")

os.fork = no_fork
multiprocessing.set_start_method("spawn")
warnings.simplefilter("ignore", EncodingWarning)  # what other packages do
warnings.filterwarnings("error", category=EncodingWarning, module=r"course_utils|start$|__main__$")
"""
READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && cd "$0" && exec "$@"'


class Elsewhere:
    """A copy of the course, the conditions under which it is called, and a folder of the student's."""

    def __init__(self, folder):
        self.course, self.mine, site = folder / "微调 course", folder / "我的 notes", folder / "site"
        ignored = shutil.ignore_patterns("__pycache__", "runs", ".ipynb_checkpoints")
        for name in ("course_utils", "notebooks", "images", "results"):
            shutil.copytree(ROOT / name, self.course / name, ignore=ignored)
        for name in ("start.py", "pyproject.toml", "README.md"):
            shutil.copy(ROOT / name, self.course)
        site.mkdir()
        (site / "sitecustomize.py").write_text(SITECUSTOMIZE, encoding="ascii")
        unset = ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME", "PYTHONUTF8", "PYTHONWARNINGS", "COURSE_DEVICE")
        self.variables = {name: value for name, value in os.environ.items() if name not in unset} | {
            "PYTHONPATH": f"{site}{os.pathsep}{self.course}",  # this copy, not the one that is installed
            "PYTHONWARNDEFAULTENCODING": "1",
            "PYTHONIOENCODING": "cp1252",
            "PYTHONDONTWRITEBYTECODE": "1",
            "COURSE_PYTHON": sys.executable,
        }
        self.prefix = []
        for unshare in (["unshare", "-m"], ["unshare", "-rm"]):
            mounted = [*unshare, "sh", "-c", READ_ONLY, str(self.course)]
            if shutil.which("unshare") and subprocess.run([*mounted, "true"], capture_output=True).returncode == 0:
                self.prefix = mounted
                break
        else:
            self.permit(0o555)  # no obstacle to root, and on Windows to nobody

    def permit(self, mode):
        for path in (self.course, *self.course.rglob("*")):
            if path.is_dir():
                path.chmod(mode)

    def call(self, *arguments):
        """Run Python with these arguments; what it says must fit the console."""
        command = [*self.prefix, sys.executable, *map(str, arguments)]
        done = subprocess.run(command, cwd=self.course, env=self.variables, capture_output=True, timeout=300)
        done.stdout, done.stderr = done.stdout.decode("cp1252"), done.stderr.decode("cp1252", "replace")
        return done


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    place = Elsewhere(tmp_path_factory.mktemp("elsewhere"))
    yield place
    place.permit(0o755)


CONDITIONS = """
import json, multiprocessing, os, sys
import course_utils

def happens(action):
    try:
        action()
    except (OSError, ValueError, EncodingWarning) as error:
        return type(error).__name__

answer = {"start": multiprocessing.get_start_method(), "home": os.environ.get("HOME"), "file": course_utils.__file__}
answer["fork"] = happens(os.fork)
answer["print"] = happens(lambda: print("\\u4e2d"))
answer["text file"] = happens(lambda: open("pyproject.toml").close())
answer["new file"] = happens(lambda: open("new", "xb").close())
print(json.dumps(answer))
"""


def test_the_conditions_are_what_they_are_called(elsewhere):
    done = elsewhere.call("-c", CONDITIONS)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    read_only = answer.pop("new file")
    assert answer == {
        "start": "spawn",
        "home": None,
        "file": str(elsewhere.course / "course_utils" / "__init__.py"),
        "fork": "OSError",
        "print": "UnicodeEncodeError",
        "text file": "EncodingWarning",
    }
    if not read_only:
        pytest.skip("the copy can be written to: this system lets a test mount nothing, and permissions do not bind")
    assert read_only in ("OSError", "PermissionError")


def test_the_doctor_finds_nothing_in_the_way(elsewhere):
    done = elsewhere.call("-m", "course_utils", "doctor", "--runs", elsewhere.mine / "notebooks" / "runs")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "could not be checked" not in done.stdout, done.stdout
    assert done.stdout.rstrip().endswith("Nothing stands in the way of the course.")


def test_the_first_notebook_runs_from_a_copy_of_the_students_own(elsewhere, tmp_path):
    # --version is passed on to JupyterLab, which says it instead of starting.
    done = elsewhere.call("start.py", "lab", "--copy", elsewhere.mine, "--version")
    assert done.returncode == 0, done.stderr
    assert done.stdout[0].isdigit()
    assert "0 that were there left alone" in done.stderr
    assert (elsewhere.mine / FIRST).read_bytes() == (ROOT / FIRST).read_bytes()

    convert = ["-m", "nbconvert", "--to", "notebook", "--execute", "--ExecutePreprocessor.kernel_name=python3"]
    done = elsewhere.call("start.py", "run", *convert, "--output-dir", tmp_path, elsewhere.mine / FIRST)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (elsewhere.mine / FIRST).read_bytes() == (ROOT / FIRST).read_bytes()
    assert list((elsewhere.mine / "notebooks" / "runs" / FIRST.stem).rglob("*tfevents*"))
    cells = json.loads((tmp_path / FIRST.name).read_text(encoding="utf-8"))["cells"]
    text = json.dumps([cell.get("outputs") for cell in cells], ensure_ascii=False)
    assert "Warning" not in text
    assert elsewhere.course.name not in text and elsewhere.mine.name not in text
    assert text.count(PICTURE) == (ROOT / FIRST).read_text(encoding="utf-8").count(PICTURE) > 0


@pytest.mark.parametrize("command", [[], ["pretrain"], ["grid"]])
def test_help_fits_the_console(elsewhere, command):
    done = elsewhere.call("-m", "course_utils", *command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: python -m course_utils " + " ".join(command))


GRID = """
import sys
from course_utils.commands import grid
from course_utils.__main__ import main

if __name__ == "__main__":  # the processes that compute import this file too
    tasks = [task for task in grid.fine_tuning_tasks() if task["recipe"] == "svm"][:2]
    grid.GRIDS["fine_tuning"] = (lambda: tasks, None)
    sys.exit(main(["grid", "fine_tuning", "--jobs", "2", "--out", sys.argv[1]]))
"""


def test_a_grid_is_computed_by_two_processes(elsewhere, tmp_path):
    (tmp_path / "two of many.py").write_text(GRID, encoding="ascii")
    out = tmp_path / "结果"
    done = elsewhere.call(tmp_path / "two of many.py", out)
    assert (done.returncode, done.stdout.strip()) == (0, "fine_tuning.csv: 2 rows"), done.stderr
    rows = (out / "fine_tuning.csv").read_text(encoding="utf-8").splitlines()
    assert [row.partition(",")[0] for row in rows] == ["recipe", "svm", "svm"]


FILES = """
import pathlib, sys
import start
from course_utils import data, files, pocket, tracking
from course_utils.doctor import machine

folder = pathlib.Path(sys.argv[1])
for path in files.RESULTS.glob("*.csv"):
    assert files.load_results(path.stem)
assert len(data.load_digits_rgb().labels) and pocket.load_pocket_checkpoint()
with tracking.RunLogger(folder / "run") as logger:
    logger.log_scalars({"loss": 1.0}, 0)
assert tracking.read_scalars(folder / "run")
assert machine.floors() and machine.memory()
with start.alone(str(folder / "environment")):
    start.write(str(folder / "file"), start.read("pyproject.toml"))
assert start.read_stamp(str(folder)) == {} and start.python_limits()
"""


def test_every_file_is_opened_with_an_encoding(elsewhere, tmp_path):
    done = elsewhere.call("-c", FILES, tmp_path)
    assert done.returncode == 0, done.stderr
