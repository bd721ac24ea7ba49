"""Remedies against over-fitting and what things cost, measured for notebook 05b: two grids of `commands.grid`."""

import copy
import datetime
import itertools
import time
from collections.abc import Iterable
from typing import NamedTuple

import torch
import torch.nn as nn
import torch.nn.functional as F

from course_utils.clinic.ward import CLASSES, CPU, Training, digits, share_right
from course_utils.data import few_labels, make_loader, random_affine
from course_utils.device import seed_everything
from course_utils.models import build_classifier, freeze, parameter_groups, unfreeze
from course_utils.recipes import RATES, fine_tune, one_cycle
from course_utils.training import History, accuracy, fit


class Situation(NamedTuple):
    """What a remedy is tried on: labels of each class, the share of them that is wrong, and the length of training."""

    per_class: int
    wrong: float
    batch_size: int
    epochs: int


SITUATIONS = {
    "50 labels": Situation(per_class=5, wrong=0, batch_size=25, epochs=30),
    "200 labels, 4 in 10 wrong": Situation(per_class=20, wrong=0.4, batch_size=40, epochs=24),
}
# One strength each, none of them tuned. Early stopping is no run of its own: `train_with` gives its network too.
REMEDIES = ("nothing", "augmentation", "weight decay", "label smoothing", "frozen backbone", "head first (LP-FT)")
WEIGHT_DECAY = {"weight decay": 1.0}  # a hundred times that of the others
SMOOTHING = {"label smoothing": 0.2}
RATE, HEAD_RATE, GENTLE_RATE = 3e-3, 1e-2, 3e-4


def wrong_labels(labels: torch.Tensor, share: float, seed: int) -> torch.Tensor:
    """Labels (N,) of which about `share`, drawn at random, are one of the other classes."""
    generator = torch.Generator().manual_seed(seed)
    wrong = torch.rand(len(labels), generator=generator) < share
    other = torch.randint(1, CLASSES, labels.shape, generator=generator)
    return torch.where(wrong, (labels + other) % CLASSES, labels)


def train_with(remedy: str, situation: str, seed: int) -> tuple[dict[str, nn.Module], History]:
    """Train the pocket network: ({"last": model, "lowest validation loss": model}, history).

    The seed draws the labelled images, the wrong labels and the new head: two remedies with one seed are a pair.
    Raises ValueError for an unknown remedy or situation.
    """
    if remedy not in REMEDIES:
        raise ValueError(f"There is no remedy {remedy!r}. There are: {', '.join(REMEDIES)}.")
    if situation not in SITUATIONS:
        raise ValueError(f"There is no situation {situation!r}. There are: {'; '.join(SITUATIONS)}.")
    per_class, wrong, batch_size, epochs = SITUATIONS[situation]
    data, split = digits()
    chosen = few_labels(data.labels, split.train, per_class=per_class, seed=seed)
    labels = wrong_labels(data.labels[chosen], wrong, seed)
    augment = random_affine if remedy == "augmentation" else None
    loader = make_loader(data.images[chosen], labels, batch_size=batch_size, shuffle=True, seed=seed, augment=augment)
    seed_everything(seed)
    model = build_classifier("tiny_resnet", CLASSES, weights="DEFAULT").to(memory_format=torch.channels_last)
    head_first = remedy in ("frozen backbone", "head first (LP-FT)")
    if head_first:
        freeze(model, "")
        unfreeze(model, "fc")
    optimizer = torch.optim.AdamW(
        parameter_groups(
            model,
            {"fc": HEAD_RATE if head_first else RATE},
            default_lr=GENTLE_RATE if head_first else RATE,
        ),
        weight_decay=WEIGHT_DECAY.get(remedy, 0.01),
    )
    scheduler = one_cycle(optimizer, epochs * len(loader))
    kept = []  # the weights before each epoch

    def before_epoch(epoch: int) -> None:
        kept.append(copy.deepcopy(model.state_dict()))
        if remedy == "head first (LP-FT)" and epoch == epochs // 2:
            unfreeze(model)

    history = fit(
        model,
        loader,
        make_loader(data.images[split.val], data.labels[split.val], batch_size=256),
        loss_fn=nn.CrossEntropyLoss(label_smoothing=SMOOTHING.get(remedy, 0.0)),
        optimizer=optimizer,
        scheduler=scheduler,
        device=CPU,
        epochs=epochs,
        metrics={"accuracy": accuracy},
        before_epoch=before_epoch,
        progress=False,
    )
    losses = history["val_loss"]
    stopped = copy.deepcopy(model)
    stopped.load_state_dict([*kept, model.state_dict()][losses.index(min(losses)) + 1])
    return {"last": model, "lowest validation loss": stopped}, history


def remedies_tasks() -> Iterable[dict]:
    for situation, remedy, seed in itertools.product(SITUATIONS, REMEDIES, range(6)):
        yield dict(situation=situation, remedy=remedy, seed=seed)


def measure_remedies(situation: str, remedy: str, seed: int) -> list[dict]:
    """Accuracy on the test forms of the last network, and of that with the lowest validation loss."""
    models, _ = train_with(remedy, situation, seed)
    _, split = digits()
    return [dict(kept=name, accuracy=share_right(Training(seed), model, split.test)) for name, model in models.items()]


# --- what a step costs ------------------------------------------------------------------------------------------------

REPEATS = 9
# what is changed -> the values; all else stays at a batch of 32 images of 32 pixels with nothing frozen
COSTS = {
    "batch": (8, 16, 32, 64, 128),
    "resolution": (16, 32, 48, 64),
    "layers that train": ("all", "from layer3 on", "from layer4 on", "head"),
    "recipe": tuple(RATES),  # the steps of a whole fine-tuning: 60 of 64 images, augmented, 20 labels a class
}
FROZEN = {
    "all": (),
    "from layer3 on": ("conv1", "bn1", "layer1", "layer2"),
    "from layer4 on": ("conv1", "bn1", "layer1", "layer2", "layer3"),
    "head": ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4"),
}


def step_of(batch: int = 32, resolution: int = 32, trains: str = "all"):
    """A function that takes one training step of the pocket network on random images, and its model."""
    seed_everything(0)
    model = build_classifier("tiny_resnet", CLASSES, weights="DEFAULT").to(memory_format=torch.channels_last).train()
    freeze(model, list(FROZEN[trains]))
    images, labels = torch.randn(batch, 3, resolution, resolution), torch.randint(CLASSES, (batch,))
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()

    return step, model


def kept_for_backward(step, model: nn.Module) -> int:
    """Bytes that autograd keeps between the forward and the backward pass of a step, without the weights.

    They are counted, not timed: each storage once. On a GPU this is most of what a training needs above its weights.
    """
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    seen: dict[int, int] = {}
    alive = []  # a storage that is freed would give its address to the next

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            seen[storage.data_ptr()] = storage.nbytes()
            alive.append(storage)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        step()
    return sum(seen.values())


def cpu_seconds(function, repeats: int = REPEATS) -> float:
    """The median of what a call takes, in seconds of computing: another program on the machine adds little to it."""
    function()  # the first is slower: memory is asked for, the optimiser makes its state
    taken = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        taken.append(time.process_time() - start)
    return sorted(taken)[repeats // 2]


def tuned(recipe: str) -> nn.Module:
    """The pocket network, fine-tuned by a recipe on 20 labels a class for 60 steps."""
    data, split = digits()
    few = few_labels(data.labels, split.train, per_class=20, seed=0)
    return fine_tune(recipe, data.images[few], data.labels[few], num_classes=CLASSES, seed=0, device=CPU)[0]


def costs_tasks() -> Iterable[dict]:
    for changed, values in COSTS.items():
        for value in values:
            yield dict(changed=changed, value=value)


def measure_costs(changed: str, value: int | str) -> list[dict]:
    """CPU time and memory of one training step (of a recipe: the mean, and the most), when, and on what."""
    if changed == "recipe":
        step, model = step_of(batch=64, trains="head" if value == "probe" else "all")
        seconds = cpu_seconds(lambda: tuned(value), repeats=3) / 60
    else:
        step, model = step_of(**{"layers that train": dict(trains=value)}.get(changed, {changed: value}))
        seconds = cpu_seconds(step)
    return [
        dict(
            cpu_milliseconds=1000 * seconds,
            megabytes=kept_for_backward(step, model) / 1e6,
            date=datetime.date.today().isoformat(),
            device="one CPU thread",
        )
    ]
