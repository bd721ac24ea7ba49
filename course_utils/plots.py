"""The charts that several notebooks draw. Each line has a colour and a dash or marker of its own."""

import base64
import html
import io
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image
from sklearn.metrics import ConfusionMatrixDisplay

# Told apart with any colour vision, and each at least 3:1 against white, as WCAG 2.2 (1.4.11) asks of what carries
# meaning. They are Okabe and Ito's colours (jfly.uni-koeln.de/color), but for their orange and sky blue, which are too
# pale on white: a wine red and an indigo stand in their places.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#942D5C", "#332288", "#000000")
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 3)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def show(figure: Figure, alt: str, *, colours: int | None = None) -> None:
    """Display a figure with a text for those who do not see it, and close it.

    The output is an <img> in HTML: JupyterLab and nbconvert hand its `alt` on to a screen reader, and ignore one that
    stands in the metadata of a plain picture. colours: store so many; with 64 a chart takes a third of the bytes.
    """
    picture = io.BytesIO()
    figure.savefig(picture, format="png", bbox_inches="tight")
    plt.close(figure)
    if colours is not None:
        drawn, picture = Image.open(picture).convert("RGB"), io.BytesIO()
        drawn.quantize(colours, kmeans=1, dither=Image.Dither.NONE).save(picture, "png", optimize=True)
    source = "data:image/png;base64," + base64.b64encode(picture.getvalue()).decode()
    display({"text/html": f'<img alt="{html.escape(alt)}" src="{source}">', "text/plain": alt}, raw=True)


def plot_curves(
    curves: Mapping[str, tuple[Sequence, Sequence]],
    *,
    title: str,
    xlabel: str,
    ylabel: str,
    ax: Axes | None = None,
    markers: bool = False,
) -> Figure:
    """Lines from {name: (x, y)}, up to seven, with a legend beside them."""
    _check_count(curves)
    ax = ax or plt.subplots(figsize=(7, 3.6), layout="constrained")[1]
    for i, (name, (x, y)) in enumerate(curves.items()):
        marker = MARKERS[i % len(MARKERS)] if markers else None
        ax.plot(x, y, color=COLOURS[i % len(COLOURS)], linestyle=DASHES[i % len(DASHES)], marker=marker, label=name)
    ax.set(title=title, xlabel=xlabel, ylabel=ylabel)
    _tidy(ax)
    return ax.figure


def plot_history(history, *, title: str) -> Figure:
    """Loss and accuracy of a `training.History`, training beside validation, over epochs."""
    epochs = history["epoch"]
    measures = [measure for measure in ("loss", "accuracy") if f"train_{measure}" in history.columns]
    figure, axes = plt.subplots(1, len(measures), figsize=(9, 3.4), squeeze=False, layout="constrained")
    for ax, measure in zip(axes.flat, measures, strict=True):
        curves = {
            name: (epochs, history[f"{part}_{measure}"])
            for name, part in (("training", "train"), ("validation", "val"))
            if f"{part}_{measure}" in history.columns
        }
        plot_curves(curves, title="", xlabel="epoch", ylabel=measure, ax=ax, markers=len(epochs) <= 20)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.suptitle(title)
    return figure


def plot_spread(
    scores: Mapping[str, Mapping[float, Sequence[float]]], *, title: str, xlabel: str, ylabel: str, live=None
) -> Figure:
    """Mean and standard deviation over seeds, from {name: {x: scores}}, on a logarithmic x axis.

    live: scores of the same form, drawn as open markers over them: what was computed just now.
    """
    _check_count(scores)
    figure, ax = plt.subplots(figsize=(8, 4.2), layout="constrained")
    places = sorted({x for line in scores.values() for x in line})
    for i, (name, line) in enumerate(scores.items()):
        shift = 1.035 ** (i - (len(scores) - 1) / 2)  # side by side, so that the bars do not hide each other
        x = np.array(sorted(line))
        colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
        ax.errorbar(
            x * shift,
            [np.mean(line[at]) for at in x],
            [np.std(line[at], ddof=1) if len(line[at]) > 1 else 0 for at in x],
            color=colour,
            linestyle=DASHES[i % len(DASHES)],
            marker=marker,
            capsize=3,
            label=name,
        )
        for at, values in (live or {}).get(name, {}).items():
            ax.plot([at * shift] * len(values), values, marker, markersize=8, color=colour, fillstyle="none")
    if live:
        ax.plot([], [], "o", markersize=8, color="grey", fillstyle="none", label="open: live")
    ax.set_xscale("log")
    ax.set_xticks(places, [f"{at:g}" for at in places])
    ax.minorticks_off()
    ax.set(title=title, xlabel=xlabel, ylabel=ylabel)
    _tidy(ax)
    return figure


def plot_confusion(targets: torch.Tensor, predicted: torch.Tensor, class_names: Sequence[str], *, title: str) -> Figure:
    """How often each class (rows) was taken for each other (columns); both (N,) of class numbers."""
    figure, ax = plt.subplots(figsize=(5, 4.4), layout="constrained")
    shown = ConfusionMatrixDisplay.from_predictions(
        targets.numpy(), predicted.numpy(), labels=range(len(class_names)), display_labels=class_names,
        cmap="Blues", colorbar=False, ax=ax, xticks_rotation="vertical" if max(map(len, class_names)) > 2 else 0,
    )  # fmt: skip
    for number, count in zip(shown.text_.flat, shown.confusion_matrix.flat, strict=True):
        number.set_color("white" if shown.im_.norm(count) > 0.715 else "black")  # at least 4.5:1 against its cell
    ax.set(title=title, xlabel="predicted class", ylabel="true class")
    return figure


def plot_images(images: torch.Tensor, captions: Sequence[str] | None = None, *, title: str, columns: int = 8) -> Figure:
    """A grid of images (N, 3, H, W) between 0 and 1 (undo the normalisation first), with a caption over each."""
    if not len(images):
        raise ValueError("There are no images to show.")
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    height = 1.0 if captions is None else 1.25
    figure, axes = plt.subplots(
        rows, columns, figsize=(1.05 * columns, height * rows + 0.4), squeeze=False, layout="constrained"
    )
    for ax in axes.flat:
        ax.axis("off")
    for i, (ax, image) in enumerate(zip(axes.flat, images, strict=False)):
        ax.imshow(image.permute(1, 2, 0).cpu().numpy(), interpolation="nearest")
        if captions is not None:
            ax.set_title(captions[i], fontsize=9)
    figure.suptitle(title)
    return figure


def _check_count(lines: Mapping) -> None:
    if len(lines) > len(COLOURS):
        raise ValueError(f"{len(lines)} lines cannot be told apart: draw {len(COLOURS)} at most, or two charts.")


def _tidy(ax: Axes) -> None:
    ax.grid(alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)
    if len(ax.lines) > 1:
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
