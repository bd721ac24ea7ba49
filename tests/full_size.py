"""Run the cells of a notebook that are tagged "experiment" at full size, on what a test machine has.

A tiny CIFAR-10 in the data set's own format takes the place of the real one, a network without weights that of the
pretrained one. The first tagged cell chooses the size; a test makes the settings smaller before they are used.
"""

from collections.abc import Callable
from pathlib import Path

import nbformat
import torchvision
from tiny_cifar10 import write_tiny_cifar10

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"


def experiment_cells(name: str) -> list[str]:
    """The sources of the tagged cells of notebooks/NAME; the first is the line that chooses the size."""
    notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
    cells = [cell.source for cell in notebook.cells if "experiment" in cell.metadata.get("tags", [])]
    assert [cell for cell in cells if cell.startswith('SIZE = "pocket"')] == cells[:1]
    return cells


def run_at_full_size(name: str, tmp_path: Path, monkeypatch, shrink: Callable[[dict], None]) -> tuple[dict, list]:
    """The names that the cells leave, and the (network, weights) that they asked torchvision for.

    shrink: is handed the names after the cell that holds `if SIZE == "pocket"`, the settings, and may change them.
    """
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    write_tiny_cifar10(tmp_path / "data", monkeypatch, per_batch=2, test=5)  # 9 images to train on, 1 to validate
    asked, get_model = [], torchvision.models.get_model
    monkeypatch.setattr(
        torchvision.models,
        "get_model",
        lambda name, weights: asked.append((name, weights)) or get_model(name, weights=None),
    )
    size, *rest = experiment_cells(name)
    namespace = {}
    for cell in [size.replace('"pocket"', '"full"', 1), *rest]:
        exec(cell, namespace)
        if 'if SIZE == "pocket"' in cell:
            shrink(namespace)
    return namespace, asked
