"""A patient at a glance: six curves beside those of healthy runs, and what the curves leave out."""

import functools
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from course_utils.clinic.diagnoses import number
from course_utils.clinic.patients import CLINIC, SHIPPED_SEEDS, find
from course_utils.plots import COLOURS, DASHES, show
from course_utils.tracking import Series, read_scalars

PANELS = {  # tag -> (title, logarithmic?)
    "loss/step": ("loss of each step", True),
    "loss/val": ("validation loss", True),
    "accuracy/val": ("validation accuracy", False),
    "accuracy/train": ("training accuracy", False),
    "gradient/norm": ("norm of the gradient", True),
    "update/backbone": ("step length, backbone", True),
}

# The sick run, its healed one, a third: they stay apart from one another, and from the band behind them.
LINES = (COLOURS[1], COLOURS[0], COLOURS[6])
BAND = {"facecolor": "#E8E8E8", "edgecolor": "#767676", "linewidth": 0.5}


@functools.cache
def healthy_curves() -> list[dict[str, Series]]:
    """The curves of the healthy runs whose logs ship."""
    return [read_scalars(CLINIC / "healthy" / f"seed-{seed:02}") for seed in SHIPPED_SEEDS]


def show_patient(name: str) -> None:
    """Display a patient's curves, beside those of its healed run and of healthy ones, and what they leave out.

    The picture has 64 colours: nineteen of them lie in one notebook. Raises ValueError for an unknown patient.
    """
    show(plot_patient(name), alt=describe(name), colours=64)
    print(bedside(find(name).sick_run))


def describe(name: str) -> str:
    """The six panels in words: where each curve begins and ends, and where healthy ones end."""
    curves, parts = read_scalars(find(name).sick_run), []
    for tag, (panel, _) in PANELS.items():
        ends = [healthy[tag].values[-1] for healthy in healthy_curves()]
        first, last = (number(float(curves[tag].values[at])) for at in (0, -1)) if tag in curves else ("none", "none")
        parts.append(f"{panel} from {first} to {last}, healthy runs end at {number(min(ends))} to {number(max(ends))}")
    return f"Six curves of {name}, with its healed run dashed, over the grey range of healthy runs: {'; '.join(parts)}."


def plot_patient(name: str, *, healed: bool = True) -> Figure:
    """Six curves of a patient: sick, healed where wanted, and in grey the range of five healthy runs.

    Raises ValueError for an unknown patient.
    """
    patient = find(name)
    runs = {name: read_scalars(patient.sick_run)}
    if healed:
        runs["healed"] = read_scalars(patient.healed_run)
    return plot_beside_healthy(runs, title=f"{name}: “{patient.card}”")


def plot_beside_healthy(runs: dict[str, dict[str, Series]], *, title: str) -> Figure:
    """Six panels with the curves {run: {tag: Series}} of up to three runs over the grey range of healthy ones."""
    figure, axes = plt.subplots(2, 3, figsize=(9.2, 3.7), dpi=96, layout="constrained")
    for (tag, (panel, logarithmic)), ax in zip(PANELS.items(), axes.flat, strict=True):
        draw_panel(ax, tag, runs)
        ax.set_title(panel, fontsize=9)
        ax.tick_params(labelsize=8)
        ax.grid(alpha=0.3)
        ax.spines[["top", "right"]].set_visible(False)
        if logarithmic:
            ax.set_yscale("log")
        else:
            ax.set_ylim(-0.02, 1.04)
    for ax in axes[1]:
        ax.set_xlabel("step", fontsize=8)
    figure.suptitle(title, fontsize=10)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=8)
    return figure


def draw_panel(ax: Axes, tag: str, runs: dict[str, dict[str, Series]]) -> None:
    """One curve of each run, over the range of the healthy ones; a logarithmic scale leaves out 0."""
    healthy = [curves[tag] for curves in healthy_curves()]
    values = np.array([series.values for series in healthy])
    ax.fill_between(healthy[0].steps, values.min(axis=0), values.max(axis=0), **BAND, label="healthy, 5 seeds")
    for i, (name, curves) in enumerate(runs.items()):
        steps, values = curves[tag].steps, np.array(curves[tag].values, dtype=float)
        if PANELS[tag][1]:
            values = np.where(values > 0, values, np.nan)
        ax.plot(steps, values, color=LINES[i], linestyle=DASHES[i], linewidth=1.6, label=name)


def bedside(run_dir: Path | str) -> str:
    """What the six curves of a run leave out: how much was logged, and other values of the last epoch.

    Raises FileNotFoundError where there is no event file, ValueError for a log that `ward.Monitor` did not write.
    """
    curves = read_scalars(run_dir)
    if missing := {"loss/step", "relu/dead", "input/val_mean"} - set(curves):
        raise ValueError(f"The log lacks {', '.join(sorted(missing))}: train with clinic.Training, which logs them.")
    steps, last = curves["loss/step"].steps, {tag: series.values[-1] for tag, series in curves.items()}
    return (
        f"{len(steps)} losses logged, up to step {steps.max()}. Last epoch: "
        f"worst class {last['accuracy/worst_class']:.0%}; "
        f"channels that are always 0: {last['relu/dead']:.0%};\nBatchNorm's means have moved by "
        f"{last['batch_norm/drift']:.2f} deviations, "
        f"in the first epoch by {curves['batch_norm/drift'].values[0]:.3f};\n"
        f"inputs (mean ± deviation): training {last['input/train_mean']:.2f} ± {last['input/train_std']:.2f}, "
        f"validation {last['input/val_mean']:.2f} ± {last['input/val_std']:.2f}."
    )
