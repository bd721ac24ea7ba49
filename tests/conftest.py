"""What all tests share: how the environment is set, where the repository is, and that a run leaves it as it was."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# One thread: pocket networks are so small that a second one costs more than it brings, and sums keep their order.
os.environ.setdefault("COURSE_THREADS", "1")
# The notebooks' kernels inherit this environment. They draw into the notebook unless told otherwise, so nothing may
# tell them; the unit tests, in this process, draw to memory (see below).
os.environ.pop("MPLBACKEND", None)
# Nobody's own progress is read or written; the folder goes when this process ends.
PROGRESS = tempfile.TemporaryDirectory()
os.environ["COURSE_PROGRESS"] = str(Path(PROGRESS.name) / "progress.json")
# "make test ARGS=..." hands its own settings down to every make below it; the tests call make as a reader would.
for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "ARGS", "PYTHON"):
    os.environ.pop(name, None)


@pytest.fixture(scope="session", autouse=True)
def no_windows_one_thread():
    """Let matplotlib draw to memory in this process, however a test came to draw, and torch compute with one thread."""
    import matplotlib
    import torch

    matplotlib.use("Agg")
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's folder."""
    return ROOT


def tree_state(root: Path) -> list[str] | None:
    """What git sees as changed or new in the repository, a line each; None where there is no git or no repository."""
    if shutil.which("git") is None:
        return None
    lines = []
    for command in (["status", "--porcelain", "--untracked-files=all"], ["diff", "--stat=200"]):
        run = subprocess.run(["git", *command], cwd=root, capture_output=True, text=True, encoding="utf-8")
        if run.returncode:
            return None
        lines += run.stdout.splitlines()
    return lines


before = pytest.StashKey[list[str] | None]()
left = pytest.StashKey[list[str]]()


def pytest_sessionstart(session):
    session.config.stash[before] = tree_state(session.config.rootpath)


def pytest_sessionfinish(session):
    """Fail a run that leaves the repository's files other than it found them."""
    earlier, now = session.config.stash.get(before, None), tree_state(session.config.rootpath)
    if earlier is None or now is None:
        return
    session.config.stash[left] = sorted(set(now) ^ set(earlier))
    if session.config.stash[left] and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, config):
    changed = config.stash.get(left, [])
    if changed:
        terminalreporter.section("the tests changed files of the repository", red=True)
        for line in changed:
            terminalreporter.line(line)
