"""What only an installed package can tell. It is asked in a child process, since a broken one may end its process."""

from __future__ import annotations

import functools
import importlib
import json
import sys
import time
from contextlib import suppress
from importlib.machinery import BuiltinImporter, FrozenImporter
from pathlib import Path

from course_utils.board import serve
from course_utils.doctor.machine import PATIENCE, ROOT, described, floors, output_of

MODULES = {"scikit-learn": "sklearn", "pillow": "PIL"}  # where a package is imported by another name


def probe(name: str) -> dict:
    """The answer of one of PROBES, or {} for a package that can be imported; {"error": sentence} where that failed."""
    with_torch = ("numpy", "torch", "torchvision", "tensorboardX", "threads", "device", "gpu", "weights")
    others = tuple(package for package in floors()[0] if package not in with_torch)
    return _answers(next(group for group in (with_torch, others, ("kernel",), ("names",)) if name in group))[name]


def fails(name: str) -> str:
    """A sentence on how a probe failed, or an empty string."""
    return probe(name).get("error", "")


@functools.cache
def _answers(names: tuple[str, ...]) -> dict[str, dict]:
    """Ask them in one child, which imports torch once; where it dies, note it and ask a new child the rest."""
    left, answers = list(names), {}
    while left:
        reply, error = output_of(_child("answer_all", *left))
        for line in reply.splitlines():
            with suppress(ValueError):  # what a package prints
                answers |= json.loads(line)
        left = [name for name in left if name not in answers]
        if left:
            answers[left.pop(0)] = {"error": f"Python itself ended. {error}"}
    return answers


def _child(function: str, *arguments: str) -> list[str]:
    """A child that finds this course, and no other file in its folder: a torch.py there is check_imports' matter."""
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import course_utils; "
        f"sys.path[:] = [folder for folder in sys.path if folder != {str(ROOT)!r}]; "
        f"from course_utils.doctor import probes; probes.{function}(*sys.argv[1:])"
    )
    return [sys.executable, "-P", "-c", code, *arguments]


# --- in the child ---------------------------------------------------------------------------------------------------


def answer_all(*names: str) -> None:
    """Print a line of JSON for each name, that of a probe or of a package to import."""
    for name in names:
        answer = {}
        try:
            if name in PROBES:
                answer = PROBES[name]()
            else:
                importlib.import_module(MODULES.get(name, name))
        except Exception as error:
            answer = {"error": described(error)}
        print(json.dumps({name: answer}), flush=True)


def kernel() -> dict:
    from jupyter_client.manager import KernelManager

    manager = KernelManager(kernel_name="python3")
    return {"argv": manager.format_kernel_cmd(), "folder": manager.kernel_spec.resource_dir}


def names() -> dict:
    """Python's own modules that the course's packages load from disk, by name: a file beside them could hide one."""
    packages = [MODULES.get(package, package) for package in floors()[0]]
    for module in (*packages, "jupyterlab.labapp", "tensorboard.main"):
        with suppress(Exception):  # check_imports tells of it
            importlib.import_module(module)
    loaded = sys.stdlib_module_names & sys.modules.keys()
    built_in = {name for name in loaded if BuiltinImporter.find_spec(name) or FrozenImporter.find_spec(name)}
    return {"python": sorted(loaded - built_in)}


def threads() -> dict:
    from course_utils.device import use_cpu_threads

    return {"threads": use_cpu_threads()}


def device() -> dict:
    import torch

    from course_utils.device import pick_device, use_cpu_threads
    from course_utils.pocket import TinyResNet

    chosen = pick_device()
    with suppress(ValueError):  # threads() tells of it
        use_cpu_threads()
    model = TinyResNet(num_classes=10).to(chosen)
    images = torch.zeros(64, 3, 32, 32, device=chosen)
    for _ in range(3):  # the first ones take longer
        started = time.perf_counter()
        model(images).sum().backward()
        model.fc.weight.grad.sum().item()  # waits until a GPU is done
    return {"device": str(chosen), "seconds": time.perf_counter() - started}


def gpu() -> dict:
    import torch

    if torch.cuda.is_available():
        return {"name": torch.cuda.get_device_name()}
    if torch.backends.mps.is_available():
        return {"name": "The GPU of this Mac"}
    why = ""
    try:
        torch.cuda.init()
    except (AssertionError, RuntimeError) as error:
        why = str(error).strip().split(". ")[0] + "."  # the first sentence names the reason
    return {"build": torch.version.cuda or torch.version.hip, "why": why}


def weights() -> dict:
    from course_utils.pocket import load_pocket_checkpoint

    return {"classes": len(load_pocket_checkpoint()["classes"])}


PROBES = {ask.__name__: ask for ask in (kernel, names, threads, device, gpu, weights)}


def write_event_file(folder: str) -> None:
    """In the child: the smallest run that TensorBoard shows. Without torch, which tensorboardX does not need."""
    sys.modules["torch"] = None
    from tensorboardX import SummaryWriter

    with SummaryWriter(folder) as writer:
        writer.add_scalar("doctor", 0.5, 1)


# --- tensorboardX and TensorBoard, for real -------------------------------------------------------------------------


def log_one_value(folder: str) -> str:
    """Write the smallest run that TensorBoard shows, in a child; "" or a sentence on how that failed."""
    return output_of(_child("write_event_file", folder))[1]


def ask_tensorboard(folder: Path) -> tuple[float, float]:
    """Start TensorBoard on a run; the seconds until it shows a value, and the value. Raises RuntimeError or OSError."""
    started = time.monotonic()
    with serve(folder, patience=PATIENCE) as board:
        points = board.get_when_read("data/plugin/scalars/scalars", run=".", tag="doctor")
        return time.monotonic() - started, points[0][2]
