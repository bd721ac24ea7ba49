"""What a GPU is for: ResNet-50 at 224 pixels, by the clock on the wall."""

import time
from collections.abc import Callable

import torch

from benchmarks.measure import Row, spread
from benchmarks.steps import article_epoch, course_epoch

GOAL_IMAGES, GOAL_RATIO = 4500, 10


def images_a_second(run: Callable[[], None], count: int, device: str, rounds: int) -> list[float]:
    """Images through `run` a second, once for each round, after one that is not measured."""
    found = []
    for _ in range(1 + rounds):
        started = time.perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        found.append(count / (time.perf_counter() - started))
    return found[1:]


def measured(device: str, *, name: str, size: int, count: int, batch: int, rounds: int) -> list[Row]:
    """The two rows, on any device, so that the same lines run where there is no GPU."""
    course = course_epoch(name, count, size, amp=True, device=device, batch=batch)
    ours = images_a_second(course, count, device, rounds)
    theirs = images_a_second(article_epoch(count, size, device), count, device, rounds)
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    middle = sorted(ours)[len(ours) // 2]
    how = f"{name} at {size} pixels, batches of {batch}, on {device}; {rounds} rounds"
    return [
        Row("images a second on a GPU", spread(ours, "", 0), f"at least {GOAL_IMAGES}", middle >= GOAL_IMAGES, how),
        Row(
            "against the article's script moved to the GPU",
            spread(ratios, "×"),
            f"at least {GOAL_RATIO} ×",
            sorted(ratios)[len(ratios) // 2] >= GOAL_RATIO,
            how,
        ),
    ]


def rows(quick: bool) -> list[Row]:
    if quick:
        return measured("cpu", name="resnet18", size=32, count=4, batch=4, rounds=1)
    if not torch.cuda.is_available():
        return [
            Row("images a second on a GPU", "not measured: no GPU", f"at least {GOAL_IMAGES}"),
            Row("against the article's script moved to the GPU", "not measured: no GPU", f"at least {GOAL_RATIO} ×"),
        ]
    return measured("cuda", name="resnet50", size=224, count=5120, batch=256, rounds=3)
