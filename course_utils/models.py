"""Networks to fine-tune: build one, give it a new head, freeze parts of it, and say what is in it.

Everything here works the same on the course's own `TinyResNet` and on torchvision's classifiers.
"""

import difflib
import functools
from collections.abc import Iterable, Mapping
from http.client import HTTPException

import torch.nn as nn
import torchvision

from course_utils.pocket import InputSpec, TinyResNet, load_pocket_checkpoint, pocket_input_spec

# The families of torchvision that the course is tested with.
FAMILIES = ("resnet", "resnext", "wide_resnet", "mobilenet_v3", "efficientnet", "squeezenet")


def build_classifier(name: str, num_classes: int, *, weights: str | None = None) -> nn.Module:
    """A network with a head for `num_classes` classes; it takes (B, 3, H, W) and gives logits (B, num_classes).

    name: "tiny_resnet", or a ResNet, MobileNetV3, EfficientNet or SqueezeNet of torchvision, by torchvision's name.
    weights: None starts from random numbers; "DEFAULT" loads pretrained ones (the pocket weights lie in the course,
        torchvision downloads its own once) and puts a new, random head on them.

    The model carries `model.input_spec`, the `InputSpec` that its weights expect, and `model.head_name`.
    Raises ValueError for an unknown name, fewer than one class, or unknown weights; ConnectionError where weights
    cannot be downloaded.
    """
    if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 1:
        raise ValueError(f"num_classes must be a whole number from 1, not {num_classes!r}.")
    if weights not in (None, "DEFAULT"):
        raise ValueError(f'weights must be None (random) or "DEFAULT" (pretrained), not {weights!r}.')
    if name == "tiny_resnet":
        model, spec = _tiny_resnet(weights), pocket_input_spec()
    else:
        model, spec = _torchvision_model(name, weights), _torchvision_input_spec(name)
    model.head_name, old_head = [
        (part, module) for part, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)
    ][-1]
    parent, _, child = model.head_name.rpartition(".")
    setattr(model.get_submodule(parent), child, _head_like(old_head, num_classes))
    if name.startswith("squeezenet"):
        model.classifier[2] = nn.Identity()  # torchvision puts a ReLU behind this head, under which a new one can die
    model.input_spec = spec
    return model


def _tiny_resnet(weights: str | None) -> TinyResNet:
    if weights is None:
        return TinyResNet(num_classes=1)
    checkpoint = load_pocket_checkpoint()
    model = TinyResNet(num_classes=len(checkpoint["classes"]))
    model.load_state_dict(checkpoint["state_dict"])  # float16 in the file, copied into float32 parameters
    return model


def _torchvision_model(name: str, weights: str | None) -> nn.Module:
    known = [n for n in torchvision.models.list_models(module=torchvision.models) if n.startswith(FAMILIES)]
    if name not in known:
        near = difflib.get_close_matches(str(name), ["tiny_resnet", *known], n=3, cutoff=0.4) or ["tiny_resnet"]
        raise ValueError(f"Unknown model {name!r}. Did you mean {' or '.join(near)}?")
    try:
        return torchvision.models.get_model(name, weights=weights)
    except (OSError, HTTPException, RuntimeError) as error:  # no network, broken off, or another file than announced
        raise ConnectionError(
            f"The pretrained weights of {name} could not be downloaded ({error}). Fetch them with: "
            f"python -m course_utils prepare --only {name} (--from takes them from a folder or another machine), "
            'or work with "tiny_resnet", whose weights lie in the course.'
        ) from error


def _torchvision_input_spec(name: str) -> InputSpec:
    transforms = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    return InputSpec(
        tuple(transforms.mean), tuple(transforms.std), transforms.crop_size[0], transforms.interpolation.value
    )


def _head_like(old: nn.Module, num_classes: int) -> nn.Module:
    """The same kind of layer with another number of outputs: SqueezeNet's head is a convolution, the others' linear."""
    if isinstance(old, nn.Linear):
        return nn.Linear(old.in_features, num_classes)
    return nn.Conv2d(old.in_channels, num_classes, old.kernel_size)


def _stay_in_eval(layer: nn.Module, mode: bool = True) -> nn.Module:
    """The `train()` of a frozen layer: it leaves it in evaluation mode, so its running statistics stand still."""
    return type(layer).train(layer, False)


def _is_held(layer: nn.Module) -> bool:
    return "train" in vars(layer)


def freeze(model: nn.Module, names: Iterable[str] | str) -> None:
    """Stop the named parts from learning: no gradients for their parameters, and BatchNorm held in evaluation mode.

    names: any prefixes of parameter or module names, "layer1" or "features.0"; "" is the whole model.
    `requires_grad_(False)` alone is not enough: in training mode BatchNorm would go on updating its running mean and
    variance (pytorch/pytorch#86590). A frozen layer with such statistics gets a `train` of its own, so the freezing
    holds through `model.train()`, `copy.deepcopy` and `torch.save`, and adds nothing to the state_dict.
    Raises ValueError for a name that the model does not have.
    """
    _set_frozen(model, names, frozen=True)


def unfreeze(model: nn.Module, names: Iterable[str] | str = "") -> None:
    """Undo `freeze` for the named parts; without names, for the whole model. Same names, same errors."""
    _set_frozen(model, names, frozen=False)


def _set_frozen(model: nn.Module, names: Iterable[str] | str, frozen: bool) -> None:
    names = [names] if isinstance(names, str) else list(names)
    modules = dict(model.named_modules(remove_duplicate=False))
    parameters = dict(model.named_parameters(remove_duplicate=False))  # tied weights under each of their names
    for name in names:
        if name not in modules and name not in parameters:
            near = difflib.get_close_matches(str(name), [*modules, *parameters], n=3) or _part_names(model)
            raise ValueError(f"The model has no part {name!r}. Did you mean one of {', '.join(near)}?")
    for name, parameter in parameters.items():
        if _within(name, names):
            parameter.requires_grad_(not frozen)
            if frozen:
                parameter.grad = None  # an optimiser moves a parameter whose old gradient still stands
    for name, module in modules.items():
        if _within(name, names) and getattr(module, "running_mean", None) is not None:
            if frozen:
                module.train = functools.partial(_stay_in_eval, module)
            elif _is_held(module):
                del module.train
            module.train(model.training)


def _within(name: str, parts: Iterable[str]) -> bool:
    """Does `name` lie in one of the parts? "layer1.0.conv1" lies in "layer1", "layer10" does not, all lie in ""."""
    return any(not part or name == part or name.startswith(part + ".") for part in parts)


def _part_names(model: nn.Module) -> list[str]:
    return [name for name, _ in model.named_children()]


def frozen_names(model: nn.Module) -> dict[str, list[str]]:
    """What is frozen, by full name: {"parameters": [...], "batch_norms": [...]}. `freeze` accepts both lists."""
    return {
        "parameters": [name for name, parameter in model.named_parameters() if not parameter.requires_grad],
        "batch_norms": [name for name, module in model.named_modules() if _is_held(module)],
    }


def parameter_groups(model: nn.Module, lr: Mapping[str, float], *, default_lr: float | None = None) -> list[dict]:
    """Groups for an optimiser, a learning rate for each part: {"fc": 1e-2, "layer4": 1e-3}, the rest at `default_lr`.

    A parameter goes to the longest name that it lies in. Frozen parameters are in the groups too: an optimiser skips
    them while they have no gradient, and finds them when they are thawed.
    Raises ValueError for an unknown name, a rate that is not positive, or a parameter that no rate is given for.
    """
    groups = {part: {"params": [], "lr": rate, "name": part} for part, rate in lr.items()}
    if default_lr is not None:
        groups.setdefault("", {"params": [], "lr": default_lr, "name": "rest"})
    for name, parameter in model.named_parameters():
        parts = [part for part in groups if _within(name, [part])]
        if not parts:
            raise ValueError(f"No learning rate is given for {name}: name its part, or set default_lr.")
        groups[max(parts, key=len)]["params"].append(parameter)
    for part, group in groups.items():
        if not group["lr"] > 0:
            raise ValueError(f"The learning rate of {part!r} must be positive, not {group['lr']}.")
        if not group["params"] and part:
            raise ValueError(f"No parameter is left for {part!r}. Parts: {', '.join(_part_names(model))}.")
    return [group for group in groups.values() if group["params"]]


def describe(model: nn.Module) -> str:
    """A table to print: for each part of the model its parameters and how many of them train."""
    parts = {name: list(child.parameters()) for name, child in model.named_children()}
    parts["(itself)"] = list(model.parameters(recurse=False))
    parts["total"] = list(model.parameters())
    rows = ["part          parameters   trainable"]
    for name, parameters in parts.items():
        if parameters:
            trainable = sum(p.numel() for p in parameters if p.requires_grad)
            rows.append(f"{name:12} {sum(p.numel() for p in parameters):>11,} {trainable:>11,}")
    return "\n".join(rows)
