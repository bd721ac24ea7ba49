"""Check this machine for the course: each line is OK, or says what is wrong and how to mend it."""

from __future__ import annotations

import argparse
import errno
import json
import os
import pkgutil
import platform
import shutil
import socket
import sys
import sysconfig
import tempfile
from contextlib import suppress
from importlib.machinery import PathFinder
from pathlib import Path
from typing import NamedTuple

from course_utils.doctor.machine import (
    ROOT,
    clean,
    described,
    floors,
    free_port,
    how_to_install,
    how_to_make,
    how_to_reinstall,
    how_to_run,
    installed,
    memory,
    output_of,
    python_limits,
    release,
)
from course_utils.doctor.probes import ask_tensorboard, fails, log_one_value, probe

RUNS = ROOT / "notebooks" / "runs"
OWN = ("course_utils", "classroom", "benchmarks")  # the course's packages
NEED_TORCH = ("threads", "device", "gpu", "weights")
MEMORY_NEEDED = 1.0  # GiB: a lesson's kernel was measured at 0.9
DISK_NEEDED, DISK_FULL_SIZE = 0.1, 2.0  # GB: for the logs of the pocket size; for data and weights of the full size


class Finding(NamedTuple):
    """One line of the report."""

    status: str  # OK; NOTE: worth knowing; FAIL: stops the course
    name: str
    sentence: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--only", metavar="NAMES", help=f"only these checks, as in gpu,port: {', '.join(CHECKS)}")
    parser.add_argument("--port", type=int, default=6006, help="the port that TensorBoard is to use (default 6006)")
    parser.add_argument("--runs", type=Path, default=RUNS, help="where the lessons write (default notebooks/runs)")


def run(args: argparse.Namespace) -> int:
    """Print a line a check; 1 where one of them says FAIL. Raises ValueError for a check that there is not."""
    chosen = args.only.split(",") if args.only else list(CHECKS)
    if unknown := [name for name in chosen if name not in CHECKS]:
        raise ValueError(f"There is no check {unknown[0]!r}, only {', '.join(CHECKS)}.")
    if not 0 < args.port < 65536:
        raise ValueError(f"A port is a number from 1 to 65535, not {args.port}.")
    findings = []
    for name in chosen:
        try:
            absent = [package for package in ("numpy", "torch", "torchvision") if name in NEED_TORCH and fails(package)]
            status, sentence = "FAIL", f"{', '.join(absent)} cannot be loaded: see packages and imports."
            if not absent:
                status, sentence = CHECKS[name](args)
        except Exception as error:  # the doctor goes on with the next line, whatever happens on this one
            status, sentence = "NOTE", f"This could not be checked. {described(error)}"
        findings.append(Finding(status, name, sentence))
        if not args.json:
            print(f"{status:5} {name:12} {sentence}", flush=True)
    failed = [finding.name for finding in findings if finding.status == "FAIL"]
    if args.json:
        report = {"ok": not failed, "findings": [finding._asdict() for finding in findings]}
        print(json.dumps(report, indent=1))
    elif failed:
        print(f"\nTo mend before the course can run: {', '.join(failed)}. Then call the doctor again.")
        print(f"More on each: {', '.join(f'docs/troubleshooting.md#{name}' for name in failed)}")
    else:
        print("\nNothing stands in the way of the course.")
    return 1 if failed else 0


# --- the checks: each gives a status and a sentence; a fault in one explains those of the next ----------------------


def check_python(args) -> tuple[str, str]:
    found = f"Python {platform.python_version()}, {64 if sys.maxsize > 2**32 else 32} bit"
    oldest, above = python_limits()
    if sys.maxsize > 2**32 and oldest <= sys.version_info[:2] < above:
        return "OK", f"{found}, {platform.system()} on {platform.machine()}."
    limits = f"3.{oldest[1]} to 3.{above[1] - 1}, 64 bit"
    return "FAIL", f"This is {found}; the course needs {limits}. Make its environment: {how_to_make()}"


def check_packages(args) -> tuple[str, str]:
    """The versions that are installed against the floors of pyproject.toml. Nothing is imported."""
    needed, extra = floors()
    versions = {name: installed(name) for name in needed | extra}
    wrong = {
        name: f"{name} is missing" if versions[name] is None else f"{name} {versions[name]} is older than {floor}"
        for name, floor in (needed | extra).items()
        if versions[name] is None or release(versions[name]) < release(floor)
    }
    if any(name in needed for name in wrong):
        return "FAIL", f"{'; '.join(wrong.values())}. Install what is needed: {how_to_install()}"
    if wrong:
        return "NOTE", f"For the tests only: {'; '.join(wrong.values())}. Install it: {how_to_install()}"
    return "OK", ", ".join(f"{name} {versions[name]}" for name in needed) + "."


def folders_of_notebooks(args) -> set[Path]:
    """The course's own, and that of a copy: the doctor was called there, or its --runs lies in it."""
    return {folder.resolve() for folder in (ROOT / "notebooks", Path("notebooks"), args.runs.parent)}


def files_in_the_way(folders: set[Path], notebooks: bool) -> str:
    """A sentence on files that Python would load in place of a module that the course needs, or "".

    Beside notebooks they hide packages. In the folder of a command, where Python looks first, also Python's own
    modules, random.py for instance; a kernel finds those before it looks into the folder.
    """
    site, found = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")], []
    for folder in sorted(folders):
        for finder, name, is_package in pkgutil.iter_modules([str(folder)]):
            if folder == ROOT and name in OWN:
                continue
            if name in sys.stdlib_module_names:
                hides = not notebooks and name in probe("names").get("python", ())
            else:
                hides = name == "course_utils" or PathFinder.find_spec(name, site) is not None
            if hides and (spec := finder.find_spec(name)):  # None for a link that leads nowhere
                found.append(folder / name if is_package else Path(spec.origin))
    if not found:
        return ""
    return (
        f"{', '.join(clean(path) for path in found)}: in the way, under the name of a module that the course needs. "
        "Python would load it instead. Rename it, and start the kernel again."
    )


def check_imports(args) -> tuple[str, str]:
    """Whether the packages can be loaded at all. What is not installed is the matter of check_packages."""
    folders = {folder.parent for folder in folders_of_notebooks(args) if folder.name == "notebooks"}
    if hidden := files_in_the_way(folders, notebooks=False):
        return "FAIL", hidden
    broken = {name: fails(name) for name in floors()[0] if installed(name) and fails(name)}
    if broken:
        name, error = next(iter(broken.items()))
        others = f" Perhaps for the same reason: {', '.join(list(broken)[1:])}." if len(broken) > 1 else ""
        return "FAIL", f"{name} cannot be loaded. {error}{others} Install it again: {how_to_reinstall(name)}"
    return "OK", "All packages can be loaded."


def check_kernel(args) -> tuple[str, str]:
    """Whether the kernel that Jupyter starts for "Python 3" is this environment's, and finds this course."""
    if hidden := files_in_the_way(folders_of_notebooks(args), notebooks=True):
        return "FAIL", hidden
    spec = probe("kernel")
    if "error" in spec:
        return "FAIL", f"Jupyter finds no kernel for Python. {spec['error']} Install it: {how_to_install()}"
    program, mend = spec["argv"][0], f"Remove it: {how_to_run('-m jupyter kernelspec remove python3')}"
    if spec["folder"].startswith(tuple(filter(None, os.environ.get("JUPYTER_PATH", "").split(os.pathsep)))):
        mend = "It comes from a folder that the environment variable JUPYTER_PATH names: unset that variable."
    code = "import platform, sys; print(platform.python_version(), sys.prefix)"
    answer, error = output_of([program, "-I", "-c", code])
    if error:
        return "FAIL", f"The kernel python3 starts {clean(program)}, which does not run. {error} {mend}"
    version, _, prefix = answer.partition(" ")
    if Path(prefix).resolve() != Path(sys.prefix).resolve():
        return "FAIL", (
            f"The kernel python3 starts another Python ({version}, {clean(program)}) and not this one: the notebooks "
            f"would not find what is installed here. {mend}"
        )
    answer, error = output_of([program, "-c", "import course_utils as c; print(c.__file__)"], cwd=ROOT / "notebooks")
    if error:
        return "FAIL", f"The notebooks would not find course_utils. {error} Install the course: {how_to_install()}"
    if Path(answer).resolve().parents[1] != ROOT:
        return "FAIL", f"The notebooks would load another copy of the course. Install this one: {how_to_install()}"
    return "OK", "Jupyter starts this environment's Python, which finds the course."


def check_cpu(args) -> tuple[str, str]:
    with suppress(AttributeError):  # Windows and macOS do not tell
        return "OK", f"{len(os.sched_getaffinity(0))} of {os.cpu_count()} cores may be used."
    return "OK", f"{os.cpu_count()} cores."


def check_threads(args) -> tuple[str, str]:
    facts = probe("threads")
    if "error" in facts:
        return "FAIL", f"{facts['error']} Unset COURSE_THREADS, or set it to a whole number."
    return "OK", f"The pocket size computes with {facts['threads']} of them; COURSE_THREADS changes it."


def check_device(args) -> tuple[str, str]:
    """The device that pick_device chooses, tried with a real training step."""
    facts = probe("device")
    if "error" not in facts:
        return "OK", f"{facts['device']}: a training step of the pocket network takes {facts['seconds']:.2f} s."
    if os.environ.get("COURSE_DEVICE"):
        return "FAIL", facts["error"]
    return "FAIL", f"A training step fails. {facts['error']} With a GPU, COURSE_DEVICE=cpu goes around it."


def check_gpu(args) -> tuple[str, str]:
    """A GPU, or why there is none to be used. Never a FAIL: the pocket size needs none."""
    facts = probe("gpu")
    if "name" in facts:
        return "OK", f"{facts['name']} can be used."
    if not shutil.which("nvidia-smi"):
        return "OK", "No NVIDIA or Apple GPU was found. The pocket size needs none."
    card, error = output_of(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"])
    if error or not card:
        return "NOTE", f"The NVIDIA driver finds no GPU. {error} For the full size, install the driver again."
    there = f"There is a GPU ({card.splitlines()[0]}), but"
    if facts.get("build") is None:
        return "NOTE", f"{there} this torch is for the CPU alone. For the full size: README, What it costs."
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return "NOTE", f"{there} the environment variable CUDA_VISIBLE_DEVICES hides it. For the full size, unset it."
    return "NOTE", (
        f"{there} this torch, built for CUDA {facts['build']}, cannot use it. {facts['why']} For the full size, take a "
        "newer driver from https://www.nvidia.com/drivers, or a torch for an older CUDA: README, What it costs."
    )


def check_memory(args) -> tuple[str, str]:
    free, total = memory()
    sentence = f"{free:.1f} of {total:.1f} GiB are free"
    if free < MEMORY_NEEDED:
        return "FAIL", f"{sentence}; a lesson needs {MEMORY_NEEDED:.0f}. Shut down other notebooks and close programs."
    return "OK", f"{sentence}."


def check_disk(args) -> tuple[str, str]:
    folder = next(path for path in (args.runs, *args.runs.resolve().parents) if path.is_dir())
    free = shutil.disk_usage(folder).free / 1e9
    if free < DISK_NEEDED:
        return "FAIL", f"The disk is full: {free * 1000:.0f} MB are free for what the lessons write. Make room, 1 GB."
    if free < DISK_FULL_SIZE:
        return "NOTE", f"{free:.1f} GB are free: enough for the pocket size, not for the data of the full size."
    return "OK", f"{free:.0f} GB are free."


def check_runs(args) -> tuple[str, str]:
    """Whether the lessons can write: a folder of their own, and in it a file of 100 kB."""
    folder = args.runs / "doctor-was-here"
    missing = [path for path in (args.runs, *args.runs.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "file").write_bytes(bytes(100_000))
    except OSError as error:
        where = clean(args.runs)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return "FAIL", f"Nothing can be written into {where}: the disk is full. Make room, 1 GB."
        return "FAIL", (
            f"Nothing can be written into {where} ({error.strerror}). Work in a copy in a place of your own, with "
            "start.py lab --copy DIR, and ask the doctor again with --runs DIR/notebooks/runs."
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for path in missing:
            with suppress(OSError):
                path.rmdir()
    return "OK", "The lessons can write their logs."


def check_port(args) -> tuple[str, str]:
    with suppress(OSError), socket.socket() as place:
        if os.name != "nt":  # there the option would let two programs share a port; elsewhere it frees one just left
            place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place.bind(("127.0.0.1", args.port))
        return "OK", f"Port {args.port} is free for TensorBoard."
    return "NOTE", (
        f"Port {args.port} is taken, perhaps by a TensorBoard that still runs. Take another: "
        f"tensorboard --logdir notebooks/runs --port {free_port()}"
    )


def check_tensorboard(args) -> tuple[str, str]:
    """Write an event file, start TensorBoard on it, and ask it for the value."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        error = log_one_value(folder)
        if error:
            return "FAIL", f"tensorboardX cannot write an event file. {error} Install it again: {how_to_install()}"
        try:
            seconds, value = ask_tensorboard(Path(folder))
        except Exception as error:
            return "FAIL", f"TensorBoard does not work. {described(error)} Install it again: {how_to_install()}"
    if value != 0.5:
        return "FAIL", f"TensorBoard shows {value} where 0.5 was written. Install it again: {how_to_install()}"
    return "OK", f"It started in {seconds:.0f} s and showed what tensorboardX had written."


def check_weights(args) -> tuple[str, str]:
    facts = probe("weights")
    if "error" in facts:
        return "FAIL", f"{facts['error']} Without git, take the folder course_utils/weights from a new download."
    return "OK", f"The pretrained weights of the pocket network are whole: {facts['classes']} classes."


CHECKS = {
    check.__name__.removeprefix("check_"): check
    for check in (
        check_python, check_packages, check_imports, check_kernel, check_cpu, check_threads, check_device, check_gpu,
        check_memory, check_disk, check_runs, check_port, check_tensorboard, check_weights,
    )
}  # fmt: skip
