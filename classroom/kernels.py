"""Measure what a class needs of one machine: many students run a notebook at once, each in a folder of their own.

    python -m classroom.kernels --students 10 --notebook 03

Private memory (USS) would be free again if the student ended. The rest of what a process holds (RSS less USS), the
libraries above all, it has in common with others, and a machine needs it once.
"""

import argparse
import contextlib
import io
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import nbformat
import psutil

from classroom.instructor import find_notebooks
from start import copy_to

CELL_TIMEOUT, START_TIMEOUT = 1800, 600  # seconds: ten kernels on two cores are slow, and that is no fault
HEADER = (
    "| notebook | students | private to each, at most | shared by all | together | CPU seconds of one | minutes |\n"
    "|---|---|---|---|---|---|---|"
)


class Sample(NamedTuple):
    """What one student's kernel, and all that it started, hold at a moment, in bytes; CPU seconds spent so far."""

    private: int
    shared: int  # the most that one of the processes has in common with others
    seconds: float


class Measured(NamedTuple):
    """A notebook that several students ran at once. Memory in GB, of the kernels and all that they started."""

    notebook: str
    faults: dict[int, str]  # the number of each student for whom it did not end right, from 1 -> what was said
    private: list[float]  # the peak of each student
    shared: float  # by all, at the moment when the class took most
    together: float  # at that moment: the private memory of each, and what is shared once
    seconds: list[float]  # CPU seconds of each student
    minutes: float  # on the clock, until the last had ended

    @property
    def row(self) -> str:
        """A line of the table that begins with HEADER."""
        memory = f"{max(self.private):.2f} GB | {self.shared:.2f} GB | {self.together:.1f} GB"
        time_taken = f"{statistics.median(self.seconds):.0f} | {self.minutes:.1f}"
        return f"| {self.notebook} | {len(self.private)} | {memory} | {time_taken} |"


class Student:
    """One who runs a notebook from top to bottom, on a copy of the course in a folder of their own."""

    def __init__(self, notebook: str, folder: Path):
        """Copy the course as `start.py lab --copy` does, and forget what the notebook shows."""
        self.folder, self.path = folder, folder / "notebooks" / notebook
        self.process: psutil.Popen | None = None
        self.samples: list[Sample] = []
        with contextlib.redirect_stderr(io.StringIO()):
            copy_to(str(folder))
        forget_outputs(self.path)

    def start(self) -> None:
        command = [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", "--inplace", self.path.name]
        options = {"kernel_name": "python3", "timeout": CELL_TIMEOUT, "startup_timeout": START_TIMEOUT}
        command += [f"--ExecutePreprocessor.{name}={value}" for name, value in options.items()]
        own = {**os.environ, "COURSE_PROGRESS": str(self.folder / "progress.json")}
        with (self.folder / "messages.txt").open("wb") as file:
            self.process = psutil.Popen(
                command, cwd=self.path.parent, env=own, stdin=subprocess.DEVNULL, stdout=file, stderr=file
            )

    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def look(self) -> Sample:
        """What is taken now. nbconvert, in the place of JupyterLab, is left out; its children count."""
        private, shared, seconds = 0, 0, 0.0
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in self.process.children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):  # it ended just now
                    memory, times = process.memory_full_info(), process.cpu_times()
                    private += memory.uss
                    shared = max(shared, memory.rss - memory.uss)
                    seconds += times.user + times.system
        self.samples.append(Sample(private, shared, seconds))
        return self.samples[-1]

    def stop(self) -> None:
        """End what still runs: told to stop, nbconvert ends its kernel."""
        if self.runs():
            self.process.terminate()
            try:
                self.process.wait(30)
            except psutil.TimeoutExpired:
                self.process.kill()  # a kernel notices by itself that it is alone

    def fault(self) -> str:
        """The last thing that was said, where the notebook did not end right; "" where it did."""
        if self.process.returncode:
            said = (self.folder / "messages.txt").read_text(encoding="utf-8", errors="replace")
            lines = re.sub(r"\x1b\[[\d;]*m", "", said).split("\n")
            return next((line for line in reversed(lines) if line.strip()), f"exit status {self.process.returncode}")
        cells = nbformat.read(self.path, as_version=4).cells
        code = [cell for cell in cells if cell.cell_type == "code" and cell.source.strip()]
        left_out = sum(cell.execution_count is None for cell in code)
        return f"{left_out} of {len(code)} cells did not run" if left_out else ""


def forget_outputs(path: Path) -> None:
    """So that what stands in a notebook afterwards was computed since."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbformat.write(notebook, path)


def measure(notebook: str, students: int, base: Path, every: float = 1.0) -> Measured:
    """Let students run a notebook of the course at once, each in a folder in `base`; look at them `every` s.

    The notebook is a file's name, "03_cnn_fine_tuning.ipynb". A fault of one student stops no other.
    """
    room = [Student(notebook, base / f"student {number}") for number in range(1, students + 1)]
    started, together, shared = time.monotonic(), 0, 0
    try:
        for student in room:
            student.start()
        while any(student.runs() for student in room):
            now = [student.look() for student in room]
            common = max(sample.shared for sample in now)
            taken = common + sum(sample.private for sample in now)
            if taken > together:
                together, shared = taken, common
            time.sleep(every)
    finally:
        for student in room:
            student.stop()
    return Measured(
        notebook=notebook.removesuffix(".ipynb"),
        faults={number: fault for number, student in enumerate(room, start=1) if (fault := student.fault())},
        private=[max((sample.private for sample in student.samples), default=0) / 1e9 for student in room],
        shared=shared / 1e9,
        together=together / 1e9,
        seconds=[max((sample.seconds for sample in student.samples), default=0) for student in room],
        minutes=(time.monotonic() - started) / 60,
    )


def main(arguments: list[str] | None = None) -> int:
    """Measure and print a table; the exit status is 1 where a notebook did not end right for every student."""
    parser = argparse.ArgumentParser(prog="python -m classroom.kernels", description=__doc__.splitlines()[0])
    parser.add_argument("--students", type=int, default=10, metavar="N", help="how many at once (default: 10)")
    parser.add_argument("--notebook", nargs="+", default=["03"], help="numbers or names, one after another")
    args = parser.parse_args(arguments)
    if args.students < 1:
        parser.error("a class has at least one student")
    try:
        notebooks = find_notebooks(args.notebook)
    except ValueError as error:
        parser.error(str(error))
    print(HEADER, flush=True)
    faults = []
    for notebook in notebooks:
        with tempfile.TemporaryDirectory() as base:
            found = measure(notebook.name, args.students, Path(base))
        print(found.row, flush=True)
        faults += [f"{found.notebook}, student {number}: {fault}" for number, fault in found.faults.items()]
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
