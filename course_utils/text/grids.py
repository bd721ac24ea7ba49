"""The larger experiments of notebook 06, for `python -m course_utils grid`: what to measure, and how.

The texts differ between versions of Python; results/text_*.csv were measured on MEASURED_ON.
"""

import functools
import itertools
from collections.abc import Callable, Iterable

import torch
import torch.nn as nn

from course_utils.data import few_labels
from course_utils.text.corpus import load_subjects
from course_utils.text.encoder import TextClassifier, load_tokenizer
from course_utils.text.recipes import TEXT_RATES, fine_tune_text, fit_baseline
from course_utils.text.tokens import encode, text_loader
from course_utils.training import accuracy, evaluate

MEASURED_ON = (3, 11)
CPU = torch.device("cpu")
FEW = (5, 20, 80)
OWN_RATE = 5e-3  # the best for 80 labels a class in results/text_rates.csv, on the validation modules


@functools.cache
def subjects():
    """The labelled texts, and all of them encoded."""
    data = load_subjects()
    return data, encode(load_tokenizer(), data.texts)


def rows(encoded: dict[str, torch.Tensor], indices: torch.Tensor) -> dict[str, torch.Tensor]:
    """Some of the texts that `encode` gave."""
    return {name: part[indices] for name, part in encoded.items()}


def score_text(model: nn.Module, encoded: dict[str, torch.Tensor], labels: torch.Tensor) -> float:
    loader = text_loader(encoded, labels, batch_size=64, shuffle=True)  # shuffled, it pads less
    metrics = {"accuracy": accuracy}
    return evaluate(model, loader, loss_fn=nn.CrossEntropyLoss(), device=CPU, metrics=metrics)["accuracy"]


def tuned(recipe: str, labels_per_class: int, seed: int, encoded=None, **options) -> TextClassifier:
    """The pocket encoder, fine-tuned on a draw of labels from the training modules; options as in `fine_tune_text`."""
    data, known = subjects()
    train = few_labels(data.labels, data.split.train, per_class=labels_per_class, seed=seed)
    model, _ = fine_tune_text(
        recipe, rows(encoded or known, train), data.labels[train], num_classes=6, seed=seed, device=CPU, **options
    )
    return model


def score_on_test(model: nn.Module, encoded=None) -> float:
    """Accuracy on the test modules."""
    data, known = subjects()
    return score_text(model, rows(encoded or known, data.split.test), data.labels[data.split.test])


# --- every recipe, on few labels, several seeds -----------------------------------------------------------------------


def fine_tuning_tasks() -> Iterable[dict]:
    for recipe, per_class, seed in itertools.product((*TEXT_RATES, "tf-idf"), FEW, range(3)):
        yield dict(recipe=recipe, labels_per_class=per_class, seed=seed)
    for seed in range(3):
        yield dict(recipe="full at its own rate", labels_per_class=80, seed=seed)


def measure_fine_tuning(recipe: str, labels_per_class: int, seed: int) -> list[dict]:
    """Accuracy after training on a few labels; "full at its own rate" is "full" at OWN_RATE."""
    if recipe == "full at its own rate":
        return [dict(accuracy=score_on_test(tuned("full", labels_per_class, seed, rates=(OWN_RATE, OWN_RATE))))]
    if recipe != "tf-idf":
        return [dict(accuracy=score_on_test(tuned(recipe, labels_per_class, seed)))]
    data, _ = subjects()
    train = few_labels(data.labels, data.split.train, per_class=labels_per_class, seed=seed)
    baseline = fit_baseline([data.texts[i] for i in train], data.labels[train])
    test = data.split.test
    return [dict(accuracy=baseline.score([data.texts[i] for i in test], data.labels[test]))]


# --- masks, ends and what the head reads ------------------------------------------------------------------------------

WAYS = ("mask forgotten", "8 tokens", "[CLS] alone")


def mistakes_tasks() -> Iterable[dict]:
    for way, seed in itertools.product(WAYS, range(3)):
        yield dict(way=way, labels_per_class=80, seed=seed)


def measure_mistakes(way: str, labels_per_class: int, seed: int) -> list[dict]:
    """Accuracy of full fine-tuning with padding taken for words, with ends cut off, and with [CLS] for the mean."""
    data, encoded = subjects()
    if way == "mask forgotten":
        encoded = {**encoded, "attention_mask": torch.ones_like(encoded["attention_mask"])}
    if way.endswith("tokens"):
        encoded = encode(load_tokenizer(), data.texts, max_length=int(way.split()[0]))
    pooling = "first" if way == "[CLS] alone" else "mean"
    return [dict(accuracy=score_on_test(tuned("full", labels_per_class, seed, encoded, pooling=pooling), encoded))]


# --- learning rate and warm-up ----------------------------------------------------------------------------------------


def rates_tasks() -> Iterable[dict]:
    for rate, warm_up, seed in itertools.product((2e-4, 1e-3, 5e-3), (0.0, 0.1), range(3)):
        yield dict(rate=rate, warm_up=warm_up, labels_per_class=80, seed=seed)


def measure_rates(rate: float, warm_up: float, labels_per_class: int, seed: int) -> list[dict]:
    """Accuracy on the validation modules of full fine-tuning at one rate for all layers, with or without a warm-up."""
    data, encoded = subjects()
    model = tuned("full", labels_per_class, seed, rates=(rate, rate), warm_up=warm_up)
    val = data.split.val
    return [dict(val_accuracy=score_text(model, rows(encoded, val), data.labels[val]))]


TEXT_GRIDS: dict[str, tuple[Callable, Callable]] = {
    "text_fine_tuning": (fine_tuning_tasks, measure_fine_tuning),
    "text_mistakes": (mistakes_tasks, measure_mistakes),
    "text_rates": (rates_tasks, measure_rates),
}
