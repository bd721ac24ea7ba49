"""The doctor: faults made for real, where a test may, and each answered by its remedy; nothing told of the machine."""

import fnmatch
import getpass
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
from argparse import Namespace
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from own_disk import mounting

from course_utils.board import serve
from course_utils.commands import doctor
from course_utils.doctor import machine, probes

ROOT = Path(__file__).resolve().parents[1]
PIP = 'python -m pip install -e ".[test]"'
POSIX = pytest.mark.skipif(os.name == "nt", reason="links and mounts as Linux and macOS have them")


def call(*arguments, python=sys.executable, root=ROOT, prefix=(), options=(), **variables):
    """Run the doctor in a process of its own, with these environment variables (None: without that one)."""
    changed = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONDONTWRITEBYTECODE": "1", **variables}
    environment = {name: str(value) for name, value in changed.items() if value is not None}
    command = [*prefix, str(python), *options, "-m", "course_utils", "doctor", *map(str, arguments)]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True)


def findings(only, *arguments, **how):
    """{check: (status, sentence)}; the exit status must go with it."""
    done = call("--json", "--only", only, *arguments, **how)
    assert done.stdout, done.stderr.decode("utf-8", "replace")
    report = json.loads(done.stdout.decode("ascii"))
    found = {finding["name"]: (finding["status"], finding["sentence"]) for finding in report["findings"]}
    assert list(found) == only.split(",")
    assert report["ok"] == all(status != "FAIL" for status, _ in found.values())
    assert done.returncode == (0 if report["ok"] else 1)
    return found


@pytest.fixture
def environment(tmp_path):
    """Makes an environment that holds what this one does, `without` some of it and with `packages` instead.

    packages: {name: (version, source code of its __init__.py or None)}. Returns its Python and its folder of packages.
    """

    def make(without=(), packages=None):
        folder = tmp_path / "environment"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        site = Path(sysconfig.get_path("purelib", vars={"base": folder, "platbase": folder}))
        for entry in Path(sysconfig.get_path("purelib")).iterdir():
            if not any(fnmatch.fnmatch(entry.name.lower(), pattern) for pattern in without):
                (site / entry.name).symlink_to(entry)
        for name, (version, source) in (packages or {}).items():
            (site / f"{name}-{version}.dist-info").mkdir()
            (site / f"{name}-{version}.dist-info" / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n")
            if source is not None:
                (site / name).mkdir()
                (site / name / "__init__.py").write_text(source)
        return folder / "bin" / "python", site

    return make


@pytest.fixture
def copied(tmp_path):
    """A copy of the course, whose files may be damaged; in a folder with a blank and Chinese characters."""
    folder = tmp_path / "微调 course"
    shutil.copytree(ROOT / "course_utils", folder / "course_utils", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "notebooks").mkdir()
    return folder


# --- a healthy machine ----------------------------------------------------------------------------------------------


def test_a_healthy_machine_is_told_so_and_left_as_it_was(tmp_path):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    runs = tmp_path / "deep" / "runs"
    done = call("--runs", runs, TMPDIR=temporary, TEMP=temporary, TMP=temporary)
    text = done.stdout.decode("ascii")
    assert (done.returncode, done.stderr) == (0, b""), text
    *lines, blank, verdict = text.splitlines()
    assert [line.split()[1] for line in lines] == list(doctor.CHECKS)
    assert {line.split()[0] for line in lines} <= {"OK", "NOTE"}  # a NOTE where 6006 is taken, or the disk nearly full
    assert (blank, verdict) == ("", "Nothing stands in the way of the course.")
    assert not [line for line in lines if not line.endswith(".") and not line.startswith("NOTE")]
    assert [path.name for path in tmp_path.iterdir()] == ["temporary"]
    assert [path.name for path in temporary.iterdir() if "inductor" not in path.name] == []  # that one is torch's own
    names = {getpass.getuser(), socket.gethostname()} - {"root", "runner", "localhost"}
    assert not [name for name in names if re.search(rf"\b{re.escape(name)}\b", text)]
    assert not re.search(r"(?<![\w.~])/\w+/", text), "no full path"


def test_help_and_report_need_nothing_but_the_standard_library(tmp_path):
    """-S hides every installed package, as in an environment where the installation has not begun."""
    found = findings("python,packages,runs,disk,port", "--runs", tmp_path, options=["-S"])
    assert {name: status for name, (status, _) in found.items()} | {"port": "OK", "disk": "OK"} == {
        "python": "OK", "packages": "FAIL", "runs": "OK", "disk": "OK", "port": "OK"
    }  # fmt: skip
    assert "torch is missing; torchvision is missing" in found["packages"][1]
    assert 'pip install -e ".[test]"' in found["packages"][1] or "conda env update" in found["packages"][1]


def test_wrong_use_is_answered_by_what_there_is():
    done = call("--only", "kernal")
    assert done.returncode == 1
    assert b"no check 'kernal', only python, packages" in done.stderr
    assert b"from 1 to 65535" in call("--port", "70000").stderr


# --- Python and packages --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("oldest", "above"), [((3, 99), (3, 101)), ((3, 2), (3, 4))])
def test_a_python_out_of_the_limits_is_refused(monkeypatch, oldest, above):
    monkeypatch.setattr(doctor, "python_limits", lambda: (oldest, above))
    status, sentence = doctor.check_python(None)
    assert status == "FAIL" and f"needs 3.{oldest[1]} to 3.{above[1] - 1}, 64 bit" in sentence
    assert "conda env create -f environment.yml" in sentence and "start.py lab" in sentence


def test_the_floors_are_those_of_pyproject(monkeypatch):
    """The doctor reads the file line by line, since a Python that is too old has no tomllib."""
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lists = (project["dependencies"], project["optional-dependencies"]["test"])
    wanted = tuple(dict(need.partition(",")[0].split(">=") for need in needs if ">=" in need) for needs in lists)
    limits = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", project["requires-python"]).groups()
    assert machine.floors() == wanted
    assert machine.python_limits() == tuple((3, int(minor)) for minor in limits)
    if machine.installed("finetune-course") is None:
        pytest.skip("the course itself is not installed, so pip remembers nothing")
    monkeypatch.setattr(machine, "ROOT", ROOT / "nowhere")
    assert machine.floors() == wanted
    assert machine.python_limits() == tuple((3, int(minor)) for minor in limits)


@pytest.mark.parametrize(
    ("version", "numbers"), [("2.14.1+cpu", (2, 14, 1)), ("2.6.0rc1", (2, 6, 0)), ("3.11", (3, 11)), ("7", (7,))]
)
def test_versions_are_compared_as_numbers(version, numbers):
    assert machine.release(version) == numbers


@POSIX
def test_a_package_under_its_floor_and_a_missing_one_are_named_together(environment):
    python, _ = environment(without=["tqdm*", "matplotlib-*", "psutil*"], packages={"matplotlib": ("3.9.0", None)})
    status, sentence = findings("packages", python=python)["packages"]
    assert status == "FAIL"
    assert sentence.startswith("matplotlib 3.9.0 is older than 3.11; tqdm is missing; psutil is missing. Install")
    assert sentence.endswith(PIP)


@POSIX
def test_what_the_tests_alone_need_stops_nobody(environment):
    python, _ = environment(without=["nbval*"])
    status, sentence = findings("packages", python=python)["packages"]
    assert (status, sentence.split(".")[0]) == ("NOTE", "For the tests only: nbval is missing")


@POSIX
def test_without_torch_the_doctor_still_answers(environment):
    python, _ = environment(without=["torch", "torch-*"])
    found = findings("packages,threads,device,gpu,weights,tensorboard", python=python)
    assert found["packages"] == ("FAIL", f"torch is missing. Install what is needed: {PIP}")
    for name in ("threads", "device", "gpu", "weights"):
        assert found[name] == ("FAIL", "torch, torchvision cannot be loaded: see packages and imports.")
    assert found["tensorboard"][0] == "OK", "logging needs no torch"


BROKEN = {
    "a library is missing on Windows": (
        "raise OSError('[WinError 126] The specified module could not be found. Error loading c10.dll')",
        "torch cannot be loaded. OSError: [WinError 126] The specified module could not be found. Error loading "
        "c10.dll. That is: on Windows, torch needs the Microsoft Visual C++ Redistributable",
    ),
    "it takes its process with it": (
        "import os; os._exit(3)",
        "torch cannot be loaded. Python itself ended. Exit status 3.",
    ),
}


@POSIX
@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_package_is_found_and_the_others_are_still_asked(environment, fault):
    source, sentence = BROKEN[fault]
    python, _ = environment(without=["torch", "torch-*"], packages={"torch": ("2.14.1", source)})
    found = findings("imports,device", python=python)
    assert found["imports"][0] == "FAIL"
    assert found["imports"][1].startswith(sentence)
    assert "Perhaps for the same reason: torchvision" in found["imports"][1]
    assert "scikit-learn" not in found["imports"][1]
    assert "pip install --force-reinstall --no-deps torch==2.14.1" in found["imports"][1]
    assert found["device"][0] == "FAIL"


def install_for_real(site, *packages):
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--no-deps", "--quiet", "--retries=0"]
        + ["--timeout=5", "--only-binary=:all:", f"--target={site}", *packages],
        capture_output=True,
        text=True,
    )
    return done.returncode == 0


@POSIX
@pytest.mark.parametrize("source", ["from PyPI", "stand-in"])
def test_tensorboard_before_2_21_with_setuptools_82_is_explained(environment, source):
    python, site = environment(without=["tensorboard", "tensorboard-2*", "pkg_resources", "setuptools*", "_distutils*"])
    if source == "from PyPI":
        if not install_for_real(site, "tensorboard==2.20.0", "setuptools==82.0.1"):
            pytest.skip("pip reaches no index; the stand-in is tested")
    else:
        (site / "tensorboard").mkdir()
        (site / "tensorboard" / "__init__.py").touch()
        (site / "tensorboard" / "main.py").write_text("import pkg_resources\n")
        (site / "tensorboard-2.20.0.dist-info").mkdir()
        (site / "tensorboard-2.20.0.dist-info" / "METADATA").write_text("Name: tensorboard\nVersion: 2.20.0\n")
    found = findings("packages,tensorboard", python=python)
    assert found["packages"][0] == found["tensorboard"][0] == "FAIL"
    assert "tensorboard 2.20.0 is older than 2.21" in found["packages"][1]
    assert "No module named 'pkg_resources'. That is: TensorBoard before 2.21 needs" in found["tensorboard"][1]
    assert "pip install" in found["tensorboard"][1]


# --- the kernel -----------------------------------------------------------------------------------------------------


@pytest.fixture
def foreign(tmp_path):
    """Registers a kernel named python3 of another environment in a folder of Jupyter's; returns that folder."""

    def register(program=None):
        other = tmp_path / "other"
        if program is None:
            subprocess.run([sys.executable, "-m", "venv", "--without-pip", other], check=True)
            program = machine_python(other)
        spec = tmp_path / "jupyter" / "kernels" / "python3"
        spec.mkdir(parents=True)
        command = [str(program), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        about = {"argv": command, "display_name": "Python 3", "language": "python"}
        (spec / "kernel.json").write_text(json.dumps(about))
        return tmp_path / "jupyter"

    return register


def machine_python(folder):
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def test_a_kernel_of_another_environment_is_found_by_the_variable_that_brought_it(foreign):
    status, sentence = findings("kernel", JUPYTER_PATH=foreign())["kernel"]
    assert status == "FAIL"
    assert "another Python (3." in sentence and "not find what is installed here" in sentence
    assert sentence.endswith("JUPYTER_PATH names: unset that variable.")
    assert findings("kernel", JUPYTER_PATH=None)["kernel"][0] == "OK"


def test_a_kernel_left_in_the_users_folder_goes_by_the_command_that_the_doctor_names(foreign):
    variables = {"JUPYTER_DATA_DIR": foreign(), "JUPYTER_PREFER_ENV_PATH": "0", "JUPYTER_PATH": None}
    status, sentence = findings("kernel", **variables)["kernel"]
    assert status == "FAIL" and "another Python (3." in sentence
    remedy = re.search(r"(-m jupyter kernelspec remove python3)$", sentence)[1]
    environment = {**os.environ, **{name: str(value) for name, value in variables.items() if value is not None}}
    environment.pop("JUPYTER_PATH", None)
    subprocess.run([sys.executable, *remedy.split()], env=environment, input=b"y\n", check=True, capture_output=True)
    assert findings("kernel", **variables)["kernel"][0] == "OK"


def test_a_kernel_whose_python_is_gone_is_told_apart(foreign, tmp_path):
    status, sentence = findings("kernel", JUPYTER_PATH=foreign(tmp_path / "gone" / "python"))["kernel"]
    assert status == "FAIL" and "starts .../python, which does not run. FileNotFoundError" in sentence


@POSIX
def test_an_environment_without_the_course_is_found(environment):
    python, _ = environment(without=["__editable__*", "finetune_course*", "*finetune*"])
    status, sentence = findings("kernel", python=python)["kernel"]
    assert status == "FAIL"
    assert "The notebooks would not find course_utils. ModuleNotFoundError" in sentence
    assert "pip install -e" in sentence


def test_another_copy_of_the_course_is_found(copied):
    status, sentence = findings("kernel", root=copied)["kernel"]
    assert (status, sentence.split(".")[0]) == ("FAIL", "The notebooks would load another copy of the course")


# --- a student's own files ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "file", ["torch.py", "PIL.py", "numpy.py", "tensorboardX.py", "google.py", "IPython.pyc", "torch/__init__.py"]
)
@pytest.mark.parametrize("place", ["", "notebooks"])
def test_a_file_that_hides_a_package_is_named(copied, place, file):
    name = copied / place / file
    name.parent.mkdir(exist_ok=True)
    name.write_text("x = 1\n")
    shown = str((name.parent if "/" in file else name).relative_to(copied))
    found = findings("imports,kernel" if not place else "kernel", root=copied)
    status, sentence = found["kernel" if place else "imports"]
    assert status == "FAIL" and sentence.startswith(f"{shown}: in the way, under the name of a module"), found
    assert "Rename it" in sentence


def test_a_file_in_the_folder_of_a_copy_is_named_too(copied, tmp_path):
    own = tmp_path / "own" / "notebooks"
    own.mkdir(parents=True)
    for file in (own / "torch.py", own / "course_utils.py", own.parent / "sklearn.py"):
        file.touch()
    found = findings("imports,kernel", "--runs", own / "runs", root=copied)
    assert found["imports"][1].startswith(".../sklearn.py: in the way")
    assert found["kernel"][1].startswith(".../course_utils.py, .../torch.py: in the way")


def test_of_pythons_own_names_those_are_in_the_way_that_something_looks_for(copied):
    """Beside a notebook none does harm, since the kernel looks there after Python's own; in the root some do."""
    for name in ("random", "tabnanny", "gc", "os", "mine"):  # all packages look for random; nothing for tabnanny
        for place in ("", "notebooks"):
            (copied / place / f"{name}.py").write_text("x = 1\n")
    (copied / "torch").mkdir()  # no package without code: Python passes it over
    if os.name != "nt":  # where making a link takes rights
        (copied / "numpy.py").symlink_to("nowhere")
    found = findings("imports,kernel", root=copied)
    assert found["imports"][1].startswith("random.py: in the way"), found
    assert "in the way" not in found["kernel"][1]
    cell = nbformat.v4.new_code_cell(
        "import random, tabnanny, mine\n[hasattr(m, 'x') for m in (random, tabnanny, mine)]"
    )
    notebook = nbformat.v4.new_notebook(cells=[cell])
    where = {"metadata": {"path": str(copied / "notebooks")}}
    NotebookClient(notebook, kernel_name="python3", resources=where).execute()
    assert cell.outputs[0]["data"]["text/plain"] == "[False, False, True]", "and so a real kernel has it"
    for name in ("random", "gc", "os", "mine"):
        code = f"import {name}; print(hasattr({name}, 'x'))"
        done = subprocess.run([sys.executable, "-c", code], cwd=copied, capture_output=True, text=True)
        assert done.stdout == f"{name in ('random', 'mine')}\n", "and so has a command"


def test_a_file_beside_the_notebook_does_not_stop_tensorboard(tmp_path, monkeypatch):
    (tmp_path / "random.py").write_text("x = 1\n")
    monkeypatch.chdir(tmp_path)
    with serve(tmp_path) as board:
        assert board.get("data/environment")


# --- device, threads, GPU -------------------------------------------------------------------------------------------


def test_a_gpu_that_is_not_there_and_threads_that_are_none_are_refused():
    found = findings("device,threads", COURSE_DEVICE="cuda", COURSE_THREADS="all")
    assert found["device"][0] == found["threads"][0] == "FAIL"
    assert "no device 'cuda' here, only cpu. COURSE_DEVICE asks for it; unset that variable" in found["device"][1]
    assert "whole number from 1, not 'all'. Unset COURSE_THREADS" in found["threads"][1]


CARD = ("Example 4000, 470.10", "")
NO_GPU = [
    ({"name": "Example 4000"}, None, "OK", "Example 4000 can be used"),
    ({"build": "13.0", "why": "."}, None, "OK", "The pocket size needs none"),
    ({"build": "13.0", "why": ""}, ("", "NVIDIA-SMI has failed."), "NOTE", "finds no GPU. NVIDIA-SMI has failed. For"),
    ({"build": None, "why": ""}, CARD, "NOTE", "(Example 4000, 470.10), but this torch is for the CPU alone"),
    ({"build": "13.0", "why": "The driver is too old."}, CARD, "NOTE", "cannot use it. The driver is too old. For"),
]


@pytest.mark.parametrize(("facts", "card", "status", "says"), NO_GPU)
def test_why_a_gpu_is_not_used_is_said_and_stops_nobody(monkeypatch, facts, card, status, says):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(doctor, "probe", lambda name: facts)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: name if card else None)
    monkeypatch.setattr(doctor, "output_of", lambda command: card)
    found, sentence = doctor.check_gpu(None)
    assert found == status and says in sentence
    if card is CARD:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        assert facts["build"] is None or "CUDA_VISIBLE_DEVICES hides it" in doctor.check_gpu(None)[1]


@POSIX
def test_a_real_command_that_lists_a_gpu_is_asked(tmp_path):
    """Here torch sees no GPU, whatever the machine has, and a program by the name of nvidia-smi lists one."""
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho Example 4000, 470.10\n")
    program.chmod(0o755)
    found = findings("gpu", PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}")["gpu"]
    assert found[0] == "NOTE"
    assert "There is a GPU (Example 4000, 470.10), but" in found[1]


# --- memory, disk, folders, ports -----------------------------------------------------------------------------------


def test_a_containers_memory_counts_not_the_machines(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    all_of_it = machine.memory()[1]
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text(f"{700 * 2**20}\n")
    (tmp_path / "memory.stat").write_text(f"anon 5\ninactive_file {200 * 2**20}\nslab 7\n")
    assert machine.memory()[1] == all_of_it
    (tmp_path / "memory.max").write_text(f"{1000 * 2**20}\n")
    status, sentence = doctor.check_memory(None)
    assert (status, sentence.split(";")[0]) == ("FAIL", "0.5 of 1.0 GiB are free")


@POSIX
def test_a_full_disk_is_called_full(tmp_path):
    prefix = mounting("size=64k", then='head -c 60000 /dev/zero > "$0/big"')
    found = findings("disk,runs", "--runs", tmp_path / "runs", prefix=[*prefix, tmp_path])
    assert found["disk"][0] == found["runs"][0] == "FAIL"
    assert "The disk is full: 0 MB are free" in found["disk"][1]
    assert "Nothing can be written into .../runs: the disk is full. Make room" in found["runs"][1]


@POSIX
def test_a_read_only_folder_is_answered_by_a_copy_elsewhere(tmp_path):
    prefix = mounting("ro")
    status, sentence = findings("runs", "--runs", tmp_path / "runs", prefix=[*prefix, tmp_path])["runs"]
    assert status == "FAIL"
    assert "(Read-only file system). Work in a copy in a place of your own" in sentence


def test_a_folder_that_cannot_be_made_is_an_error_of_the_same_kind(tmp_path):
    (tmp_path / "file").touch()
    status, sentence = findings("runs", "--runs", tmp_path / "file" / "runs")["runs"]
    assert status == "FAIL" and "Work in a copy" in sentence


def test_a_check_of_the_folder_leaves_what_is_there(tmp_path):
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    assert findings("runs", "--runs", tmp_path / "runs")["runs"][0] == "OK"
    assert [path.name for path in tmp_path.rglob("*")] == ["runs", "mine"]


def test_a_taken_port_is_noted_with_a_free_one():
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        status, sentence = findings("port", "--port", taken)["port"]
    assert status == "NOTE" and sentence.startswith(f"Port {taken} is taken")
    other = int(re.search(r"--port (\d+)$", sentence)[1])
    assert other != taken
    with socket.create_server(("127.0.0.1", other)):
        pass
    assert findings("port", "--port", other)["port"] == ("OK", f"Port {other} is free for TensorBoard.")


# --- TensorBoard and the weights ------------------------------------------------------------------------------------


def test_a_tensorboard_that_shows_another_value_is_caught(monkeypatch):
    monkeypatch.setattr(doctor, "log_one_value", lambda folder: "")
    monkeypatch.setattr(doctor, "ask_tensorboard", lambda folder: (1.0, 0.25))
    assert doctor.check_tensorboard(None)[0] == "FAIL"


def test_a_tensorboard_that_never_answers_is_given_up(monkeypatch, tmp_path):
    monkeypatch.setattr(probes, "PATIENCE", 0)
    with pytest.raises(RuntimeError, match="TensorBoard has not answered within 0 s"):
        probes.ask_tensorboard(tmp_path)


@pytest.mark.parametrize("damage", ["missing", "one byte"])
def test_weights_that_are_missing_or_damaged_are_found(copied, damage):
    file = copied / "course_utils" / "weights" / "tiny_resnet_letters37.pt"
    content = bytearray(file.read_bytes())
    file.unlink()
    if damage == "one byte":
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    status, sentence = findings("weights", root=copied)["weights"]
    assert status == "FAIL"
    assert ("No weights at" if damage == "missing" else "is damaged") in sentence
    assert "git checkout" in sentence and "from a new download" in sentence


def test_a_torchvision_of_another_torch_is_explained():
    message = machine.explained("RuntimeError: operator torchvision::nms does not exist")
    assert message.endswith("does not exist. That is: this torch and this torchvision do not belong together.")


# --- other conditions -----------------------------------------------------------------------------------------------


def test_a_path_with_blanks_and_chinese_characters_is_no_matter(copied):
    found = findings("packages,weights,runs,tensorboard", root=copied, TMPDIR=copied, TEMP=copied, TMP=copied)
    assert {status for status, _ in found.values()} == {"OK"}, found


def test_a_console_without_the_letters_gets_a_report_all_the_same(copied):
    (copied / "结果").touch()
    done = call("--only", "runs", "--runs", copied / "结果" / "runs", PYTHONIOENCODING="cp1252")
    assert (done.returncode, done.stderr) == (1, b"")
    assert b"FAIL  runs" in done.stdout


def test_no_home_and_no_name_of_a_user_are_no_matter(tmp_path):
    without = dict.fromkeys(("HOME", "USER", "LOGNAME", "LNAME", "USERNAME", "USERPROFILE"))
    found = findings("python,packages,kernel,runs", "--runs", tmp_path, **without)
    assert {status for status, _ in found.values()} <= {"OK", "NOTE"}, found


def test_messages_of_others_lose_paths_and_names(monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: Path("/home/alice"))
    monkeypatch.setattr(getpass, "getuser", lambda: "alice")
    monkeypatch.setattr(socket, "gethostname", lambda: "wonderland")
    monkeypatch.setattr(machine, "ROOT", Path("/data/course"))
    for text, cleaned in {
        "/home/alice/env/bin/python": "~/env/bin/python",
        "/data/course/notebooks/runs": "notebooks/runs",
        "cannot load /usr/lib/x86/libc.so.6: no": "cannot load .../libc.so.6: no",
        r"Error loading 'D:\Users\alice\torch\c10.dll'": "Error loading '.../c10.dll'",
        "alice@wonderland said 1/2": "...@... said 1/2",
        "see https://www.nvidia.com/drivers/here": "see https://www.nvidia.com/drivers/here",
    }.items():
        assert machine.clean(text) == cleaned
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert machine.clean("/srv/alice/x") == ".../x"


@pytest.mark.parametrize(
    ("prefix", "command"),
    [
        ("/x/envs/finetune-course", "conda env update -n finetune-course -f environment.yml"),
        (str(ROOT / ".venv"), f'{machine.PYTHON} start.py run -m pip install -e ".[test]"'),
        ("/x/own", 'python -m pip install -e ".[test]"'),
    ],
)
def test_remedies_are_in_the_words_of_the_environment(monkeypatch, prefix, command):
    monkeypatch.setattr(machine, "conda_name", lambda: "finetune-course" if "envs" in prefix else None)
    monkeypatch.setattr(sys, "prefix", prefix)
    assert machine.how_to_install() == command


def test_a_check_that_breaks_does_not_stop_the_others(monkeypatch, capsys):
    def broken(args):
        raise ZeroDivisionError("a fault of the doctor's own")

    monkeypatch.setitem(doctor.CHECKS, "cpu", broken)
    args = Namespace(only="cpu,port", port=machine.free_port(), json=False, runs=None)
    assert doctor.run(args) == 0
    assert "NOTE  cpu          This could not be checked. ZeroDivisionError: a fault" in capsys.readouterr().out
