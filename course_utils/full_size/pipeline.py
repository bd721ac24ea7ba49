"""Images kept whole in memory, or on the GPU, as uint8; enlarged, cropped and normalised a batch at a time."""

import contextlib
from dataclasses import replace

import torch
import torch.nn as nn
import torchvision.transforms.v2.functional as tv
from torch.utils.data import DataLoader
from torchvision.transforms import InterpolationMode

from course_utils.checks import check_examples
from course_utils.data import make_loader, random_flip_and_crop
from course_utils.device import check_device, mixed_precision
from course_utils.pocket import InputSpec


def make_full_size_loader(
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    batch_size: int,
    image_size: int,
    spec: InputSpec,
    device: torch.device | str,
    train: bool,
    seed: int,
    drop_last: bool = False,
) -> DataLoader:
    """Batches (inputs, labels) on `device`: inputs (B, 3, image_size, image_size), float32, channels_last.

    images: uint8 (N, 3, H, W), all of one size. They lie on the device as a whole, or in main memory where they would
        take more than half of what a GPU has free; every batch is prepared on the device either way.
    spec: `model.input_spec`; its mean, deviation and interpolation count, `image_size` takes the place of its size.
    train: shuffle, mirror half of the images and move each by up to an eighth of its size before it is enlarged
        (CIFAR-10's usual 4 of 32 pixels). Mirroring is for things, not for letters and signs.
    seed: of the loader's own generator, which draws order, mirroring and moves. `fit` keeps it in its checkpoints.

    Raises ValueError for images that are not uint8 (N, 3, H, W), sizes that are not whole numbers from 1, and all that
    `data.make_loader` refuses.
    """
    device = torch.device(device)
    check_device(device)
    check_uint8(images, spec)
    check_examples(images, labels)
    for name, value in (("batch_size", batch_size), ("image_size", image_size)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a whole number from 1, not {value!r}.")
    spec = replace(spec, size=image_size)
    padding = min(images.shape[-2:]) // 8
    kept_on = device if _fits(images, device) else images.device

    def mirror_and_move(batch: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return random_flip_and_crop(batch.to(device), generator, padding)

    return make_loader(
        images.to(kept_on),
        labels.to(kept_on),
        batch_size=batch_size,
        shuffle=train,
        drop_last=drop_last,
        seed=seed,
        augment=mirror_and_move if train else None,
        prepare=lambda batch: to_inputs(batch.to(device), spec),
    )


def to_inputs(images: torch.Tensor, spec: InputSpec) -> torch.Tensor:
    """uint8 (B, 3, H, W) -> what the network takes: float32 (B, 3, size, size), channels_last, on the images' device.

    The same as `spec(images)`, rounded to whole grey levels after the resizing, as torchvision does with a PIL image:
    Resize((size, size)), ToTensor, Normalize. Faster, since the large image is written as uint8 first, and whole rows
    of it are normalised in one go.
    """
    check_uint8(images, spec)
    height, width = images.shape[-2:]
    # Enlarging bilinearly, antialiasing changes nothing, and Apple's GPU has not always had it.
    needless = images.device.type == "mps" and max(height, width) <= spec.size and spec.interpolation == "bilinear"
    resized = tv.resize(
        images.contiguous(memory_format=torch.channels_last),
        [spec.size, spec.size],
        interpolation=InterpolationMode(spec.interpolation),
        antialias=not needless,
    )
    pixels = resized.permute(0, 2, 3, 1).float().contiguous()  # (B, size, size, 3): the colours of a pixel side by side
    rows = pixels.view(-1, 3 * spec.size)
    mean, std = (torch.tensor(values, device=images.device).repeat(spec.size) for values in (spec.mean, spec.std))
    torch.addcmul(-mean / std, rows, 1 / (255 * std), out=rows)
    return pixels.permute(0, 3, 1, 2)


def check_uint8(images: torch.Tensor, spec: InputSpec) -> None:
    """Raise ValueError where images are not uint8 (N, 3, H, W)."""
    if not isinstance(images, torch.Tensor) or images.dtype != torch.uint8 or images.ndim != 4:
        what = f"{images.dtype} {tuple(images.shape)}" if isinstance(images, torch.Tensor) else type(images).__name__
        raise ValueError(f"Images must be a uint8 tensor (N, 3, H, W), as they come from the file, not {what}.")
    if images.shape[1] != len(spec.mean):
        raise ValueError(
            f"Images must have the shape (N, {len(spec.mean)}, H, W), not {tuple(images.shape)}. Where the channels "
            "come last, images.permute(0, 3, 1, 2) puts them right; images.expand(-1, 3, -1, -1) gives grey ones three."
        )


def _fits(images: torch.Tensor, device: torch.device) -> bool:
    """Whether the images leave at least half of the GPU's free memory for the training."""
    return device.type != "cuda" or images.nbytes <= torch.cuda.mem_get_info(device)[0] / 2


def fast_precision(model: nn.Module, device: torch.device | str) -> contextlib.AbstractContextManager:
    """A context for forward pass and loss: bfloat16 where this model gains by it on this device, else float32.

    On a GPU that is `device.mixed_precision`. On a CPU it takes bfloat16 instructions (avx512_bf16, which processors
    with amx have too), and a network without grouped convolutions: for those PyTorch's kernels are slower in bfloat16
    (measured on an AMD EPYC with avx512_bf16: ResNet-18 1.6 times as fast, SqueezeNet 2.0, MobileNetV3 0.4).
    """
    device = torch.device(device)
    if device.type != "cpu":
        return mixed_precision(device)
    in_hardware = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)  # private, so it may go
    grouped = any(isinstance(module, nn.Conv2d) and module.groups > 1 for module in model.modules())
    if in_hardware() and not grouped:
        return torch.autocast("cpu", dtype=torch.bfloat16)
    return contextlib.nullcontext()


def make_fast(model: nn.Module, device: torch.device | str) -> nn.Module:
    """The same model, on the device, in channels_last, its forward pass in `fast_precision`; its outputs are float32.

    Weights, gradients and the state_dict stay float32. The loss is computed in float32 too, so `fit` needs no `amp`.
    """
    model.to(device, memory_format=torch.channels_last)
    precision, forward = fast_precision(model, device), model.forward
    if isinstance(precision, torch.autocast):

        def forward_in_precision(*inputs: torch.Tensor) -> torch.Tensor:
            with precision:
                outputs = forward(*inputs)
            return outputs.float()

        model.forward = forward_in_precision
    return model
