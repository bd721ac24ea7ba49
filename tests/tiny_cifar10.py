"""A few images in CIFAR-10's own file format, for tests of what reads and trains on it."""

import pickle
from pathlib import Path

import numpy as np
from torchvision.datasets import CIFAR10

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def write_tiny_cifar10(root: Path, monkeypatch, *, per_batch: int = 20, test: int = 10) -> None:
    """Write cifar-10-batches-py under `root`, and let torchvision accept it without the real one's checksums."""
    folder = root / CIFAR10.base_folder
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    sizes = {f"data_batch_{i}": per_batch for i in range(1, 6)} | {"test_batch": test}
    for name, size in sizes.items():
        batch = {
            "data": random.integers(0, 256, (size, 3072), dtype=np.uint8),
            "labels": [i % 10 for i in range(size)],
            "batch_label": name,
            "filenames": [f"{i}.png" for i in range(size)],
        }
        (folder / name).write_bytes(pickle.dumps(batch))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": NAMES}))
    monkeypatch.setattr(CIFAR10, "train_list", [[f"data_batch_{i}", None] for i in range(1, 6)])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", None]])
    monkeypatch.setattr(CIFAR10, "meta", {"filename": "batches.meta", "key": "label_names", "md5": None})
