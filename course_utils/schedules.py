"""A schedule looked at before the training: what learning rates it will give, and whether that fits the training."""

import copy
import functools
import math
import warnings
from collections.abc import Mapping
from itertools import accumulate

import torch

GO_ON = (
    "resume=True finishes a run as it was planned: pass the same schedule, over the same number of steps, and the same "
    "epochs. To train for longer, begin a new run with the weights: model.load_state_dict(torch.load(checkpoint)"
    '["model"]), a new optimiser, a schedule over the steps to come, and fit with another checkpoint.'
)


def check_schedule(scheduler, optimizer, batches: int | None, epochs: int, saved: Mapping | None = None) -> list[float]:
    """Look ahead: the learning rates of the first parameter group at all steps; [] where they cannot be known.

    batches: an epoch's. saved: the checkpoint to go on from. Warns where the schedule seems made for another number of
    steps; raises ValueError where it cannot be stepped as often, or is not the schedule of the checkpoint.
    """
    known, done = [], 0
    if saved is not None:
        if (scheduler is None) != (saved["scheduler"] is None):
            given, before = ("no schedule", "one") if scheduler is None else ("a schedule", "none")
            raise ValueError(f"This run has {given}, the checkpoint was written with {before}. {GO_ON}")
        done, epochs_done = len(saved["history"]["step_loss"]), len(saved["history"]["epochs"])
        known = saved.get("rates") or saved["history"]["step_lr"]
        batches, epochs = batches or done // epochs_done, epochs - epochs_done
    if scheduler is None or not batches or epochs < 1:
        return known
    steps, used = done + batches * epochs, _steps_taken(scheduler) > 0
    plan, same = functools.partial(planned_rates, scheduler, optimizer), True
    try:
        if saved is not None and used:  # the very scheduler that the run began with
            groups = saved["optimizer"]["param_groups"]
            rates = known[:done] + plan(steps - done, state=saved["scheduler"], groups=groups)
        else:
            rates = plan(steps)
            same = _same(rates, known) and (
                saved is None or _same(rates, plan(steps, at=done, state=saved["scheduler"]))
            )
    except Exception as error:
        remedy = f"Build it for epochs * len(loader) = {steps} steps." if saved is None else GO_ON
        raise ValueError(f"The schedule cannot be stepped {steps} times, once after every batch. {remedy}") from error
    if not same:
        raise ValueError(f"The schedule is not the one that the checkpoint was written with. {GO_ON}")
    again, more = begins_again(rates, scheduler, batches), rates[len(known) :]
    nothing = bool(more) and max(more) < 1e-6 * max(rates)
    if saved is not None and (nothing or (more and again and not begins_again(known, scheduler, batches))):
        fault = again or "its learning rate is 0 in all that are added"
        raise ValueError(f"The schedule is not made for as many as {steps} steps: {fault}. {GO_ON}")
    fault = again or (batches > 1 and over_early(rates))  # with one batch an epoch, counting epochs is right
    if fault and (saved is not None or not used):  # of a used one only the end is seen
        warnings.warn(
            f"The schedule does not seem to count steps: {fault}. fit steps it after every batch, {steps} times in "
            f"all. So give it numbers of steps: an epoch is {batches}, two are {2 * batches}, the whole training is "
            f"epochs * len(loader) = {steps}.",
            stacklevel=3,
        )
    return rates


def planned_rates(scheduler, optimizer, steps: int, *, at: int = 0, state=None, groups=None) -> list[float]:
    """The learning rates that a schedule will give the first group, from a copy; [] where it cannot be copied.

    state: loaded after `at` steps, as a resumed run does it. groups: of the optimiser then.
    """
    stand_in = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    stand_in.param_groups = [{**group, "lr": float(group["lr"])} for group in groups or optimizer.param_groups]
    weights = {id(weight): weight for group in optimizer.param_groups for weight in group["params"]}
    try:
        twin = copy.deepcopy(scheduler, {id(optimizer): stand_in, **weights})
    except Exception:  # it holds an open file, say
        return []
    rates = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no optimiser steps before this one
        for step in range(steps):
            if step == at and state is not None:
                twin.load_state_dict(copy.deepcopy(state))
            rates.append(float(stand_in.param_groups[0]["lr"]))
            twin.step()
    return rates


def over_early(rates: list[float]) -> str | None:
    """What shows that a schedule is made for fewer steps, as one that counts epochs is; None where nothing does.

    Most of the way down is short, and then the rate is as good as nothing, or stands still.
    """
    steps, peak, last = len(rates), max(rates, default=0), rates[-1] if rates else 0
    above = sum(rate - last for rate in rates)
    moves = [i for i, rate in enumerate(rates) if abs(rate - last) > 0.01 * peak]
    early = (
        last < 0.99 * peak and above < 0.2 * (peak - last) * steps and (last <= 0.0101 * peak or moves[-1] < steps / 3)
    )
    if early or sum(rate < 1e-6 * peak for rate in rates) > 1 + 0.1 * steps:
        return (
            f"its learning rate is {peak:.2g} at its highest, {rates[steps // 2]:.2g} half way, {last:.2g} at the end"
        )
    return None


def begins_again(rates: list[float], scheduler, batches: int) -> str | None:
    """Does the rate rise gradually after a fall, as a cosine beyond its end, or restart more than once an epoch?"""
    fallen = next((i for i, top in enumerate(accumulate(rates, max)) if rates[i] < 0.9 * top), len(rates))
    triples = list(zip(rates[fallen - 1 :], rates[fallen:], rates[fallen + 1 :], strict=False))
    rise = sum(c - b for a, b, c in triples if a < b < c)
    if rise > 0.1 * max(rates, default=0) and not isinstance(scheduler, torch.optim.lr_scheduler.CyclicLR):
        return f"its learning rate falls to {min(rates[fallen:]):.2g} and then rises again"
    restarts = sum(a >= b and c - b > 0.01 * max(rates) for a, b, c in triples)
    if restarts and restarts >= len(rates) / batches and restarts + 1 >= batches:
        return f"its learning rate falls and rises again {restarts} times"
    return None


def _steps_taken(scheduler) -> int:
    first = scheduler if hasattr(scheduler, "last_epoch") else getattr(scheduler, "_schedulers", [scheduler])[0]
    return getattr(first, "last_epoch", 0)


def _same(rates: list[float], others: list[float]) -> bool:
    """Are two plans the same as far as both go?"""
    pairs = zip(rates, others, strict=False)
    return all(math.isclose(rate, other, rel_tol=1e-6, abs_tol=1e-12) for rate, other in pairs)
