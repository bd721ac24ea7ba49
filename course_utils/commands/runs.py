"""List the runs below a folder, with the last and the best value of each scalar, without TensorBoard."""

from __future__ import annotations

import argparse
import csv
import io
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from course_utils.events import Series, event_files, read_events, scalars_of
from course_utils.files import write_atomically

# What the words of a scalar's name say of its best value.
SMALLEST = re.compile(
    "loss|losses|logloss|mlogloss|error|errors|err|merror|perplexity|ppl|nll|crossentropy|bce|mse|rmse|rmsle|mae|mape|"
    "smape|wer|cer|eer|bpc|bpb|fid|brier|ece"
)
LARGEST = re.compile(
    "accuracy|accuracies|acc|precision|recall|sensitivity|specificity|auc|auroc|auprc|f1|f2|ap|map|iou|miou|dice|bleu|"
    "rouge|rougel|hit|hits|ndcg|mrr|r2|mcc|kappa|psnr|ssim|likelihood"
)
NEUTRAL = re.compile(  # they say nothing of it
    "train|training|val|valid|validation|eval|evaluation|test|dev|steps?|epochs?|batch|iter|iterations?|vs|mean|avg|"
    "average|total|sum|min|max|running|moving|ema|smoothed|smooth|best|last|final|overall|global|local|main|all|class|"
    "classes|worst|macro|micro|weighted|top|at|k|per|samples?|examples?|tokens?|score|rate|value|metrics?|hparams|"
    "dataloader|idx|b|m|ovr|ovo"  # of Lightning's loaders, Ultralytics' boxes and masks, and scikit-learn's AUC
)
OTHER = re.compile(  # they turn the meaning round, or make it another quantity: a loss's scale, a gradient's norm
    "1?[ _]*-|neg|negative|negated|minus|inverse|grads?|gradients?|norms?|scale|scaler|weights?|lr|learning|std|stdev|"
    "stddev|var|variance|gap|diff|difference|delta|change|drop|ratio|count|number|num|time|seconds|threshold"
)
COLUMNS = ("run", "scalar", "points", "last_step", "last", "best", "best_step", "seconds")


class Run(NamedTuple):
    """What the event files of one directory hold."""

    name: str
    scalars: dict[str, Series]
    hparams: dict[str, object]
    seconds: float  # from the first event of each file to its last, added up: breaks between them do not count
    unread: int  # bytes that are no whole record


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", nargs="?", type=Path, default=Path("runs"), help="where to look (default runs)")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the table to a file, too")


def run(args: argparse.Namespace) -> int:
    """Print the table, and what is to be said of single runs. Raises FileNotFoundError for a folder that is not."""
    if not args.folder.is_dir():
        raise FileNotFoundError(
            f"There is no folder {args.folder} here. Name another one; the lessons write to notebooks/runs: "
            "python -m course_utils runs notebooks/runs"
        )
    runs = find_runs(args.folder)
    if not runs:
        print(f"There is no run below {args.folder}: no folder in it holds an event file (events.out.tfevents...).")
        return 0
    rows = [row for found in runs for row in rows_of(found)]
    print(as_text(rows))
    print("\nbest: the smallest loss or error, the largest accuracy; none where the name of the scalar does not tell.")
    for found in runs:
        if found.hparams:
            print(f"{found.name}: {', '.join(f'{name}={shown(value)}' for name, value in found.hparams.items())}")
        if found.unread:
            print(
                f"{found.name}: reading stopped {found.unread:,} bytes before the end of a file, at what is no whole "
                "record. It is being written, its writer was killed, or it is damaged (a checksum is wrong)."
            )
    if args.csv:
        lines = io.StringIO(newline="")
        writer = csv.DictWriter(lines, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(args.csv, lines.getvalue().encode("utf-8", errors="backslashreplace"))
    return 0


def find_runs(folder: Path) -> list[Run]:
    """Every directory from `folder` down that holds event files, by name, with run-2 before run-10.

    A link to a directory counts as one, under the link's name. One that leads back to where it lies is left out: it
    has no end.
    """
    names = {}
    for place, inner, _ in os.walk(folder, followlinks=True):
        directory = Path(place)
        if event_files(directory):
            names[directory.relative_to(folder).as_posix()] = directory
        above = {path.resolve() for path in (directory, *directory.parents)}
        inner[:] = [name for name in inner if (directory / name).resolve() not in above]
    return [read_run(names[name], name) for name in sorted(names, key=_natural)]


def _natural(name: str) -> list[str]:
    return [part.zfill(20) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def read_run(directory: Path, name: str) -> Run:
    parts = [read_events(file) for file in event_files(directory)]
    events = [event for found, _ in parts for event in found]
    times = [[event.wall_time for event in found] for found, _ in parts if found]
    seconds = sum(max(of_file) - min(of_file) for of_file in times)
    return Run(name, scalars_of(events), hparams_of(events), seconds, sum(unread for _, unread in parts))


def hparams_of(events: Iterable[Event]) -> dict[str, object]:
    """What RunLogger.log_hparams or SummaryWriter.add_hparams has written: {name: number, text or bool}."""
    hparams = {}
    for event in events:
        for value in event.summary.value:
            if value.tag == "_hparams_/session_start_info":
                data = HParamsPluginData.FromString(value.metadata.plugin_data.content)
                chosen = data.session_start_info.hparams
                hparams |= {name: getattr(kept, kept.WhichOneof("kind")) for name, kept in sorted(chosen.items())}
    return hparams


def rows_of(found: Run) -> list[dict]:
    """A row for each scalar, {column: value}; a single one, without a scalar, where there is none."""
    rows = [summary_of(tag, series) for tag, series in sorted(found.scalars.items())] or [{"points": 0}]
    return [{"run": found.name, **row, "seconds": round(found.seconds, 1)} for row in rows]


def sign_of(tag: str) -> int:
    """1 where the smallest value under this tag is the best, -1 where the largest is, 0 where the name does not tell.

    The last word decides: val_loss is a loss, a loss_scale is none. In eval_loss/accuracy it is the accuracy, and in
    loss/val, where the last part says nothing of it, the part before.
    """
    tag = re.sub("(?<=[a-z])(?=[A-Z][a-z])", "_", tag).lower()  # valLoss
    tag = re.sub("cross[^a-z]entropy", "crossentropy", tag)
    words = re.findall(r"(?<![-\w])1[ _]*-|^-|(?<=/)-|[fr]\d(?!\d)|[^\W\d_]+", tag)
    telling = [word for word in words if not NEUTRAL.fullmatch(word)]
    if not telling or any(OTHER.fullmatch(word) for word in words):
        return 0
    return bool(SMALLEST.fullmatch(telling[-1])) - bool(LARGEST.fullmatch(telling[-1]))


def summary_of(tag: str, series: Series) -> dict:
    row = {"scalar": tag, "points": len(series.steps)}
    row |= {"last_step": int(series.steps[-1]), "last": float(series.values[-1])}
    finite = np.isfinite(series.values)
    sign = sign_of(tag)
    if sign and finite.any():
        at = np.argmin(np.where(finite, sign * series.values, np.inf))
        row |= {"best": float(series.values[at]), "best_step": int(series.steps[at])}
    return row


def as_text(rows: list[dict]) -> str:
    """The rows in columns, texts to the left and numbers to the right; what a run repeats is written once."""
    cells = [list(COLUMNS)]
    for before, row in zip([{}, *rows], rows, strict=False):
        repeated = ("run", "seconds") if before.get("run") == row["run"] else ()
        cells.append(["" if column in repeated else shown(row.get(column, "")) for column in COLUMNS])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    texts = [[f"{cell:{'<' if i < 2 else '>'}{widths[i]}}" for i, cell in enumerate(line)] for line in cells]
    return "\n".join("  ".join(line).rstrip() for line in texts)


def shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
