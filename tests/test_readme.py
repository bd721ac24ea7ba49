"""The README's commands, run as they stand there, and its links, followed.

conda is a stand-in here, a small program that reads the same arguments; what it runs is real. `make` and `py` run for
real, on the environment that runs the tests. A folder that a command would make beside the repository lies elsewhere.
"""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, flags=re.M | re.S)
COMMANDS = [line for kind, text in BLOCKS if kind in ("bash", "bat") for line in text.splitlines()]
INLINE = [code for code in re.findall(r"`([^`\n]+)`", README) if code.startswith(("make ", "py ", "conda ", "pip "))]

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the stand-ins are programs as Linux and macOS have them")

# What conda's own parser accepts of these two commands. Without --no-capture-output, conda too keeps all output until
# the command has ended: a reader would wait for an address that does not come.
CONDA = """
import argparse, os, pathlib, subprocess, sys, yaml
parser = argparse.ArgumentParser("conda")
commands = parser.add_subparsers(dest="command", required=True)
env = commands.add_parser("env").add_subparsers(dest="action", required=True)
create = env.add_parser("create")
create.add_argument("-f", "--file", required=True)
env.add_parser("remove").add_argument("-n", "--name", required=True)
update = env.add_parser("update")
update.add_argument("-n", "--name", required=True)
update.add_argument("-f", "--file", required=True)
run = commands.add_parser("run")
run.add_argument("-n", "--name", required=True)
run.add_argument("--no-capture-output", "--live-stream", action="store_true")
run.add_argument("executable_call", nargs=argparse.REMAINDER)
commands.add_parser("clean").add_argument("--all", action="store_true")
args = parser.parse_args()
made = pathlib.Path(os.environ["STAND_IN"], "environments")
known = made.read_text().split() if made.exists() else []
if args.command == "env" and args.action == "create":
    made.write_text(" ".join([*known, yaml.safe_load(pathlib.Path(args.file).read_text())["name"]]))
elif args.command == "env":
    if args.action == "update":
        yaml.safe_load(pathlib.Path(args.file).read_text())
    sys.exit(args.name not in known)
elif args.command == "run":
    if args.name not in known:
        sys.exit("EnvironmentLocationNotFound: " + args.name)
    environment = dict(os.environ, PATH=os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"])
    if args.no_capture_output:
        os.execvpe(args.executable_call[0], args.executable_call, environment)
    done = subprocess.run(args.executable_call, env=environment, capture_output=True, text=True)
    print(done.stdout, done.stderr)
    sys.exit(done.returncode)
"""


def program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IEXEC)


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    """The variables under which the README's commands run: stand-ins first, and a home of their own."""
    folder = tmp_path_factory.mktemp("stage")
    (folder / "bin").mkdir()
    (folder / "conda.py").write_text(CONDA)
    python = shlex.quote(sys.executable)
    program(folder / "bin" / "conda", f'#!/bin/sh\nexec {python} {shlex.quote(str(folder / "conda.py"))} "$@"\n')
    program(folder / "bin" / "py", f'#!/bin/sh\nexec {python} "$@"\n')
    program(folder / "bin" / "pip", f'#!/bin/sh\nexec {python} -m pip "$@"\n')
    (folder / "environments").write_text("finetune-course")
    jupyter = {"ServerApp": {"port_retries": 0, "allow_root": True}}
    (folder / "jupyter_server_config.json").write_text(json.dumps(jupyter))
    home = {name: str(folder) for name in ("HOME", "STAND_IN", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR")}
    home |= {"JUPYTER_RUNTIME_DIR": tempfile.mkdtemp(dir=folder), "XDG_CONFIG_HOME": str(folder / "config")}
    path = str(folder / "bin") + os.pathsep + os.environ["PATH"]
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "COURSE_", "JUPYTER"))}
    return kept | home | {"PATH": path, "COURSE_PYTHON": sys.executable}


def do(command: str, stage: dict, **variables) -> subprocess.CompletedProcess:
    return subprocess.run(
        command, shell=True, cwd=ROOT, env=stage | variables, capture_output=True, text=True, timeout=120
    )


def get(url: str) -> dict:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


def check_lab(command: str, stage: dict, tmp_path: Path) -> None:
    """Start JupyterLab, let it open its browser, and see that this opens the first notebook, pictures in reach."""
    opened, log = tmp_path / "opened", tmp_path / "log"
    program(tmp_path / "browser", f'#!/bin/sh\ncp "${{1#file://}}" {shlex.quote(str(opened))}\n')
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    variables = stage | {"BROWSER": str(tmp_path / "browser"), "JUPYTER_PORT": str(port)}
    with log.open("w") as out:
        options = {"shell": True, "cwd": ROOT, "stdout": out, "stderr": subprocess.STDOUT, "start_new_session": True}
        server = subprocess.Popen(command, env=variables, **options)
    try:
        end = time.monotonic() + 60
        while not (opened.exists() and "</html>" in opened.read_text()):
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        # Jupyter hands its browser a page that leads on to the address.
        address = re.search(r'href="http://[^/]+(/[^"?]*)\?token=(\w+)"', opened.read_text())
        assert address[1] == "/lab/tree/notebooks/00_start_here.ipynb"
        contents, token = f"http://127.0.0.1:{port}/api/contents", f"?content=0&token={address[2]}"
        assert get(f"{contents}/notebooks/00_start_here.ipynb{token}")["type"] == "notebook"
        # A picture in a notebook is ../images/...: it shows only where that folder lies under the server's root.
        assert get(f"{contents}/images{token}")["type"] == "directory"
        # The address for those who open it themselves is printed, and while the server runs.
        assert f"127.0.0.1:{port}/lab" in log.read_text()
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)


def check_copy(command: str, stage: dict, tmp_path: Path) -> None:
    """Start JupyterLab on copies, which one of the student's own already lies among."""
    folder = tmp_path / "my-course"
    (folder / "notebooks").mkdir(parents=True)
    mine = folder / "notebooks" / "01_environment_setup.ipynb"
    mine.write_text("mine")
    check_lab(command.replace("../my-course", shlex.quote(str(folder))), stage, tmp_path)
    assert mine.read_text() == "mine"
    first = Path("notebooks", "00_start_here.ipynb")
    assert (folder / first).read_bytes() == (ROOT / first).read_bytes()
    assert "1 that were there left alone" in (tmp_path / "log").read_text()


def check_test(command: str, stage: dict) -> None:
    """Run the tests by the command: really pytest, with the project's settings, on one small file."""
    done = do(command, stage, PYTEST_ADDOPTS="--collect-only -q tests/test_environment.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tests/test_environment.py::" in done.stdout


def check_pip_configuration(command: str, stage: dict) -> None:
    assert do(command, stage).returncode == 0
    assert do("pip config get global.index-url", stage).stdout.strip() == command.split()[-1]


def check_target(command: str, stage: dict) -> None:
    """Look at what make would run: a command that start.py knows, with a module that exists."""
    done = do(command.replace("make", "make -n", 1), stage)
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        _, script, name, *rest = shlex.split(line)
        assert script == "start.py"
        assert f"start.py {name}" in do(f"{shlex.quote(sys.executable)} start.py help", stage).stderr
        if rest[:2] == ["-m", "course_utils"]:
            commands = do(f"{shlex.quote(sys.executable)} -m course_utils --help", stage).stdout
            assert rest[2] in commands


def check_pictures(command: str, stage: dict, tmp_path: Path) -> None:
    """Train on a folder of pictures, and predict with what came out; the second command needs the first."""
    for name, colour in (("dark", 40), ("light", 200)):
        (tmp_path / "FOLDER" / name).mkdir(parents=True)
        for i in range(10):
            Image.new("RGB", (20 + i, 20), (colour, colour + i, 90)).save(tmp_path / "FOLDER" / name / f"{i}.png")
    shutil.copy(tmp_path / "FOLDER" / "dark" / "3.png", tmp_path / "PICTURE.jpg")
    for line in [line for line in COMMANDS if line.startswith("python3 start.py run -m course_utils")]:
        here = re.sub(r"\b(FOLDER|RUN|PICTURE\.jpg)\b", lambda name: shlex.quote(str(tmp_path / name[0])), line)
        done = do(here.replace("python3", shlex.quote(sys.executable), 1), stage, OMP_NUM_THREADS="1")
        assert done.returncode == 0, done.stdout + done.stderr
        if line == command:
            break
    assert ("PICTURE.jpg" in done.stdout and "dark" in done.stdout) or (tmp_path / "RUN").is_dir()


@pytest.mark.parametrize("command", dict.fromkeys(COMMANDS + INLINE))
def test_command(command, stage, tmp_path):
    if command.startswith("make") and shutil.which("make") is None:
        pytest.skip("needs make")
    if "--copy" in command:
        check_copy(command, stage, tmp_path)
    elif re.fullmatch(r"make lab|(py|conda run .* python) start\.py lab", command):
        check_lab(command, stage, tmp_path)
    elif re.fullmatch(r"make test( ARGS=.*)?|(py|conda run .* python) start\.py test", command):
        check_test(command, stage)
    elif command.startswith("make"):
        check_target(command, stage)
    elif command.startswith("pip config set global.index-url"):
        check_pip_configuration(command, stage)
    elif command == "pip cache purge":
        assert do("pip cache --help", stage).stdout.count("purge")
    elif command.startswith("python3 start.py run -m course_utils"):
        check_pictures(command, stage, tmp_path)
    elif command.startswith(("conda", "py start.py run")):
        done = do(command + " --help" if command.endswith("course_utils") else command, stage)
        assert done.returncode == 0, done.stderr
    else:
        pytest.fail(f"the README gives a command that no test runs: {command}")


def test_the_conda_environment_has_the_name_that_the_commands_use():
    name = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["name"]
    used = re.findall(r"conda (?:run|env remove) -n (\S+)", " ".join(COMMANDS + INLINE))
    assert len(used) >= 3
    assert set(used) == {name}


def test_the_stand_in_for_conda_refuses_what_conda_refuses(stage):
    assert do("conda run -n other --no-capture-output python -V", stage).returncode
    assert do("conda run -n finetune-course --no-captures python -V", stage).returncode
    assert do("conda env create -f missing.yml", stage).returncode


def test_the_mirror_names_the_folder_above_conda_forge():
    (text,) = [text for kind, text in BLOCKS if kind == "yaml"]
    configuration = yaml.safe_load(text)
    assert configuration["channels"] == ["conda-forge"]
    (address,) = configuration["custom_channels"].values()
    assert re.fullmatch(r"https://\S+/cloud", address)


def test_the_map_shows_each_notebook_that_there_is():
    shown = re.findall(r"^\| \[[^\]]+\]\(notebooks/([^)]+)\)", README, flags=re.M)
    assert shown == sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))
