"""The pocket network: a small ResNet, the pretrained weights that ship with the course, and what they expect."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F
from torchvision.models.resnet import BasicBlock, conv1x1

POCKET_WEIGHTS = Path(__file__).parent / "weights" / "tiny_resnet_letters37.pt"
POCKET_SHA256 = "e954439c72b0dae8edbd47c17b50dfd9b3232973ba2ea8efa7b7bd099bcb4abd"


@dataclass(frozen=True)
class InputSpec:
    """How a network wants its images. It belongs to the weights: other numbers are other inputs to them."""

    mean: tuple[float, ...]  # one per channel, on the scale 0 to 1
    std: tuple[float, ...]
    size: int  # pixels, height and width; an image of other proportions is squeezed into them, not cut
    interpolation: str = "bilinear"  # or "bicubic": how it was enlarged or reduced when the weights were made

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 (0 to 255) or float (0 to 1) images, (B, 3, H, W) -> normalised float, (B, 3, size, size).

        Source of the order (scale, resize, normalise): torchvision.transforms.v2.
        """
        if images.ndim != 4 or images.shape[1] != len(self.mean):
            raise ValueError(f"Expected images of shape (B, {len(self.mean)}, H, W), got {tuple(images.shape)}.")
        if images.dtype == torch.uint8:
            images = images.float() / 255
        elif len(images) and not (images.min() >= 0 and images.max() <= 1):  # written so that NaN fails too
            raise ValueError(
                f"Float images must lie between 0 and 1, these reach from {images.min():.3g} to {images.max():.3g}. "
                "Divide by 255, keep them as uint8, or look for NaN."
            )
        if images.shape[-2:] != (self.size, self.size):
            # Enlarging bilinearly, antialiasing changes nothing, and not every device has it.
            antialias = max(images.shape[-2:]) > self.size or self.interpolation != "bilinear"
            images = F.interpolate(images, (self.size, self.size), mode=self.interpolation, antialias=antialias)
            if self.interpolation == "bicubic":
                images = images.clamp(0, 1)  # it swings over at edges
        return (images - self._column(self.mean, images)) / self._column(self.std, images)

    def undo(self, inputs: torch.Tensor) -> torch.Tensor:
        """Normalised inputs (B, 3, H, W) -> images between 0 and 1 that can be shown."""
        return (inputs * self._column(self.std, inputs) + self._column(self.mean, inputs)).clamp(0, 1)

    @staticmethod
    def _column(values: tuple[float, ...], like: torch.Tensor) -> torch.Tensor:
        return torch.tensor(values, dtype=like.dtype, device=like.device).view(1, -1, 1, 1)


class TinyResNet(nn.Module):
    """A ResNet-10 for 32x32 images, 0.31 M parameters, with torchvision's attribute names.

    One `BasicBlock` a stage, widths 16, 32, 64, 128; no max pooling, since a 32x32 image has no pixels to spare.
    Takes (B, 3, H, W), gives logits (B, num_classes). Source: He et al. 2015, arXiv:1512.03385, made smaller.
    """

    def __init__(self, num_classes: int, widths: tuple[int, ...] = (16, 32, 64, 128)):
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity()
        self.layer1 = self._stage(widths[0], widths[0], stride=1)
        self.layer2 = self._stage(widths[0], widths[1], stride=2)
        self.layer3 = self._stage(widths[1], widths[2], stride=2)
        self.layer4 = self._stage(widths[2], widths[3], stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(widths[3], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @staticmethod
    def _stage(channels_in: int, channels_out: int, stride: int) -> nn.Sequential:
        shortcut = None
        if stride != 1 or channels_in != channels_out:
            shortcut = nn.Sequential(conv1x1(channels_in, channels_out, stride), nn.BatchNorm2d(channels_out))
        return nn.Sequential(BasicBlock(channels_in, channels_out, stride, shortcut))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


def load_pocket_checkpoint(path: Path | str = POCKET_WEIGHTS, sha256: str | None = POCKET_SHA256) -> dict:
    """The pretrained `TinyResNet`: {"state_dict", "classes", "mean", "std", "size", "recipe"}.

    `sha256=None` skips the check, for weights that you pretrained yourself.
    Raises FileNotFoundError where there is no file, ValueError where it is damaged or holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No weights at {path.name}. Get them back with git checkout, or from a new download.")
    content = path.read_bytes()
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(
            f"{path.name} is damaged or not the file that the course ships ({len(content):,} bytes). "
            "Get it back with: git checkout -- course_utils/weights"
        )
    try:
        checkpoint = torch.load(io.BytesIO(content), weights_only=True)
        with torch.device("meta"):  # shapes alone: no memory, and no random numbers drawn
            expected = TinyResNet(len(checkpoint["classes"])).state_dict()
        if {name: weight.shape for name, weight in checkpoint["state_dict"].items()} != {
            name: weight.shape for name, weight in expected.items()
        }:
            raise ValueError("other layers")
        InputSpec(tuple(checkpoint["mean"]), tuple(checkpoint["std"]), checkpoint["size"])
    except Exception as error:  # whatever is wrong with a file, the remedy is the same
        raise ValueError(
            f"{path.name} holds no weights of the pocket network ({type(error).__name__}): it is cut short, or another "
            "network's. Get it back with: git checkout -- course_utils/weights"
        ) from error
    return checkpoint


def pocket_input_spec() -> InputSpec:
    """The `InputSpec` that the shipped pocket weights were trained with."""
    checkpoint = load_pocket_checkpoint()
    return InputSpec(tuple(checkpoint["mean"]), tuple(checkpoint["std"]), checkpoint["size"])
