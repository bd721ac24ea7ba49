"""Run logs that TensorBoard shows: a logger over tensorboardX that keeps clear of its traps, and a way to read back."""

import contextlib
import itertools
import os
import platform
import queue
import re
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO
from unittest import mock

import numpy as np
import torch
from tensorboardX import SummaryWriter
from tensorboardX.event_file_writer import EventFileWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.summary import hparams as hparams_summaries

from course_utils.device import device_report, pick_device
from course_utils.doctor.machine import clean, installed
from course_utils.events import Series, event_files, read_scalars
from course_utils.pocket import InputSpec

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

__all__ = ["RunLogger", "Series", "fresh_run_dir", "read_scalars"]


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
    `writer` is the tensorboardX.SummaryWriter, for whatever else it can log.

    Raises FileExistsError where the directory holds a run and `resume` was not asked for, and where another logger
    has it open, in this process or in another one; OSError, at the next value or at `close`, when the disk is full or
    the log was deleted.
    """

    def __init__(self, run_dir: Path | str, *, resume: bool = False, purge_step: int | None = None):
        self.run_dir = Path(run_dir)
        self.run_dir.mkdir(parents=True, exist_ok=True)
        lock = _lock(self.run_dir)
        self._unlock = weakref.finalize(self, _close, lock)  # also where nobody closes the logger
        try:
            earlier = event_files(self.run_dir)
            if earlier and not resume:
                raise FileExistsError(
                    f"The directory {self.run_dir.name} holds a run already, and two runs in one directory make one "
                    "broken curve. Take another name (fresh_run_dir finds one), or go on in this one with resume=True."
                )
            if lock is None:
                raise FileExistsError(
                    f"Another logger has the directory {self.run_dir.name} open. Close that one first, with its "
                    "close() or by ending its process, or take another name (fresh_run_dir finds one)."
                )
            known = read_scalars(self.run_dir) if earlier else {}
            self.last_step = {tag: int(series.steps.max()) for tag, series in known.items()}
            # tensorboardX names its file by the second and the machine, so that two writers can overwrite each other
            # and the name tells whose machine it was; the number makes it unique, the fixed name hides the machine.
            with mock.patch("socket.gethostname", return_value="run"):
                self.writer = SummaryWriter(
                    str(self.run_dir), filename_suffix=f".{len(earlier):03}", flush_secs=1, max_queue=1000
                )
            _never_wait_in_vain(self.writer.file_writer.event_writer)
            self.closed = False
            if purge_step is not None:
                self.purge_from(purge_step)
        except BaseException:
            self._unlock()
            raise

    def log_scalars(self, values: Mapping[str, float], step: int) -> None:
        """Write {tag: value} at a step; tags such as "loss/train" group by what stands before the slash.

        All of them travel in one event. (Measured: three values in one event cost a third of three add_scalar, in
        time, and half in bytes. Keeping events back, to hand them on in heaps, saved no more than the spread.)
        """
        for tag in values:
            self._check(tag, step)
        parts = [Summary.Value(tag=tag, simple_value=_number(tag, value)) for tag, value in values.items()]
        self.writer.file_writer.add_summary(Summary(value=parts), step)
        self.last_step |= dict.fromkeys(values, step)

    def log_image(self, tag: str, images: torch.Tensor, step: int, spec: InputSpec | None = None) -> None:
        """Write one image (C, H, W) or several (B, C, H, W), side by side: uint8, or float between 0 and 1.

        spec: for the inputs of a network, the `model.input_spec` that normalised them; they are turned back and
        clipped. Without it tensorboardX would wrap around what lies outside: 1.1 would be nearly black.
        Raises ValueError for another shape, and for normalised images without their spec.
        """
        self._check(tag, step)
        images = images.detach()[None] if images.ndim == 3 else images.detach()
        if images.ndim != 4 or images.shape[1] not in (1, 3) or not len(images):
            raise ValueError(f"Expected images (B, 3, H, W), (B, 1, H, W) or one of them, got {tuple(images.shape)}.")
        if spec is not None and images.is_floating_point():
            images = spec.undo(images)
        if images.dtype != torch.uint8:
            images = images.float().nan_to_num(0, 0, 0)
            if images.min() < 0 or images.max() > 1:
                raise ValueError(
                    f"The images of {tag!r} reach from {images.min():.3g} to {images.max():.3g}: they are normalised, "
                    "or on another scale. Pass spec=model.input_spec for a network's inputs, or bring them to 0 to 1."
                )
            images = (images * 255).round().to(torch.uint8)
        self.writer.add_images(tag, images.cpu(), step)
        self.last_step[tag] = step

    def log_weights(self, model: torch.nn.Module, step: int) -> dict[str, int]:
        """Write a histogram of each parameter, weights/NAME, and of each gradient that there is, gradients/NAME.

        It counts finite values alone, in 64 bins of equal width; TensorBoard shows 30. How many of a tensor are NaN or
        infinite is logged as the scalar not_finite/weights/NAME, where there are any, and returned: {tag: count}.
        About 1 kB a tensor, and far slower than a training step of a small network: once an epoch, not every step.
        """
        not_finite = {}
        for name, parameter in model.named_parameters():
            for tag, tensor in ((f"weights/{name}", parameter), (f"gradients/{name}", parameter.grad)):
                if tensor is None:
                    continue
                self._check(tag, step)
                values = tensor.detach().to_dense().float().flatten()
                finite = values[values.isfinite()]
                if finite.numel():
                    self.writer.add_histogram(tag, finite.cpu().numpy(), step, bins=64)
                if finite.numel() < values.numel():
                    not_finite[tag] = values.numel() - finite.numel()
                self.last_step[tag] = step
        if not_finite:
            self.log_scalars({f"not_finite/{tag}": count for tag, count in not_finite.items()}, step)
        return not_finite

    def log_hparams(self, hparams: Mapping[str, object], metrics: Mapping[str, float]) -> None:
        """Enter the run into TensorBoard's HParams page, once, at its end: what was chosen, and what came of it.

        It goes into this run itself, where SummaryWriter.add_hparams would make one more, named by the time. The
        metrics become scalars hparams/NAME. TensorBoard then finds the columns by looking at all runs; add_hparams
        would also write a list of them, of which TensorBoard heeds one run's alone, so that others' columns are lost.
        What is neither True or False nor one number, an array for instance, is entered as text.
        """
        chosen = {str(name): _plain(value) for name, value in hparams.items()}
        results = {f"hparams/{name}": value for name, value in metrics.items()}
        self.log_scalars(results, max(self.last_step.values(), default=0))
        for summary in hparams_summaries(chosen, results)[1:]:  # the first is that list
            self.writer.file_writer.add_summary(summary)

    def log_config(self, config: Mapping[str, object]) -> None:
        """Write the configuration and the environment, versions and device, as two tables on TensorBoard's Text page.

        They name neither the machine nor its user, and of a path only the last part.
        """
        packages = ("torch", "torchvision", "numpy", "tensorboardX")
        environment = {
            "Python": platform.python_version(),
            **{package: installed(package) for package in packages},
            "system": f"{platform.system()}, {platform.machine()}",
            "device": device_report(pick_device()),
        }
        for tag, table in (("config", config), ("environment", environment)):
            self._check(tag, 0)
            rows = [("name", "value"), ("---", "---"), *table.items()]
            cells = [[" ".join(_text(part).replace("|", "\\|").split()) for part in row] for row in rows]
            self.writer.add_text(tag, "\n".join(f"| {name} | {value} |" for name, value in cells), 0)

    def _check(self, tag: str, step: int) -> None:
        """Raise ValueError where TensorBoard would not show a value under this tag and at this step."""
        if self.closed:
            raise ValueError(f"The logger of {self.run_dir.name} is closed; RunLogger(..., resume=True) goes on.")
        self._check_log()
        if not isinstance(step, int | np.integer) or step < 0:
            raise ValueError(f"A step must be a whole number from 0, not {step!r}: TensorBoard knows no others.")
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

    def _check_log(self) -> None:
        """Raise OSError where the thread that writes has ended, or where nobody will find what it writes."""
        events = self.writer.file_writer.event_writer
        if not events._worker.is_alive():
            raise self._give_up()
        if _is_deleted(events._ev_writer._py_recordio_writer._writer):
            self.closed = True
            with contextlib.suppress(OSError):
                self.writer.close()  # ends the thread
            self._unlock()
            raise OSError(
                f"The log of {self.run_dir.name} was deleted while it was being written: what this logger had written "
                "is lost. Log the run again, in a directory of its own, and delete only runs whose logger is closed."
            )

    def _give_up(self) -> OSError:
        """Let go of a log that can no longer be written; returns the error that says so."""
        events = self.writer.file_writer.event_writer
        events._event_queue.cancel_join_thread()  # else Python, at its end, waits for what nobody takes any more,
        events._closed = True  # and tensorboardX for its thread
        self.closed = True
        self._unlock()
        return OSError(
            f"The log of {self.run_dir.name} can no longer be written; the reason is above (a full disk, mostly). What "
            "was written before that can be read. Make room, and go on with RunLogger(..., resume=True)."
        )

    def purge_from(self, step: int) -> None:
        """Tell the readers to forget what an interrupted run logged after `step`: the run goes on from there.

        TensorBoard's usual loader forgets it curve by curve, as soon as each of them goes on.
        """
        for _ in range(2):  # TensorBoard's older loader takes the first start that it sees for the run's beginning
            self.writer.file_writer.add_event(Event(session_log=SessionLog(status=SessionLog.START)), step + 1)
        self.last_step = {tag: min(last, step) for tag, last in self.last_step.items()}

    def close(self) -> None:
        """Write what is still waiting. Only now is everything sure to be in the file: flush() alone does not do it."""
        if not self.closed:
            self._check_log()
            self.closed = True
            try:
                self.writer.close()
            except OSError as error:  # a disk that was full before the thread came to write
                raise self._give_up() from error
            self._unlock()

    def __enter__(self) -> "RunLogger":
        return self

    def __exit__(self, *exception) -> None:
        self.close()


def _never_wait_in_vain(events: EventFileWriter) -> None:
    """Let nobody wait at a full queue that the thread has ceased to empty; the next check of the thread tells of it."""

    def add_event(event: Event) -> None:
        while not events._closed and events._worker.is_alive():
            with contextlib.suppress(queue.Full):
                return events._event_queue.put(event, timeout=1)

    events.add_event = add_event


def _is_deleted(file: BinaryIO) -> bool:
    """Whether an open file has lost its last name: what is written to it then vanishes, and nothing says so."""
    try:
        return os.fstat(file.fileno()).st_nlink == 0
    except OSError:  # deleted by another machine, on a disk that both share
        return True


def _number(tag: str, value: float) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        error.add_note(f"This is the value of {tag!r}, which must be one number.")
        raise


def _plain(value: object) -> bool | float | str:
    """A hyper-parameter as it can be entered: a number that a double holds as it is, or text."""
    if hasattr(value, "item"):
        try:
            value = value.item()
        except (TypeError, ValueError, RuntimeError):  # several numbers
            value = " ".join(str(value).split())
    return value if isinstance(value, float) or isinstance(value, int) and abs(value) <= 2**53 else _text(value)


def _text(value: object) -> str:
    """A value as text; a path loses what tells of the machine. A word stays, be it the name of a user."""
    text = str(value).encode("utf-8", "backslashreplace").decode()  # a file's name may hold bytes that are no letters
    return clean(text) if "/" in text or "\\" in text else text


def _lock(run_dir: Path) -> int | None:
    """Hold a directory for one writer; None where another one holds it. The system lets go when a process is killed."""
    if fcntl is None:
        try:  # Windows removes the file when it is closed, also for a process that is killed
            return os.open(run_dir / "in-use", os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_TEMPORARY)
        except FileExistsError:
            return None
    lock = os.open(run_dir, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    except OSError:  # some network file systems cannot lock: there a run that has begun is refused, but no race seen
        pass
    return lock


def _close(lock: int | None) -> None:
    if lock is not None:
        os.close(lock)
