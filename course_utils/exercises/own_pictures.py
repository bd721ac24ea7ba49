"""The exercises of notebook 03c: pictures of 16 bits, the interval of a test score, batches over several processes."""

import math

import numpy as np

from course_utils.exercises.question import Finding, Mistake, Question, calls
from course_utils.full_size.experiment import wilson

# Both pixels / 257, rounded, and pixels // 256 give whole levels of these.
BRIGHT = [[100, 357, 5240], [25800, 38650, 65535]]
DARK = [[100, 357, 614], [871, 2670, 5240]]


def eight_bits(pixels: np.ndarray) -> np.ndarray:
    return (pixels / 257).round().astype(np.uint8)


def pictures(function) -> dict:
    """What it returns for two pictures; and of which type that is, where the numbers are right."""
    cases = {"a bright picture": np.array(BRIGHT, dtype=np.uint16), "a dark picture": np.array(DARK, dtype=np.uint16)}
    seen = calls(*((label, lambda pixels=pixels: (pixels.copy(),)) for label, pixels in cases.items()))(function)
    right = zip(seen.values(), map(eight_bits, cases.values()), strict=True)
    if all(np.array_equal(picture, wanted) for picture, wanted in right):
        types = {str(getattr(picture, "dtype", type(picture).__name__)) for picture in seen.values()}
        seen["The numbers are right. The type of your picture"] = Finding(", ".join(types).removeprefix("torch."))
    return seen


q1 = Question(
    name="own_pictures.q1",
    title="Sixteen bits",
    text="A microscope saves grey pictures with 16 bits: `pixels` is an array of shape `(H, W)`, type `uint16`, from 0 "
    "to 65535. Write `to_eight_bits(pixels)`: the same picture as `uint8`, from 0 to 255. A picture that is dark stays "
    "dark.",
    fills="to_eight_bits",
    right=eight_bits,
    observe=pictures,
    praise="65535 / 257 is 255, exactly. `read_picture` does the same.",
    mistakes=(
        Mistake(
            "astype alone",
            lambda pixels: pixels.astype(np.uint8),
            "`astype` keeps the lower eight bits: 255 stays 255, 256 becomes 0, and bright and dark mix at random. "
            "Scale first, then convert.",
        ),
        Mistake(
            "cut at 255",
            lambda pixels: pixels.clip(0, 255).astype(np.uint8),
            "You cut at 255, as a plain conversion does: nearly everything is white. 65535 must become 255, and what "
            "lies between must stay between.",
        ),
        Mistake(
            "by its own maximum",
            lambda pixels: (pixels / pixels.max() * 255).round().astype(np.uint8),
            "You divide by the picture's own maximum, so every picture becomes equally bright, a black one too. The "
            "scale must be the same for all pictures: 65535 is white.",
        ),
        Mistake(
            "rounded and not converted",
            lambda pixels: (pixels / 257).round(),
            "The numbers are right, and their type is still float64, eight bytes a pixel. Rounding does not change the "
            "type: add `.astype(np.uint8)`.",
        ),
        Mistake(
            "multiplied first, and rounded",
            lambda pixels: (pixels * 255 / 65535).round(),
            "You multiply first, and `uint16` holds nothing above 65535: what is larger wraps around, and your picture "
            "holds 0 and 1 alone. Divide first, which makes floats.",
        ),
        Mistake(
            "all black",
            np.zeros_like,
            "Your picture is black. Do you multiply first? `uint16` holds nothing above 65535: what is larger wraps "
            "around, and divided by 65535 it is less than 1. Do you convert first? `uint8` holds nothing above 255. "
            "Divide first, and convert last.",
        ),
        Mistake(
            "divided by 256 and rounded",
            lambda pixels: (pixels / 256).round().astype(np.uint8),
            "65535 / 256 is 255.996, which you round to 256, and `uint8` makes 0 of that: white turns black. "
            "65535 / 257 is 255.",
        ),
        Mistake(
            "from 0 to 1",
            lambda pixels: pixels / 65535,
            "Your picture runs from 0 to 1. As `uint8` it runs from 0 to 255.",
        ),
    ),
    hints=(
        "Which number turns 65535 into 255?",
        "Divide first, while the numbers are large: `uint8` holds nothing above 255.",
        "65535 / 255 is 257.",
    ),
    solution_code='''import numpy as np


def to_eight_bits(pixels):
    """uint16 (H, W), 0 to 65535 -> uint8 (H, W), 0 to 255."""
    return (pixels / 257).round().astype(np.uint8)''',
)


def plain_interval(right: int, count: int) -> tuple[float, float]:
    share = right / count
    half = 1.96 * math.sqrt(share * (1 - share) / count)
    return share - half, share + half


def with_z(z: float):
    return lambda right, count: wilson(right, count, z)


def without_correction(right: int, count: int) -> tuple[float, float]:
    share, z = right / count, 1.96
    half = z * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return share - half, share + half


q2 = Question(
    name="own_pictures.q2",
    title="How sure is a score?",
    text="Of `count` test pictures `right` were right. Write `interval(right, count)`: the two ends of Wilson's "
    "interval with z = 1.96, as a tuple (low, high). Try it on 5 of 5 before you check it.",
    fills="interval",
    right=wilson,
    observe=calls(
        ("51 of 54", lambda: (51, 54)),
        ("5 of 5", lambda: (5, 5)),
        ("0 of 10", lambda: (0, 10)),
    ),
    praise="5 of 5 is compatible with a network that is right in 57 % of all cases.",
    mistakes=(
        Mistake(
            "the plain interval",
            plain_interval,
            "That is the plain interval, share ± 1.96 standard errors. For 5 of 5 it says (1, 1): quite sure, after "
            "five pictures. Wilson's formula moves the middle and widens the interval; it stands in section 3.",
        ),
        Mistake(
            "68 %",
            with_z(1.0),
            "You take one standard error, z = 1: an interval that misses the truth in one of three cases. 95 % takes "
            "z = 1.96.",
        ),
        Mistake(
            "the middle stays",
            without_correction,
            "The half width has Wilson's term, the middle is still right / count, and nothing is divided by "
            "1 + z² / count. So the interval leaves the range from 0 to 1.",
        ),
    ),
    hints=(
        "Call z² / count `c`. The middle is (right / count + c / 2) / (1 + c).",
        "The half width is z * (p * (1 - p) / count + z² / (4 * count²)) ** 0.5 / (1 + c), with p = right / count.",
    ),
    solution_code='''def interval(right, count):
    """(low, high) of Wilson's interval with z = 1.96."""
    z, p = 1.96, right / count
    c = z**2 / count
    middle = (p + c / 2) / (1 + c)
    half = z * (p * (1 - p) / count + z**2 / (4 * count**2)) ** 0.5 / (1 + c)
    return max(0, middle - half), min(1, middle + half)''',
)

q3 = Question(
    name="own_pictures.q3",
    title="Four GPUs",
    text="`torchrun --nproc-per-node 4 -m course_utils train --size full --batch-size 128` trains on 45,000 pictures. "
    "The batch size counts over all processes, and a last batch that is not full is left out. How many optimiser "
    "steps does each process take in an epoch?",
    fills="steps",
    kind="value",
    right=351,
    tolerance=1e-9,
    praise="45,000 // 128: every process takes part in every step, with 32 of its 128 pictures.",
    mistakes=(
        Mistake(
            "128 on each process",
            87,
            "87 would be right if each process took 128 pictures of its own, 512 together. Here 128 counts over all "
            "four, so that the numbers are those of one process.",
        ),
        Mistake(
            "32 to a step",
            1406,
            "1,406 is how many batches of 32 there are. Four processes compute four of them at the same time, and make "
            "one step of them together.",
        ),
        Mistake(
            "the last batch counts",
            352,
            "352 counts the last batch of 72 pictures, too. It is left out: the processes need equal shares, and so "
            "does BatchNorm.",
        ),
        Mistake(
            "a fraction of a batch",
            351.5625,
            "45,000 / 128 is 351.56, but there is no half of a step: what is left over makes no full batch, and is "
            "left out.",
        ),
    ),
    hints=(
        "How many pictures go into one step, over all processes?",
        "All four processes make the same step at the same time: their gradients are averaged.",
        "Full batches of 128 in 45,000: whole numbers only.",
    ),
    solution_code="steps = 45_000 // 128  # of the 128, every process has 32",
)

QUESTIONS = (q1, q2, q3)
