"""The ways to fine-tune that the course compares, each a few lines over `models` and `training`."""

from collections.abc import Callable, Iterable

import torch
import torch.nn as nn

from course_utils.data import make_loader, random_affine
from course_utils.device import seed_everything
from course_utils.models import build_classifier, freeze, parameter_groups, unfreeze
from course_utils.training import History, accuracy, fit

# The learning rates of (head, backbone), chosen on validation forms for the pocket network with AdamW.
RATES = {
    "scratch": (1e-2, 1e-2),  # random weights, everything trains
    "probe": (1e-2, 1e-2),  # pretrained weights, only the new head trains
    "full": (3e-3, 3e-3),  # pretrained weights, everything trains at one rate
    "discriminative": (1e-2, 1e-3),  # everything trains, the pretrained part gently
    "gradual": (1e-2, 3e-3),  # the head first, then one stage more at a time, from the top down
}
# With "gradual", the share of the training after which a part of a ResNet thaws.
THAW_AT = {"layer4": 0.2, "layer3": 0.4, "layer2": 0.6, "layer1": 0.7, "conv1": 0.8, "bn1": 0.8}
BATCH_NORM = ("with its layers", "moving", "frozen")


def one_cycle(
    optimizer: torch.optim.Optimizer, total_steps: int, warm_up: float = 0.1
) -> torch.optim.lr_scheduler.OneCycleLR:
    """The schedule of every recipe: each group climbs to its own rate in the first tenth, then falls to nearly 0.

    warm_up: another share of the steps to climb in. Training goes on for `total_steps` optimiser steps, no more.
    """
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=[group["lr"] for group in optimizer.param_groups],
        total_steps=total_steps,
        pct_start=warm_up if total_steps * warm_up > 1 else 0.0,  # it divides by zero where the rise is one step
        cycle_momentum=False,
    )


def tune(
    model: nn.Module,
    loader: Iterable,
    *,
    rates: tuple[float, float],
    epochs: int,
    device: torch.device | str,
    warm_up: float = 0.1,
    **fit_options,
) -> History:
    """Train a classifier (in place) as every recipe does: AdamW with weight decay 0.01, the schedule of `one_cycle`.

    rates: of (head, rest), by the model's `head_name`. fit_options: see `training.fit`.
    """
    optimizer = torch.optim.AdamW(
        parameter_groups(model, {model.head_name: rates[0]}, default_lr=rates[1]), weight_decay=0.01
    )
    return fit(
        model,
        loader,
        fit_options.pop("val_loader", None),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=optimizer,
        scheduler=one_cycle(optimizer, epochs * len(loader), warm_up),
        device=device,
        epochs=epochs,
        metrics={"accuracy": accuracy},
        **{"progress": False, **fit_options},
    )


def fine_tune(
    recipe: str,
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    num_classes: int,
    seed: int,
    device: torch.device | str,
    steps: int = 60,
    batch_size: int = 64,
    rates: tuple[float, float] | None = None,
    batch_norm: str = "with its layers",
    name: str = "tiny_resnet",
    augment: Callable | None = random_affine,
    **fit_options,
) -> tuple[nn.Module, History]:
    """Build a network and train it by a recipe on (N, 3, H, W) images; `steps` is rounded to whole epochs.

    AdamW with weight decay 0.01; the rate rises over the first tenth of the steps and falls to nearly 0 along a cosine.
    rates: (head, backbone) instead of the recipe's own. fit_options: see `training.fit`.
    batch_norm: "with its layers" freezes and thaws it with them; "moving" lets the statistics of frozen layers move, as
    `requires_grad = False` alone would; "frozen" holds every BatchNorm still, in layers that train too.
    """
    if recipe not in RATES:
        raise ValueError(f"Unknown recipe {recipe!r}. There are: {', '.join(RATES)}.")
    if batch_norm not in BATCH_NORM:
        raise ValueError(f"batch_norm must be one of {', '.join(BATCH_NORM)}, not {batch_norm!r}.")
    seed_everything(seed)
    model = build_classifier(name, num_classes, weights=None if recipe == "scratch" else "DEFAULT").to(device)
    model = model.to(memory_format=torch.channels_last)
    if recipe == "gradual" and not all(hasattr(model, part) for part in THAW_AT):
        raise ValueError(f"The recipe 'gradual' thaws {', '.join(THAW_AT)}, the parts of a ResNet; {name} has others.")
    if recipe in ("probe", "gradual"):
        freeze(model, "")
        unfreeze(model, model.head_name)
    batch_norms = [name for name, module in model.named_modules() if getattr(module, "running_mean", None) is not None]
    if batch_norm == "moving" and recipe in ("probe", "gradual"):
        unfreeze(model, batch_norms)
        for part in batch_norms:
            model.get_submodule(part).requires_grad_(False)
    batch_size = min(batch_size, len(images))
    loader = make_loader(
        images, labels, batch_size=batch_size, shuffle=True, drop_last=True, seed=seed, augment=augment
    )
    epochs = max(1, round(steps / len(loader)))

    def thaw(epoch: int) -> None:
        if recipe == "gradual":
            unfreeze(model, [part for part, share in THAW_AT.items() if epoch >= min(share * epochs, epochs - 1)])
        if batch_norm == "frozen":
            freeze(model, batch_norms)

    options = dict(rates=rates or RATES[recipe], epochs=epochs, device=device, before_epoch=thaw)
    return model, tune(model, loader, **options, **fit_options)
