"""start.py: which Python and which torch it takes, when it installs, what it starts, and how it mends itself.

The slow part makes real environments, of a course with no dependencies and a build of its own, so that no network is
needed and each takes seconds. torch comes from a package index on this machine, of every temper that an index can have.
"""

import ast
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
from pathlib import Path

import package_index
import pytest
from packaging.requirements import Requirement

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


@pytest.mark.parametrize("version", [(2, 7), (3, 6), (3, 10), (3, 16), (4, 0)])
def test_a_python_that_will_not_do_gets_a_sentence(start, version):
    said = start.complaint(version, 64)
    assert f"This is a 64-bit Python {version[0]}.{version[1]}; the course needs a 64-bit Python 3.11 to 3.15." in said
    named = set(re.findall(r"install (?:Python\.Python\.|python@?)(3\.\d+)", said))
    assert named == {"3.13"}, "one version, and how to get that one on each system"
    assert "py -3.13 start.py lab" in said and "python3.13 start.py lab" in said


def test_a_32_bit_python_gets_a_sentence(start):
    assert "This is a 32-bit Python 3.11" in start.complaint((3, 11), 32)


@pytest.mark.parametrize("version", [(3, 11, 0, "final", 0), (3, 12), (3, 15, 2)])
def test_a_python_that_will_do_gets_none(start, version):
    assert start.complaint(version, 64) is None


def test_the_limits_are_those_of_pyproject(start):
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    oldest, above = start.python_limits()
    assert pyproject["project"]["requires-python"] == f">=3.{oldest},<3.{above}"
    assert oldest <= start.ADVISED < above


def test_the_pins_name_one_version_for_each_python_and_what_was_not_run_is_marked(start):
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    oldest, above = start.python_limits()
    for minor in range(oldest, above):
        here = {"python_version": f"3.{minor}"}
        pins = [Requirement(line) for line in text.splitlines() if line and not line.startswith("#")]
        names = [pin.name.lower() for pin in pins if pin.marker is None or pin.marker.evaluate(here)]
        assert len(names) == len(set(names))
        assert {"torch", "torchvision", "numpy", "pillow", "jupyterlab"} <= set(names)
    newest = f'python_version >= "3.{above - 1}"'
    assert newest in text and f"A line with {newest} was not run" in text
    assert set(re.findall(r"python_version >= .*", text)) <= {
        newest,
        newest + " was not run: it is the newest version that there is for that Python.",
    }


@pytest.fixture
def path_with(tmp_path, monkeypatch):
    """Lets the PATH hold nothing but the given programs: {name: what it does in the shell}."""

    def only(programs):
        for name, text in programs.items():
            (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
            (tmp_path / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))

    return only


def says(path, minor, bits64=True):
    """A stand-in for a Python that answers the question who it is."""
    return f"printf '%s\\n%s\\n%s\\n' '{path}' {minor} {bits64}"


@pytest.mark.skipif(os.name == "nt", reason="the stand-ins are programs as Linux and macOS have them")
@pytest.mark.parametrize(
    ("programs", "found"),
    [
        ({}, None),
        ({"python3.12": says("/a b/python3.12", 12)}, "/a b/python3.12"),
        ({"python3.11": says("/p11", 11), "python3.14": says("/p14", 14)}, "/p14"),
        ({"python3.13": says("/p13", 13), "python3.15": says("/p15", 15)}, "/p13"),  # the one advised
        ({"python3.13": "exit 127", "python3.11": says("/p11", 11)}, "/p11"),  # a shim of a Python that is gone
        ({"python3.13": says("/p13", 13, bits64=False)}, None),
        ({"python3.13": says("/p9", 9)}, None),  # a name that lies
        ({"python3.10": says("/p10", 10), "python3.16": says("/p16", 16), "python3": says("/p9", 9)}, None),
    ],
)
def test_another_python_that_will_do_is_looked_for(start, path_with, programs, found):
    path_with(programs)
    assert start.fitting_python(windows=False) == found


@pytest.mark.skipif(os.name == "nt", reason="the stand-ins are programs as Linux and macOS have them")
def test_on_windows_the_launcher_is_asked(start, path_with):
    path_with({"py": f'if [ "$1" = -3.14 ]; then {says("C:/Python314/python.exe", 14)}; else exit 103; fi'})
    assert start.fitting_python(windows=True) == "C:/Python314/python.exe"


def test_a_python_that_will_not_do_hands_over_to_one_that_will(start, monkeypatch, capsys):
    commands = []
    monkeypatch.setattr(start, "complaint", lambda version, bits: "no")
    monkeypatch.setattr(start, "start", lambda command: commands.append(command) or 5)
    monkeypatch.setattr(start, "fitting_python", lambda: "/a b/python3.13")
    assert start.main(["lab", "--copy", "x y"]) == 5
    assert commands == [["/a b/python3.13", str(ROOT / "start.py"), "lab", "--copy", "x y"]]
    assert "going on with Python /a b/python3.13" in capsys.readouterr().err
    monkeypatch.setattr(start, "fitting_python", lambda: None)
    with pytest.raises(SystemExit, match="no"):
        start.main(["lab"])


def test_this_python_answers_the_question_who_it_is(start, tmp_path, monkeypatch):
    """The real question, asked of the real Python under the name of its version."""
    link = tmp_path / f"python3.{sys.version_info[1]}"
    link.symlink_to(sys.executable)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert Path(start.fitting_python(windows=False)).resolve() == Path(sys.executable).resolve()


def test_an_old_python_can_read_the_file():
    source = (ROOT / "start.py").read_text(encoding="ascii")  # no declaration, so Python 2 reads ASCII
    tree = ast.parse(source, feature_version=(3, 4))
    too_new = (ast.JoinedStr, ast.AnnAssign, ast.AsyncFunctionDef, ast.NamedExpr, ast.Nonlocal, ast.YieldFrom)
    assert not [node.lineno for node in ast.walk(tree) if isinstance(node, too_new)]
    # Python 2 has a star in the call of a function, once and last, and no other: not in a tuple, a list or a target.
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    in_calls = {id(call.args[-1]) for call in calls if call.args}
    stars = [node for node in ast.walk(tree) if isinstance(node, ast.Starred)]
    assert not [star.lineno for star in stars if id(star) not in in_calls]
    doubled = [key for node in ast.walk(tree) if isinstance(node, ast.Dict) for key in node.keys]
    assert None not in doubled, "** in a dict is new too"
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
    monkeypatch.setattr(start, "python_limits", lambda: (11, 16))
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


@pytest.mark.skipif(shutil.which("python2.7") is None, reason="needs a Python 2.7")
def test_a_real_python_2_reads_the_file_and_says_what_is_wrong(tmp_path):
    run = subprocess.run([shutil.which("python2.7"), ROOT / "start.py", "lab"], capture_output=True, text=True, env={})
    if "pyenv" in run.stderr:
        pytest.skip("python2.7 is the name of a Python that is not there")
    assert run.returncode == 1
    assert "This is a 64-bit Python 2.7; the course needs" in run.stderr


# --- which build of torch -------------------------------------------------------------------------------------------

PYTORCH = "https://download.pytorch.org/whl/"


@pytest.mark.parametrize(
    ("system", "driver", "asked", "before", "index"),
    [
        ("linux", False, None, None, PYTORCH + "cpu"),
        ("linux", True, None, None, None),
        ("darwin", False, None, None, None),
        ("win32", False, None, None, None),
        ("win32", False, "cu130", None, PYTORCH + "cu130"),
        ("linux", False, "pypi", None, None),
        ("linux", True, "cpu", None, PYTORCH + "cpu"),
        ("linux", False, "https://mirror.example/whl/cpu/", None, "https://mirror.example/whl/cpu/"),
        ("linux", False, None, "pypi", None),  # an environment that has PyPI's torch keeps it
        ("linux", True, None, PYTORCH + "cu130", PYTORCH + "cu130"),
        ("linux", False, "cpu", "pypi", PYTORCH + "cpu"),
    ],
)
def test_which_index_torch_comes_from(start, monkeypatch, system, driver, asked, before, index):
    monkeypatch.setattr(start.sys, "platform", system)
    monkeypatch.setattr(start, "has_nvidia_driver", lambda: driver)
    monkeypatch.setattr(start, "answers", lambda index: True)
    if asked:
        monkeypatch.setenv("COURSE_TORCH", asked)
    assert start.torch_index(before) == index


def test_an_nvidia_driver_is_seen_by_its_file_or_its_program(start, monkeypatch):
    monkeypatch.setattr(start.os.path, "exists", lambda path: path == "/proc/driver/nvidia/version")
    monkeypatch.setattr(start.shutil, "which", lambda name: None)
    assert start.has_nvidia_driver()
    monkeypatch.setattr(start.os.path, "exists", lambda path: False)
    assert not start.has_nvidia_driver()
    monkeypatch.setattr(start.shutil, "which", lambda name: "/usr/lib/wsl/lib/nvidia-smi")
    assert start.has_nvidia_driver()


PINS = """# a comment
torch-geometric==1
torch==2.14.1; python_version < "3.15"
torch==2.15.0; python_version >= "3.15"  # not run
torchvision==0.29.1
torchvision-extra==2
"""


@pytest.mark.parametrize(
    ("system", "index", "build"),
    [
        ("linux", PYTORCH + "cpu", "+cpu"),
        ("linux", "https://mirror.example/pytorch-wheels/cu130/", "+cu130"),
        ("win32", PYTORCH + "cu130", "+cu130"),
        ("darwin", PYTORCH + "cpu", ""),
        ("linux", "https://packages.my-school.example/simple", ""),
    ],
)
def test_torch_is_asked_for_alone_and_by_its_build(start, monkeypatch, system, index, build):
    monkeypatch.setattr(start.sys, "platform", system)
    command = start.torch_alone("p", PINS, index)
    assert command[:5] == ["p", "-m", "pip", "--disable-pip-version-check", "install"]
    assert command[5:8] == ["--no-deps", "--index-url", index]
    wanted = [f'torch==2.14.1{build}; python_version < "3.15"', f'torch==2.15.0{build}; python_version >= "3.15"']
    assert command[8:] == [*wanted, "torchvision==0.29.1" + build]
    assert all(Requirement(word) for word in command[8:])


@pytest.fixture(scope="module")
def indexes(tmp_path_factory):
    """Indexes of every temper, and one that stands in for PyPI: (address, what was asked for)."""
    folder = tmp_path_factory.mktemp("indexes")
    for name, version in (("torch", "2.14.1+cpu"), ("torchvision", "0.29.1+cpu")):
        package_index.wheel(folder / "good" / "whl" / "cpu" / name, name, version)
        package_index.wheel(folder / "flat" / "whl" / "cpu", name, version)
    package_index.wheel(folder / "behind" / "whl" / "cpu" / "torch", "torch", "2.13.0+cpu")
    package_index.wheel(folder / "pypi" / "torch", "torch", "2.14.1")
    package_index.wheel(folder / "pypi" / "torchvision", "torchvision", "0.29.1")
    with package_index.served(folder) as (address, asked):
        yield address, asked


def index_of(address, temper):
    return "http://127.0.0.1:9/whl/cpu" if temper == "refused" else f"{address}/{temper}/whl/cpu"


@pytest.mark.parametrize("temper", package_index.TEMPERS)
def test_an_index_is_looked_at_before_pip_is_sent_there(start, indexes, temper):
    began = time.monotonic()
    assert start.answers(index_of(indexes[0], temper), seconds=1) == (temper in ("good", "behind"))
    assert time.monotonic() - began < 30, "it does not wait for an index that hangs"


def test_an_index_that_speaks_nonsense_does_not_answer(start, capfd):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def speak():
            with server.accept()[0] as connection:
                connection.recv(1000)
                connection.sendall(b"nonsense\r\n\r\n")

        threading.Thread(target=speak, daemon=True).start()
        assert not start.answers(f"http://127.0.0.1:{server.getsockname()[1]}/whl/cpu", seconds=5)
    assert capfd.readouterr().err == "", "no traceback of the thread"


@pytest.mark.parametrize("address", ["no address", "https://name.invalid/whl/cpu", "file:///nowhere"])
def test_an_address_that_is_none_does_not_answer(start, address):
    assert not start.answers(address, seconds=5)


def test_the_course_is_installed_whatever_the_index_does(tiny, indexes):
    """One environment for all tempers: a change of the pins installs again. The good index comes last."""
    address, asked = indexes
    needs = "Name: tiny\\nVersion: 1\\nRequires-Dist: torch\\nRequires-Dist: torchvision"
    (tiny / "tiny_build.py").write_text(TINY_BUILD.replace("Name: tiny\\nVersion: 1", needs))
    pip = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": f"{address}/pypi", "PIP_EXTRA_INDEX_URL": ""}
    show = "from importlib.metadata import version as v; print(v('torch'), v('torchvision'), v('tiny'))"
    for temper in reversed(package_index.TEMPERS):
        asked.clear()
        index, good = index_of(address, temper), temper == "good"
        pins = f'torch==2.14.1; python_version < "4"  # {temper}\ntorchvision==0.29.1\n'
        (tiny / "constraints.txt").write_text(pins)
        code, out, err = finish(call(tiny, "run", "-c", show, COURSE_TORCH=index, **pip))
        assert code == 0, err
        assert out.splitlines()[-1] == ("2.14.1+cpu 0.29.1+cpu 1" if good else "2.14.1 0.29.1 1"), temper
        assert ("does not answer in time, or does not have" in err) == (not good), temper
        if good:
            assert not [path for path in asked if path.startswith("/pypi") and path.endswith(".whl")], "torch came once"
        assert {path.split("/")[4] for path in asked if path.startswith(f"/{temper}")} <= {"torch", "torchvision"}
        stamp = json.loads((tiny / ".venv" / "course-stamp.json").read_text())
        assert stamp["torch"] == (index if good else "pypi")
    assert finish(call(tiny, "run", "-c", show, **pip))[2] == "", "and nothing is installed again"

    # After a change the build that is noted is asked for, without the variable. If its index is silent that day, it is
    # asked for again the next time.
    for index in (index_of(address, "good"), index_of(address, "refused")):
        (tiny / ".venv" / "course-stamp.json").write_text(json.dumps(stamp | {"torch": index, "packages": "older"}))
        code, out, err = finish(call(tiny, "run", "-c", show, COURSE_TORCH="", **pip))
        assert code == 0, err
        assert out.splitlines()[-1] == "2.14.1+cpu 0.29.1+cpu 1"
        assert json.loads((tiny / ".venv" / "course-stamp.json").read_text())["torch"] == index


def test_the_pip_command(start):
    plain = ["p", "-m", "pip", "--disable-pip-version-check", "install", "-e", ".[test]"]
    assert start.pip_install("p", "-e", ".[test]") == plain


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
    assert start.ready(stamp | {"torch": "pypi"}, stamp)
    assert not start.ready(stamp | {"packages": "others"}, stamp)
    assert not start.ready({}, stamp)
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


@pytest.mark.parametrize(
    ("system", "index", "needed"),
    [("linux", None, 7), ("linux", PYTORCH + "cpu", 2), ("linux", PYTORCH + "cu130", 7), ("darwin", None, 2)],
)
def test_a_full_disk_is_seen_before_it_is_filled(start, tmp_path, monkeypatch, system, index, needed):
    monkeypatch.setattr(start.sys, "platform", system)
    monkeypatch.setattr(start.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10e9, 9e9, 1e9))
    with pytest.raises(SystemExit) as stopped:
        start.make_anew(str(tmp_path / "e"), index)
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
requires-python = ">=3.11,<3.16"
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
    environment |= {"PYTHONIOENCODING": "cp1252", "TINY_SLOW": "", "COURSE_TORCH": "pypi", **variables}
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
        start.install(str(tmp_path), "", lock, None)
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
