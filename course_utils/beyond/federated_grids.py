"""The larger experiments of notebook 09, for `python -m course_utils grid`: what to measure, and how."""

import functools
import itertools
from collections.abc import Callable, Iterable

import torch

from course_utils.beyond.federated import (
    RATES,
    clipped_mean,
    follow,
    median,
    pocket_federation,
    spoil_first,
    weighted_mean,
)

SEEDS = range(3)
RULES = {"mean": weighted_mean, "median": median, "clipped mean": clipped_mean}
FAULTS = ("none", "drops out", "sends NaN", "sends garbage")
LIMIT = 1.0  # of the norm of a change


# --- rounds -----------------------------------------------------------------------------------------------------------


def rounds_tasks() -> Iterable[dict]:
    settings = [
        *itertools.product(RATES, ("by writer", "by digit"), ("averaged",), (2,)),
        ("pretrained", "shuffled", "averaged", 2),
        *(("pretrained", "by digit", batch_norm, 2) for batch_norm in ("left at home", "frozen")),
        ("pretrained", "by writer", "averaged", 1),
    ]
    for (start, way, batch_norm, epochs), seed in itertools.product(settings, SEEDS):
        yield dict(start=start, way=way, batch_norm=batch_norm, epochs=epochs, seed=seed)


def measure_rounds(start: str, way: str, batch_norm: str, epochs: int, seed: int, rounds: int = 4) -> list[dict]:
    """Accuracy on the newcomers, and the bytes that a client has sent, after each round."""
    federation = pocket_federation(start, way, seed=seed, freeze_batch_norm=batch_norm == "frozen")
    options = dict(epochs=epochs, send_statistics=batch_norm != "left at home")
    return follow(federation, start=start, rounds=rounds, **options)


# --- clients that fail ------------------------------------------------------------------------------------------------


def faults_tasks() -> Iterable[dict]:
    for rule, fault, seed in itertools.product(RULES, FAULTS, SEEDS):
        yield dict(rule=rule, fault=fault, seed=seed)


def measure_faults(rule: str, fault: str, seed: int) -> list[dict]:
    """Accuracy after three rounds in each of which the first of ten clients fails; BatchNorm frozen."""
    in_transit = None if fault == "none" else functools.partial(spoil_first, how=fault)
    federation = pocket_federation("pretrained", "by writer", seed=seed, freeze_batch_norm=True)
    options = dict(rounds=3, epochs=2, aggregate=RULES[rule], in_transit=in_transit)
    return [dict(accuracy=follow(federation, start="pretrained", **options)[-1]["accuracy"])]


# --- clipping and noise -----------------------------------------------------------------------------------------------


def noise_tasks() -> Iterable[dict]:
    for noise, seed in itertools.product((0.0, 0.01, 0.03, 0.1, 1.0), SEEDS):
        yield dict(noise=noise, seed=seed)


def measure_noise(noise: float, seed: int) -> list[dict]:
    """Accuracy after four rounds with changes clipped to LIMIT and noise on their sum; BatchNorm frozen."""
    rule = functools.partial(
        clipped_mean, limit=LIMIT, noise=noise, generator=torch.Generator().manual_seed(seed)
    )  # fmt: skip
    federation = pocket_federation("pretrained", "by writer", seed=seed, freeze_batch_norm=True)
    rows = follow(federation, start="pretrained", rounds=4, epochs=2, aggregate=rule)
    return [dict(accuracy=rows[-1]["accuracy"])]


FEDERATED_GRIDS: dict[str, tuple[Callable, Callable]] = {
    "federated": (rounds_tasks, measure_rounds),
    "federated_faults": (faults_tasks, measure_faults),
    "federated_noise": (noise_tasks, measure_noise),
}
