"""Attacks on a classifier, in the largest change of a pixel (L-infinity), and a loader that an attack has changed.

Images are pixels between 0 and 1, and `epsilon` is in the same units: 8 / 255 is eight steps of an 8-bit image. So the
model that is attacked takes pixels; `OnPixels` makes one out of a model that takes normalised inputs.
"""

import functools
from collections.abc import Callable, Iterable, Iterator

import torch
import torch.nn as nn
import torch.nn.functional as F

from course_utils.beyond.efficient import epochs_for
from course_utils.data import make_loader, random_affine
from course_utils.device import seed_everything
from course_utils.models import build_classifier
from course_utils.recipes import RATES, tune
from course_utils.training import accuracy, evaluate, evaluation_mode


class OnPixels(nn.Module):
    """A model that takes pixels (B, 3, H, W) between 0 and 1, and normalises them by its own `input_spec` first."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model, self.head_name = model, f"model.{model.head_name}"

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model(self.model.input_spec(images))


def fgsm(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, *, epsilon: float) -> torch.Tensor:
    """One step of `epsilon` in each pixel, in the direction that raises the loss; (B, C, H, W), between 0 and 1.

    Raises ValueError for images outside of 0 to 1, or an epsilon outside of them.
    Source: Goodfellow et al. 2014, arXiv:1412.6572.
    """
    _check(images, epsilon)
    return (images + epsilon * input_gradient(model, images, labels).sign()).clamp(0, 1)


def pgd(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    epsilon: float,
    steps: int,
    step_size: float | None = None,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Several smaller steps, each brought back to within `epsilon` of the image and to 0 to 1; (B, C, H, W).

    step_size: default 2.5 * epsilon / steps, so that the border can be reached from anywhere, and crossed over to.
    generator: of a random start within epsilon; None starts at the image itself. Same errors as `fgsm`.
    Source: Madry et al. 2017, arXiv:1706.06083.
    """
    _check(images, epsilon)
    if steps < 1:
        raise ValueError(f"An attack takes 1 step or more, not {steps}.")
    step_size = 2.5 * epsilon / steps if step_size is None else step_size
    low, high = (images - epsilon).clamp(0, 1), (images + epsilon).clamp(0, 1)
    attacked = images
    if generator is not None:
        noise = torch.empty(images.shape).uniform_(-epsilon, epsilon, generator=generator)
        attacked = (images + noise.to(images.device)).clamp(low, high)
    for _ in range(steps):
        attacked = attacked + step_size * input_gradient(model, attacked, labels).sign()
        attacked = attacked.clamp(low, high)  # the projection: within epsilon, and a picture still
    return attacked


def input_gradient(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The gradient of the summed cross-entropy for the images, in evaluation mode; the model is left as it was.

    No gradient of a parameter is computed or changed, and BatchNorm's statistics stand still.
    """
    images = images.detach().requires_grad_(True)
    with torch.enable_grad(), evaluation_mode(model):
        loss = F.cross_entropy(model(images), labels, reduction="sum")
        return torch.autograd.grad(loss, images)[0]


def _check(images: torch.Tensor, epsilon: float) -> None:
    if not 0 <= epsilon <= 1:
        raise ValueError(f"epsilon is a change of pixels between 0 and 1, 8 / 255 for instance, not {epsilon}.")
    if not (images.min() >= 0 and images.max() <= 1):  # written so that NaN fails too
        raise ValueError(
            f"An attack takes pixels between 0 and 1, these reach from {images.min():.3g} to {images.max():.3g}. "
            "Are they normalised? Undo it, and let the model normalise: OnPixels(model)."
        )


class Attacked:
    """A loader of (images, labels) whose images an attack changes, anew in each pass.

    attack: (model, images, labels) -> images. For training give it the model that trains: the attack then follows it.
    """

    def __init__(self, loader: Iterable, model: nn.Module, attack: Callable):
        self.loader, self.model, self.attack = loader, model, attack

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for images, labels in self.loader:
            yield self.attack(self.model, images, labels), labels


# The start of an adversarial training, and its learning rates of (head, rest): those of the same start without attack.
STARTS = {"scratch": RATES["scratch"], "pretrained": RATES["full"]}


def train_against_attacks(
    start: str,
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    epsilon: float,
    num_classes: int,
    seed: int,
    device: torch.device | str,
    attack_steps: int = 3,
    steps: int = 120,
) -> OnPixels:
    """The pocket network, trained on nothing but attacked images: PGD from a random start, anew in every batch.

    start: "scratch" or "pretrained". images: pixels (N, 3, 32, 32) between 0 and 1. epsilon: 0 trains on clean images.
    Raises ValueError for another start. Source: Madry et al. 2017, arXiv:1706.06083.
    """
    if start not in STARTS:
        raise ValueError(f"Unknown start {start!r}. There are: {', '.join(STARTS)}.")
    seed_everything(seed)
    weights = "DEFAULT" if start == "pretrained" else None
    model = OnPixels(build_classifier("tiny_resnet", num_classes, weights=weights))
    model = model.to(device, memory_format=torch.channels_last)
    options = dict(batch_size=min(64, len(images)), shuffle=True, drop_last=True, seed=seed, augment=random_affine)
    loader = make_loader(images.to(device), labels.to(device), **options)
    if epsilon:
        generator = torch.Generator().manual_seed(seed)
        attack = functools.partial(pgd, epsilon=epsilon, steps=attack_steps, generator=generator)
        loader = Attacked(loader, model, attack)
    tune(model, loader, rates=STARTS[start], epochs=epochs_for(steps, loader), device=device)
    return model


def robust_accuracy(
    model: nn.Module, images: torch.Tensor, labels: torch.Tensor, attack: Callable, *, batch_size: int = 256
) -> float:
    """The share of images (pixels) that the model still gets right after `attack(model, images, labels)`."""
    attacked = Attacked(make_loader(images, labels, batch_size=batch_size), model, attack)
    options = dict(loss_fn=nn.CrossEntropyLoss(), device=images.device, metrics={"accuracy": accuracy})
    return evaluate(model, attacked, **options)["accuracy"]
