"""What logging every step costs beside a training step of ResNet-18 at 64 pixels: python -m benchmarks.logging_cost"""

import itertools
import tempfile
from pathlib import Path

import torch
import torch.nn as nn
from torchvision.models import resnet18

from benchmarks.measure import Row, in_turn, spread, table
from course_utils.device import use_cpu_threads
from course_utils.tracking import RunLogger

BATCH, PIXELS = 32, 64
GOAL = 0.5  # per cent


def measure(rounds: int = 7, steps: int = 3, calls: int = 1000) -> dict[str, list[float]]:
    """{"step": CPU seconds of a training step, "logging": of logging one, "percent": their ratio}, of each round.

    Two training steps differ by more than the logging between them. So what a call of log_scalars costs is what it
    adds to a loop of small products of matrices; these matter, for the thread that writes competes with a loop that
    computes. Opening and closing the logger are counted, too.
    """
    model = resnet18(num_classes=10).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    images, labels = torch.randn(BATCH, 3, PIXELS, PIXELS), torch.randint(10, (BATCH,))
    matrix, numbers = torch.randn(200, 200), itertools.count()

    def train() -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()

    def compute(logger: RunLogger | None = None) -> None:
        for step in range(calls):
            for _ in range(4):
                matrix @ matrix
            if logger is not None:
                logger.log_scalars({"loss/step": 0.5, "learning_rate": 0.1}, step)

    with tempfile.TemporaryDirectory() as folder:

        def log() -> None:
            with RunLogger(Path(folder) / str(next(numbers))) as logger:
                compute(logger)

        seconds = in_turn({"train": train, "compute": compute, "log": log}, rounds)
    step = [value / steps for value in seconds["train"]]
    logging = [(log - alone) / calls for log, alone in zip(seconds["log"], seconds["compute"], strict=True)]
    return {"step": step, "logging": logging, "percent": [100 * b / a for a, b in zip(step, logging, strict=True)]}


def rows(quick: bool = False) -> list[Row]:
    """The line of the table of benchmarks."""
    found = measure(rounds=1, steps=1, calls=20) if quick else measure()
    part = f"{spread([1e6 * value for value in found['logging']], 'µs', 0)} of {spread(found['step'], 's', 2)}"
    return [
        Row(
            f"logging two scalars, against a step of ResNet-18, {BATCH} images of {PIXELS} pixels",
            spread(found["percent"], "%", 3),
            f"at most {GOAL:g} %",
            max(found["percent"]) <= GOAL,
            f"{part}, CPU time; {len(found['percent'])} rounds",
        )
    ]


if __name__ == "__main__":
    use_cpu_threads()
    print(table(rows()))
