"""Where the course computes: which device, with how many threads, from which seed, in which precision."""

import contextlib
import os
import random
import re
import sys
from pathlib import Path

import numpy as np
import torch


def pick_device() -> torch.device:
    """CUDA if there is a GPU, else Apple's MPS, else the CPU; the environment variable COURSE_DEVICE overrides.

    Raises ValueError where COURSE_DEVICE names a device that this machine does not have.
    """
    wanted = os.environ.get("COURSE_DEVICE", "").strip().lower()
    if wanted:
        check_device(wanted, "COURSE_DEVICE asks for it; unset that variable to let the course choose.")
        return torch.device(wanted)
    return torch.device(_devices()[0])


def check_device(device: torch.device | str, remedy: str = "pick_device() chooses one that there is.") -> None:
    """Raise ValueError where this machine does not have the device."""
    if str(device) not in _devices():
        raise ValueError(f"There is no device {str(device)!r} here, only {', '.join(_devices())}. {remedy}")


def _devices() -> list[str]:
    """The names of what there is to compute on, the fastest first."""
    usable = torch.cuda.device_count() if torch.cuda.is_available() else 0  # a GPU is counted with an old driver too
    gpus = [f"cuda:{index}" for index in range(usable)]
    mps = ["mps", "mps:0"] if torch.backends.mps.is_available() else []
    return [*(["cuda"] if gpus else []), *gpus, *mps, "cpu"]


def use_cpu_threads(threads: int | None = None) -> int:
    """Set how many CPU threads PyTorch computes with, and return the number.

    The default is COURSE_THREADS, or 1: the pocket network is so small that two threads gain little, and with other
    programs on the same cores they wait for each other (measured: 23 steps in 40 s instead of 4 s).
    """
    if threads is None:
        threads = os.environ.get("COURSE_THREADS") or 1
    if not str(threads).isdecimal() or int(threads) < 1:
        raise ValueError(f"The number of threads must be a whole number from 1, not {threads!r}.")
    torch.set_num_threads(int(threads))
    return torch.get_num_threads()


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and PyTorch (all devices). Loaders have a generator of their own: see `data.make_loader`."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def mixed_precision(device: torch.device | str) -> contextlib.AbstractContextManager:
    """A context for forward pass and loss: bfloat16 where the GPU computes in it, else plain float32.

    bfloat16 keeps float32's range, so no gradient scaler is needed. A CPU without bfloat16 units gets slower by it
    (measured: half the speed), so the CPU stays at float32. Source: PyTorch docs, "Automatic Mixed Precision".
    """
    if torch.device(device).type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return contextlib.nullcontext()


def peak_memory(device: torch.device | str = "cpu") -> int:
    """The most memory used so far, in bytes: of the GPU by PyTorch's tensors, or of this whole process on the CPU."""
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset
    status = Path("/proc/self/status")  # Linux has it; its ru_maxrss begins with that of the process that started this
    if status.exists() and (peak := re.search(r"VmHWM:\s+(\d+) kB", status.read_text(encoding="utf-8"))):
        return 1024 * int(peak[1])
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def device_report(device: torch.device | str) -> str:
    """A sentence on where the course computes, and why there."""
    device = torch.device(device)
    versions = f"PyTorch {torch.__version__.split('+')[0]}"
    if device.type == "cuda":
        gpu = torch.cuda.get_device_properties(device)
        precision = "float32" if isinstance(mixed_precision(device), contextlib.nullcontext) else "bfloat16"
        return f"Computing on the GPU {gpu.name} ({gpu.total_memory / 2**30:.0f} GiB) in {precision}, with {versions}."
    if device.type == "mps":
        return f"Computing on the GPU of this Mac (MPS) in float32, with {versions}."
    threads = torch.get_num_threads()
    if torch.cuda.is_available() or torch.backends.mps.is_available():
        why = "There is a GPU, but COURSE_DEVICE asks for the CPU."
    elif torch.version.cuda is None:
        why = "This PyTorch is built for the CPU alone."
    else:
        why = "No usable GPU was found, and the pocket size needs none."
    return f"Computing on the CPU with {threads} of {os.cpu_count()} threads, in float32, with {versions}. {why}"
