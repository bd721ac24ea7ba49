"""The corrected script of notebook 03b at its full size, and the faults that it speaks of but does not run itself."""

import subprocess
import sys

import torch
from full_size import experiment_cells, run_at_full_size
from tiny_cifar10 import NAMES

NOTEBOOK = "03b_article_script.ipynb"
ARTICLE_LINES = 39  # of the script in section 5.2, its blank lines and comments included

WRITER = """
import os, sys
from tensorboardX import SummaryWriter
writer = SummaryWriter(log_dir=sys.argv[1])
for step in range(40):
    writer.add_scalar("loss", 1.0, step)
if sys.argv[2] == "killed":
    os._exit(1)
"""


def shrink(script):
    assert (script["name"], script["epochs"]) == ("resnet50", 10)
    script.update(epochs=1, batch_size=4)  # 9 training images: two full batches


def test_the_corrected_script_runs_at_full_size(tmp_path, monkeypatch, capsys):
    script, asked = run_at_full_size(NOTEBOOK, tmp_path, monkeypatch, shrink)
    assert asked == [("resnet50", "DEFAULT")]
    assert script["data"].class_names == tuple(NAMES) and script["model"].fc.out_features == 10
    assert len(script["history"].step_loss) == 2
    assert {"train_loss", "val_loss", "val_accuracy"} <= set(script["history"].columns)
    inputs, _ = next(iter(script["train_loader"]))
    assert inputs.shape == (4, 3, 224, 224) and inputs.dtype == torch.float32
    assert len(script["test_loader"].dataset) == 5
    assert "resnet50, 5 test images: accuracy" in capsys.readouterr().out
    assert list(script["run_dir"].glob("*tfevents*")) and list(script["run_dir"].glob("*.pt"))


def test_the_corrected_script_is_about_as_long_as_the_article_s():
    lines = "\n\n".join(experiment_cells(NOTEBOOK)[1:]).splitlines()
    assert len(lines) < 1.5 * ARTICLE_LINES


def test_an_open_writer_loses_its_values_only_where_the_process_is_killed(tmp_path):
    """Section 11 says so: closed at a normal end, lost in a kill."""
    bytes_left = {}
    for way in ("ends", "killed"):
        subprocess.run([sys.executable, "-c", WRITER, str(tmp_path / way), way], timeout=120)
        (event_file,) = (tmp_path / way).iterdir()
        bytes_left[way] = event_file.stat().st_size
    assert bytes_left["killed"] == 0 and bytes_left["ends"] > 1000
