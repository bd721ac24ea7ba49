"""How the benchmarks measure: variants in turn, process CPU seconds, ratios with their spread."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch

# To be run at the end of another process, which prints its CPU seconds and its peak memory in bytes. Linux's ru_maxrss
# will not do: a process begins with that of the process that started it, and this one is large.
TELL = """
import pathlib, re, time
if pathlib.Path("/proc/self/status").exists():
    status = pathlib.Path("/proc/self/status").read_text(encoding="utf-8")
    peak = 1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", status).group(1))
else:
    from course_utils.device import peak_memory
    peak = peak_memory()
print(f"{time.process_time()} {peak}")  # in one piece: a kernel may send two apart
"""


class Row(NamedTuple):
    """One line of the table."""

    what: str
    measured: str  # with its spread
    goal: str = ""
    met: bool | None = None  # None: no goal, or not measured
    how: str = ""


def in_turn(variants: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """{name: process CPU seconds of each round}; each round calls every variant once, so that all share its noise.

    Each is called once before, unmeasured: a first call allocates memory and chooses kernels.
    """
    for call in variants.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, call in variants.items():
            started = time.process_time()
            call()
            seconds[name].append(time.process_time() - started)
    return seconds


def times_faster(what: str, slow: list[float], fast: list[float], goal: float | None = None, how: str = "") -> Row:
    """A row for how many times faster `fast` is than `slow`: both in seconds for the same work, round by round."""
    ratios = [a / b for a, b in zip(slow, fast, strict=True)]
    middle = statistics.median(ratios)
    return Row(
        what,
        f"{middle:.1f} × ({min(ratios):.1f} to {max(ratios):.1f})",
        f"at least {goal:g} ×" if goal else "",
        middle >= goal if goal else None,
        f"{how}; {len(ratios)} rounds" if how else f"{len(ratios)} rounds",
    )


def told(text: str) -> tuple[float, float]:
    """What TELL printed: (CPU seconds, peak memory in GB)."""
    seconds, memory = text.split()
    return float(seconds), int(memory) / 1e9


def spread(values: list[float], unit: str, digits: int = 1) -> str:
    """ "3.2 s (3.0 to 3.9)": the median, the smallest and the largest."""
    return f"{statistics.median(values):.{digits}f} {unit} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def machine() -> str:
    """What this ran on, without the machine's name: "2 cores, AMD EPYC"."""
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), model)
    in_hardware = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    gpus = ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())) or "no GPU"
    load = (
        f"load {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else "load unknown"
    )  # not on Windows
    return (
        f"{os.cpu_count()} cores of {model} ({'with' if in_hardware else 'without'} bfloat16 instructions), {gpus}, "
        f"{torch.get_num_threads()} thread, {load}; {platform.system()}, Python {platform.python_version()}, "
        f"PyTorch {torch.__version__.split('+')[0]}"
    )


def table(rows: list[Row]) -> str:
    """The rows in Markdown."""
    answers = {True: "yes", False: "**no**", None: ""}
    lines = ["| what | measured | goal | met | how |", "|---|---|---|---|---|"]
    lines += [f"| {row.what} | {row.measured} | {row.goal} | {answers[row.met]} | {row.how} |" for row in rows]
    return "\n".join(lines)
