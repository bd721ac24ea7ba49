"""Federated averaging: clients train at home and send what changed; a server averages it. Images never travel.

Source: McMahan et al. 2016, arXiv:1602.05629. Everything runs in this one process: what a client would send is a
`Sent`, and what a network would do to it on the way, a function from a list of them to another.
"""

import contextlib
import copy
import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
import torch.nn as nn

from course_utils.beyond.efficient import stored_bytes, task_state
from course_utils.data import few_labels, load_digits_rgb, make_loader, random_affine
from course_utils.device import seed_everything
from course_utils.models import build_classifier, freeze
from course_utils.training import TrainingDiverged, accuracy, evaluate, fit

Change = dict[str, torch.Tensor]  # by how much each entry of a state_dict has changed


class Sent(NamedTuple):
    """What a client sends to the server after a round."""

    change: Change
    examples: int  # that it trained on, as it says


# --- a round ----------------------------------------------------------------------------------------------------------


def train_at_home(
    model: nn.Module, loader, *, lr: float, epochs: int, device: torch.device | str, send_statistics: bool = True
) -> Sent:
    """A client's part: copy the server's model, train the copy by plain SGD, send what changed and what moved.

    What is frozen is not sent. send_statistics: BatchNorm's running means and variances as well. Raises
    TrainingDiverged, as `fit` does.
    """
    local = copy.deepcopy(model)
    optimizer = torch.optim.SGD(local.parameters(), lr=lr)
    fit(
        local,
        loader,
        None,
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=optimizer,
        device=device,
        epochs=epochs,
        progress=False,
    )
    before = model.state_dict()
    change = {name: value - before[name] for name, value in task_state(local).items()}
    if not send_statistics:
        change = {name: value for name, value in change.items() if name in dict(local.named_parameters())}
    return Sent(change, len(loader.dataset))


@torch.no_grad()
def apply_change(model: nn.Module, change: Change) -> None:
    """The server's part: add a change to its model, in place."""
    state = model.state_dict()
    for name, value in change.items():
        state[name] += value


def federated_averaging(
    model: nn.Module,
    loaders: Iterable,
    *,
    rounds: int,
    lr: float,
    device: torch.device | str,
    epochs: int = 1,
    aggregate: Callable[[list[Sent]], Change] | None = None,
    in_transit: Callable[[list[Sent]], list[Sent]] | None = None,
    after_round: Callable[[int, int], None] | None = None,
    send_statistics: bool = True,
) -> None:
    """Improve the server's model, in place, by rounds in which each client trains for `epochs` epochs at home.

    loaders: one a client, as `make_loader` makes them; all clients take part in each round.
    aggregate: the rule, `weighted_mean` by default. in_transit: what becomes of the list that the clients sent.
    after_round: called with the round's number, from 1, and the bytes that one client has sent in it.
    Raises ValueError where there is no client, or nothing arrives.
    """
    if not (loaders := list(loaders)):
        raise ValueError("Federated averaging needs a client: `loaders` is empty.")
    model.to(device)
    for number in range(1, rounds + 1):
        sent = [
            train_at_home(model, loader, lr=lr, epochs=epochs, device=device, send_statistics=send_statistics)
            for loader in loaders
        ]
        size = stored_bytes(sent[0].change.values())
        arrived = sent if in_transit is None else in_transit(sent)
        apply_change(model, (aggregate or weighted_mean)(arrived))
        if after_round is not None:
            after_round(number, size)


# --- rules of the server ----------------------------------------------------------------------------------------------


def weighted_mean(sent: list[Sent]) -> Change:
    """The mean over all clients' examples: FedAvg's own rule. One NaN, or one client that lies, spoils it."""
    total = sum(part.examples for part in _some(sent))
    return _each_entry(sent, lambda values: sum(v * (s.examples / total) for v, s in zip(values, sent, strict=True)))


def median(sent: list[Sent]) -> Change:
    """The median of each number over the clients, NaN left out; wrong only where half of the clients are.

    Each client counts once, however many examples it says it has. Source: Yin et al. 2018, arXiv:1803.01498.
    """
    return _each_entry(_some(sent), lambda values: torch.stack(values).nanquantile(0.5, dim=0))


def clipped_mean(
    sent: list[Sent], *, limit: float | None = None, noise: float = 0.0, generator: torch.Generator | None = None
) -> Change:
    """The mean of changes that are no longer than `limit`; a longer one is shortened, one that is not finite left out.

    limit: of the norm over all entries; by default the median of the norms that arrived. Each client counts once.
    noise: the standard deviation of Gaussian noise on the *sum*, in units of `limit`, which must then be given.
    Source: McMahan et al. 2017, arXiv:1710.06963. That alone is no guarantee of privacy: see notebook 09.
    Raises ValueError where no finite change arrived, or the limit does not fit.
    """
    if noise and limit is None:
        raise ValueError("Noise is counted in units of the limit: pass limit=..., chosen before anything arrives.")
    norms = [length(part.change) for part in _some(sent)]
    sound = [(part, norm) for part, norm in zip(sent, norms, strict=True) if math.isfinite(norm)]
    if not sound:
        raise ValueError(f"Of {len(sent)} clients none sent a finite change: the model stays as it is.")
    if limit is None:
        limit = torch.tensor([norm for _, norm in sound]).quantile(0.5).item()
    if not limit > 0:
        raise ValueError(f"The limit must be positive, not {limit}.")
    factors = [min(1.0, limit / norm) if norm else 1.0 for _, norm in sound]
    deviation = noise * limit / len(sound)

    def shortened_mean(values):
        mean = sum(value * factor for value, factor in zip(values, factors, strict=True)) / len(sound)
        return mean + deviation * torch.randn(mean.shape, generator=generator) if noise else mean

    return _each_entry([part for part, _ in sound], shortened_mean)


def length(change: Change) -> float:
    """The Euclidean norm over all entries; NaN or infinite where one of them is."""
    return torch.cat([value.flatten() for value in change.values()]).norm().item()


def _each_entry(sent: list[Sent], rule: Callable[[list[torch.Tensor]], torch.Tensor]) -> Change:
    return {name: rule([part.change[name] for part in sent]) for name in sent[0].change}


def _some(sent: list[Sent]) -> list[Sent]:
    if not sent:
        raise ValueError("No client has sent anything: there is nothing to average in this round.")
    return sent


# --- what can happen on the way ---------------------------------------------------------------------------------------


def spoil_first(sent: list[Sent], how: str) -> list[Sent]:
    """What arrives when the first client "drops out", "sends NaN", or "sends garbage".

    Garbage is random numbers of standard deviation 1, far larger than an honest change.
    Raises ValueError for another word.
    """
    first, *others = sent
    if how == "drops out":
        return others
    if how == "sends NaN":
        change = {name: torch.full_like(value, math.nan) for name, value in first.change.items()}
    elif how == "sends garbage":
        generator = torch.Generator().manual_seed(0)
        change = {name: torch.randn(value.shape, generator=generator) for name, value in first.change.items()}
    else:
        raise ValueError(f'A client "drops out", "sends NaN" or "sends garbage", not {how!r}.')
    return [first._replace(change=change), *others]


# --- the digits as a federation ---------------------------------------------------------------------------------------

WAYS = ("by writer", "shuffled", "by digit")
RATES = {"scratch": 0.3, "pretrained": 0.2}  # of the clients' SGD, chosen with a draw of forms that no result uses


def deal(way: str, labels: torch.Tensor, groups: torch.Tensor, *, seed: int) -> list[torch.Tensor]:
    """The examples of each client, as indices: as many clients as there are groups.

    "by writer": a group each. "shuffled": dealt out at random, in equal numbers. "by digit": sorted by label, cut into
    twice as many pieces as clients, and two pieces each, so that a client knows about two classes (McMahan et al.).
    Raises ValueError for another way.
    """
    if way not in WAYS:
        raise ValueError(f"Unknown way {way!r}. There are: {', '.join(WAYS)}.")
    names = groups.unique()
    if way == "by writer":
        return [(groups == name).nonzero().flatten() for name in names]
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    if way == "shuffled":
        return list(order.tensor_split(len(names)))
    pieces = order[labels[order].argsort(stable=True)].tensor_split(2 * len(names))
    return [torch.cat([pieces[i], pieces[i + len(names)]]) for i in range(len(names))]


class Federation(NamedTuple):
    """A server's model, its clients, and writers whom nobody has trained on."""

    model: nn.Module
    loaders: list
    test_images: torch.Tensor
    test_labels: torch.Tensor


def pocket_federation(
    start: str, way: str, *, seed: int, newcomers: int = 4, per_class: int = 4, freeze_batch_norm: bool = False
) -> Federation:
    """The fourteen forms of the digits: `newcomers` of them, drawn by the seed, for the test, the others' dealt out.

    start: "scratch" or "pretrained". way: see `deal`. per_class: labelled images of each digit on each form.
    """
    if start not in RATES:
        raise ValueError(f"Unknown start {start!r}. There are: {', '.join(RATES)}.")
    data = load_digits_rgb()
    forms = torch.randperm(14, generator=torch.Generator().manual_seed(seed))
    known = torch.cat(
        [
            few_labels(data.labels, (data.groups == form).nonzero().flatten(), per_class=per_class, seed=seed)
            for form in forms[newcomers:].sort().values
        ]
    )
    test = torch.isin(data.groups, forms[:newcomers])
    shares = deal(way, data.labels[known], data.groups[known], seed=seed)
    seed_everything(seed)
    model = build_classifier("tiny_resnet", 10, weights="DEFAULT" if start == "pretrained" else None)
    if freeze_batch_norm:
        freeze(model, [name for name, part in model.named_modules() if isinstance(part, nn.BatchNorm2d)])
    loaders = [
        make_loader(
            data.images[known[share]],
            data.labels[known[share]],
            batch_size=20,
            shuffle=True,
            seed=100 * seed + number,
            augment=random_affine,
        )
        for number, share in enumerate(shares)
    ]
    return Federation(model.to(memory_format=torch.channels_last), loaders, data.images[test], data.labels[test])


def follow(federation: Federation, *, start: str, rounds: int, **options) -> list[dict]:
    """Federated averaging on the CPU, a row a round: {"round", "accuracy" on the newcomers, "bytes" sent a client}.

    options: see `federated_averaging`. Where a training diverges, the rows end: the last one is of the broken model.
    """
    model, loaders, images, labels = federation
    newcomers, rows = make_loader(images, labels, batch_size=256), []

    def measure(number: int, size: int) -> None:
        loss_and_metrics = dict(loss_fn=nn.CrossEntropyLoss(), metrics={"accuracy": accuracy})
        result = evaluate(model, newcomers, device="cpu", **loss_and_metrics)
        rows.append({"round": number, "accuracy": result["accuracy"], "bytes": number * size})

    options = dict(rounds=rounds, lr=RATES[start], after_round=measure, **options)
    with contextlib.suppress(TrainingDiverged):
        federated_averaging(model, loaders, device="cpu", **options)
    return rows
