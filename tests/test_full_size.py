"""The full size of notebook 03 is run too: its own cells, a tiny CIFAR-10, a ResNet-50 without weights, two steps."""

from pathlib import Path

import nbformat
import torch
import torchvision
from tiny_cifar10 import NAMES, write_tiny_cifar10

NOTEBOOK = Path(__file__).parent.parent / "notebooks" / "03_cnn_fine_tuning.ipynb"


def experiment_cells():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    return [cell.source for cell in notebook.cells if "experiment" in cell.metadata.get("tags", [])]


def test_the_experiment_runs_at_full_size(tmp_path, monkeypatch, capsys):
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    write_tiny_cifar10(tmp_path / "data", monkeypatch, per_batch=2, test=5)
    asked, get_model = [], torchvision.models.get_model
    monkeypatch.setattr(
        torchvision.models,
        "get_model",
        lambda name, weights: asked.append((name, weights)) or get_model(name, weights=None),
    )
    cells = experiment_cells()
    assert [cell for cell in cells if cell.startswith('SIZE = "pocket"')] == cells[:1]
    namespace = {}
    for cell in [cells[0].replace('"pocket"', '"full"', 1), *cells[1:]]:
        exec(cell, namespace)
        if "settings = " in cell:
            assert namespace["settings"]["name"] == "resnet50"
            namespace["settings"].update(epochs=1, batch_size=4)  # 9 training images: two full batches

    assert asked == [("resnet50", "DEFAULT")]
    history, model = namespace["history"], namespace["model"]
    assert len(history.step_loss) == 2
    assert set(history.columns) >= {"train_loss", "val_loss", "val_accuracy"}
    assert namespace["outputs"].shape == (5, 10)
    assert namespace["data"].class_names == tuple(NAMES)
    inputs, _ = next(iter(namespace["train_loader"]))
    assert inputs.shape == (4, 3, 224, 224)
    assert abs(inputs.mean()) < 1.5 and inputs.dtype == torch.float32
    assert model.fc.out_features == 10
    assert "resnet50: test accuracy" in capsys.readouterr().out
    assert list((tmp_path / "notebooks" / "runs").rglob("*tfevents*"))
