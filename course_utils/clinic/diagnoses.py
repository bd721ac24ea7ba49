"""The diagnoses of the clinic, each with the signs that it must show, and the words for a wrong one.

The order is that in which somebody with experience asks: is the log whole, do the inputs arrive, does anything learn,
is the rate right, and only then, what do training and validation say of each other.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

from course_utils.clinic.signs import MEANING


class Condition(NamedTuple):
    """A sign above or below a threshold."""

    sign: str  # a key of signs.MEANING
    side: str  # "above" or "below"
    threshold: float

    def holds(self, found: Mapping[str, float]) -> bool:
        """Does it hold? Not where the sign is NaN: what is not measured speaks for nothing."""
        value = found[self.sign]
        return value > self.threshold if self.side == "above" else value < self.threshold


class Diagnosis(NamedTuple):
    """What may be wrong with a training; it fits a run where all of its conditions hold."""

    shows: str  # how it shows, a sentence
    test: str  # what would prove it
    cure: str
    conditions: tuple[Condition, ...]  # none: it shows in no curve

    def fits(self, found: Mapping[str, float]) -> bool:
        """Do the curves of a run speak for it?"""
        return bool(self.conditions) and all(condition.holds(found) for condition in self.conditions)


def above(sign: str, threshold: float) -> Condition:
    return Condition(sign, "above", threshold)


def below(sign: str, threshold: float) -> Condition:
    return Condition(sign, "below", threshold)


FROZEN = below("update_backbone", 1e-9)
GROWING = above("gradient_growth", 1.2)

# The thresholds lie outside the range of the healthy seeds, and belong to this training: another one has others.
DIAGNOSES = {
    "step restarts": Diagnosis(
        "A step that restarts writes the same numbers again, and TensorBoard keeps only one epoch of the curve.",
        "Count the points of a curve, and compare with the steps that were taken.",
        "Count steps through the whole run; a RunLogger refuses a step that goes back.",
        (above("steps_back", 0.5),),
    ),
    "gradient explodes": Diagnosis(
        "A gradient that explodes grows from step to step until a value is infinite or NaN.",
        "Look for the first value that is not finite, and at the gradient just before it.",
        "Lower the rate, warm up, clip the gradient, and take losses that work on logits.",
        (above("not_finite", 0.5),),
    ),
    "inputs not normalised": Diagnosis(
        "Inputs that are not normalised have a mean far from 0 when the network gets them.",
        "Print mean and standard deviation of a batch as the network gets it.",
        "Pass every image through model.input_spec.",
        (above("input_offset", 0.5),),
    ),
    "validation inputs differ": Diagnosis(
        "Where validation images are prepared in another way, their mean is not that of the training images.",
        "Compare mean and standard deviation of a training batch and a validation batch; validate on training images.",
        "Prepare both in one place.",
        (above("input_shift", 0.5),),
    ),
    "dead layer": Diagnosis(
        "Behind a dead layer every channel is 0 for every image, and nothing in front of it gets a gradient.",
        "Count the channels that are 0 for a whole batch, layer by layer.",
        "Start the layer's bias at 0, and lower the rate that killed it.",
        (above("dead", 0.5),),
    ),
    "frozen by mistake": Diagnosis(
        "Weights that have a gradient but that the optimiser does not hold never move, and nobody clears their "
        "gradient, so it adds up.",
        "Compare a weight before and after a step; list what the optimiser holds.",
        "Give the optimiser all weights from the start, frozen ones too.",
        (FROZEN, GROWING),
    ),
    "BatchNorm drifts": Diagnosis(
        "Where BatchNorm drifts, its running means move in a backbone whose weights stand still.",
        "Compare the running means of a frozen layer before and after an epoch.",
        "Freeze with course_utils.models.freeze, which keeps BatchNorm in evaluation mode.",
        (FROZEN, above("drift", 0.01), below("gradient_growth", 1.2)),
    ),
    "rate too low": Diagnosis(
        "At a rate that is too low the gradient is as large as ever, and the weights hardly move.",
        "Train ten times faster for a few steps.",
        "Raise the rate by tens until the loss gets restless, then go back by one.",
        (below("update_head", 0.004), above("gradient_first", 1.0)),
    ),
    "rate too high": Diagnosis(
        "At a rate that is too high single steps are as long as the weights themselves, and the validation loss leaps.",
        "Train ten times slower for a few steps.",
        "Lower the rate; warm up.",
        (above("update_head", 0.2), above("highest_val_loss", 10)),
    ),
    "gradients not zeroed": Diagnosis(
        "Gradients that are not zeroed add up, so their norm grows while the loss falls.",
        "Compare the gradient of the second step with one that you compute for this batch alone.",
        "Call optimizer.zero_grad() before every backward().",
        (GROWING, above("update_backbone", 1e-6)),
    ),
    "softmax before the loss": Diagnosis(
        "With a softmax before the loss, the loss of ten classes cannot fall below 1.46, though the answers get right.",
        "Give the loss a logit of 100 for the right class: it should say 0.",
        "Give the loss the logits.",
        (above("lowest_loss", 1.4), above("val_accuracy", 0.7)),
    ),
    "labels shuffled": Diagnosis(
        "Labels that do not belong to their images can be learned by heart, but on new images the answers are chance.",
        "Look at ten images with their labels, out of the loader.",
        "Move images and labels together, through one index.",
        (below("val_accuracy", 0.2), above("train_accuracy", 0.3)),
    ),
    "data not shuffled": Diagnosis(
        "In data that are not shuffled, the same batches come in the same places, and the loss of a step repeats a "
        "pattern in every epoch.",
        "Print the labels of the first batch.",
        "shuffle=True for the training loader.",
        (above("sawtooth", 0.6),),
    ),
    "eval() forgotten": Diagnosis(
        "Without eval(), BatchNorm normalises by the validation batch and learns from it, so its running means move "
        "faster than training alone moves them, and the validation loss stays far above the training loss.",
        "Validate twice, in batches of another size: in evaluation mode the numbers are the same.",
        "model.eval() before validating; course_utils.training.evaluate does it.",
        (above("drift_first_epoch", 0.11), below("update_head", 0.06), above("val_over_train", 7)),
    ),
    "leaking split": Diagnosis(
        "Where validation images leak into the training, validation is too good: all but perfect, and no harder than "
        "the training images.",
        "Count images, or forms, that stand on both sides; score on forms that the project has never seen.",
        "Split by form first, make copies after.",
        (above("val_accuracy", 0.994), below("val_over_train", 1.0), below("train_loss", 0.05)),
    ),
    "rare classes hidden": Diagnosis(
        "Rare classes can fail wholly while the accuracy is high: the worst class is far below it.",
        "Print the accuracy of each class, with the number of its images.",
        "Report the mean over classes; label more of the rare ones, or weigh them.",
        (below("worst_class", 0.2), above("val_accuracy", 0.85), below("gradient_growth", 1.2)),
    ),
    "under-fitting": Diagnosis(
        "A network that under-fits stays poor on its training images too, and no worse on others, though its weights "
        "move.",
        "Train on one batch only, for long: can it learn that by heart?",
        "A larger network, pretrained weights, more epochs, less regularisation.",
        (
            below("train_accuracy", 0.8),
            below("accuracy_gap", 0.15),
            above("update_head", 0.004),
            below("update_head", 0.2),
        ),
    ),
    "over-fitting": Diagnosis(
        "A network that over-fits knows its training images by heart, while the validation loss, once low, rises.",
        "Look for the lowest validation loss, and at the images that training got right only after it.",
        "Stop at the lowest validation loss, correct the labels, augment.",
        (above("val_loss_rise", 1.15), above("val_accuracy_drop", 0.05), above("train_accuracy", 0.9)),
    ),
    "chosen on the test set": Diagnosis(
        "Choosing by the test set changes what the number is worth, and no curve.",
        "Score the choice on images that had no part in it.",
        "Choose on the validation set, and open the test set once.",
        (),
    ),
}

# The questions in the order in which somebody with experience asks them, and the diagnoses that each may end with.
QUESTIONS = {
    "Is the log whole?": ("step restarts", "gradient explodes"),
    "Do the inputs arrive as the network expects them?": ("inputs not normalised", "validation inputs differ"),
    "Do the weights move, and only those that should?": (
        "dead layer",
        "frozen by mistake",
        "BatchNorm drifts",
        "rate too low",
    ),
    "Is the step the right one?": ("rate too high", "gradients not zeroed", "softmax before the loss"),
    "Do images, labels and order belong together?": ("labels shuffled", "data not shuffled"),
    "What do training and validation say of each other?": (
        "eval() forgotten",
        "leaking split",
        "rare classes hidden",
        "under-fitting",
        "over-fitting",
    ),
    "And what shows in no curve?": ("chosen on the test set",),
}
# The decision chart: diagnosis -> (symptom, test, cure), in few words.
CHART = {
    "step restarts": ("fewer points than steps", "count the points", "count through the run"),
    "gradient explodes": (
        "NaN, and there it ends",
        "gradient before the first NaN",
        "lower rate, clip, loss on logits",
    ),
    "inputs not normalised": ("inputs' mean far from 0", "mean ± deviation of a batch", "model.input_spec"),
    "validation inputs differ": (
        "val. inputs: another mean",
        "validate on training images",
        "prepare both in one place",
    ),
    "dead layer": ("loss at log K, tiny gradient", "channels that are always 0", "bias at 0, lower rate"),
    "frozen by mistake": ("a gradient, and no step", "a weight before and after", "optimiser holds all weights"),
    "BatchNorm drifts": ("no step, yet means move", "running means, an epoch on", "freeze BatchNorm, too"),
    "rate too low": ("short steps, large gradient", "ten times the rate", "raise by tens"),
    "rate too high": ("long steps, val. loss leaps", "a tenth of the rate", "lower it, warm up"),
    "gradients not zeroed": ("gradient grows, loss falls", "this batch's own gradient", "zero_grad() at each step"),
    "softmax before the loss": ("good answers, loss > 1.4", "loss of a logit of 100", "give the loss logits"),
    "labels shuffled": ("chance on validation", "ten images, their labels", "one index for both"),
    "data not shuffled": ("the same comb each epoch", "labels of the first batch", "shuffle=True"),
    "eval() forgotten": ("val. loss high, means race", "validate in two batch sizes", "model.eval()"),
    "leaking split": ("validation all but perfect", "count what is on both sides", "split first, copy after"),
    "rare classes hidden": ("a class near 0 %", "accuracy class by class", "mean of classes, more labels"),
    "under-fitting": ("poor in training, too", "learn one batch by heart", "larger, pretrained, longer"),
    "over-fitting": ("val. loss turns and rises", "the lowest validation loss", "stop there, check labels"),
    "chosen on the test set": ("nothing", "score on fresh images", "choose on validation"),
}


class Opinion(NamedTuple):
    """What the curves of a run say to a diagnosis."""

    diagnosis: str
    verdict: str  # "fits", "ruled out", "not measured" or "in no curve"
    reason: str


def walk(found: Mapping[str, float]) -> list[Opinion]:
    """Take a run through all diagnoses, in their order: what `signs.signs` has measured -> what speaks for each.

    The thresholds are those of the clinic's training (ten classes, the pocket network, batches of 40). For another
    network take the order and the questions from here, and the ranges from healthy runs of your own.
    """
    return [opinion(found, name) for name in DIAGNOSES]


def opinion(found: Mapping[str, float], diagnosis: str, healthy: Mapping[str, tuple] | None = None) -> Opinion:
    """What the measured signs say to one diagnosis; healthy: {sign: (lowest, highest)} to compare with.

    Raises ValueError for a diagnosis that is none of DIAGNOSES.
    """
    check(diagnosis)
    chosen = DIAGNOSES[diagnosis]
    if not chosen.conditions:
        return Opinion(diagnosis, "in no curve", chosen.shows)
    if chosen.fits(found):
        facts = "; ".join({f"{MEANING[c.sign]}: {number(found[c.sign])}": None for c in chosen.conditions})
        return Opinion(diagnosis, "fits", f"{chosen.shows} Measured here: {facts}.")
    failing = [condition for condition in chosen.conditions if not condition.holds(found)]
    measured = [condition for condition in failing if not math.isnan(found[condition.sign])]
    if not measured:
        return Opinion(diagnosis, "not measured", f"{chosen.shows} The log lacks {MEANING[failing[0].sign]}.")
    sign, side, threshold = measured[0]
    compared = ""
    if healthy:
        low, high = (number(value) for value in healthy[sign])
        compared = f"; every healthy run has {low}" if low == high else f"; healthy runs have {low} to {high}"
    return Opinion(
        diagnosis,
        "ruled out",
        f"{chosen.shows} Measured here: {MEANING[sign]}: {number(found[sign])}. It would have to be {side} "
        f"{number(threshold)}{compared}.",
    )


def check(diagnosis: str) -> None:
    """Raise ValueError, with all diagnoses that there are, for one that is unknown."""
    if diagnosis not in DIAGNOSES:
        raise ValueError(f"There is no diagnosis {diagnosis!r}. There are: {', '.join(DIAGNOSES)}.")


def number(value: float) -> str:
    """A number as a reader wants it: three digits, and no exponent where it can be helped."""
    if value == 0 or 0.001 <= abs(value) < 1e5:
        return f"{float(f'{value:.3g}'):,.10g}"
    return "0" if abs(value) < 1e-8 else f"{value:.1e}"
