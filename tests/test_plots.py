"""Charts: drawn without a warning, labelled, told apart without colour, and described to those who do not see them."""

import base64
import html
import io
import itertools
import re
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.pylabtools import select_figure_formats
from IPython.utils.capture import capture_output
from matplotlib.colors import to_hex
from PIL import Image
from traitlets.config import Config

from course_utils.plots import COLOURS, plot_confusion, plot_curves, plot_history, plot_images, plot_spread, show
from course_utils.training import History

LABELS = dict(title="More labels help", xlabel="labels a class", ylabel="accuracy")


@pytest.fixture(autouse=True)
def no_warnings_and_no_figures_left():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    plt.close("all")


def drawn(figure):
    figure.canvas.draw()
    return figure


def curves(count):
    return {f"run {i}": (range(1, 11), np.linspace(1, 0.1 * i, 10)) for i in range(count)}


def history(columns=("train_loss", "train_accuracy", "val_loss", "val_accuracy"), epochs=4):
    rows = []
    for epoch in range(1, epochs + 1):
        rows.append({"epoch": epoch, "step": 3 * epoch, **{name: 1 / (epoch + i) for i, name in enumerate(columns)}})
    return History(epochs=rows)


def spread(count):
    return {f"recipe {i}": {n: [0.5 + 0.05 * i, 0.6 + 0.05 * i] for n in (1, 5, 20)} for i in range(count)}


def named_lines(ax):
    return [line for line in ax.lines if not line.get_label().startswith("_")]


def assert_told_apart(lines):
    """Each pair differs in its colour, and in its dashes or its marker too."""
    looks = [(to_hex(line.get_color()), line._unscaled_dash_pattern, line.get_marker()) for line in lines]
    for (colour, *style), (other_colour, *other_style) in itertools.combinations(looks, 2):
        assert colour != other_colour and style != other_style


# --- the charts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("markers", [True, False])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_curves_are_labelled_and_told_apart(count, markers):
    figure = drawn(plot_curves(curves(count), markers=markers, **LABELS))
    (ax,) = figure.axes
    assert (ax.get_title(), ax.get_xlabel(), ax.get_ylabel()) == tuple(LABELS.values())
    assert [line.get_label() for line in ax.lines] == list(curves(count))
    assert_told_apart(ax.lines)
    for line, (x, y) in zip(ax.lines, curves(count).values(), strict=True):
        assert line.get_xdata().tolist() == list(x) and line.get_ydata().tolist() == list(y)


@pytest.mark.parametrize(
    "draw",
    [lambda: plot_curves(curves(3), **LABELS), lambda: plot_spread(spread(3), **LABELS)],
    ids=["curves", "spread"],
)
def test_the_legend_stands_beside_the_data_and_within_the_picture(draw):
    figure = drawn(draw())
    (ax,) = figure.axes
    legend = ax.get_legend().get_window_extent()
    assert legend.x0 >= ax.get_window_extent().x1
    assert legend.x1 <= figure.bbox.x1 and legend.y0 >= 0 and legend.y1 <= figure.bbox.y1
    assert len(ax.get_legend().get_texts()) == 3


def test_curves_can_be_drawn_into_a_larger_picture():
    figure, axes = plt.subplots(1, 2, layout="constrained")
    assert plot_curves(curves(2), ax=axes[1], **LABELS) is figure
    assert not axes[0].lines and len(axes[1].lines) == 2


@pytest.mark.parametrize("epochs", [1, 4, 30])
def test_a_history_shows_loss_and_accuracy_side_by_side(epochs):
    record = history(epochs=epochs)
    figure = drawn(plot_history(record, title="The gap opens"))
    assert figure.get_suptitle() == "The gap opens"
    assert [(ax.get_xlabel(), ax.get_ylabel()) for ax in figure.axes] == [("epoch", "loss"), ("epoch", "accuracy")]
    for ax, measure in zip(figure.axes, ("loss", "accuracy"), strict=True):
        assert [line.get_label() for line in ax.lines] == ["training", "validation"]
        assert_told_apart(ax.lines)
        for line, part in zip(ax.lines, ("train", "val"), strict=True):
            assert line.get_xdata().tolist() == list(range(1, epochs + 1))
            assert line.get_ydata().tolist() == record[f"{part}_{measure}"]


def test_a_history_without_validation_shows_the_training_alone():
    figure = drawn(plot_history(history(("train_loss", "train_accuracy")), title="Training"))
    assert [[line.get_label() for line in ax.lines] for ax in figure.axes] == [["training"]] * 2


@pytest.mark.parametrize("count", [1, 3, 7])
def test_a_spread_shows_mean_and_standard_deviation(count):
    scores = {**spread(count), "recipe 0": {1: [0.2, 0.4, 0.9], 5: [0.7], 20: [0.8, 0.8]}}
    figure = drawn(plot_spread(scores, **LABELS))
    (ax,) = figure.axes
    assert (ax.get_title(), ax.get_xlabel(), ax.get_ylabel()) == tuple(LABELS.values())
    assert ax.get_xscale() == "log"
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["1", "5", "20"]
    assert_told_apart([bars.lines[0] for bars in ax.containers])
    assert [bars.get_label() for bars in ax.containers] == list(scores)

    line, _, (bars,) = ax.containers[0].lines
    assert line.get_ydata().tolist() == pytest.approx([0.5, 0.7, 0.8])
    (low, high), (alone_low, alone_high), _ = ([y for _, y in bar] for bar in bars.get_segments())
    assert (high - low) / 2 == pytest.approx(np.std([0.2, 0.4, 0.9], ddof=1))
    assert alone_low == alone_high == pytest.approx(0.7), "one seed has no spread"


def test_live_points_are_open_markers_at_the_place_of_their_line():
    figure = drawn(plot_spread(spread(2), live={"recipe 1": {5: [0.4, 0.45, 0.5]}}, **LABELS))
    (ax,) = figure.axes
    stored = ax.containers[1].lines[0]
    live, key = (line for line in ax.lines if line.get_fillstyle() == "none")
    assert key.get_label() == "open: live" and not len(key.get_xdata())
    assert live.get_ydata().tolist() == [0.4, 0.45, 0.5]
    assert set(live.get_xdata()) == {stored.get_xdata()[1]}
    assert live.get_color() == stored.get_color() and live.get_marker() == stored.get_marker()
    assert len(ax.get_legend().get_texts()) == 3


@pytest.mark.parametrize("names", [tuple("012"), ("airplane", "automobile", "bird")], ids=["digits", "words"])
def test_a_confusion_matrix_counts_by_true_row_and_predicted_column(names):
    targets, predicted = torch.tensor([0, 0, 0, 1, 2]), torch.tensor([0, 1, 1, 1, 0])
    figure = drawn(plot_confusion(targets, predicted, names, title="Two of three zeros are lost"))
    (ax,) = figure.axes
    assert ax.images[0].get_array().tolist() == [[1, 2, 0], [0, 1, 0], [1, 0, 0]]
    assert [text.get_text() for text in ax.texts] == list("120010100")
    assert (ax.get_title(), ax.get_xlabel()) == ("Two of three zeros are lost", "predicted class")
    assert ax.get_ylabel() == "true class"
    for labels in (ax.get_xticklabels(), ax.get_yticklabels()):
        assert [label.get_text() for label in labels] == list(names)
    boxes = [label.get_window_extent() for label in ax.get_xticklabels()]
    assert all(left.x1 <= right.x0 for left, right in itertools.pairwise(boxes)), "labels do not overlap"


def test_a_class_that_does_not_occur_keeps_its_row():
    figure = drawn(plot_confusion(torch.tensor([0, 2]), torch.tensor([0, 2]), "abcd", title="Two classes"))
    assert figure.axes[0].images[0].get_array().shape == (4, 4)


def test_more_lines_than_can_be_told_apart_are_refused():
    for draw in (lambda: plot_curves(curves(8), **LABELS), lambda: plot_spread(spread(8), **LABELS)):
        with pytest.raises(ValueError, match="8 lines cannot be told apart"):
            draw()


def test_a_history_without_accuracy_has_one_chart():
    figure = drawn(plot_history(history(("train_loss", "val_loss")), title="Reconstruction"))
    assert [ax.get_ylabel() for ax in figure.axes] == ["loss"]


def test_no_images_are_refused():
    with pytest.raises(ValueError, match="no images"):
        plot_images(torch.rand(0, 3, 8, 8), title="None")


@pytest.mark.parametrize(("count", "grid"), [(1, 1), (8, 8), (9, 16), (20, 24)])
@pytest.mark.parametrize("captioned", [True, False])
def test_images_stand_in_a_grid_with_their_captions(count, grid, captioned):
    images = torch.rand(count, 3, 8, 8)
    captions = [f"{i} as 7" for i in range(count)] if captioned else None
    figure = drawn(plot_images(images, captions, title="Mistaken for a 7"))
    assert figure.get_suptitle() == "Mistaken for a 7"
    assert len(figure.axes) == grid and not any(ax.axison for ax in figure.axes)
    shown = [ax for ax in figure.axes if ax.images]
    assert len(shown) == count
    for i, ax in enumerate(shown):
        assert np.array_equal(ax.images[0].get_array(), images[i].permute(1, 2, 0).numpy())
        assert ax.get_title() == (captions[i] if captioned else "")


# --- the description ------------------------------------------------------------------------------------------------


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """What a notebook's kernel does with a figure: a shell that turns it into a picture."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    InteractiveShell.clear_instance()
    settings = Config()
    settings.HistoryManager.enabled = False
    shell = InteractiveShell.instance(config=settings)
    select_figure_formats(shell, {"png"})
    yield shell
    InteractiveShell.clear_instance()


def shown(figure=None, **options):
    """What `show` hands to the front end for a figure, or for one of two lines, by kind."""
    figure = figure or plot_curves(curves(2), **LABELS)
    with capture_output() as output:
        show(figure, 'Two lines; "b" < 1 is <dashed> & ends lower.', **options)
    (displayed,) = output.outputs
    return displayed.data


def picture_in(data):
    (source,) = re.findall(r'<img alt="[^"<>]*" src="data:image/png;base64,([^"]+)">', data["text/html"])
    return Image.open(io.BytesIO(base64.b64decode(source)))


def test_a_shown_figure_is_one_picture_with_its_description_and_is_closed(notebook):
    data = shown()
    assert data.keys() == {"text/html", "text/plain"}
    alt = re.search(r'alt="([^"]*)"', data["text/html"])[1]
    assert html.unescape(alt) == data["text/plain"] == 'Two lines; "b" < 1 is <dashed> & ends lower.'
    assert picture_in(data).format == "PNG"
    assert not plt.get_fignums(), "or the notebook would show it a second time"


def test_a_picture_of_few_colours_takes_fewer_bytes(notebook):
    full, few = shown(), shown(colours=32)
    assert picture_in(few).size == picture_in(full).size
    assert len(picture_in(few).convert("RGB").getcolors()) <= 32
    assert len(few["text/html"]) < 0.5 * len(full["text/html"])


def test_few_colours_are_those_of_the_series(notebook):
    """Numerals in 3D have more soft edges than insides: a palette made of the edges turned the pink into an orange."""

    def clouds():
        figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), subplot_kw={"projection": "3d"})
        numbers = np.random.default_rng(0)
        for ax, digit in itertools.product(axes, range(10)):
            points = numbers.normal(2 * numbers.normal(size=3), 1, (36, 3))
            ax.plot(*points.T, linestyle="", marker=f"${digit}$", color=COLOURS[digit % 7])
        return figure

    full, few = (np.array(picture_in(shown(clouds(), **options)).convert("RGB")) for options in ({}, {"colours": 64}))
    for colour in COLOURS:
        wanted = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)])
        assert np.abs(few[(full == wanted).all(axis=-1)] - wanted).max() < 10, colour
