"""The full size of notebook 03 is run too: its own cells, a tiny CIFAR-10, a ResNet-50 without weights, two steps."""

import torch
from full_size import run_at_full_size
from tiny_cifar10 import NAMES


def shrink(names):
    assert names["settings"]["name"] == "resnet50"
    names["settings"].update(epochs=1, batch_size=4)  # 9 training images: two full batches


def test_the_experiment_runs_at_full_size(tmp_path, monkeypatch, capsys):
    namespace, asked = run_at_full_size("03_cnn_fine_tuning.ipynb", tmp_path, monkeypatch, shrink)
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
