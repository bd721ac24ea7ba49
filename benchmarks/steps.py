"""Training steps: the article's own against the course's way on a CPU, and against a probe on cached features."""

import contextlib
import statistics
import tempfile
from collections.abc import Callable
from unittest import mock

import torch
import torch.nn as nn
import torchvision

from benchmarks.images import BATCH, article_loader, cifar_like, course_loader
from benchmarks.measure import Row, in_turn, times_faster
from course_utils.full_size.features import cached_features, head_for_features, make_feature_loader
from course_utils.full_size.pipeline import fast_precision, make_fast
from course_utils.models import build_classifier
from course_utils.training import fit

EPOCHS = 10  # the article's


def article_epoch(count: int, size: int, device: str = "cpu") -> Callable[[], None]:
    """The article's loop over `count` images; with ten outputs, since its two raise an error in the first batch."""
    model = torchvision.models.resnet50()
    model.fc = nn.Linear(model.fc.in_features, 10)
    model.to(device)
    criterion, optimizer = nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.01)
    loader = article_loader(count, size, shuffle=True)

    def run():
        for inputs, labels in loader:
            optimizer.zero_grad()
            loss = criterion(model(inputs.to(device)), labels.to(device))
            loss.backward()
            optimizer.step()
            loss.item()

    return run


def course_epoch(
    name: str, count: int, size: int, *, amp: bool = False, device: str = "cpu", batch: int = BATCH
) -> Callable[[], None]:
    """The course's loop over `count` images. amp: bfloat16, where this network gains by it on the device."""
    model = build_classifier(name, 10).to(device, memory_format=torch.channels_last)
    if amp:
        make_fast(model, device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    loader = course_loader(count, size, train=True, device=device, batch=batch)
    options = dict(loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer, device=device, epochs=1, progress=False)
    return lambda: fit(model, loader, None, **options)


def probe(name: str, count: int, size: int, *, amp: bool) -> Callable[[], None]:
    """Ten epochs of a new head on features that are computed first, into a folder that is empty every time."""
    model, (images, labels) = build_classifier(name, 10), cifar_like(count)

    def run():
        plain = mock.patch("course_utils.full_size.features.fast_precision", lambda *_: contextlib.nullcontext())
        with tempfile.TemporaryDirectory() as folder, contextlib.nullcontext() if amp else plain:
            features = cached_features(model, images, image_size=size, device="cpu", folder=folder, progress=False)
        head = head_for_features(model)
        loader = make_feature_loader(features, labels, batch_size=BATCH, train=True, seed=0)
        optimizer = torch.optim.SGD(head.parameters(), lr=0.01)
        fit(
            head,
            loader,
            None,
            loss_fn=nn.CrossEntropyLoss(),
            optimizer=optimizer,
            device="cpu",
            epochs=EPOCHS,
            progress=False,
        )

    return run


def rows(quick: bool) -> list[Row]:
    counts = dict(article=2, small=4, probe=4) if quick else dict(article=BATCH, small=10 * BATCH, probe=4 * BATCH)
    large = 32 if quick else 224
    variants = {
        "article": article_epoch(counts["article"], large),
        "small": course_epoch("resnet18", counts["small"], 64),
        "small, bfloat16": course_epoch("resnet18", counts["small"], 64, amp=True),
        "probe": probe("resnet50", counts["probe"], large, amp=False),
        "probe, bfloat16": probe("resnet50", counts["probe"], large, amp=True),
    }
    seconds = in_turn(variants, 1 if quick else 3)
    an_image = {
        name: [value / counts[name.split(",")[0]] for value in values] for name, values in seconds.items()
    }  # the probe's: for all of its ten epochs
    ten_epochs = [EPOCHS * value for value in an_image["article"]]

    def speed(name: str) -> str:
        return f"{1 / statistics.median(an_image[name]):.3g} images a CPU second"

    there = f"the article's script: ResNet-50 at 224, a batch of {BATCH}, {speed('article')}"
    rows = [
        times_faster(
            "training, images a CPU second: ResNet-18 at 64 pixels, channels_last",
            an_image["article"],
            an_image["small"],
            25,
            f"float32, {speed('small')}; {there}",
        ),
        times_faster(
            "linear probe of ResNet-50 at 224 pixels, ten epochs with the extraction",
            ten_epochs,
            an_image["probe"],
            30,
            f"float32, {speed('probe')}; the article's ten epochs are ten times one",
        ),
    ]
    if not isinstance(fast_precision(torchvision.models.resnet18(), "cpu"), torch.autocast):
        return [*rows, Row("bfloat16 on the CPU", "not taken: this processor does not compute in it", "never slower")]
    both = "bfloat16 against float32: "
    return [
        *rows,
        times_faster(
            "the same training, bfloat16",
            an_image["article"],
            an_image["small, bfloat16"],
            25,
            speed("small, bfloat16"),
        ),
        times_faster("the same probe, bfloat16", ten_epochs, an_image["probe, bfloat16"], 30, speed("probe, bfloat16")),
        times_faster(f"{both}training ResNet-18 at 64 pixels", seconds["small"], seconds["small, bfloat16"], 1),
        times_faster(f"{both}the probe", seconds["probe"], seconds["probe, bfloat16"], 1),
    ]
