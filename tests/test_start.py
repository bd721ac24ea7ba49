"""start.py: what it says to a Python that will not do, when it installs, what it starts, and how it mends itself.

The slow part makes real environments, of a course with no dependencies and a build of its own, so that no network is
needed and each takes seconds.
"""

import ast
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def start(monkeypatch):
    """start.py as a module, with no variables of the caller's."""
    for name in ("COURSE_TORCH", "COURSE_PYTHON"):
        monkeypatch.delenv(name, raising=False)
    spec = importlib.util.spec_from_file_location("start", ROOT / "start.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- which Python ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [(2, 7), (3, 6), (3, 10), (3, 15), (4, 0)])
def test_a_python_that_will_not_do_gets_a_sentence(start, version):
    said = start.complaint(version, 64)
    assert f"This is a 64-bit Python {version[0]}.{version[1]}; the course needs a 64-bit Python 3.11 to 3.14." in said
    assert "make lab PYTHON=" in said
    assert "py -3.13 start.py lab" in said


def test_a_32_bit_python_gets_a_sentence(start):
    assert "This is a 32-bit Python 3.11" in start.complaint((3, 11), 32)


@pytest.mark.parametrize("version", [(3, 11, 0, "final", 0), (3, 12), (3, 14, 2)])
def test_a_python_that_will_do_gets_none(start, version):
    assert start.complaint(version, 64) is None


def test_the_limits_are_those_of_pyproject():
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert pyproject["project"]["requires-python"] == ">=3.11,<3.15"


def test_an_old_python_can_read_the_file():
    source = (ROOT / "start.py").read_text(encoding="ascii")  # no declaration, so Python 2 reads ASCII
    tree = ast.parse(source, feature_version=(3, 4))
    too_new = (ast.JoinedStr, ast.AnnAssign, ast.AsyncFunctionDef, ast.NamedExpr, ast.Nonlocal, ast.YieldFrom)
    assert not [node.lineno for node in ast.walk(tree) if isinstance(node, too_new)]
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    assert not [f.name for f in functions if f.args.kwonlyargs or f.returns or any(a.annotation for a in f.args.args)]
    imported = {name.name for node in tree.body if isinstance(node, ast.Import) for name in node.names}
    assert imported <= {*sys.stdlib_module_names} - {"pathlib", "tomllib", "venv", "fcntl", "msvcrt"}


# --- what is started ------------------------------------------------------------------------------------------------


@pytest.fixture
def started(start, monkeypatch):
    """The commands that start.py would run, with the Python `python`."""
    commands = []
    monkeypatch.setattr(start, "course_python", lambda: "python")
    monkeypatch.setattr(start, "start", lambda command: commands.append(command) or 0)
    monkeypatch.setattr(start.os, "geteuid", lambda: 1000, raising=False)
    return commands


FIRST = "/lab/tree/notebooks/00_start_here.ipynb"
LAB = ["python", "-m", "jupyterlab", "--ServerApp.root_dir=.", f"--LabApp.default_url={FIRST}"]


def test_commands(start, started):
    assert start.main(["lab"]) == 0
    start.main(["lab", "--no-browser", "--port", "9000"])
    start.main(["test"])
    start.main(["test", "-k", "two words"])
    start.main(["run", "-m", "course_utils", "pretrain", "--steps", "3"])
    assert started == [
        LAB,
        [*LAB, "--no-browser", "--port", "9000"],
        ["python", "-m", "pytest"],
        ["python", "-m", "pytest", "-k", "two words"],
        ["python", "-m", "course_utils", "pretrain", "--steps", "3"],
    ]


def test_root_in_a_container_may_start_jupyter(start, started, monkeypatch):
    monkeypatch.setattr(start.os, "geteuid", lambda: 0, raising=False)
    start.main(["lab"])
    assert started == [[*LAB, "--allow-root"]]


def test_the_exit_code_is_passed_on(start, monkeypatch):
    monkeypatch.setenv("COURSE_PYTHON", sys.executable)
    assert start.main(["run", "-c", "raise SystemExit(7)"]) == 7


@pytest.mark.parametrize(("arguments", "code"), [([], 2), (["help"], 0), (["--help"], 0), (["lap"], 2)])
def test_help(start, arguments, code, capsys):
    assert start.main(arguments) == code
    said = capsys.readouterr().err
    assert all(f"start.py {name}" in said for name in start.COMMANDS)


def test_notebooks_are_run_again_and_saved_without_versions(start, started, tmp_path):
    cell = {"cell_type": "markdown", "id": "a", "metadata": {}, "source": ["数字\n"]}
    metadata = {"language_info": {"name": "python", "version": "3.11.7"}}
    path = tmp_path / "a b.ipynb"
    path.write_text(json.dumps({"cells": [cell], "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}))
    assert start.main(["notebooks", str(tmp_path / "*.ipynb")]) == 0
    assert started[0][:3] == ["python", "-m", "nbconvert"]
    assert started[0][-1] == str(path)
    assert {"--execute", "--inplace"} <= set(started[0])
    saved = path.read_bytes().decode("utf-8")
    assert "数字" in saved
    assert "version" not in json.loads(saved)["metadata"]["language_info"]
    assert json.loads(saved)["cells"] == [cell]


# --- copies of the student's own ------------------------------------------------------------------------------------


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def course(start, tmp_path, monkeypatch):
    """A course of two notebooks, which start.py takes for its own."""
    folder = tmp_path / "[course]"
    for name in (
        "notebooks/00.ipynb",
        "notebooks/01.ipynb",
        "notebooks/runs/a",
        "images/a.png",
        "images/b/c.png",
        "README.md",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("published")
    monkeypatch.setattr(start, "ROOT", str(folder))
    monkeypatch.setattr(start, "python_limits", lambda: (11, 15))
    return folder


def test_copies_are_made_once_and_never_overwritten(start, course, started, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    mine = tmp_path / "我的 notes"
    assert start.main(["lab", "--no-browser", "--copy", mine.name, "--port", "9000"]) == 0
    here = ["python", "-m", "jupyterlab", f"--ServerApp.root_dir={mine}", f"--LabApp.default_url={FIRST}"]
    assert started == [[*here, "--no-browser", "--port", "9000"]]
    assert contents(mine) == {name: text for name, text in contents(course).items() if "runs" not in name}
    assert "5 files added, 0 that were there left alone." in capsys.readouterr().err

    (mine / "notebooks" / "00.ipynb").write_text("my notes")
    (mine / "notebooks" / "01.ipynb").unlink()
    (course / "notebooks" / "00.ipynb").write_text("an update")
    (course / "notebooks" / "02.ipynb").write_text("an update")
    assert start.main(["lab", f"--copy={mine}"]) == 0
    assert started[1] == here
    assert (mine / "notebooks" / "00.ipynb").read_text() == "my notes"
    assert (mine / "notebooks" / "02.ipynb").read_text() == "an update"
    assert "2 files added, 4 that were there left alone." in capsys.readouterr().err


def test_a_copy_cut_short_is_made_again(start, course, started, tmp_path, monkeypatch):
    def breaks(source, target):
        Path(target).write_text("publ")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(SystemExit, match="Stopped"):
        patched.setattr(start.shutil, "copyfile", breaks)
        start.main(["lab", "--copy", str(tmp_path / "mine")])
    assert start.main(["lab", "--copy", str(tmp_path / "mine")]) == 0
    assert set(contents(tmp_path / "mine").values()) == {b"published"}
    assert len(contents(tmp_path / "mine")) == 5


def test_copies_into_the_course_itself_change_nothing(start, course, started):
    before = contents(course)
    assert start.main(["lab", "--copy", str(course)]) == 0
    assert contents(course) == before


def test_a_folder_that_cannot_be_made_is_a_sentence(start, course, started, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as stopped:
        start.main(["lab", "--copy", str(tmp_path / "file")])
    assert "Could not copy the notebooks to" in str(stopped.value)
    assert "Name a folder that you may write into" in str(stopped.value)
    assert not started


def test_a_copy_has_all_that_the_notebooks_name_beside_them(start, tmp_path):
    start.copy_to(str(tmp_path))
    for notebook in sorted((tmp_path / "notebooks").glob("*.ipynb")):
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
        named = [target for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if "://" not in target]
        assert named and not [target for target in named if not (notebook.parent / target).exists()]


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_a_student_who_edits_copies_can_pull(start, course, tmp_path):
    def git(folder, *arguments):
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "core.autocrlf=false"]
        return subprocess.run(["git", *who, *arguments], cwd=folder, capture_output=True).returncode

    def publish(text):
        (course / "notebooks" / "00.ipynb").write_text(text)
        assert git(course, "add", ".") == git(course, "commit", "-m", "an update") == 0

    clone, mine = tmp_path / "clone", tmp_path / "mine"
    assert git(course, "init") == 0
    publish("published")
    assert git(tmp_path, "clone", str(course), str(clone)) == 0
    (clone / "notebooks" / "00.ipynb").write_text("my notes")
    publish("the update")
    assert git(clone, "pull") != 0, "what the README warns of"
    start.ROOT = str(clone)
    start.copy_to(str(mine))
    assert git(clone, "checkout", "notebooks") == git(clone, "pull") == 0
    start.copy_to(str(mine))
    assert (clone / "notebooks" / "00.ipynb").read_text() == "the update"
    assert (mine / "notebooks" / "00.ipynb").read_text() == "my notes"


@pytest.mark.parametrize("source", ["this folder", "another folder", "an index", "nowhere"])
@pytest.mark.parametrize("conda", [True, False])
def test_the_conda_environment_of_this_course_is_used(start, tmp_path, monkeypatch, source, conda):
    prefix, course = tmp_path / "env", tmp_path / "我的 course"
    site = prefix / "site-packages"
    about, beside = site / "finetune_course-0.1.0.dist-info", course / "finetune_course.egg-info"
    for folder, name in ((about, "METADATA"), (beside, "PKG-INFO")):
        folder.mkdir(parents=True)
        (folder / name).write_text("Metadata-Version: 2.1\nName: finetune-course\nVersion: 0.1.0\n")
    if source == "nowhere":
        shutil.rmtree(about)
    elif source != "an index":
        url = (course if source == "this folder" else tmp_path / "other").as_uri()
        (about / "direct_url.json").write_text(json.dumps({"url": url, "dir_info": {"editable": True}}))
    if conda:
        (prefix / "conda-meta").mkdir()
    monkeypatch.setattr(start, "ROOT", str(course.resolve()))
    monkeypatch.setattr(start.sys, "prefix", str(prefix))
    monkeypatch.setattr(start.sys, "path", [str(course), str(site)])
    monkeypatch.setattr(start, "read", lambda name: "pins")
    monkeypatch.setattr(start, "environment", lambda name, pins: name)
    assert start.course_python() == (sys.executable if conda and source == "this folder" else ".venv")
    monkeypatch.setenv("COURSE_PYTHON", str(tmp_path / "python"))
    assert start.course_python() == str(tmp_path / "python")


# --- what is installed ----------------------------------------------------------------------------------------------


def test_where_an_environment_keeps_its_python(start):
    assert Path(start.python_in("e", windows=True)) == Path("e", "Scripts", "python.exe")
    assert Path(start.python_in("e", windows=False)) == Path("e", "bin", "python")


def test_the_pip_command(start, monkeypatch):
    plain = ["p", "-m", "pip", "--disable-pip-version-check", "install", "-c", "c.txt", "-e", ".[test]"]
    assert start.pip_install("p", "c.txt") == plain
    monkeypatch.setenv("COURSE_TORCH", "cpu")
    extra = ["--extra-index-url", "https://download.pytorch.org/whl/cpu"]
    assert start.pip_install("p", "c.txt") == plain + extra


def test_the_floors_are_those_of_pyproject(start):
    lines = start.floors().splitlines()
    assert "torch==2.6" in lines
    assert "torchvision==0.21" in lines
    assert "nbval==0.11" in lines
    assert all(line.count("==") == 1 and ">" not in line for line in lines)


def good(start, folder):
    """An environment's folder, as a finished installation leaves it."""
    python = Path(start.python_in(str(folder)))
    python.parent.mkdir(parents=True)
    python.touch()
    stamp = start.wanted_stamp(str(folder), "pins")
    (folder / start.STAMP).write_text(json.dumps(stamp))
    return stamp


def test_when_an_environment_is_kept(start, tmp_path):
    folder = tmp_path / "e"
    assert start.why_anew(str(folder), {}, {}) == "there is none yet"
    stamp = good(start, folder)
    assert start.read_stamp(str(folder)) == stamp
    assert start.why_anew(str(folder), stamp, stamp) is None
    assert start.why_anew(str(folder), stamp, stamp | {"packages": "others"}) is None
    assert start.why_anew(str(folder), {}, stamp) == "an earlier installation did not finish"
    assert start.why_anew(str(folder), stamp | {"folder": "elsewhere"}, stamp) == "it was moved here from elsewhere"
    assert start.why_anew(str(folder), stamp | {"python": "3.1"}, stamp).startswith("it was made from Python 3.1, and")
    Path(start.python_in(str(folder))).unlink()
    assert start.why_anew(str(folder), stamp, stamp) == "the Python that it was made from is gone"


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe"])
def test_a_damaged_stamp_is_none(start, tmp_path, content):
    (tmp_path / start.STAMP).write_bytes(content)
    assert start.read_stamp(str(tmp_path)) == {}


def test_pins_and_pyproject_decide_what_is_wanted(start, monkeypatch):
    first = start.wanted_stamp("e", "a==1")
    assert start.wanted_stamp("e", "a==1") == first
    assert start.wanted_stamp("e", "a==2") != first
    monkeypatch.setattr(start, "read", lambda name: "other needs")
    assert start.wanted_stamp("e", "a==1") != first


@pytest.mark.parametrize(("build", "needed"), [("", 7 if sys.platform == "linux" else 2), ("cpu", 2)])
def test_a_full_disk_is_seen_before_it_is_filled(start, tmp_path, monkeypatch, build, needed):
    monkeypatch.setenv("COURSE_TORCH", build)
    monkeypatch.setattr(start.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10e9, 9e9, 1e9))
    with pytest.raises(SystemExit) as stopped:
        start.make_anew(str(tmp_path / "e"))
    assert f"needs about {needed} GB of disk space; 1.0 GB are free" in str(stopped.value)


# --- for real, small ------------------------------------------------------------------------------------------------

TINY = """
[build-system]
requires = []
build-backend = "tiny_build"
backend-path = ["."]

[project]
name = "tiny"
version = "1"
requires-python = ">=3.11,<3.15"
dependencies = []

[project.optional-dependencies]
test = []
"""

# A build backend that writes the wheel of an editable installation, slowly where TINY_SLOW says so.
TINY_BUILD = """
import os, time, zipfile

def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    if os.environ.get("TINY_SLOW"):
        open("building", "w").close()
        time.sleep(float(os.environ["TINY_SLOW"]))
    if os.environ.get("TINY_FAILS"):
        raise SystemExit("no network, say")
    info = "tiny-1.dist-info/"
    with zipfile.ZipFile(os.path.join(wheel_directory, "tiny-1-py3-none-any.whl"), "w") as wheel:
        wheel.writestr("tiny.py", "print('hello from the environment')")
        wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\\nName: tiny\\nVersion: 1\\nProvides-Extra: test\\n")
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(info + "RECORD", "")
    return "tiny-1-py3-none-any.whl"

build_wheel = build_editable
"""


@pytest.fixture
def tiny(tmp_path):
    """A course so small that its environment takes seconds, in a folder whose name is not easy."""
    folder = tmp_path / "my course 课程"
    folder.mkdir()
    shutil.copy(ROOT / "start.py", folder)
    (folder / "pyproject.toml").write_text(TINY)
    (folder / "tiny_build.py").write_text(TINY_BUILD)
    (folder / "constraints.txt").write_text("# none\n")
    return folder


def call(folder, *arguments, **variables):
    """start.py run in a folder as a reader would, on a console that knows no Chinese."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COURSE_")}
    environment |= {"PYTHONIOENCODING": "cp1252", "TINY_SLOW": "", **variables}
    return subprocess.Popen(
        [sys.executable, str(folder / "start.py"), *(arguments or ("run", "-c", "import tiny"))],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
        # A shell starts what runs in the background with Ctrl-C ignored, and a child inherits that.
        preexec_fn=None if os.name == "nt" else lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def finish(process):
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def wait_for(path, process):
    end = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)


def test_first_call_second_call_change_and_move(tiny):
    code, out, err = finish(call(tiny))
    assert code == 0, err
    assert "hello from the environment" in out
    assert "there is none yet" in err

    began = time.monotonic()
    code, out, err = finish(call(tiny))
    assert time.monotonic() - began < 5  # a second or two, on a machine with nothing else to do
    assert (code, out.strip(), err) == (0, "hello from the environment", "")

    (tiny / "pyproject.toml").write_text(TINY + "\n[tool.other]\n")
    code, out, err = finish(call(tiny, TINY_FAILS="1"))  # the change cannot be installed: say so, keep what there is
    assert code == 1
    assert "The installation did not finish" in err
    code, out, err = finish(call(tiny))
    assert code == 0, err
    assert "Installing" in err
    assert "Making" not in err, "a change is installed into the environment that there is"
    assert finish(call(tiny))[2] == ""

    moved = tiny.with_name("moved")
    tiny.rename(moved)
    code, out, err = finish(call(moved))
    assert code == 0, err
    assert "it was moved here from elsewhere" in err
    assert (moved / ".venv").is_dir()
    assert finish(call(moved, "clean"))[0] == 0
    assert not (moved / ".venv").exists()


@pytest.mark.skipif(os.name == "nt", reason="signals as Linux and macOS have them")
def test_an_installation_killed_midway_is_mended(tiny):
    process = call(tiny, TINY_SLOW="60")
    wait_for(tiny / "building", process)
    os.killpg(process.pid, signal.SIGKILL)
    finish(process)
    assert (tiny / ".venv").is_dir()
    code, out, err = finish(call(tiny))
    assert code == 0, err
    assert "an earlier installation did not finish" in err
    assert "hello from the environment" in out


@pytest.mark.skipif(os.name == "nt", reason="signals as Linux and macOS have them")
def test_an_installation_interrupted_from_the_keyboard_is_mended(tiny):
    process = call(tiny, TINY_SLOW="60")
    wait_for(tiny / "building", process)
    os.killpg(process.pid, signal.SIGINT)
    code, out, err = finish(process)
    assert code != 0
    assert "Traceback" not in err.partition("Stopped. Call it again to go on.")[2]
    assert "Stopped. Call it again to go on." in err
    (tiny / ".venv" / "bin" / "pip").unlink()
    shutil.rmtree(next((tiny / ".venv").glob("lib/python*/site-packages/pip")))  # half made: no pip either
    code, out, err = finish(call(tiny))
    assert code == 0, err
    assert "hello from the environment" in out


ANSWERS = """
import sys, time
try:
    print("up", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    sys.exit(3)
"""


@pytest.mark.skipif(os.name == "nt", reason="signals as Linux and macOS have them")
def test_a_stop_is_left_to_what_runs():
    """Ctrl-C reaches both; JupyterLab then asks whether it is meant, and start.py must wait for its answer."""
    process = call(ROOT, "run", "-c", ANSWERS, COURSE_PYTHON=sys.executable)
    assert process.stdout.readline() == "up\n"
    os.killpg(process.pid, signal.SIGINT)
    assert finish(process) == (3, "", "")


@pytest.mark.skipif(os.name == "nt", reason="signals as Linux and macOS have them")
def test_what_runs_ends_with_start_py():
    process = call(ROOT, "run", "-c", ANSWERS, COURSE_PYTHON=sys.executable)
    assert process.stdout.readline() == "up\n"
    process.terminate()  # start.py alone
    process.communicate(timeout=20)  # nobody holds the other end of the pipes any more
    assert process.returncode != 0


def test_two_calls_at_once_wait_for_each_other(tiny):
    first = call(tiny, TINY_SLOW="4")
    wait_for(tiny / "building", first)
    second = call(tiny)
    results = [finish(first), finish(second)]
    assert [code for code, _, _ in results] == [0, 0], results
    assert "waiting for it" in results[1][2]
    assert "Making" not in results[1][2], "the second finds what the first has made"


@pytest.mark.skipif(os.name == "nt", reason="signals as Linux and macOS have them")
def test_a_pip_that_outlives_its_caller_is_waited_for(tiny):
    first = call(tiny, TINY_SLOW="4")
    wait_for(tiny / "building", first)
    os.kill(first.pid, signal.SIGKILL)  # pip goes on
    code, out, err = finish(call(tiny))
    assert code == 0, err
    assert "waiting for it" in err
    finish(first)


def test_a_pip_configuration_is_respected(start, monkeypatch, tmp_path):
    """PIP_INDEX_URL and the like reach pip; only a "user" installation, refused in an environment, is switched off."""
    seen = {}
    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror.example/simple")
    monkeypatch.setenv("PIP_USER", "1")
    monkeypatch.setattr(start.subprocess, "call", lambda command, env, **_: seen.update(env) or 0)
    with (tmp_path / "lock").open("w") as lock:
        start.install(str(tmp_path), "", lock)
    assert seen["PIP_INDEX_URL"] == "https://mirror.example/simple"
    assert seen["PIP_USER"] == "0"


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_every_target_of_the_makefile_is_a_command(start):
    targets = ["lab", "test", "test-oldest", "notebooks", "lock", "clean", "pretrain", "grid", "lint"]
    for target in targets:
        command = ["make", "-n", "PYTHON=python3", "ARGS=--some thing", target]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        for line in run.stdout.splitlines():
            word = line.split()
            assert word[:2] == ["python3", "start.py"]
            assert word[2] in start.COMMANDS
            assert target == "lint" or line.endswith("--some thing")


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_a_variable_given_to_make_reaches_start_py():
    command = ["make", "--silent", "lab", "COURSE_TORCH=cpu", "PYTHON=printenv COURSE_TORCH #"]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip() == "cpu"


def test_an_environment_of_somebody_elses_is_not_made_anew(start, tmp_path):
    (tmp_path / "theirs.lock").mkdir()  # even root cannot open it, as others cannot open a file that is not theirs
    with pytest.raises(SystemExit, match="you may not write there"):
        start.environment(str(tmp_path / "theirs"), "")
    assert [path.name for path in tmp_path.iterdir()] == ["theirs.lock"]
