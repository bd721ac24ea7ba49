"""Fine-tune on CIFAR-10, on the digits, or on your own pictures (--data FOLDER), and test."""

import argparse
import contextlib
import json
import os
import shlex
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from course_utils.device import use_cpu_threads
from course_utils.doctor.machine import ROOT
from course_utils.events import event_files
from course_utils.full_size.experiment import (
    AUGMENT,
    SETTINGS_FILE,
    SIZES,
    SUMMARY_FILE,
    Settings,
    alone_in,
    rates_of,
    run_experiment,
    spec_of,
    started_run,
    summary_text,
)
from course_utils.full_size.ranks import ProcessLost, Ranks, from_first, joined_ranks
from course_utils.recipes import RATES
from course_utils.tracking import fresh_run_dir
from course_utils.training import TrainingDiverged

DATA_ROOT = ROOT / "data"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m course_utils train`. What is not given is filled in by `new_settings`."""
    parser.add_argument("--size", choices=SIZES, help="sets the defaults of what follows (default: pocket)")
    parser.add_argument(
        "--data", metavar="FOLDER", help="own pictures, a sub-folder a class (default: the digits; full: CIFAR-10)"
    )
    parser.add_argument("--model", metavar="NAME", help="tiny_resnet, or one of torchvision's (full: resnet50)")
    parser.add_argument("--recipe", choices=RATES, help="what learns, and when (default: full, all of it)")
    parser.add_argument("--image-size", type=int, metavar="N", help="pixels (default: the model's own, 32 or 224)")
    parser.add_argument("--epochs", type=int, metavar="N", help="(default: 20; full: 10)")
    parser.add_argument("--batch-size", type=int, metavar="N", help="over all processes (default: 64; full: 128)")
    parser.add_argument(
        "--augment",
        choices=AUGMENT,
        help="photo: mirrored and moved; sign: turned and stretched, never mirrored (default: photo; digits: sign)",
    )
    parser.add_argument("--lr", type=float, metavar="RATE", help="of the head; the backbone's changes with it")
    parser.add_argument("--seed", type=int, metavar="N", help="(default: 0)")
    parser.add_argument("--out", type=Path, metavar="RUN", help="the run's own directory (default: a new one in runs)")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out after its last whole epoch")
    parser.add_argument(
        "--data-root", type=Path, default=DATA_ROOT, metavar="DIR", help="where `prepare` put data (default: data)"
    )


def run(args: argparse.Namespace) -> int:
    """Train into a directory of its own, or go on there; 0 when all is written.

    Raises ValueError, FileNotFoundError, FileExistsError and ConnectionError for what the user can mend.
    """
    with joined_ranks() as ranks:
        settings, run_dir, summary = from_first(plan(args, ranks.count) if ranks.first else None, ranks)
        if summary is not None:
            if ranks.first:
                print(f"{run_dir} is complete.\n{summary_text(settings, summary)}", end="")
            return 0
        if settings.model != "tiny_resnet":  # which one thread serves best
            local = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
            use_cpu_threads(int(os.environ.get("COURSE_THREADS") or max(1, os.cpu_count() // local)))
        else:
            use_cpu_threads()
        with alone_in(run_dir) if ranks.first else contextlib.nullcontext():
            return train_and_report(settings, run_dir, args.data_root, ranks)


def train_and_report(settings: Settings, run_dir: Path, data_root: Path, ranks: Ranks) -> int:
    try:
        summary = run_experiment(settings, run_dir, ranks=ranks, data_root=data_root, progress=sys.stderr.isatty())
    except TrainingDiverged as error:
        raise ValueError(
            f"{error} Here: a new run in another --out, with a smaller --lr than {settings.lr:g}."
        ) from error
    except ProcessLost as error:
        raise ProcessLost(f"{error} Go on with:\n  {how_to_go_on(run_dir, ranks.count, data_root)}") from error
    except KeyboardInterrupt:
        if ranks.first:
            begun = started_run(run_dir) is not None
            go_on = f"Go on with:\n  {how_to_go_on(run_dir, ranks.count, data_root)}"
            print(go_on if begun else "No training had begun.", file=sys.stderr)
        raise
    if ranks.first:
        print(summary_text(settings, summary), end="")
        logged = ", and TensorBoard's" if event_files(run_dir) else ""
        print(f"files          {run_dir}: model.pt, history.csv, mistakes.csv, summary.json{logged}")
        lost = [name for name in (SETTINGS_FILE, "checkpoint.pt") if not (run_dir / name).is_file()]
        lost += [] if logged else ["TensorBoard's files"]
        if lost:
            print(f"warning: {', '.join(lost)}: deleted while the run went on, and lost.", file=sys.stderr)
    return 0


def plan(args: argparse.Namespace, processes: int) -> tuple[Settings, Path, dict | None]:
    """What is to run and where, checked as far as it can be before anything is read or built.

    With it goes the summary of a run that is complete already, or None.
    """
    run_dir = args.out or fresh_run_dir(Path("runs") / "train")
    begun = started_run(run_dir)
    if args.resume:
        if args.out is None or begun is None:
            raise FileNotFoundError(
                "No training has begun there: --resume goes on with the run in --out. Call it without --resume, and "
                "with all of its options."
            )
        settings, file = resumed_settings(args, begun[0], processes), run_dir / SUMMARY_FILE
        return settings, run_dir, json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
    if begun is not None:
        raise FileExistsError(
            f"{run_dir} holds a run already. Choose another --out, or go on with that run:\n"
            f"  {how_to_go_on(run_dir, begun[0].processes, args.data_root)}"
        )
    settings = new_settings(args, processes)
    settings.check()
    return settings, run_dir, None


def new_settings(args: argparse.Namespace, processes: int) -> Settings:
    """The options, with the defaults of the size and of the model where none is given."""
    usual = SIZES[args.size or "pocket"]
    model, recipe = args.model or usual["model"], args.recipe or "full"
    data = given_data(args) or usual["data"]
    if recipe == "probe" and args.augment not in (None, "none"):
        raise ValueError("The recipe 'probe' computes its features once, of the pictures as they are: no --augment.")
    options = dict(
        data=data,
        model=model,
        recipe=recipe,
        epochs=args.epochs,
        batch_size=args.batch_size,
        image_size=args.image_size,
        augment="none" if recipe == "probe" else args.augment,  # its features are computed once
        lr=args.lr,
        seed=args.seed,
        processes=processes,
    )
    defaults = dict(
        epochs=usual["epochs"],
        batch_size=usual["batch_size"],
        image_size=spec_of(model).size,
        augment="sign" if data == "digits" else "photo",
        lr=rates_of(model, recipe)[0],
        seed=0,
    )
    return Settings(**{name: defaults[name] if value is None else value for name, value in options.items()})


def resumed_settings(args: argparse.Namespace, begun: Settings, processes: int) -> Settings:
    """The settings of the run. Raises ValueError where an option asks for others."""
    asked = {**vars(args), "data": given_data(args), "processes": processes}
    for name, value in asdict(begun).items():
        if asked[name] is not None and asked[name] != value:
            option = "torchrun's processes" if name == "processes" else f"--{name.replace('_', '-')}"
            raise ValueError(
                f"The run in {args.out} began with {option} {value}, and goes on with it; {asked[name]} takes a new "
                "run, in another --out."
            )
    return begun


def given_data(args: argparse.Namespace) -> str | None:
    """`--data`, so that it is found from everywhere."""
    return None if args.data is None else str(Path(args.data).resolve())


def how_to_go_on(run_dir: Path, processes: int, data_root: Path) -> str:
    """The command to type."""
    local = os.environ.get("LOCAL_WORLD_SIZE", processes)
    start = ["python"] if processes == 1 else ["torchrun", "--nproc-per-node", str(local)]
    words = [*start, "-m", "course_utils", "train", "--out", str(run_dir), "--resume"]
    if data_root != DATA_ROOT:
        words += ["--data-root", str(data_root)]
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)
