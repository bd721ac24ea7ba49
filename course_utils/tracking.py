"""Run logs that TensorBoard shows: a logger over tensorboardX that keeps clear of its traps, and a way to read back."""

import itertools
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator
from tensorboardX import SummaryWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog


def fresh_run_dir(run_dir: Path | str) -> Path:
    """`run_dir` where nothing is there yet, else the first free one of run_dir-2, run_dir-3, ...: nothing gets lost."""
    run_dir = Path(run_dir)
    names = itertools.chain([run_dir.name], (f"{run_dir.name}-{number}" for number in itertools.count(2)))
    return next(path for name in names if not (path := run_dir.with_name(name)).exists())


class RunLogger:
    """One run, one directory: `with RunLogger("runs/probe") as logger: fit(..., logger=logger)`.

    Values are written by a thread of tensorboardX's own, once a second, so the loop does not wait for the disk and a
    killed run has lost about a second. Steps must grow: TensorBoard drops what comes before a step that goes back.
    resume: go on in a directory that holds a run; purge_step: forget what it logged after that step.

    Raises FileExistsError where the directory is in use and `resume` was not asked for.
    """

    def __init__(self, run_dir: Path | str, *, resume: bool = False, purge_step: int | None = None):
        self.run_dir = Path(run_dir)
        self.run_dir.mkdir(parents=True, exist_ok=True)
        earlier = list(self.run_dir.glob("*tfevents*"))
        if earlier and not resume:
            raise FileExistsError(
                f"The directory {self.run_dir.name} holds a run already, and two runs in one directory make one broken "
                "curve. Take another name (fresh_run_dir finds one), or go on in this one with resume=True."
            )
        known = read_scalars(run_dir) if earlier else {}
        # tensorboardX names its file by the second and the machine, so that two writers can overwrite each other and
        # the name tells whose machine it was; the number makes it unique, the fixed name keeps the machine out of it.
        with mock.patch("socket.gethostname", return_value="run"):
            self.writer = SummaryWriter(
                str(self.run_dir), filename_suffix=f".{len(earlier)}", flush_secs=1, max_queue=1000
            )
        self.last_step = {tag: int(series.steps.max()) for tag, series in known.items() if len(series.steps)}
        self.closed = False
        if purge_step is not None:
            self.purge_from(purge_step)

    def log_scalars(self, values: Mapping[str, float], step: int) -> None:
        """Write {tag: value} at a step; tags such as "loss/train" group by what stands before the slash."""
        if self.closed:
            raise ValueError(f"The logger of {self.run_dir.name} is closed; RunLogger(..., resume=True) goes on.")
        if not isinstance(step, int | np.integer) or step < 0:
            raise ValueError(f"A step must be a whole number from 0, not {step!r}: TensorBoard knows no others.")
        for tag, value in values.items():
            if tag not in self.last_step and not re.fullmatch(r"[-\w.][-\w./]*", tag):
                raise ValueError(
                    f"The tag {tag!r} would be renamed silently: use letters, digits and - _ . / alone, no blanks."
                )
            if step <= self.last_step.get(tag, -1):
                raise ValueError(
                    f"{tag!r} was logged at step {self.last_step[tag]} already, and now at {step}: TensorBoard would "
                    "drop the earlier values. Count steps through the whole run, not from 0 in every epoch, and give "
                    "every call of fit a directory of its own."
                )
            self.last_step[tag] = step
            self.writer.add_scalar(tag, float(value), step)

    def purge_from(self, step: int) -> None:
        """Tell the readers to forget what an interrupted run logged after `step`: the run goes on from there."""
        self.writer.file_writer.add_event(Event(session_log=SessionLog(status=SessionLog.START)), step + 1)
        self.last_step = {tag: min(last, step) for tag, last in self.last_step.items()}

    def close(self) -> None:
        """Write what is still waiting. Only now is everything sure to be in the file: flush() alone does not do it."""
        self.closed = True
        self.writer.close()

    def __enter__(self) -> "RunLogger":
        return self

    def __exit__(self, *exception) -> None:
        self.close()


class Series(NamedTuple):
    """One curve: what was logged under a tag."""

    steps: np.ndarray  # (n,), int
    values: np.ndarray  # (n,), float
    wall_times: np.ndarray  # (n,), seconds since 1970


def read_scalars(run_dir: Path | str) -> dict[str, Series]:
    """All scalars of a run, every point of them: {tag: Series}. Read after the logger is closed.

    Raises FileNotFoundError where the directory holds no event file.
    """
    run_dir = Path(run_dir)
    if not list(run_dir.glob("*tfevents*")):
        raise FileNotFoundError(f"No event file in {run_dir.name}: nothing was logged in this directory.")
    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it warns of every resumed run, which is none of a fault
    events = EventAccumulator(str(run_dir), size_guidance={SCALARS: 0}).Reload()  # 0: keep all, not 10,000
    return {
        tag: Series(
            steps=np.array([event.step for event in events.Scalars(tag)]),
            values=np.array([event.value for event in events.Scalars(tag)]),
            wall_times=np.array([event.wall_time for event in events.Scalars(tag)]),
        )
        for tag in events.Tags()["scalars"]
    }
