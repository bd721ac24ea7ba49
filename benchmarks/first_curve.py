"""From starting Python to the picture of a first loss curve: CPU seconds and memory, in a process of its own."""

import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import TELL, Row, spread, told

ROOT = Path(__file__).resolve().parents[1]

# What notebook 00 does, in a script. Its CPU seconds count from the start of the process, imports included.
SCRIPT = """
import sys
import torch
import torch.nn as nn
from course_utils.data import few_labels, load_digits_rgb, make_loader, random_affine, split_by_group
from course_utils.device import seed_everything, use_cpu_threads
from course_utils.models import build_classifier
from course_utils.tracking import RunLogger, read_scalars
from course_utils.training import accuracy, fit
import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt

use_cpu_threads()
seed_everything(0)
data = load_digits_rgb()
split = split_by_group(data.groups, val=(7, 8), test=range(9, 14))
few = few_labels(data.labels, split.train, per_class=10, seed=0)
model = build_classifier("tiny_resnet", 10, weights="DEFAULT")
loader = make_loader(data.images[few], data.labels[few], batch_size=50, shuffle=True, augment=random_affine)
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
with RunLogger(sys.argv[1] + "/run") as logger:
    fit(model, loader, None, loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer, device="cpu", epochs=20,
        metrics={"accuracy": accuracy}, logger=logger, progress=False)
curve = read_scalars(sys.argv[1] + "/run")["loss/step"]
plt.plot(curve.steps, curve.values)
plt.savefig(sys.argv[1] + "/curve.png")
assert len(curve.steps) == 40 and curve.values[-1] < curve.values[0]
"""


def first_curve() -> tuple[float, float]:
    """(CPU seconds, peak memory in GB) of one process."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", SCRIPT + TELL, folder]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8", check=True)
    return told(done.stdout)


def rows(quick: bool) -> list[Row]:
    found = [first_curve() for _ in range(1 if quick else 5)]
    seconds, memory = ([pair[i] for pair in found] for i in (0, 1))
    how = f"40 steps of the pocket network, logged, read back and drawn; peak memory {spread(memory, 'GB', 2)}"
    met = sorted(seconds)[len(seconds) // 2] <= 10
    return [
        Row("CPU seconds from starting Python to the first loss curve", spread(seconds, "s"), "at most 10 s", met, how)
    ]
