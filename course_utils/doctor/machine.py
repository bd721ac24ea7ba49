"""What can be told of this machine with the standard library alone, and how to say it without naming its user."""

from __future__ import annotations

import getpass
import importlib.metadata
import os
import re
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 180  # seconds: the first import of torch from a slow disk can take a minute
CGROUP = Path("/sys/fs/cgroup")  # where Linux says what a container may use
PYTHON = "py" if os.name == "nt" else "python3"
# What messages of broken packages mean: tensorflow/tensorboard#7107, pytorch/vision#9174, pytorch/pytorch#65214.
KNOWN_ERRORS = {
    "pkg_resources": "TensorBoard before 2.21 needs a part of setuptools that is gone since setuptools 82",
    "Could not determine home directory": "Jupyter needs a home: set the environment variable HOME to a folder of your "
    "own",
    "torchvision::nms": "this torch and this torchvision do not belong together",
    r"WinError 1\d\d|DLL load failed": "on Windows, torch needs the Microsoft Visual C++ Redistributable, to be had at "
    "https://aka.ms/vc14/vc_redist.x64.exe",
}


def python_limits() -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The oldest Python that the course runs on, and the first that it does not."""
    limits = re.search(r'requires-python = ">=([\d.]+),<([\d.]+)"', _pyproject())
    return release(limits[1]), release(limits[2])


def floors() -> tuple[dict[str, str], dict[str, str]]:
    """{package: the oldest version that will do}, for the course and for its tests, as pyproject.toml has them."""
    course, tests = _pyproject().split("[project.optional-dependencies]")
    parts = course, tests.partition("\ntest = [")[2].partition("\n]")[0]  # other groups are for those who want them
    course, tests = (dict(re.findall(r'^    "([\w.-]+)[^"]*?>=([\d.]+)', part, re.MULTILINE)) for part in parts)
    return course, tests


def _pyproject() -> str:
    """pyproject.toml; where the course is installed without it, what pip remembers, in the same form."""
    with suppress(OSError):
        return (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    about = importlib.metadata.metadata("finetune-course")
    oldest, above = (re.search(sign + r"([\d.]+)", about["Requires-Python"])[1] for sign in (">=", "<"))
    needs = [need.partition(";") for need in about.get_all("Requires-Dist")]
    course, tests = (
        [f'    "{need}"' for need, _, marker in needs if extra == re.findall(r'extra == "([\w-]+)"', marker)]
        for extra in ([], ["test"])
    )
    lines = [f'requires-python = ">={oldest},<{above}"', *course, "[project.optional-dependencies]"]
    return "\n".join([*lines, "test = [", *tests, "]"])


def installed(package: str) -> str | None:
    """The version of a package that is installed here, or None. Nothing is imported."""
    with suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)


def release(version: str) -> tuple[int, ...]:
    """Version as numbers, to be compared: 2.14.1+cpu is (2, 14, 1)."""
    return tuple(int(part) for part in re.match(r"\d+(\.\d+)*", version)[0].split("."))


def memory() -> tuple[float, float]:
    """GiB that are free and GiB in all; in a container, of what it may use."""
    import psutil

    free, total = psutil.virtual_memory().available, psutil.virtual_memory().total
    with suppress(OSError, ValueError, TypeError):  # no container, or no limit
        limit, used = (int((CGROUP / name).read_text(encoding="ascii")) for name in ("memory.max", "memory.current"))
        cached = int(re.search(r"inactive_file (\d+)", (CGROUP / "memory.stat").read_text(encoding="ascii"))[1])
        free, total = min(free, limit - used + cached), min(total, limit)
    return free / 2**30, total / 2**30


def free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return place.getsockname()[1]


def output_of(command: list[str], cwd: Path = ROOT) -> tuple[str, str]:
    """What a command prints, and "" or a sentence on how it failed."""
    variables = {**os.environ, "PYTHONIOENCODING": "utf-8"}  # else a child prints in the encoding of its console
    try:
        done = subprocess.run(
            command, cwd=cwd, env=variables, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE
        )
        output, errors, failed = done.stdout, done.stderr, done.returncode != 0
        errors = errors if last_line(errors) else f"Exit status {done.returncode}".encode()
    except subprocess.TimeoutExpired as error:
        output, errors, failed = error.output or b"", f"It did not end within {PATIENCE} s".encode(), True
    except OSError as error:
        return "", described(error)
    return output.decode("utf-8", "replace").strip(), explained(last_line(errors)) if failed else ""


# --- remedies, in the words of the environment that this is ---------------------------------------------------------


def how_to_make() -> str:
    return f"conda env create -f environment.yml, or without conda: {PYTHON} start.py lab"


def how_to_run(what: str) -> str:
    """How to call this environment's Python from a terminal where it may not be the first one."""
    if conda_name():
        return f"conda run -n {conda_name()} --no-capture-output python {what}"
    return f"{PYTHON} start.py run {what}" if Path(sys.prefix).resolve() == ROOT / ".venv" else f"python {what}"


def how_to_install() -> str:
    if conda_name():
        return f"conda env update -n {conda_name()} -f environment.yml"
    return how_to_run('-m pip install -e ".[test]"')


def how_to_reinstall(package: str) -> str:
    return how_to_run(f"-m pip install --force-reinstall --no-deps {package}=={installed(package)}")


def conda_name() -> str | None:
    prefix = Path(sys.prefix)
    return prefix.name if (prefix / "conda-meta").is_dir() and prefix.parent.name == "envs" else None


# --- messages of others, fit to be shown ----------------------------------------------------------------------------


def described(error: BaseException) -> str:
    return explained(f"{type(error).__name__}: {last_line(str(error))}")


def explained(message: str) -> str:
    """A message as a sentence, with what it means where that is known."""
    meaning = next((f" That is: {text}." for known, text in KNOWN_ERRORS.items() if re.search(known, message)), "")
    return clean(message).rstrip(". ") + "." + meaning


def last_line(text: str | bytes) -> str:
    text = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def clean(text: object) -> str:
    """Text without what tells of the machine and its user: paths from the home or the course on, and no names."""
    text = str(text).replace(f"{ROOT}{os.sep}", "")
    with suppress(RuntimeError):  # there is no home
        text = text.replace(f"{Path.home()}{os.sep}", "~/")
    text = re.sub(r"""(?<![\w.~/\\])(?:[A-Za-z]:)?[\\/](?:[^\s\\/:*?"'<>|]+[\\/])+""", ".../", text)
    for ask in (getpass.getuser, socket.gethostname):
        with suppress(Exception):  # a user without a name
            text = re.sub(rf"\b{re.escape(ask())}\b", "...", text)
    return text
