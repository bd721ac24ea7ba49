"""List the sick trainings of notebook 05, make their logs again, or open one beside a healthy run."""

from __future__ import annotations

import argparse
import csv
import io
import shutil
import sys
import tempfile
import time
import webbrowser
from pathlib import Path

from tqdm import tqdm

from course_utils.board import serve
from course_utils.clinic.patients import CLINIC, HEALTHY_SEEDS, PATIENTS, SHIPPED_SEEDS, find
from course_utils.clinic.signs import signs
from course_utils.clinic.ward import CLASSES, Training, digits, share_right
from course_utils.device import use_cpu_threads
from course_utils.files import load_results, write_atomically

LOG = "events.out.tfevents.run"  # a fixed name: a log made again takes the old one's place


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--remake", nargs="*", metavar="NAME", help="make logs again: patients, or healthy; none: all")
    parser.add_argument("--out", type=Path, default=CLINIC, metavar="DIR", help="where to (default: results/clinic)")
    parser.add_argument("--open", metavar="NAME", help="show a patient beside a healthy run, in TensorBoard")


def run(args: argparse.Namespace) -> int:
    """List the patients, or do what an option asks for."""
    if args.remake is not None:
        remake(args.remake or ["healthy", *PATIENTS], args.out)
    elif args.open:
        open_beside_healthy(args.open)
    else:
        for patient in PATIENTS.values():
            print(f"{patient.name:5} {patient.card}")
    return 0


def runs_of(name: str) -> dict[str, Training]:
    """{run: how it is made} of a patient, or of "healthy"."""
    if name == "healthy":
        return {f"healthy/seed-{seed:02}": Training(seed) for seed in HEALTHY_SEEDS}
    patient = find(name)
    return {f"{name}/sick": patient.sick(patient.seed), f"{name}/healed": patient.healed(patient.seed)}


def remake(names: list[str], out: Path) -> None:
    """Train anew, and put the logs and the rows of runs.csv in place of the old ones. Logs of 5 healthy seeds stay."""
    for name in names:
        if name != "healthy":
            find(name)
    use_cpu_threads(1)  # so that it can be repeated
    shipped = {f"healthy/seed-{seed:02}" for seed in SHIPPED_SEEDS}
    rows = {row["run"]: row for row in load_results("runs", out)} if (out / "runs.csv").is_file() else {}
    for name in names:
        for run_name, training in tqdm(runs_of(name).items(), desc=name, file=sys.stderr):
            row, log = measure(run_name, training)
            rows[run_name] = row
            if name != "healthy" or run_name in shipped:
                write_atomically(out / run_name / LOG, log)
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=next(iter(rows.values())), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows[key] for key in sorted(rows, key=lambda key: (not key.startswith("healthy"), key)))
        write_atomically(out / "runs.csv", text.getvalue().encode("utf-8"))


def measure(run_name: str, training: Training) -> tuple[dict, bytes]:
    """Train once: the row of runs.csv, with accuracies on form 7 and on forms 9 to 13, and the log's content."""
    data, split = digits()
    with tempfile.TemporaryDirectory() as folder:
        model = training.run(Path(folder) / "run")
        vars(model).pop("eval", None)  # the fault of a patient must not spoil what is measured here
        row = {
            "run": run_name,
            "seed": training.seed,
            "accuracy_form7": share_right(training, model, (data.groups == 7).nonzero().flatten()),
            "accuracy_fresh": share_right(training, model, split.test),
            **signs(Path(folder) / "run", CLASSES),
        }
        (log,) = (Path(folder) / "run").glob("*tfevents*")
        row = {column: float(f"{value:.5g}") if isinstance(value, float) else value for column, value in row.items()}
        return row, log.read_bytes()


def open_beside_healthy(name: str) -> None:
    """Start TensorBoard on the two runs of a patient and one healthy run, until Ctrl+C."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(CLINIC / find(name).name, Path(folder) / name)
        shutil.copytree(CLINIC / "healthy" / "seed-00", Path(folder) / "healthy")
        with serve(folder) as board:
            print(f"{board.url}  (Ctrl+C ends it)")
            webbrowser.open(board.url)
            while True:
                time.sleep(1)
