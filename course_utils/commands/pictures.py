"""Draw the course's own pictures again: the journey, the first fine-tuning, the letters, the decision chart."""

import argparse
import io
import textwrap
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from course_utils.clinic import CHART, QUESTIONS
from course_utils.commands.pretrain import contact_sheet
from course_utils.data import few_labels, load_digits_rgb, make_loader, split_by_group
from course_utils.device import seed_everything, use_cpu_threads
from course_utils.files import write_atomically
from course_utils.models import build_classifier
from course_utils.plots import COLOURS, DASHES, MARKERS
from course_utils.training import History, accuracy, fit

# The first fine-tuning, as notebooks/00_start_here.ipynb runs it; a test holds the two together.
SETTINGS = {"per_class": 5, "learning_rate": 3e-3, "batch_size": 10, "epochs": 12}
SEEDS = (0, 1, 2)
DOTS_PER_INCH = 110
GREY = "#555555"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m course_utils pictures`."""
    parser.add_argument("--only", choices=PICTURES, help="draw this one alone (default: all)")
    parser.add_argument(
        "--out", type=Path, default=Path("images"), metavar="FOLDER", help="where they go (default: images)"
    )


def run(args: argparse.Namespace) -> int:
    """Draw the pictures into the folder, over what is there. Raises ValueError where the folder is a file."""
    if args.out.exists() and not args.out.is_dir():
        raise ValueError(f"{args.out} is a file. Name a folder.")
    for name in [args.only] if args.only else PICTURES:
        target = args.out / f"{name}.png"
        write_atomically(target, PICTURES[name]())
        print(f"Drew {target}.", flush=True)
    return 0


def png(figure: Figure) -> bytes:
    """The figure as a PNG file that names no program and no time, so that the same drawing gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


# Boxes of the diagram: name -> (centre x, centre y, width, height, title, text). Units: a tenth of an inch.
BOXES = {
    "pretrained": (11.5, 42, 21, 9, "Pretrained weights", "learned on another task"),
    "data": (44, 56, 24, 8, "Training batch", "images and their labels"),
    "network": (44, 42, 24, 10, "Network", "pretrained backbone,\nnew head"),
    "loss": (84, 42, 24, 9, "Loss", "one number: how wrong"),
    "update": (48, 27.5, 22, 9, "Parameter update", "optimiser, learning rate"),
    "test": (11.5, 7, 21, 10, "Test result", "measured once,\nat the very end"),
    "accuracy": (40, 7, 24, 10, "Accuracy", "measured on validation\nimages, every epoch"),
    "log": (84, 7, 24, 10, "Event file", "written by tensorboardX,\ndrawn by TensorBoard"),
    "you": (65, 16.5, 20, 8, "You", "read, judge, choose"),
}
# Arrows: from (x, y), to (x, y), curvature, solid (it makes the new weights) or dashed (it only measures),
# a label and its place.
ARROWS = (
    ((22, 42), (32, 42), 0, True, "start", (27, 43.4)),
    ((44, 52), (44, 47), 0, True, "images", (48, 49.7)),
    ((56, 56), (84, 46.5), -0.25, True, "labels", (77, 55.5)),
    ((56, 42), (72, 42), 0, True, "logits", (64, 43.4)),
    ((80, 37.5), (59, 27.5), -0.25, True, "gradient", (69, 31)),
    ((48, 32), (48, 37), 0, True, "new weights", (54.5, 34.3)),
    ((34, 37), (34, 12), 0, False, "", (0, 0)),
    ((32, 39), (11.5, 12), 0.25, False, "", (0, 0)),
    ((52, 6), (72, 6), 0, False, "", (0, 0)),
    ((88, 37.5), (88, 12), 0, False, "", (0, 0)),
    ((79, 12), (75, 16.5), 0.25, False, "", (0, 0)),
    ((55, 16.5), (48, 23), -0.25, False, "settings", (48, 17.5)),
)


def journey() -> bytes:
    """The concept diagram of 00_start_here: what makes the new weights, and what only measures."""
    figure = Figure(figsize=(9.7, 6.1))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, 97), ylim=(0, 61))
    axes.set_axis_off()
    for name, (x, y, width, height, title, text) in BOXES.items():
        measures = name in ("test", "accuracy", "log", "you")
        box = FancyBboxPatch(
            (x - width / 2, y - height / 2), width, height, boxstyle="round,pad=0,rounding_size=1.2",
            facecolor="#F4F4F4" if measures else "#DCEBF7", edgecolor=GREY if measures else COLOURS[0],
            linestyle="--" if measures else "-", linewidth=1.5,
        )  # fmt: skip
        axes.add_patch(box)
        lines = text.count("\n") + 1
        axes.text(x, y + 0.8 + 0.8 * lines, title, fontsize=12, weight="bold", ha="center", va="center")
        axes.text(x, y - 1.6, text, fontsize=9.5, ha="center", va="center", linespacing=1.15)
    for start, end, curve, solid, label, place in ARROWS:
        arrow = FancyArrowPatch(
            start, end, connectionstyle=f"arc3,rad={curve}", arrowstyle="-|>", mutation_scale=16, linewidth=1.8,
            color=COLOURS[0] if solid else GREY, linestyle="-" if solid else (0, (4, 3)), shrinkA=0, shrinkB=0,
        )  # fmt: skip
        axes.add_patch(arrow)
        if label:
            axes.text(*place, label, fontsize=10, style="italic", ha="center", va="center")
    for y, colour, dashes, text in (
        (58, COLOURS[0], "-", "makes the new weights"),
        (54.5, GREY, "--", "only measures"),
    ):
        axes.plot([1.5, 6.5], [y, y], color=colour, linestyle=dashes, linewidth=1.8)
        axes.text(7.5, y, text, fontsize=10.5, color=colour, va="center")
    return png(figure)


def first_fine_tuning() -> bytes:
    """The README's picture: the first fine-tuning of 00_start_here beside the same training from scratch."""
    use_cpu_threads(1)
    runs = {
        "from pretrained weights": [train(weights="DEFAULT", seed=seed) for seed in SEEDS],
        "from scratch": [train(weights=None, seed=seed) for seed in SEEDS],
    }
    return png(draw_runs(runs))


def train(*, weights: str | None, seed: int) -> History:
    """One training of the pocket network on a few handwritten digits, checked on two forms that it does not see."""
    digits = load_digits_rgb()
    split = split_by_group(digits.groups, val=(7, 8), test=(9, 10, 11, 12, 13))
    few = few_labels(digits.labels, split.train, per_class=SETTINGS["per_class"], seed=seed)
    seed_everything(seed)
    model = build_classifier("tiny_resnet", 10, weights=weights)
    return fit(
        model,
        make_loader(digits.images[few], digits.labels[few], batch_size=SETTINGS["batch_size"], shuffle=True, seed=seed),
        make_loader(digits.images[split.val], digits.labels[split.val], batch_size=256),
        loss_fn=torch.nn.CrossEntropyLoss(),
        optimizer=torch.optim.AdamW(model.parameters(), lr=SETTINGS["learning_rate"]),
        device="cpu",
        epochs=SETTINGS["epochs"],
        metrics={"accuracy": accuracy},
        progress=False,
    )


def draw_runs(runs: Mapping[str, list[History]]) -> Figure:
    """Validation loss and accuracy over epochs: each run as a thin line, the mean of a group as a thick one."""
    figure = Figure(figsize=(9.6, 3.9), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, measure, title in zip(panels, ("loss", "accuracy"), ("Loss", "Accuracy"), strict=True):
        for i, (name, histories) in enumerate(runs.items()):
            epochs, lines = histories[0]["epoch"], np.array([history[f"val_{measure}"] for history in histories])
            axes.plot(epochs, lines.T, color=COLOURS[i], linestyle=DASHES[i], linewidth=0.8)
            axes.plot(
                epochs,
                lines.mean(0),
                color=COLOURS[i],
                linestyle=DASHES[i],
                marker=MARKERS[i],
                linewidth=2.2,
                label=name,
            )
        axes.set(title=f"{title} on two unseen forms", xlabel="epoch", ylabel=measure, xticks=epochs[1::2])
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylim(bottom=0)
    panels[1].set_ylim(0, 1)
    panels[1].axhline(0.1, color=GREY, linewidth=1, linestyle=":")
    panels[1].annotate("guessing", (epochs[-1], 0.1), xytext=(0, 4), textcoords="offset points", ha="right", fontsize=9)
    figure.suptitle(f"A network learns ten handwritten digits from {10 * SETTINGS['per_class']} labelled images")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    return figure


def decision_chart() -> Figure:
    """The clinic's questions from top to bottom, and for each answer "no" what shows, what proves it, what cures it."""
    row, gap, columns = 2.6, 1.6, (28.4, 48.4, 68.2, 88.2)  # centres of the columns; units: a tenth of an inch
    rows = {question: max(len(names), 1.5) for question, names in QUESTIONS.items()}  # a question takes two lines
    height = row * sum(rows.values()) + gap * len(QUESTIONS) + 6
    figure = Figure(figsize=(10, height / 10))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, 100), ylim=(0, height))
    axes.set_axis_off()
    top = height - 3
    for x, head in zip(columns, ("Diagnosis", "Symptom", "Test", "Cure"), strict=True):
        axes.text(x, top, head, fontsize=12, weight="bold", ha="center", va="center")
    top -= 2.5
    for i, (question, names) in enumerate(QUESTIONS.items()):
        bottom = top - row * rows[question]
        middle = (top + bottom) / 2
        for x, width, colour in ((9.5, 17, "#F4F4F4"), (58.5, 80, "#DCEBF7")):
            axes.add_patch(
                FancyBboxPatch(
                    (x - width / 2, bottom), width, top - bottom, boxstyle="round,pad=0,rounding_size=0.8",
                    facecolor=colour, edgecolor=GREY if x < 10 else COLOURS[0], linewidth=1.2,
                )
            )  # fmt: skip
        lines = textwrap.wrap(f"{i + 1}. {question}", 24)
        axes.text(9.5, middle, "\n".join(lines), fontsize=9, ha="center", va="center")
        if i + 1 < len(QUESTIONS):
            arrow = FancyArrowPatch((9.5, bottom), (9.5, bottom - gap), arrowstyle="-|>", mutation_scale=9, color=GREY)
            axes.add_patch(arrow)
        for place, name in enumerate(names):
            y = middle - row * (place + 0.5 - len(names) / 2)
            for x, text in zip(columns, (name, *CHART[name]), strict=True):
                bold = "bold" if text == name else "normal"
                axes.text(x, y, text, fontsize=9, weight=bold, ha="center", va="center")
        top = bottom - gap
    return figure


PICTURES = {
    "decision_chart": lambda: png(decision_chart()),
    "journey": journey,
    "first_fine_tuning": first_fine_tuning,
    "letters": lambda: contact_sheet(seed=0),
}
