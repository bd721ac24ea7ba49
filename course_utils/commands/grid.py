"""Remake the stored results that the notebooks show beside their live slices."""

import argparse
import csv
import functools
import io
import itertools
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from sklearn.svm import SVC
from tqdm import tqdm

from course_utils.beyond.attacks import STARTS, pgd, robust_accuracy, train_against_attacks
from course_utils.beyond.efficient import METHODS, round_frozen_to_int8, tune_part
from course_utils.beyond.federated_grids import FEDERATED_GRIDS
from course_utils.clinic import remedies
from course_utils.data import few_labels, load_digits_rgb, make_loader, random_affine, split_at_random, split_by_group
from course_utils.files import RESULTS, write_atomically
from course_utils.letters import UNSEEN_FONTS, LetterBank
from course_utils.models import build_classifier
from course_utils.pocket import load_pocket_checkpoint, pocket_input_spec
from course_utils.recipes import RATES, fine_tune
from course_utils.recommend.grids import RECOMMENDER_GRIDS
from course_utils.text.grids import TEXT_GRIDS
from course_utils.training import accuracy, evaluate

VAL_FORMS, TEST_FORMS = (7, 8), (9, 10, 11, 12, 13)
CPU = torch.device("cpu")
LETTERS_MEASURED = 1024


@functools.cache
def digits():
    """The digits and the course's split of them by form."""
    data = load_digits_rgb()
    return data, split_by_group(data.groups, val=VAL_FORMS, test=TEST_FORMS)


def tuned(recipe: str, labels_per_class: int, seed: int, **options):
    """(model, history) of fine-tuning on a draw of labels from the training forms; options are `fine_tune`'s."""
    data, split = digits()
    train = few_labels(data.labels, split.train, per_class=labels_per_class, seed=seed)
    images, labels = data.images[train], data.labels[train]
    return fine_tune(recipe, images, labels, num_classes=10, seed=seed, device=CPU, **options)


def score(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    loader = make_loader(images, labels, batch_size=256)
    metrics = {"accuracy": accuracy}
    return evaluate(model, loader, loss_fn=nn.CrossEntropyLoss(), device=CPU, metrics=metrics)["accuracy"]


def score_svm(train: torch.Tensor, test: torch.Tensor) -> float:
    """A support vector machine on the 64 pixels, the baseline without a network."""
    pixels, labels = load_digits(return_X_y=True)
    return SVC(C=10).fit(pixels[train] / 16, labels[train]).score(pixels[test] / 16, labels[test])


# --- every recipe, on few labels, several seeds -----------------------------------------------------------------------

FEW = (1, 5, 20)
VARIANTS = [(recipe, 1) for recipe in RATES] + [("probe", 0), ("gradual", 0), ("svm", 1)]


def fine_tuning_tasks() -> Iterable[dict]:
    for (recipe, freeze_bn), per_class, seed in itertools.product(VARIANTS, FEW, range(10)):
        yield dict(recipe=recipe, freeze_batch_norm=freeze_bn, labels_per_class=per_class, seed=seed)


def measure_fine_tuning(recipe: str, freeze_batch_norm: int, labels_per_class: int, seed: int) -> list[dict]:
    """Accuracy on the test forms, and on the validation forms, after training on a few labels of the other forms."""
    data, split = digits()
    if recipe == "svm":
        train = few_labels(data.labels, split.train, per_class=labels_per_class, seed=seed)
        return [dict(accuracy=score_svm(train, split.test), val_accuracy=score_svm(train, split.val))]
    batch_norm = "with its layers" if freeze_batch_norm else "moving"
    model, _ = tuned(recipe, labels_per_class, seed, batch_norm=batch_norm)
    return [
        dict(
            accuracy=score(model, data.images[split.test], data.labels[split.test]),
            val_accuracy=score(model, data.images[split.val], data.labels[split.val]),
        )
    ]


# --- does it hold for other writers? ----------------------------------------------------------------------------------


def other_writers_tasks() -> Iterable[dict]:
    for recipe, per_class, fold, seed in itertools.product(
        ("svm", "scratch", "probe", "full", "gradual"), FEW, range(7), range(3)
    ):
        yield dict(recipe=recipe, labels_per_class=per_class, fold=fold, seed=seed)


def measure_other_writers(recipe: str, labels_per_class: int, fold: int, seed: int) -> list[dict]:
    """Accuracy on forms 2 * fold and 2 * fold + 1, after training on labels from the other twelve."""
    data, _ = digits()
    tested = torch.isin(data.groups, torch.tensor([2 * fold, 2 * fold + 1]))
    test, others = tested.nonzero().flatten(), (~tested).nonzero().flatten()
    train = few_labels(data.labels, others, per_class=labels_per_class, seed=seed)
    if recipe == "svm":
        return [dict(accuracy=score_svm(train, test))]
    model, _ = fine_tune(recipe, data.images[train], data.labels[train], num_classes=10, seed=seed, device=CPU)
    return [dict(accuracy=score(model, data.images[test], data.labels[test]))]


# --- how many steps to an accuracy? -----------------------------------------------------------------------------------


def steps_tasks() -> Iterable[dict]:
    for recipe, seed in itertools.product(("scratch", "full", "gradual"), range(10)):
        yield dict(recipe=recipe, labels_per_class=20, total_steps=180, seed=seed)


def measure_steps(recipe: str, labels_per_class: int, total_steps: int, seed: int) -> list[dict]:
    """Accuracy on the validation forms after every epoch (of three steps)."""
    data, split = digits()
    val_loader = make_loader(data.images[split.val], data.labels[split.val], batch_size=256)
    _, history = tuned(recipe, labels_per_class, seed, steps=total_steps, val_loader=val_loader)
    return [
        dict(step=step, accuracy=value) for step, value in zip(history["step"], history["val_accuracy"], strict=True)
    ]


# --- the learning rate, and what is forgotten -------------------------------------------------------------------------


def learning_rates_tasks() -> Iterable[dict]:
    for rate, seed in itertools.product((1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1), range(5)):
        yield dict(rate=rate, labels_per_class=10, seed=seed)


@functools.cache
def unseen_letters() -> tuple[torch.Tensor, torch.Tensor]:
    """Letters in fonts that the pretraining never used, normalised: the old task."""
    images, labels = LetterBank(UNSEEN_FONTS).draw(LETTERS_MEASURED, torch.Generator().manual_seed(99))
    return pocket_input_spec()(images), labels


def score_old_task(model: nn.Module) -> float:
    """Accuracy on letters with the old head put back on."""
    checkpoint = load_pocket_checkpoint()
    head, model.fc = model.fc, nn.Linear(model.fc.in_features, len(checkpoint["classes"]))
    model.fc.load_state_dict({name: checkpoint["state_dict"][f"fc.{name}"] for name in ("weight", "bias")})
    result = score(model, *unseen_letters())
    model.fc = head
    return result


def measure_learning_rates(rate: float, labels_per_class: int, seed: int) -> list[dict]:
    """Accuracy on digits (validation forms) and, with the old head, on letters, after fine-tuning at one rate."""
    data, split = digits()
    model, _ = tuned("full", labels_per_class, seed, rates=(rate, rate))
    before = build_classifier("tiny_resnet", 10, weights="DEFAULT").layer4.state_dict()
    weights = [name for name in before if name.endswith("weight")]
    change = sum((model.layer4.state_dict()[name] - before[name]).square().sum() for name in weights)
    size = sum(before[name].square().sum() for name in weights)
    return [
        dict(
            digits=score(model, data.images[split.val], data.labels[split.val]),
            letters=score_old_task(model),
            layer4_change=round((change / size).sqrt().item(), 4),
        )
    ]


# --- the split that lies ----------------------------------------------------------------------------------------------

TRAINED_ON, COPIES = 300, 4


def splits_tasks() -> Iterable[dict]:
    for way, seed in itertools.product(("by form", "at random", "copies split at random"), range(15)):
        yield dict(way=way, seed=seed)


def measure_splits(way: str, seed: int) -> list[dict]:
    """Accuracy of 300 training images, dealt out in three ways: what it seems to be, and what it is.

    Every seed has another five of the 14 forms for its test. No augmentation, except for the copies themselves.
    """
    data, _ = digits()
    generator = torch.Generator().manual_seed(seed)
    new_forms = torch.isin(data.groups, torch.randperm(14, generator=generator)[:5])
    order = torch.randperm(len(data.labels), generator=generator)
    if way == "at random":
        test, others = order[: new_forms.sum()], order[new_forms.sum() :]
    else:
        test, others = order[new_forms[order]], order[~new_forms[order]]
    images, labels = data.images[others[:TRAINED_ON]], data.labels[others[:TRAINED_ON]]
    parts = {"test part": (data.images[test], data.labels[test])}
    if way == "copies split at random":
        images, labels = random_affine(images.repeat(COPIES, 1, 1, 1), generator), labels.repeat(COPIES)
        dealt = split_at_random(len(labels), val=1, test=len(labels) // 4, seed=seed)
        parts = {
            "held-out copies": (images[dealt.test], labels[dealt.test]),
            "new images, same forms": (data.images[others[TRAINED_ON:]], data.labels[others[TRAINED_ON:]]),
            "new forms": parts["test part"],
        }
        images, labels = images[dealt.train], labels[dealt.train]
    model, _ = fine_tune("full", images, labels, num_classes=10, seed=seed, device=CPU, steps=120, augment=None)
    return [dict(scored_on=name, accuracy=score(model, *part)) for name, part in parts.items()]


# --- when is it better to freeze BatchNorm in layers that train? ------------------------------------------------------

SMALL_BATCHES = {2: (1e-3, 100), 4: (1e-3, 100), 16: (3e-3, 60), 50: (3e-3, 60)}  # batch size: (rate, steps)


def batch_norm_tasks() -> Iterable[dict]:
    for batch_size, batch_norm, seed in itertools.product(SMALL_BATCHES, ("with its layers", "frozen"), range(5)):
        yield dict(batch_size=batch_size, batch_norm=batch_norm, labels_per_class=10, seed=seed)


def measure_batch_norm(batch_size: int, batch_norm: str, labels_per_class: int, seed: int) -> list[dict]:
    """Accuracy on the test forms of full fine-tuning, with BatchNorm learning from each batch or held still."""
    data, split = digits()
    rate, steps = SMALL_BATCHES[batch_size]
    options = dict(rates=(rate, rate), steps=steps, batch_size=batch_size, batch_norm=batch_norm)
    model, _ = tuned("full", labels_per_class, seed, **options)
    return [dict(accuracy=score(model, data.images[split.test], data.labels[split.test]))]


# --- less to train ----------------------------------------------------------------------------------------------------


def less_to_train_tasks() -> Iterable[dict]:
    for method, per_class, seed in itertools.product(METHODS, (5, 20), range(5)):
        yield dict(method=method, rank=4 if method == "lora" else 0, labels_per_class=per_class, seed=seed)
    for rank, seed in itertools.product((1, 2, 16), range(5)):
        yield dict(method="lora", rank=rank, labels_per_class=20, seed=seed)


def measure_less_to_train(method: str, rank: int, labels_per_class: int, seed: int) -> list[dict]:
    """Accuracy on the test forms, and once more with the frozen weights rounded to int8."""
    data, split = digits()
    train = few_labels(data.labels, split.train, per_class=labels_per_class, seed=seed)
    images, labels = data.images[train], data.labels[train]
    model = tune_part(method, images, labels, num_classes=10, seed=seed, device=CPU, rank=max(rank, 1))
    row = dict(accuracy=score(model, data.images[split.test], data.labels[split.test]))
    round_frozen_to_int8(model)
    return [dict(**row, int8_accuracy=score(model, data.images[split.test], data.labels[split.test]))]


# --- attack and defence -----------------------------------------------------------------------------------------------

ATTACKED_WITH = (8, 16)  # in 255ths of the range of a pixel


def robustness_tasks() -> Iterable[dict]:
    for start, trained_with, seed in itertools.product(STARTS, (0, 16, 32), range(3)):
        yield dict(start=start, trained_with=trained_with, labels_per_class=20, seed=seed)


def measure_robustness(start: str, trained_with: int, labels_per_class: int, seed: int) -> list[dict]:
    """Accuracy on the test forms: all of their images untouched, every second one under PGD of 20 steps."""
    data, split = digits()
    train = few_labels(data.labels, split.train, per_class=labels_per_class, seed=seed)
    pixels = pocket_input_spec().undo(data.images)
    options = dict(epsilon=trained_with / 255, num_classes=10, seed=seed, device=CPU)
    model = train_against_attacks(start, pixels[train], data.labels[train], **options)
    rows, some = [dict(epsilon=0, accuracy=score(model, pixels[split.test], data.labels[split.test]))], split.test[::2]
    for epsilon in ATTACKED_WITH:
        attack = functools.partial(pgd, epsilon=epsilon / 255, steps=20)
        rows.append(dict(epsilon=epsilon, accuracy=robust_accuracy(model, pixels[some], data.labels[some], attack)))
    return rows


GRIDS: dict[str, tuple[Callable, Callable]] = {
    "fine_tuning": (fine_tuning_tasks, measure_fine_tuning),
    "other_writers": (other_writers_tasks, measure_other_writers),
    "steps": (steps_tasks, measure_steps),
    "learning_rates": (learning_rates_tasks, measure_learning_rates),
    "splits": (splits_tasks, measure_splits),
    "batch_norm": (batch_norm_tasks, measure_batch_norm),
    "less_to_train": (less_to_train_tasks, measure_less_to_train),
    "robustness": (robustness_tasks, measure_robustness),
    "remedies": (remedies.remedies_tasks, remedies.measure_remedies),
    "costs": (remedies.costs_tasks, remedies.measure_costs),
    **RECOMMENDER_GRIDS,
    **FEDERATED_GRIDS,
    **TEXT_GRIDS,
}


def rows_of(name: str, task: dict) -> list[dict]:
    """Measure one entry of a grid: the rows that stand in its file. One thread, so that it can be repeated."""
    torch.set_num_threads(1)
    measured = GRIDS[name][1](**task)
    return [
        {column: round(value, 4) if isinstance(value, float) else value for column, value in {**task, **row}.items()}
        for row in measured
    ]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which grids: {', '.join(GRIDS)} (default: all)")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="where to (default: results)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes at once (default: one a core)")
    parser.add_argument("--force", action="store_true", help="replace files that exist")


def run(args: argparse.Namespace) -> int:
    """Measure the grids and write one CSV file each."""
    if unknown := set(args.names) - set(GRIDS):
        raise ValueError(f"There is no grid {', '.join(sorted(unknown))}. There are: {', '.join(GRIDS)}.")
    for name in args.names or GRIDS:
        target = args.out / f"{name}.csv"
        if target.exists() and not args.force:
            raise FileExistsError(f"{target.name} exists already: pass --force to replace it, or --out another folder.")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=args.jobs, mp_context=context) as pool:
        for name in args.names or GRIDS:
            tasks = list(GRIDS[name][0]())
            results = pool.map(functools.partial(rows_of, name), tasks)
            bar = tqdm(results, desc=name, total=len(tasks), file=sys.stderr)
            rows = [row for rows in bar for row in rows]
            text = io.StringIO()
            writer = csv.DictWriter(text, fieldnames=rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
            write_atomically(args.out / f"{name}.csv", text.getvalue().encode())
            print(f"{name}.csv: {len(rows)} rows")
    return 0
