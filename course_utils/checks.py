"""Early errors: what can be seen to be wrong before a training starts, or at its first batch, said with the remedy."""

import functools
import re
import reprlib
from collections.abc import Iterable, Mapping

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from course_utils.device import check_device

CLASS_MODULES, CLASS_FUNCTIONS = (nn.CrossEntropyLoss, nn.NLLLoss), (F.cross_entropy, F.nll_loss)
ELEMENTWISE_LOSSES = (nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss, nn.BCELoss, nn.BCEWithLogitsLoss)


def check_examples(images: torch.Tensor, labels: torch.Tensor) -> None:
    """Raise ValueError where images (N, C, H, W) and their labels (N,) are not what a loader can deal out."""
    for name, part in (("Images", images), ("Labels", labels)):
        if not isinstance(part, torch.Tensor):
            raise ValueError(f"{name} must be a tensor, not {type(part).__name__}. {remedy(part)}")
    if len(images) != len(labels):
        raise ValueError(f"{len(images)} images and {len(labels)} labels: there must be one label an image.")
    if not len(images):
        raise ValueError("There are no examples: the split or the selection is empty.")
    if labels.dtype != torch.int64 or labels.ndim != 1:
        raise ValueError(
            f"Labels must be int64 of shape (N,), not {labels.dtype} of shape {tuple(labels.shape)}. "
            "For other targets use DataLoader(TensorDataset(inputs, targets), batch_size=...)."
        )
    if labels.min() < 0:
        raise ValueError(f"Labels must count from 0; the smallest here is {labels.min()}.")
    if images.ndim != 4 or (images.shape[3] in (1, 3) and images.shape[1] not in (1, 3)):
        raise ValueError(
            f"Images must have the shape (N, channels, height, width), not {tuple(images.shape)}; "
            "where the channels come last, images.permute(0, 3, 1, 2) puts them right."
        )
    if images.is_floating_point() and not images.isfinite().all():
        raise ValueError(f"Image {int((~images.isfinite().flatten(1).all(1)).nonzero()[0])} holds NaN or infinity.")
    check_pixels(images)


def remedy(part) -> str:
    """How words, arrays and lists become a tensor."""
    while isinstance(part, list | tuple) and len(part):
        part = part[0]
    if isinstance(part, str | bytes) or getattr(getattr(part, "dtype", None), "kind", None) in ("U", "S", "O", "T"):
        return (
            "A network computes with numbers. For labels that are words, number the classes: names = "
            "sorted(set(words)), then torch.tensor([names.index(word) for word in words]). Texts take a tokenizer."
        )
    return "torch.as_tensor(..., dtype=torch.float32) makes one of inputs, dtype=torch.int64 of class labels."


def check_numbers(part) -> None:
    """Raise ValueError for a part of a batch that is neither a tensor nor a tuple or list of parts."""
    if not isinstance(part, list | tuple):
        what = reprlib.repr(part) if isinstance(part, str) else f"a value of the type {type(part).__name__}"
        raise ValueError(f"A batch holds {what}, which is no tensor. {remedy(part)}")


def option(loss_fn, name: str, default=None):
    """An option of a loss: of a module, of a functools.partial, or an attribute that its author gave a function."""
    given = loss_fn.keywords if isinstance(loss_fn, functools.partial) else {}
    return given.get(name, getattr(loss_fn, name, default))


def is_class_loss(loss_fn) -> bool:
    """Is it cross-entropy, as a module, as PyTorch's function or as a functools.partial of that?"""
    function = loss_fn.func if isinstance(loss_fn, functools.partial) else loss_fn
    return isinstance(function, CLASS_MODULES) or function in CLASS_FUNCTIONS


def check_reduction(loss_fn) -> None:
    """Raise ValueError for a loss that is not the mean over the batch, where that can be seen."""
    reduction = option(loss_fn, "reduction", "mean")
    if reduction not in ("mean", "batchmean"):
        divergence = isinstance(loss_fn, nn.KLDivLoss) or getattr(loss_fn, "func", loss_fn) is F.kl_div
        raise ValueError(
            f'The loss must be the mean over the batch: reduction="{"batchmean" if divergence else "mean"}", '
            f"not {reduction!r}."
        )


def check_pixels(inputs: torch.Tensor) -> None:
    """Raise ValueError where floats are plainly pixels from 0 to 255, which no pretrained network expects."""
    is_image = inputs.is_floating_point() and inputs.ndim == 4 and inputs.shape[1] == 3
    if is_image and inputs.min() >= 0 and 30 < inputs.max() <= 255:
        raise ValueError(
            f"Float images reach {inputs.max():.0f}; normalised ones stay within a few units. Divide by 255 and "
            "normalise them, or keep them as uint8 and pass prepare=model.input_spec to make_loader."
        )


def check_setup(
    model, train_loader, val_loader, loss_fn, optimizer, scheduler, metrics, device, epochs, logger, before_epoch
) -> None:
    """Raise ValueError or TypeError where `fit` was asked for something that cannot work."""
    if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1:
        raise ValueError(f"epochs must be a whole number from 1, not {epochs!r}.")
    check_device(device)
    for name, loader in (("training", train_loader), ("validation", val_loader)):
        if loader is not None and length(loader) == 0:
            raise ValueError(f"The {name} loader is empty: no examples, or fewer than one batch with drop_last=True.")
    check_reduction(loss_fn)
    if "loss" in (metrics or {}):
        raise ValueError("A metric cannot be called 'loss': the average of the loss has that name.")
    if logger is not None and (wrong := [name for name in metrics or {} if not re.fullmatch(r"[-\w.]+", name)]):
        raise ValueError(f"A logger takes no metric called {wrong[0]!r}: use letters, digits and - _ . alone.")
    if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
        raise TypeError(
            "ReduceLROnPlateau waits for an epoch's result; fit steps its scheduler after every batch. Use a schedule "
            "over the steps, for instance recipes.one_cycle(optimizer, total_steps=epochs * len(loader))."
        )
    ours = {id(parameter) for parameter in model.parameters()}
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    if isinstance(loss_fn, nn.Module):
        held -= {id(parameter) for parameter in loss_fn.parameters()}
    if held - ours or not held:
        raise ValueError(
            "The optimiser holds none of the model's parameters, or some that are not the model's. Build it after the "
            "model has its last form: after the new head, and after a copy."
        )
    if before_epoch is None and not any(p.requires_grad for group in optimizer.param_groups for p in group["params"]):
        raise ValueError("Every parameter that the optimiser holds is frozen: unfreeze the head at least.")
    if scheduler is not None and getattr(scheduler, "optimizer", optimizer) is not optimizer:
        raise ValueError("The scheduler belongs to another optimiser: build it from the one that fit gets.")


def length(loader) -> int | None:
    """How many batches a loader has; None where it cannot say, as one over a stream of data."""
    try:
        return len(loader)
    except TypeError:
        return None


def check_first_batch(inputs, outputs, targets, loss_fn, loader) -> None:
    """Raise ValueError where the inputs, the outputs and the targets of a first batch do not go together."""
    for name, tensor in _tensors(inputs):
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ValueError(f"The inputs{name} hold NaN or infinity, in the first batch already.")
        check_pixels(tensor)
    if not isinstance(outputs, torch.Tensor) or not isinstance(targets, torch.Tensor):
        return  # a loss of the caller's own, which alone knows what it needs
    if is_class_loss(loss_fn):
        if targets.shape != outputs.shape or not targets.is_floating_point():
            _check_class_labels(outputs, targets, option(loss_fn, "ignore_index", -100), loader)
    elif targets.shape != outputs.shape and (
        isinstance(loss_fn, ELEMENTWISE_LOSSES)
        or (loss_fn is not None and (*targets.shape, 1) == outputs.shape)
        or (loss_fn is not None and (*outputs.shape, 1) == targets.shape)
    ):  # other shapes may be what a loss of the caller's own wants: a mean and a variance for one target, say
        raise ValueError(
            f"The outputs have the shape {tuple(outputs.shape)}, the targets {tuple(targets.shape)}: the loss would "
            "broadcast one against the other. Make them equal, for instance with outputs.squeeze(1)."
        )


def _check_class_labels(outputs, targets, ignore_index, loader) -> None:
    classes, wanted = outputs.shape[1], outputs.shape[:1] + outputs.shape[2:]
    if targets.dtype != torch.int64:
        raise ValueError(f"Class labels must be int64, not {targets.dtype}: convert them with labels.long().")
    if targets.shape != wanted:
        raise ValueError(
            f"The model's outputs {tuple(outputs.shape)} need labels of the shape {tuple(wanted)}, "
            f"not {tuple(targets.shape)}."
        )
    whole = targets
    if isinstance(loader, DataLoader) and loader.batch_size is None and isinstance(loader.dataset, TensorDataset):
        whole = loader.dataset.tensors[-1]  # a loader of make_loader deals out all labels, and as they are
    labels = whole[whole != ignore_index]
    if labels.numel() and (labels.min() < 0 or labels.max() >= classes):
        raise ValueError(
            f"The labels run from {labels.min()} to {labels.max()}, but the model has {classes} outputs, for labels "
            f"from 0 to {classes - 1}. Count the classes again, or build the head for as many as there are."
        )


def raise_explained(error: Exception, batch, model: nn.Module) -> None:
    """Raise the error of a batch that went wrong again, with what can be seen of the reason."""
    if not (isinstance(batch, tuple | list) and len(batch) == 2):
        raise ValueError(
            f"A batch must be (inputs, targets); this loader gives a {type(batch).__name__}{_count(batch)}."
        ) from error
    if "more than 1 value per channel" in str(error):
        raise ValueError(
            "A training batch holds a single example, of which BatchNorm can take no variance: pass drop_last=True to "
            f"the loader, or choose another batch size. PyTorch says: {error}"
        ) from error
    if isinstance(error, ValueError | torch.OutOfMemoryError):  # says enough by itself
        raise error
    inputs, targets = batch
    reasons = [f"The model or the loss did not accept inputs {_shapes(inputs)} with targets {_shapes(targets)}."]
    convolution = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    if convolution is not None and isinstance(inputs, torch.Tensor):
        if inputs.ndim != 4 or inputs.shape[1] != convolution.in_channels:
            reasons.append(f"The model takes images of shape (B, {convolution.in_channels}, H, W).")
        elif not inputs.is_floating_point():
            reasons.append("The model takes normalised float images: pass prepare=model.input_spec to make_loader.")
        elif inputs.dtype != convolution.weight.dtype:
            reasons.append(f"The model computes in {convolution.weight.dtype}: convert the images with .float().")
    raise ValueError(" ".join([*reasons, f"PyTorch says: {error}"])) from error


def _tensors(inputs) -> Iterable[tuple[str, torch.Tensor]]:
    if isinstance(inputs, torch.Tensor):
        return [("", inputs)]
    parts = inputs.items() if isinstance(inputs, Mapping) else enumerate(inputs or ())  # None: no targets
    return [(f"[{key!r}]", part) for key, part in parts if isinstance(part, torch.Tensor)]


def _count(batch) -> str:
    return f" of {len(batch)}" if isinstance(batch, tuple | list) else ""


def _shapes(batch) -> str:
    return ", ".join(f"{key} {tuple(t.shape)} {t.dtype}".strip() for key, t in _tensors(batch)) or type(batch).__name__
