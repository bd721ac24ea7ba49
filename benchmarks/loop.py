"""What a training loop costs beside the network: Python and C calls a step, counted on a network of one weight.

All log the loss of every step to an event file. What a step of a real network costs hides any of them; the calls show
how much there is to read in a traceback, and they can be counted exactly where times cannot be resolved.
"""

import importlib.metadata
import logging
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn as nn
from tensorboardX import SummaryWriter
from torch.utils.data import DataLoader

from benchmarks.measure import Row, spread
from course_utils.tracking import RunLogger
from course_utils.training import fit

LOSS = nn.MSELoss()
SHORT, LONG = 100, 500  # steps of the two epochs whose difference leaves out what an epoch costs once


def material(steps: int):
    """A network of one weight, its optimiser, and a loader of `steps` batches of two numbers."""
    model = nn.Linear(1, 1)
    batches = DataLoader([(torch.ones(2, 1), torch.ones(2, 1))] * steps, batch_size=None)
    return model, torch.optim.SGD(model.parameters(), lr=0.01), batches


def by_hand(steps: int, folder: Path) -> None:
    """The loop as notebook 03 writes it: the bare one, from which the others are counted."""
    model, optimizer, batches = material(steps)
    writer = SummaryWriter(str(folder))
    model.train()
    for step, (inputs, targets) in enumerate(batches):
        inputs, targets = inputs.to("cpu"), targets.to("cpu")
        optimizer.zero_grad()
        loss = LOSS(model(inputs), targets)
        loss.backward()
        optimizer.step()
        writer.add_scalar("loss", loss.item(), step)
    writer.close()


def with_fit(steps: int, folder: Path) -> None:
    model, optimizer, batches = material(steps)
    with RunLogger(folder / "run") as logger:
        options = dict(loss_fn=LOSS, optimizer=optimizer, device="cpu", epochs=1, progress=False)
        fit(model, batches, None, logger=logger, **options)


def with_ignite(steps: int, folder: Path) -> None:
    from ignite.engine import Events, create_supervised_trainer

    model, optimizer, batches = material(steps)
    writer = SummaryWriter(str(folder))
    trainer = create_supervised_trainer(model, optimizer, LOSS, device="cpu")

    @trainer.on(Events.ITERATION_COMPLETED)
    def log(engine):
        writer.add_scalar("loss", engine.state.output, engine.state.iteration)

    trainer.run(batches, max_epochs=1)
    writer.close()


def with_accelerate(steps: int, folder: Path) -> None:
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    model, optimizer, batches = accelerator.prepare(*material(steps))
    writer = SummaryWriter(str(folder))
    model.train()
    for step, (inputs, targets) in enumerate(batches):
        optimizer.zero_grad()
        loss = LOSS(model(inputs), targets)
        accelerator.backward(loss)
        optimizer.step()
        writer.add_scalar("loss", loss.item(), step)
    writer.close()


def with_lightning(steps: int, folder: Path) -> None:
    import lightning
    from lightning.pytorch.loggers import TensorBoardLogger

    class Module(lightning.LightningModule):
        def __init__(self, model, optimizer):
            super().__init__()
            self.model, self.optimizer = model, optimizer

        def configure_optimizers(self):
            return self.optimizer

        def training_step(self, batch, index):
            loss = LOSS(self.model(batch[0]), batch[1])
            self.log("loss", loss)
            return loss

    model, optimizer, batches = material(steps)
    trainer = lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=TensorBoardLogger(str(folder)),
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Module(model, optimizer), batches)


# Name in the table: (function, the package it needs).
WAYS: dict[str, tuple[Callable[[int, Path], None], str]] = {
    "the course's fit and RunLogger": (with_fit, "torch"),
    "Ignite": (with_ignite, "pytorch-ignite"),
    "Accelerate": (with_accelerate, "accelerate"),
    "Lightning, self.log": (with_lightning, "lightning"),
}


def calls(run: Callable[[int, Path], None], steps: int) -> int:
    """How many Python and C functions a training of so many steps calls, in its own thread."""
    counted = 0

    def count(frame, event, argument):
        nonlocal counted
        counted += event in ("call", "c_call")

    with tempfile.TemporaryDirectory() as folder:
        before = sys.getprofile()
        sys.setprofile(count)
        try:
            run(steps, Path(folder))
        finally:
            sys.setprofile(before)
    return counted


def calls_a_step(run: Callable[[int, Path], None]) -> float:
    return (calls(run, LONG) - calls(run, SHORT)) / (LONG - SHORT)


def microseconds_a_step(run: Callable[[int, Path], None]) -> float:
    """Process CPU time, the writer's thread included."""
    seconds = []
    for steps in (SHORT, LONG):
        with tempfile.TemporaryDirectory() as folder:
            started = time.process_time()
            run(steps, Path(folder))
            seconds.append(time.process_time() - started)
    return (seconds[1] - seconds[0]) / (LONG - SHORT) * 1e6


def version(package: str) -> str:
    """The version that is installed, "" where there is none."""
    try:
        return importlib.metadata.version(package).split("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return ""


def measure(runs: list[Callable], rounds: int) -> dict[Callable, tuple[list[float], list[float]]]:
    """{run: (calls a step, microseconds a step)}, each of them measured once a round."""
    found = {run: ([], []) for run in runs}
    logging.disable(logging.WARNING)  # the frameworks introduce themselves
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for run in runs:  # once before: imports, and what PyTorch sets up at its first step
                calls(run, 2)
            for _ in range(rounds):
                for run, (counts, times) in found.items():
                    counts.append(calls_a_step(run))
                    times.append(microseconds_a_step(run))
    finally:
        logging.disable(logging.NOTSET)
    return found


def rows(quick: bool) -> list[Row]:
    there = [run for run, package in WAYS.values() if version(package)]
    found = measure([by_hand, *there], 1 if quick else 7)
    result = []
    for name, (run, package) in WAYS.items():
        what, goal = f"calls a step above a loop by hand: {name}", "at most +20" if run is with_fit else ""
        if run not in found:
            result.append(Row(what, "not measured: not installed", goal))
            continue
        extra_calls, extra_time = (
            [own - bare for own, bare in zip(found[run][i], found[by_hand][i], strict=True)] for i in (0, 1)
        )
        how = f"by hand {statistics.median(found[by_hand][0]):.0f}; CPU time above it {spread(extra_time, 'µs', 0)}; "
        how += f"{package} {version(package)}; {len(extra_calls)} rounds"
        met = max(extra_calls) <= 20 if goal else None
        result.append(Row(what, spread(extra_calls, "calls"), goal, met, how))
    return result
