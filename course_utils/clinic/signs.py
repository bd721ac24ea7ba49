"""What can be measured in the log of a run, so that one run can be compared with another, or with a threshold."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from course_utils.tracking import Series, read_scalars

# What each sign is.
MEANING = {
    "first_loss": "the loss of the first step",
    "first_loss_excess": "the first loss less log K, the loss of one who knows nothing of K classes",
    "fall": "the share of the first loss that is gone after a quarter of the steps",
    "peak": "the largest loss of a step, as a multiple of the first",
    "lowest_loss": "the lowest loss of a step",
    "sawtooth": "the share of the loss's ups and downs that the place in the epoch explains",
    "train_loss": "the training loss of the last epoch",
    "val_loss": "the validation loss of the last epoch",
    "highest_val_loss": "the highest validation loss of an epoch",
    "val_over_train": "the last validation loss, as a multiple of the training loss",
    "val_loss_rise": "the last validation loss, as a multiple of the lowest",
    "val_accuracy_drop": "the fall of the validation accuracy from its best to the end",
    "train_accuracy": "the training accuracy of the last epoch",
    "val_accuracy": "the validation accuracy of the last epoch",
    "accuracy_gap": "the last training accuracy less the validation accuracy",
    "worst_class": "the validation accuracy on the class that is worst",
    "gradient_first": "the gradient's norm, the median of the first epoch",
    "gradient_growth": "the gradient's norm in the last quarter, as a multiple of that in the first",
    "update_head": "the longest step of the head's weights, as a share of their own length",
    "update_backbone": "the longest step of the backbone's weights, as a share of their own length",
    "drift": "the move of BatchNorm's running means by the end, in standard deviations",
    "drift_first_epoch": "the move of BatchNorm's running means in the first epoch, in standard deviations",
    "dead": "the share of channels before the pooling that are 0 for every validation image",
    "input_offset": "the distance of the training inputs' mean from 0",
    "input_shift": "the distance between the means of validation and training inputs, in standard deviations",
    "not_finite": "the number of logged values that are NaN or infinite",
    "cut_off": "the number of steps of an unfinished epoch at the end of the log",
    "steps_back": "the number of times that the step goes back or stands still",
}


def signs(run_dir: Path | str, num_classes: int) -> dict[str, float]:
    """Measure a run that `fit` has logged, of the clinic or of anybody's; the signs are those of MEANING.

    A sign is NaN where the log lacks what it is measured from: a run without a validation set has no "val_loss", and
    the signs of gradients, updates, BatchNorm and inputs need `ward.Monitor` as the logger.
    Raises FileNotFoundError where there is no event file, ValueError for fewer than two classes.
    """
    if num_classes < 2:
        raise ValueError(f"num_classes must be 2 or more, not {num_classes}.")
    return measured(read_scalars(run_dir), num_classes)


def measured(curves: Mapping[str, Series], num_classes: int) -> dict[str, float]:
    """The signs of curves that are read already: {tag: Series}."""

    def curve(tag: str) -> np.ndarray:
        """All values; one NaN where there are none, which makes NaN of what is computed from it."""
        return curves[tag].values if tag in curves and len(curves[tag].values) else np.array([math.nan])

    def last(tag: str) -> float:
        return curve(tag)[-1]

    steps, train, val = curve("loss/step"), curve("loss/train"), curve("loss/val")
    accuracy, gradient = curve("accuracy/val"), curve("gradient/norm")
    epochs = len(train)
    epoch = max(1, len(steps) // epochs)  # steps in an epoch
    quarter = max(1, len(steps) // 4)
    given = curves["loss/step"].steps if "loss/step" in curves else np.array([])
    ended = curves["loss/train"].steps if "loss/train" in curves else np.array([])
    with np.errstate(all="ignore"):  # where a run has diverged, infinity less infinity is NaN, and may be
        found = {
            "first_loss": steps[0],
            "first_loss_excess": steps[0] - math.log(num_classes),
            "fall": 1 - steps[quarter : quarter + epoch].mean() / steps[0] if len(steps) > quarter else math.nan,
            "peak": steps.max() / steps[0],
            "lowest_loss": steps.min(),
            "sawtooth": sawtooth(steps, epoch),
            "train_loss": train[-1],
            "val_loss": val[-1],
            "highest_val_loss": val.max(),
            "val_over_train": val[-1] / train[-1],
            "val_loss_rise": val[-1] / val.min(),
            "val_accuracy_drop": accuracy.max() - accuracy[-1],
            "train_accuracy": last("accuracy/train"),
            "val_accuracy": accuracy[-1],
            "accuracy_gap": last("accuracy/train") - accuracy[-1],
            "worst_class": last("accuracy/worst_class"),
            "gradient_first": np.median(gradient[:epoch]),
            "gradient_growth": np.median(gradient[-quarter:]) / np.median(gradient[:quarter]),
            "update_head": curve("update/head").max(),
            "update_backbone": curve("update/backbone").max(),
            "drift": last("batch_norm/drift"),
            "drift_first_epoch": curve("batch_norm/drift")[0],
            "dead": last("relu/dead"),
            "input_offset": abs(last("input/train_mean")),
            "input_shift": abs(last("input/val_mean") - last("input/train_mean")) / last("input/train_std"),
            "not_finite": sum(int((~np.isfinite(series.values)).sum()) for series in curves.values()),
            "cut_off": max(0, given.max() - ended.max()) if len(given) and len(ended) else math.nan,
            "steps_back": int((np.diff(given) <= 0).sum()) if len(given) else math.nan,
        }
    return {name: float(value) for name, value in found.items()}


def sawtooth(losses: np.ndarray, epoch: int) -> float:
    """How much of the loss's ups and downs within the epochs the place in the epoch explains, 0 to 1.

    Ups and downs: of the logarithm, about a line through the epochs' means. The first quarter of the training, where
    the loss falls fastest, is left out. NaN where fewer than four epochs, or epochs of one step, leave nothing to
    compare.
    """
    rows = losses[len(losses) % epoch :].reshape(-1, epoch)
    rows = np.log(np.maximum(rows[len(rows) // 4 :], 1e-9))
    if rows.shape[0] < 4 or epoch < 2:
        return math.nan
    middles = np.arange(len(rows)) * epoch + (epoch - 1) / 2
    rows = rows - np.interp(np.arange(rows.size), middles, rows.mean(axis=1)).reshape(rows.shape)
    rows = rows[1:-1]  # beyond the first and the last middle the line is level, the loss is not
    rows = rows - rows.mean(axis=1, keepdims=True)
    spread = rows.var()
    return rows.mean(axis=0).var() / spread if spread else math.nan
