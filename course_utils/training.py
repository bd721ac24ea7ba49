"""The training loop of the course: one epoch, an evaluation, and `fit`, which repeats both and keeps the record.

A batch is `(inputs, targets)`. `inputs` may be a tensor (the model is called with it), a tuple (called with its
members) or a dict (called with its entries by name); `targets` may be any of these. The loss is called with
`(outputs, targets)`, and so is each metric. So images, masked text and user-item pairs go through the same loop.

A metric gives one value for each target, and `fit` averages those whose target counts: where the loss has an
`ignore_index`, as CrossEntropyLoss has (-100 by default; `my_loss.ignore_index = 255` says it of a function), values of
ignored targets are left out. Or a metric leaves values out by itself, and gives one for each example that counts.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn as nn
from tqdm import tqdm

from course_utils.checkpoint import read_checkpoint, restore, save_checkpoint
from course_utils.checks import (
    check_first_batch,
    check_numbers,
    check_reduction,
    check_setup,
    is_class_loss,
    length,
    option,
    raise_explained,
)
from course_utils.device import mixed_precision
from course_utils.schedules import check_schedule

Metric = Callable[[Any, Any], torch.Tensor]
HALF = (torch.bfloat16, torch.float16)  # a sum kept in them stands still at a few hundred
LOOK_EVERY = 0.5  # seconds between two looks at the losses: on a GPU each look waits for all that is still computing


class TrainingDiverged(FloatingPointError):
    """The loss became NaN or infinite. Raised by `fit`, it carries the record up to there: `error.history`."""


class Logger(Protocol):
    """What `fit` asks of a logger; `tracking.RunLogger` is one."""

    def log_scalars(self, values: Mapping[str, float], step: int) -> None: ...

    def purge_from(self, step: int) -> None: ...


@dataclass
class History:
    """The record of a training: `epochs`, one row an epoch, and the loss of each step.

    history["val_loss"] is that column of the rows; which columns there are, `history.columns` says.
    """

    epochs: list[dict[str, float]] = field(default_factory=list)
    step_loss: list[float] = field(default_factory=list)
    step_lr: list[float] = field(default_factory=list)  # of the optimiser's first parameter group
    seconds: list[float] = field(default_factory=list, compare=False)  # of each epoch; never the same twice

    def __getitem__(self, column: str) -> list[float]:
        if column not in self.columns:
            raise KeyError(f"{column!r} was not recorded. There are: {', '.join(self.columns)}.")
        return [row.get(column, math.nan) for row in self.epochs]  # a resumed run may measure more than before

    @property
    def columns(self) -> list[str]:
        return list(self.epochs[-1]) if self.epochs else []


def accuracy(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """For each example whether the largest logit is the right one: (B, K, ...) and (B, ...) -> bool (B, ...).

    As a metric of `fit` and `evaluate` it leaves out targets that are no class, those that the loss ignores.
    """
    predicted = outputs.argmax(dim=1)
    if predicted.shape != targets.shape or targets.dtype.is_floating_point:  # == would broadcast
        raise ValueError(
            f"accuracy takes logits (B, K) and class numbers (B,), not outputs {tuple(outputs.shape)} and targets "
            f"{tuple(targets.shape)} {targets.dtype}. For one logit or several labels an example write a metric of "
            "your own: lambda outputs, targets: (outputs > 0) == (targets > 0.5)."
        )
    return predicted == targets


def move(batch, device: torch.device):
    """A tensor, or a tuple or dict of tensors, on the given device. Raises ValueError for words, arrays and numbers."""
    if isinstance(batch, torch.Tensor):
        # CUDA alone: to MPS a non-blocking copy can read memory that is freed already (pytorch/pytorch#189690)
        return batch.to(device, non_blocking=device.type == "cuda")
    if batch is None:  # a mask that a model can do without
        return None
    if isinstance(batch, Mapping):
        return {name: move(part, device) for name, part in batch.items()}
    check_numbers(batch)
    return tuple(move(part, device) for part in batch)


def forward(model: nn.Module, inputs):
    """Call the model with what it takes: one tensor, several, or several by name."""
    if isinstance(inputs, torch.Tensor):
        return model(inputs)
    return model(**inputs) if isinstance(inputs, Mapping) else model(*inputs)


class Averages:
    """Loss and metrics over examples: sums are kept, on the device, and divided once at the end.

    The mean of the batches' means would be wrong as soon as one batch is smaller than the others.
    """

    def __init__(self, loss_fn: Callable, metrics: Mapping[str, Metric] | None):
        check_reduction(loss_fn)
        self.metrics = metrics or {}
        self.weight = option(loss_fn, "weight") if is_class_loss(loss_fn) else None
        self.ignored = option(loss_fn, "ignore_index", -100)
        self.per_batch = option(loss_fn, "reduction") == "batchmean"
        self.sums = dict.fromkeys(["loss", *self.metrics], 0.0)
        self.counts = dict.fromkeys(["loss", *self.metrics], 0)

    def add(self, loss: torch.Tensor, outputs, targets) -> None:
        """Count one batch; `loss` is the detached mean over it."""
        first = targets
        while not isinstance(first, torch.Tensor):
            first = next(iter(first.values() if isinstance(first, Mapping) else first))
        counted = None if first.dtype.is_floating_point else first != self.ignored
        count = self._examples(first, counted)
        total = (loss.float() if loss.dtype in HALF else loss) * count
        if isinstance(count, torch.Tensor):  # where every target is ignored the loss is 0/0: nothing to add
            total = torch.where(count > 0, total, 0.0)
        self.sums["loss"] += total
        self.counts["loss"] += count
        for name, metric in self.metrics.items():
            values = metric(outputs, targets)
            if not isinstance(values, torch.Tensor) or values.ndim == 0:
                raise ValueError(f"The metric {name!r} must give one value an example, (B,), not their mean.")
            values = (values.float() if values.dtype in HALF else values).detach()
            if counted is not None and values.shape == counted.shape:
                known = counted & (first >= 0) & (first < outputs.shape[1]) if metric is accuracy else counted
                self.sums[name] += values.where(known, 0).sum()
                self.counts[name] += known.sum()
            else:
                self.sums[name] += values.sum()
                self.counts[name] += values.numel()

    def _examples(self, targets: torch.Tensor, counted: torch.Tensor | None):
        """How many examples the loss is a mean over; PyTorch's class losses leave some out, or weigh them."""
        if self.per_batch:
            return len(targets)
        if counted is None:
            return targets.numel()
        # no boolean index here: on a GPU it would wait for the device at every step
        return counted.sum() if self.weight is None else (self.weight[targets.where(counted, 0)] * counted).sum()

    def result(self) -> dict[str, float]:
        """{"loss": mean, ...}; NaN where nothing was counted."""
        return {
            name: float(total) / float(self.counts[name]) if float(self.counts[name]) else math.nan
            for name, total in self.sums.items()
        }


def train_one_epoch(
    model: nn.Module,
    loader: Iterable,
    *,
    loss_fn: Callable,
    optimizer: torch.optim.Optimizer,
    device: torch.device | str,
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
    metrics: Mapping[str, Metric] | None = None,
    amp: bool = False,
    first_step: int = 0,
    on_look: Callable[[int, list[float], list[float], Averages], None] | None = None,
) -> dict[str, float]:
    """Go once through the loader in training mode; returns {"loss": mean over examples, metric: mean, ...}.

    The scheduler steps after every optimiser step. About twice a second, and at the end, the losses of the steps
    since the last look are fetched from the device, checked, and handed on:
    on_look(last_step, losses, rates, averages).
    Raises TrainingDiverged for a loss that is NaN or infinite, ValueError for a batch that does not fit the model.
    """
    model.train()
    device = torch.device(device)
    averages = Averages(loss_fn, metrics)
    precision = mixed_precision(device) if amp else contextlib.nullcontext()
    step, unseen, last_look = first_step, [], time.perf_counter()
    try:
        for batch in loader:
            try:
                inputs, targets = batch
                inputs, targets = move(inputs, device), move(targets, device)
                optimizer.zero_grad()
                with precision:
                    outputs = forward(model, inputs)
                    if step == first_step:
                        check_first_batch(inputs, outputs, targets, loss_fn, loader)
                    loss = loss_fn(outputs, targets)
                loss.backward()
            except (RuntimeError, ValueError, IndexError, TypeError) as error:
                raise_explained(error, batch, model)
            optimizer.step()
            loss, step = loss.detach(), step + 1
            unseen.append((step, loss, optimizer.param_groups[0]["lr"]))
            averages.add(loss, outputs, targets)
            if scheduler is not None:
                scheduler.step()
            if time.perf_counter() - last_look > LOOK_EVERY:
                _look(unseen, averages, on_look)
                last_look = time.perf_counter()
    finally:  # at an error and at Ctrl-C too: the steps before it belong to the record
        _look(unseen, averages, on_look)
    if step == first_step:
        raise ValueError("The training loader gave no batch: it is empty, or an iterator that is used up.")
    return averages.result()


def _look(unseen: list, averages: Averages, on_look: Callable | None) -> None:
    """Fetch the losses of the last steps, in one transfer, and stop the training where one is not finite.

    unseen: (step, loss, rate) of each; it is then empty.
    """
    if not unseen:
        return
    steps, losses, rates = (list(column) for column in zip(*unseen, strict=True))
    losses = torch.stack(losses).flatten().tolist()
    unseen.clear()
    for i, (step, loss, rate) in enumerate(zip(steps, losses, rates, strict=True)):
        if not math.isfinite(loss):
            if on_look is not None and i:  # the record shows how it came to that
                on_look(step - 1, losses[:i], rates[:i], averages)
            raise TrainingDiverged(
                f"The loss is {loss} at step {step}, at a learning rate of {rate:.3g}. Try a tenth of that rate or a "
                "warm-up, clip the gradient, and look for NaN in the inputs or a logarithm of 0 in the loss. "
                "The model's weights are spoilt: build it anew, or load the checkpoint's (resume=True alone brings "
                "the old rate back with them). A class loss is NaN too where every target of a batch is ignored."
            )
    if on_look is not None:
        on_look(steps[-1], losses, rates, averages)


def evaluate(
    model: nn.Module,
    loader: Iterable,
    *,
    loss_fn: Callable,
    device: torch.device | str,
    metrics: Mapping[str, Metric] | None = None,
    amp: bool = False,
) -> dict[str, float]:
    """{"loss": mean over examples, metric: mean, ...} in evaluation mode; the model's modes are put back after it."""
    averages = Averages(loss_fn, metrics)
    for loss, outputs, targets in _evaluated(model, loader, device, amp, loss_fn):
        averages.add(loss, outputs, targets)
    return averages.result()


def predict(
    model: nn.Module, loader: Iterable, *, device: torch.device | str, amp: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """All outputs and all targets of a loader, on the CPU, in its order: (N, K) and (N,) for a classifier."""
    pairs = []
    for _, outputs, targets in _evaluated(model, loader, device, amp):
        if not isinstance(outputs, torch.Tensor) or not isinstance(targets, torch.Tensor):
            raise ValueError(
                "predict joins outputs and targets that are one tensor each; here the outputs are a "
                f"{type(outputs).__name__}, the targets a {type(targets).__name__}."
            )
        pairs.append((outputs.float().cpu(), targets.cpu()))
    return torch.cat([outputs for outputs, _ in pairs]), torch.cat([targets for _, targets in pairs])


@torch.no_grad()
def _evaluated(model, loader, device, amp, loss_fn=None) -> Iterator[tuple]:
    """(loss, outputs, targets) of every batch, in evaluation mode; the loss is None where no `loss_fn` is given."""
    precision = mixed_precision(device) if amp else contextlib.nullcontext()
    device = torch.device(device)
    loss = outputs = None
    with evaluation_mode(model.to(device)):
        for batch in loader:
            try:
                inputs, targets = batch
                inputs, targets = move(inputs, device), move(targets, device)
                with precision:
                    first, outputs = outputs is None, forward(model, inputs)
                    if first:
                        check_first_batch(inputs, outputs, targets, loss_fn, loader)
                    if loss_fn is not None:
                        loss = loss_fn(outputs, targets)
            except (RuntimeError, ValueError, IndexError, TypeError) as error:
                raise_explained(error, batch, model)
            yield loss, outputs, targets
        if outputs is None:
            raise ValueError("The loader gave no batch: there is nothing to evaluate.")


@contextlib.contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """`eval()` for the time of the block. Then every module has its own mode again: a frozen one stays in eval."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def fit(
    model: nn.Module,
    train_loader: Iterable,
    val_loader: Iterable | None,
    *,
    loss_fn: Callable,
    optimizer: torch.optim.Optimizer,
    device: torch.device | str,
    epochs: int,
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
    logger: Logger | None = None,
    metrics: Mapping[str, Metric] | None = None,
    before_epoch: Callable[[int], None] | None = None,
    amp: bool = False,
    checkpoint: Path | str | None = None,
    resume: bool = False,
    progress: bool = True,
) -> History:
    """Train for `epochs` epochs, evaluate after each, and return the `History`; the model is changed in place.

    val_loader: None for no evaluation.
    loss_fn: (outputs, targets) -> mean over the batch. Class weights are known of nn.CrossEntropyLoss and nn.NLLLoss,
        and of a functools.partial; inside of a function of your own they cannot be seen: there all targets weigh alike.
    scheduler: stepped after every optimiser step, epochs * len(train_loader) times in all. What it will do is looked at
        beforehand, on a copy; a warning says where it seems to count epochs.
    logger: gets "loss/step" at each step, "learning_rate" where it has changed, and the averages ("loss/train",
        "loss/val", ...) at the end of an epoch.
    metrics: {name: (outputs, targets) -> one value a target}; see the top of this module.
    before_epoch: called with the epoch's number, from 0, before it begins: the place to thaw a layer.
    amp: mixed precision where the device gains by it. progress: a bar in steps, with loss and metrics.
    checkpoint: a file that is rewritten after every epoch. resume: go on from it where it exists (`epochs` counts from
        the very beginning), under the same schedule; on a CPU the numbers are those of an uninterrupted run, bit for
        bit. A schedule over another number of steps is refused: it takes a new run.

    Raises ValueError for a set-up that cannot work, TrainingDiverged for a loss that is not finite, FileExistsError
    where the checkpoint exists and `resume` was not asked for. An error that ends a training, and the KeyboardInterrupt
    of Ctrl-C or a notebook's stop button, carries the record so far: `except KeyboardInterrupt as stopped:
    history = stopped.history`, or afterwards, in a notebook, `sys.last_value.history`.
    """
    check_setup(
        model, train_loader, val_loader, loss_fn, optimizer, scheduler, metrics, device, epochs, logger, before_epoch
    )
    model.to(device)
    if isinstance(loss_fn, nn.Module):
        loss_fn.to(device)
    if resume and checkpoint is None:
        raise ValueError("resume=True needs the file to go on from: pass checkpoint=..., too.")
    history, loaders = History(), [loader for loader in (train_loader, val_loader) if loader is not None]
    batches, saved = length(train_loader), None
    if checkpoint is not None and Path(checkpoint).exists():
        if not resume:
            raise FileExistsError(
                f"{Path(checkpoint).name} exists already: pass resume=True to go on from it, or choose another file."
            )
        saved = read_checkpoint(checkpoint)
    rates = check_schedule(scheduler, optimizer, batches, epochs, saved)
    if saved is not None:
        history = History(**restore(saved, checkpoint, model, optimizer, scheduler, loaders, loss_fn))
    if resume and logger is not None:  # without a checkpoint yet too: a run killed in its first epoch begins anew
        logger.purge_from(len(history.step_loss))
    total = batches * epochs if batches else None
    bar = tqdm(disable=not progress, unit="step", total=total, initial=len(history.step_loss))

    def record(step, losses, rates, averages):
        known_rate = history.step_lr[-1] if history.step_lr else None
        history.step_loss += losses
        history.step_lr += rates
        bar.set_postfix({name: f"{value:.3f}" for name, value in averages.result().items()}, refresh=False)
        bar.update(len(losses))
        if logger is None:
            return
        for at, (loss, rate) in enumerate(zip(losses, rates, strict=True), start=step - len(losses) + 1):
            changed = {} if rate == known_rate else {"learning_rate": rate}
            logger.log_scalars({"loss/step": loss, **changed}, at)
            known_rate = rate

    with bar, _kept(history):
        for epoch in range(len(history.epochs), epochs):
            if before_epoch is not None:
                before_epoch(epoch)
            started = time.perf_counter()
            parts = {
                "train": train_one_epoch(
                    model,
                    train_loader,
                    loss_fn=loss_fn,
                    optimizer=optimizer,
                    device=device,
                    scheduler=scheduler,
                    metrics=metrics,
                    amp=amp,
                    first_step=len(history.step_loss),
                    on_look=record,
                )
            }
            if val_loader is not None:
                parts["val"] = evaluate(model, val_loader, loss_fn=loss_fn, device=device, metrics=metrics, amp=amp)
            if not all(parameter.isfinite().all() for parameter in model.parameters()):  # the last step's doing
                raise TrainingDiverged(
                    f"After step {len(history.step_loss)} the weights are NaN or infinite, the loss not yet. "
                    "Try a tenth of the learning rate, a warm-up, or clip the gradient. A checkpoint, where there is "
                    "one, is that of the epoch before."
                )
            row = {f"{part}_{name}": value for part, result in parts.items() for name, value in result.items()}
            history.epochs.append({"epoch": epoch + 1, "step": len(history.step_loss), **row})
            history.seconds.append(time.perf_counter() - started)
            if logger is not None:
                tags = {f"{name}/{part}": value for part, result in parts.items() for name, value in result.items()}
                logger.log_scalars(tags, len(history.step_loss))
            if checkpoint is not None:
                save_checkpoint(checkpoint, model, optimizer, scheduler, loaders, loss_fn, rates, asdict(history))
    return history


@contextlib.contextmanager
def _kept(history: History) -> Iterator[None]:
    """Whatever ends the training early, Ctrl-C too, takes the record along."""
    try:
        yield
    except BaseException as error:
        error.history = history
        if isinstance(error, TrainingDiverged | KeyboardInterrupt):
            error.add_note(
                "The record up to here is kept, as `history` of this error. In a notebook the next cell gets it by "
                "`import sys; history = sys.last_value.history`."
            )
        raise
