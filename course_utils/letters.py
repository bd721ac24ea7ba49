"""Endless pictures of printed letters, drawn from the fonts that matplotlib carries. Nothing is downloaded.

A letter is rendered once per font as a small mask (1 is ink, 0 is paper). Every picture that the network sees
is such a mask, bent, blurred and painted at random: no two are the same. There is no digit among them.
"""

import string
from collections.abc import Iterable
from pathlib import Path

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont

# 37 classes: the capitals, and the lower-case letters that do not look like their capital (as c, o and s do).
# Source of the choice: EMNIST "ByMerge", Cohen et al. 2017, arXiv:1702.05373.
LETTERS = string.ascii_uppercase + "abdefghnqrt"

TRAINING_FONTS = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSans-BoldOblique",
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
    "DejaVuSansMono-Oblique",
    "DejaVuSansMono-BoldOblique",
    "STIXGeneral",
    "STIXGeneralBol",
    "STIXGeneralItalic",
    "STIXGeneralBolIta",
    "cmr10",
    "cmb10",
    "cmss10",
    "cmti10",
)
UNSEEN_FONTS = ("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "cmtt10")  # to measure, not to train

MASK_SIZE = 48  # pixels, height and width: room for the letter to be turned and shifted in
LETTER_SIZE = 35  # pixels, the longer side of the letter inside its mask
IMAGE_SIZE = 32  # pixels, height and width of what the network sees


class LetterBank:
    """Every letter in every font and four stroke widths: `masks` (4, letters, fonts, 48, 48) between 0 and 1.

    Raises ValueError for a character that is no Latin letter (so never a digit), or that a font lacks;
    FileNotFoundError for a font that matplotlib does not carry.
    """

    def __init__(self, fonts: Iterable[str], letters: str = LETTERS):
        if not letters or not all(letter in string.ascii_letters for letter in letters):
            raise ValueError(f"The bank holds Latin letters only, A to Z and a to z, got {letters!r}.")
        paths = [font_path(font) for font in fonts]
        rendered = [[render_letter(letter, path) for path in paths] for letter in letters]
        self.letters = letters
        self.masks = stroke_widths(torch.from_numpy(np.array(rendered, dtype=np.float32)) / 255)

    def draw(self, count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """New pictures (count, 3, 32, 32) between 0 and 1, and their labels (count,), places in `letters`."""
        widths, letters, fonts = (
            torch.randint(choices, (count,), generator=generator) for choices in self.masks.shape[:3]
        )
        masks = self.masks[widths, letters, fonts].unsqueeze(1)
        masks = random_resolution(random_warp(masks, generator), generator)
        return random_paint(masks, generator), letters


def font_path(font: str) -> Path:
    """The file of a font that matplotlib carries, by its name without `.ttf`."""
    path = Path(matplotlib.get_data_path(), "fonts", "ttf", f"{font}.ttf")
    if not path.is_file():
        raise FileNotFoundError(f"matplotlib {matplotlib.__version__} carries no font {font!r}.")
    return path


def render_letter(letter: str, path: Path) -> np.ndarray:
    """One letter, white on black, in the middle of a uint8 picture (48, 48), its longer side 35 pixels."""
    if ord(letter) not in FT2Font(str(path)).get_charmap():
        raise ValueError(f"The font {path.stem} has no letter {letter!r}.")
    canvas = Image.new("L", (220, 220))
    ImageDraw.Draw(canvas).text((60, 50), letter, fill=255, font=ImageFont.truetype(str(path), 96))
    ink = canvas.crop(canvas.getbbox())
    scale = LETTER_SIZE / max(ink.size)
    ink = ink.resize([max(1, round(side * scale)) for side in ink.size], Image.Resampling.LANCZOS)
    mask = Image.new("L", (MASK_SIZE, MASK_SIZE))
    mask.paste(ink, ((MASK_SIZE - ink.width) // 2, (MASK_SIZE - ink.height) // 2))
    return np.asarray(mask)


def stroke_widths(masks: torch.Tensor) -> torch.Tensor:
    """Masks (..., 48, 48) -> (4, ..., 48, 48): thinner, as they are, thicker, much thicker."""
    flat = masks.flatten(0, -3).unsqueeze(1)  # (B, 1, 48, 48), what the pooling functions take
    thinner = -F.max_pool2d(F.pad(-flat, (0, 1, 0, 1)), 2, stride=1)  # the smallest of 2x2 pixels
    enough_ink = thinner.sum((1, 2, 3)) > 0.4 * flat.sum((1, 2, 3))  # else a fine stroke would break
    thinner = torch.where(enough_ink.view(-1, 1, 1, 1), thinner, flat)
    thicker = F.max_pool2d(flat, 3, stride=1, padding=1)
    much_thicker = F.max_pool2d(flat, 5, stride=1, padding=2)
    return torch.stack([width.view_as(masks) for width in (thinner, flat, thicker, much_thicker)])


def random_warp(masks: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Turn, slant, stretch, shift and bend masks (B, 1, 48, 48), each its own way -> (B, 1, 32, 32).

    The grid says for each pixel of the result where in the mask it is read, from -1 (left, top) to 1; so a
    stretch under 1 enlarges. Source: the documentation of torch.nn.functional.affine_grid and grid_sample.
    """
    count = len(masks)
    angle = uniform(count, -15, 15, generator).deg2rad()
    slant = uniform(count, -0.3, 0.3, generator)
    stretch_x = uniform(count, 0.65, 1.25, generator)
    stretch_y = uniform(count, 0.65, 1.0, generator)
    shift_x = uniform(count, -0.12, 0.12, generator)
    shift_y = uniform(count, -0.08, 0.08, generator)
    cos, sin = angle.cos(), angle.sin()
    row_x = torch.stack([stretch_x * cos, stretch_x * (slant * cos - sin), shift_x], dim=1)
    row_y = torch.stack([stretch_y * sin, stretch_y * (slant * sin + cos), shift_y], dim=1)
    matrices = torch.stack([row_x, row_y], dim=1)  # (B, 2, 3)
    grid = F.affine_grid(matrices, [count, 1, IMAGE_SIZE, IMAGE_SIZE], align_corners=False)
    # a rough field of 5x5 random shifts, made smooth by interpolation, bends the strokes
    strength = uniform(count, 0, 0.12, generator).view(-1, 1, 1, 1)
    rough = strength * torch.randn(count, 2, 5, 5, generator=generator)
    bend = F.interpolate(rough, (IMAGE_SIZE, IMAGE_SIZE), mode="bicubic", align_corners=True)
    return F.grid_sample(masks, grid + bend.permute(0, 2, 3, 1), align_corners=False)


def random_resolution(masks: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Blur masks (B, 1, 32, 32) like a coarse scanner: half to 8x8 pixels, a quarter to 16x16, a quarter not.

    Ink is averaged over the coarse pixels, then drawn large again at 32x32. Old scans are often that coarse.
    """
    pixels = torch.tensor([8, 8, 16, IMAGE_SIZE])[torch.randint(4, (len(masks),), generator=generator)]
    for coarse in (8, 16):
        blurred = F.interpolate(F.avg_pool2d(masks, IMAGE_SIZE // coarse), masks.shape[-2:], mode="bilinear")
        masks = torch.where((pixels == coarse).view(-1, 1, 1, 1), blurred, masks)
    return masks.clamp(0, 1)


def random_paint(masks: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Colour masks (B, 1, 32, 32) -> images (B, 3, 32, 32) between 0 and 1, with some noise.

    Half are whitish on black, half have any two colours whose brightness differs by at least a quarter.
    """
    count = len(masks)
    ink = torch.rand(count, 3, generator=generator)
    paper = torch.rand(count, 3, generator=generator)
    too_similar = (ink.mean(1) - paper.mean(1)).abs() < 0.25
    paper = torch.where(too_similar[:, None], 1 - ink.round(), paper)
    on_black = torch.rand(count, 1, generator=generator) < 0.5
    ink = torch.where(on_black, uniform(count, 0.75, 1, generator)[:, None], ink)
    paper = torch.where(on_black, 0, paper)
    images = torch.lerp(paper[:, :, None, None], ink[:, :, None, None], masks)
    strength = uniform(count, 0, 0.08, generator).view(-1, 1, 1, 1)
    return (images + strength * torch.randn(images.shape, generator=generator)).clamp(0, 1)


def uniform(count: int, low: float, high: float, generator: torch.Generator) -> torch.Tensor:
    """`count` random numbers between `low` and `high`, evenly spread."""
    return low + (high - low) * torch.rand(count, generator=generator)
