"""A fine-tuning on real material: SqueezeNet with ImageNet's weights learns CIFAR-10 from 3,000 images, on a CPU.

The probe runs on cached features, the second stage on images: what `python -m course_utils train` does, in small. The
weights and images are not part of the course; they lie in the folder that COURSE_REAL names.
"""

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn as nn

from course_utils.device import seed_everything
from course_utils.full_size.features import cached_features, head_for_features, make_feature_loader
from course_utils.full_size.pipeline import make_full_size_loader
from course_utils.models import build_classifier, freeze, parameter_groups, unfreeze
from course_utils.training import accuracy, evaluate, fit

ROOT = Path(__file__).resolve().parents[1]
REAL = Path(os.environ.get("COURSE_REAL", ROOT.parent / "shared" / "real"))
IMAGES, WEIGHTS = REAL / "cifar10_subset.npz", REAL / "squeezenet1_1_imagenet_features.pth"
TRAINED_ON, SIZE = 3000, 96
OPTIONS = dict(loss_fn=nn.CrossEntropyLoss(), device="cpu", metrics={"accuracy": accuracy})


def load_part(part: str) -> tuple[torch.Tensor, torch.Tensor]:
    """uint8 images (N, 3, 32, 32) and labels (N,) of "train" or "test"."""
    with np.load(IMAGES) as file:
        return torch.from_numpy(file[f"x_{part}"]).permute(0, 3, 1, 2), torch.from_numpy(file[f"y_{part}"]).long()


def fine_tune(pretrained: bool, folder: Path, seed: int) -> dict[str, float]:
    """The accuracy on 1,017 test images of a probe, and after the last block was thawed too."""
    seed_everything(seed)
    model = build_classifier("squeezenet1_1", 10)
    if pretrained:
        model.load_state_dict(model.state_dict() | torch.load(WEIGHTS, weights_only=True))  # all but the head
    (images, labels), test = load_part("train"), load_part("test")
    chosen = torch.randperm(len(images))[:TRAINED_ON]
    images, labels = images[chosen], labels[chosen]
    images_options = dict(image_size=SIZE, device="cpu")
    test_loader = make_full_size_loader(
        *test, batch_size=128, spec=model.input_spec, train=False, seed=0, **images_options
    )

    features = cached_features(model, images, folder=folder, progress=False, **images_options)
    loader = make_feature_loader(features, labels, batch_size=64, train=True, seed=seed)
    head = head_for_features(model)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3)
    fit(head, loader, None, optimizer=optimizer, epochs=20, progress=False, **OPTIONS)
    found = {"probe": evaluate(model, test_loader, **OPTIONS)["accuracy"]}

    freeze(model, "")
    unfreeze(model, ["features.12", model.head_name])
    optimizer = torch.optim.AdamW(parameter_groups(model, {model.head_name: 5e-4}, default_lr=2e-4))
    loader = make_full_size_loader(
        images, labels, batch_size=32, spec=model.input_spec, train=True, seed=seed, **images_options
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 3 * len(loader))
    fit(model, loader, None, optimizer=optimizer, scheduler=schedule, epochs=3, progress=False, **OPTIONS)
    return found | {"last block": evaluate(model, test_loader, **OPTIONS)["accuracy"]}


@pytest.mark.slow
@pytest.mark.skipif(
    not (IMAGES.is_file() and WEIGHTS.is_file()),
    reason=f"needs {IMAGES.name} and {WEIGHTS.name}, in the folder that COURSE_REAL names",
)
def test_imagenet_s_weights_learn_cifar10_from_few_images_and_random_ones_do_not(tmp_path):
    tuned, random = (fine_tune(pretrained, tmp_path, seed=0) for pretrained in (True, False))
    error = math.sqrt(0.7 * 0.3 / 1017)  # of an accuracy near 0.7
    for stage in ("probe", "last block"):
        assert tuned[stage] >= 0.65, f"{stage}: {tuned[stage]:.1%} on 1,017 test images"
        assert tuned[stage] >= random[stage] + 0.20, f"{stage}: {tuned[stage]:.1%}, and {random[stage]:.1%} by chance"
    assert tuned["last block"] > tuned["probe"] - 2 * error, "thawing the last block does no harm"
