"""A trained network in one file, with all that it takes to use it: class names, input, the name of its architecture."""

import csv
import io
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
import torch.nn as nn

from course_utils.files import write_atomically
from course_utils.full_size.folder import read_picture
from course_utils.full_size.pipeline import to_inputs
from course_utils.models import build_classifier
from course_utils.pocket import InputSpec
from course_utils.training import predict

BATCH = 64


def save_model(path: Path, model: nn.Module, name: str, class_names: Sequence[str]) -> None:
    """Write a network of `models.build_classifier(name, ...)`, in float32 and for any device."""
    content = {
        "model": name,
        "class_names": list(class_names),
        "input_spec": asdict(model.input_spec),
        "state_dict": {key: tensor.cpu().contiguous() for key, tensor in model.state_dict().items()},
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomically(path, buffer.getvalue())


def load_model(path: Path) -> tuple[nn.Module, tuple[str, ...]]:
    """(network in evaluation mode, class names) of a file that `save_model` wrote; no code in the file is run.

    Raises FileNotFoundError where there is none, ValueError where it is damaged or something else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no model at {path}.")
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        model = build_classifier(saved["model"], len(saved["class_names"]))
        model.load_state_dict(saved["state_dict"])
        model.input_spec = InputSpec(**saved["input_spec"])
        class_names = tuple(saved["class_names"])
    except Exception as error:  # whatever is wrong with a file, the remedy is the same
        raise ValueError(
            f"{path} holds no model that `train` has written, or a damaged one ({type(error).__name__}). Train again, "
            "or name the run's directory."
        ) from error
    return model.eval(), class_names


def classify(
    model: nn.Module, paths: Sequence[Path], device: torch.device
) -> tuple[torch.Tensor, list[Path], list[tuple[Path, str]]]:
    """Probabilities (N, K), the N pictures that they belong to, and (picture, why) of those that cannot be read.

    The pictures are read as those of the training were, a batch at a time.
    """
    read, unreadable = [], []

    def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for start in range(0, len(paths), BATCH):
            images = []
            for path in paths[start : start + BATCH]:
                try:
                    images.append(read_picture(path, model.input_spec))
                    read.append(path)
                except ValueError as error:
                    unreadable.append((path, str(error)))
            if images:
                inputs = to_inputs(torch.stack(images).to(device), model.input_spec)
                yield inputs, torch.zeros(len(images), dtype=torch.int64)  # nobody knows the classes yet

    stream = batches()
    first = next(stream, None)
    if first is None:
        return torch.empty(0, model.get_submodule(model.head_name).weight.shape[0]), read, unreadable
    outputs, _ = predict(model, itertools.chain([first], stream), device=device, amp=True)
    return outputs.softmax(dim=1), read, unreadable


def write_table(path: Path, rows: Sequence[dict], columns: Sequence[str] = ()) -> None:
    """A CSV file, whole or not at all; `columns` name them where there may be no row."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(columns or rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    # On Linux a file's name may be no valid text, that of a file from a Chinese Windows' zip, say: it shows its codes
    write_atomically(path, text.getvalue().encode("utf-8", errors="backslashreplace"))
