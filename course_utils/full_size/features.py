"""What a frozen backbone makes of the images, computed once and kept in files: the way to a linear probe on a laptop.

With everything but the head frozen, an image gives the same features in every epoch. So the expensive part of the
network runs once over the images, and only the head is trained:

    features = cached_features(model, images, image_size=224, device=device, folder="features")
    loader = make_feature_loader(features[train], labels[train], batch_size=64, train=True, seed=0)
    head = head_for_features(model)
    fit(head, loader, None, loss_fn=nn.CrossEntropyLoss(), optimizer=torch.optim.AdamW(head.parameters()), ...)

Afterwards the model has a trained head. What this way gives up is augmentation, and dropout before the head.
"""

import contextlib
import hashlib
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn as nn
import torchvision
from filelock import FileLock
from torch.utils.data import DataLoader
from tqdm import tqdm

from course_utils.data import make_loader
from course_utils.files import write_atomically
from course_utils.full_size.pipeline import check_uint8, fast_precision, make_full_size_loader
from course_utils.training import predict

BLOCK = 256  # images a file: what an interruption can cost


def cached_features(
    model: nn.Module,
    images: torch.Tensor,
    *,
    image_size: int,
    device: torch.device | str,
    folder: Path | str,
    batch_size: int = 64,
    progress: bool = True,
) -> torch.Tensor:
    """The inputs of the model's head for uint8 images (N, 3, H, W): float16 (N, D), on the CPU.

    They are taken in evaluation mode, without augmentation, with the model's `input_spec` at `image_size` pixels. A
    head that is a convolution (SqueezeNet's) gets them averaged over the image, as it would do itself afterwards.
    The model moves to the device, in channels_last.
    folder: holds a file for every 256 images, named by a hash of all that the features depend on: the layers and
        weights below the head, the images, size and normalisation, precision, kind of device, the versions of PyTorch
        and torchvision. Where one of these changes, so does the name. A damaged file is made anew, an interrupted call
        goes on where it was, and the folder may be deleted at any time.

    Raises ValueError for images that are not uint8 (N, 3, H, W), for a model that `build_classifier` did not build, and
    for features that float16 cannot hold.
    """
    if not hasattr(model, "head_name") or not hasattr(model, "input_spec"):
        raise ValueError("The model has no head_name or no input_spec: build it with models.build_classifier.")
    check_uint8(images, model.input_spec)
    device = torch.device(device)
    model.to(device, memory_format=torch.channels_last)
    features = []
    with _without_head(model), tqdm(total=len(images), unit="image", disable=not progress) as bar:
        precision = fast_precision(model, device)
        basis = _basis(model, image_size, device, getattr(precision, "fast_dtype", torch.float32))
        for block in images.split(BLOCK):
            key = _hash(basis, block)
            path = Path(folder) / f"{key[:32]}.pt"
            part = _read(path, key)
            if part is None:
                labels = torch.zeros(len(block), dtype=torch.int64)
                options = dict(batch_size=batch_size, image_size=image_size, spec=model.input_spec)
                loader = make_full_size_loader(block, labels, **options, device=device, train=False, seed=0)
                with precision:
                    part = predict(model, loader, device=device)[0].half()
                if not part.isfinite().all():
                    raise ValueError("The features hold NaN, or numbers above 65,504, which float16 cannot hold.")
                _write(path, key, part)
            features.append(part)
            bar.update(len(block))
    return torch.cat(features)


def make_feature_loader(
    features: torch.Tensor, labels: torch.Tensor, *, batch_size: int, train: bool, seed: int, drop_last: bool = False
) -> DataLoader:
    """Batches (features, labels) for the head: float32 (B, D) and int64 (B,); shuffled by `seed` where `train`.

    Raises ValueError for what `data.make_loader` refuses.
    """
    if not isinstance(features, torch.Tensor) or features.ndim != 2:
        raise ValueError("Features must be a tensor of the shape (N, D), as cached_features returns them.")
    return make_loader(
        features[:, None, None],  # make_loader deals out images: these are one row of D pixels each
        labels,
        batch_size=batch_size,
        shuffle=train,
        drop_last=drop_last,
        seed=seed,
        prepare=lambda batch: batch.flatten(1).float(),
    )


def head_for_features(model: nn.Module) -> nn.Module:
    """The model's head as a network of its own, (B, D) -> logits (B, K); it shares its parameters with the model."""
    head = model.get_submodule(model.head_name)
    if isinstance(head, nn.Conv2d):
        return nn.Sequential(nn.Unflatten(1, (head.in_channels, 1, 1)), head, nn.Flatten())
    return head


@contextlib.contextmanager
def _without_head(model: nn.Module) -> Iterator[None]:
    """The model gives the inputs of its head in place of the logits."""
    parent, _, child = model.head_name.rpartition(".")
    owner, head = model.get_submodule(parent), model.get_submodule(model.head_name)
    setattr(owner, child, nn.Identity())
    try:
        yield
    finally:
        setattr(owner, child, head)


def _basis(model: nn.Module, image_size: int, device: torch.device, dtype: torch.dtype) -> str:
    """A hash of what the features of any image depend on."""
    layers = [f"{name} {type(layer).__name__} {layer.extra_repr()}" for name, layer in model.named_modules()]
    versions = [f"torch {torch.__version__}", f"torchvision {torchvision.__version__}"]
    settings = [repr(replace(model.input_spec, size=image_size)), device.type, str(dtype), *versions]
    weights = [part for name, weight in model.state_dict().items() for part in (name, weight)]
    return _hash(*layers, *settings, *weights)


def _hash(*parts: str | torch.Tensor) -> str:
    """SHA-256 of texts and tensors, with the tensors' types and shapes, whatever their layout in memory."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, torch.Tensor):
            digest.update(f"{part.dtype} {tuple(part.shape)}\0".encode())
            digest.update(part.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        else:
            digest.update(f"{part}\0".encode())
    return digest.hexdigest()


def _read(path: Path, key: str) -> torch.Tensor | None:
    """The features in a file; None where there is none, it is damaged, or it holds others."""
    try:
        stored = torch.load(path, weights_only=True)
        intact = stored["key"] == key and stored["sha256"] == _hash(stored["features"])
    except Exception:  # whatever is wrong with it, the features are computed anew
        return None
    return stored["features"] if intact else None


def _write(path: Path, key: str, features: torch.Tensor) -> None:
    buffer = io.BytesIO()
    torch.save({"key": key, "sha256": _hash(features), "features": features}, buffer)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.parent / ".lock"):  # two runs on the same images compute the same files
        if _read(path, key) is None:
            write_atomically(path, buffer.getvalue())
