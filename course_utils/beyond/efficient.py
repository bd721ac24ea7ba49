"""Less to train: LoRA for linear and convolution layers, what a task adds to a network, and int8 storage.

LoRA leaves a weight W as it is and learns a correction beside it, of low rank r: W + (alpha / r) * up @ down.
Source: Hu et al. 2021, arXiv:2106.09685; convolutions as in the library peft.
"""

from collections.abc import Iterable, Sized

import torch
import torch.nn as nn

from course_utils.data import make_loader, random_affine
from course_utils.device import seed_everything
from course_utils.models import build_classifier, freeze, frozen_names, unfreeze
from course_utils.recipes import tune

# What trains beside the new head, and the learning rates of (head, rest), chosen on validation forms.
METHODS = {
    "probe": (1e-2, 1e-2),  # nothing
    "batch norm": (1e-2, 1e-2),  # scale and shift of each BatchNorm, whose statistics follow the new images
    "lora": (1e-2, 1e-2),  # low-rank corrections of all convolutions; BatchNorm stands still
    "full": (3e-3, 3e-3),  # everything
}


class LoRA(nn.Module):
    """A frozen linear or convolution layer with a trainable correction of rank `rank` beside it.

    `down` reduces to `rank` channels, with a window of the layer's size; `up` leads back to its outputs, and starts at
    zero, so that at first the layer is exactly the old one. Raises ValueError for another kind of layer, or a bad rank.
    """

    def __init__(self, layer: nn.Linear | nn.Conv2d, rank: int, alpha: float = 8.0):
        super().__init__()
        if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
            raise ValueError(f"The rank must be a whole number from 1, not {rank!r}.")
        if isinstance(layer, nn.Linear):
            self.down = nn.Linear(layer.in_features, rank, bias=False)
            self.up = nn.Linear(rank, layer.out_features, bias=False)
        elif isinstance(layer, nn.Conv2d) and layer.groups == 1:
            where = dict(stride=layer.stride, padding=layer.padding, dilation=layer.dilation)
            self.down = nn.Conv2d(
                layer.in_channels, rank, layer.kernel_size, **where, padding_mode=layer.padding_mode, bias=False
            )
            self.up = nn.Conv2d(rank, layer.out_channels, 1, bias=False)
        else:
            raise ValueError(f"LoRA here takes nn.Linear, or nn.Conv2d without groups, not {layer}.")
        nn.init.zeros_(self.up.weight)
        self.to(layer.weight)  # its device and its precision
        self.layer, self.scale = layer.requires_grad_(False), alpha / rank

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) + self.scale * self.up(self.down(x))

    def correction(self) -> torch.Tensor:
        """What merging adds to the layer's weight, in its shape."""
        return self.scale * torch.einsum("or,r...->o...", self.up.weight.flatten(1), self.down.weight)

    @torch.no_grad()
    def merged(self) -> nn.Linear | nn.Conv2d:
        """The layer with the correction in its weight (changed in place): the same function at the old cost."""
        self.layer.weight += self.correction()
        return self.layer


def add_lora(model: nn.Module, *, rank: int, alpha: float = 8.0, skip: Iterable[str] = ()) -> None:
    """Put `LoRA` around every linear and convolution layer, except those named in `skip`: the new head, say.

    Raises ValueError where a name in `skip` is no such layer, or LoRA is there already.
    """
    if any(isinstance(module, LoRA) for module in model.modules()):
        raise ValueError("This model has LoRA layers already: merge_lora(model) first.")
    layers = {name: part for name, part in model.named_modules() if isinstance(part, nn.Linear | nn.Conv2d)}
    skip = set(skip)
    if unknown := skip - set(layers):
        raise ValueError(f"{', '.join(sorted(unknown))} is no linear or convolution layer of this model.")
    for name, layer in layers.items():  # in the model's order: each draws random numbers
        if name not in skip:
            _replace(model, name, LoRA(layer, rank, alpha))


def merge_lora(model: nn.Module) -> None:
    """Undo `add_lora`, with what was learned kept in the weights: names and cost are those of the old model again."""
    for name, part in list(model.named_modules()):
        if isinstance(part, LoRA):
            _replace(model, name, part.merged())


def _replace(model: nn.Module, name: str, part: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, part)


def task_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """What must be stored for a task beside the pretrained network: what trains, and statistics that move.

    `model.load_state_dict(state, strict=False)` puts it back, into a model prepared in the same way.
    """
    names = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    held = set(frozen_names(model)["batch_norms"])
    for name, module in model.named_modules():
        if getattr(module, "running_mean", None) is not None and name not in held:
            names |= {f"{name}.running_mean", f"{name}.running_var"}
    return {name: value.detach().clone() for name, value in model.state_dict().items() if name in names}


def stored_bytes(tensors: Iterable[torch.Tensor]) -> int:
    """The size of the numbers themselves, without a file's frame."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def to_int8(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A weight (O, ...) as whole numbers from -127 to 127 and one scale for each output channel, (O, 1, ...).

    Symmetric, to the nearest: no value is off by more than half of its channel's scale. Raises ValueError for NaN.
    Source: Jacob et al. 2017, arXiv:1712.05877, with the zero point at 0.
    """
    if not weight.isfinite().all():
        raise ValueError("A weight with NaN or infinity cannot be quantised.")
    largest = weight.abs().amax(dim=tuple(range(1, weight.ndim)), keepdim=True)
    scale = torch.where(largest > 0, largest / 127, 1.0)  # a channel of zeros stays zero
    return (weight / scale).round().to(torch.int8), scale


def from_int8(values: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """The floating-point weight that `to_int8` stored, as near as it kept it."""
    return values * scale


@torch.no_grad()
def round_frozen_to_int8(model: nn.Module) -> tuple[int, int]:
    """Give frozen linear and convolution weights the values that int8 keeps (in place); bytes (before, as int8)."""
    before, after = 0, 0
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d) and not module.weight.requires_grad:
            stored = to_int8(module.weight)
            before, after = before + stored_bytes([module.weight]), after + stored_bytes(stored)
            module.weight.copy_(from_int8(*stored))
    return before, after


def choose_what_trains(model: nn.Module, method: str, *, rank: int = 4) -> None:
    """Freeze a pretrained model (in place) but for what a method of `METHODS` trains; `rank` is LoRA's."""
    if method not in METHODS:
        raise ValueError(f"Unknown method {method!r}. There are: {', '.join(METHODS)}.")
    if method == "full":
        return
    freeze(model, "")
    unfreeze(model, model.head_name)
    if method == "batch norm":
        unfreeze(model, [name for name, part in model.named_modules() if isinstance(part, nn.BatchNorm2d)])
    if method == "lora":
        add_lora(model, rank=rank, skip=[model.head_name])


def epochs_for(steps: int, loader: Sized) -> int:
    """Whole epochs of about so many steps, and of 11 at least: with fewer the rate would begin at its highest."""
    return max(-(-11 // len(loader)), round(steps / len(loader)))


def tune_part(
    method: str,
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    num_classes: int,
    seed: int,
    device: torch.device | str,
    rank: int = 4,
    steps: int = 60,
    rates: tuple[float, float] | None = None,
) -> nn.Module:
    """The pocket network, fine-tuned by one of `METHODS` on normalised images (N, 3, 32, 32), with augmentation."""
    seed_everything(seed)
    model = build_classifier("tiny_resnet", num_classes, weights="DEFAULT")
    choose_what_trains(model, method, rank=rank)
    model = model.to(device, memory_format=torch.channels_last)
    batch_size = min(64, len(images))
    options = dict(batch_size=batch_size, shuffle=True, drop_last=True, seed=seed, augment=random_affine)
    loader = make_loader(images, labels, **options)
    tune(model, loader, rates=rates or METHODS[method], epochs=epochs_for(steps, loader), device=device)
    return model
