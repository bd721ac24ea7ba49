"""Say which class pictures belong to, with a network that `train` has trained."""

import argparse
import sys
from pathlib import Path

import torch

from course_utils.device import pick_device, use_cpu_threads
from course_utils.full_size.experiment import MODEL_FILE
from course_utils.full_size.folder import PICTURES, files_below
from course_utils.full_size.saved_model import classify, load_model, write_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m course_utils predict`."""
    parser.add_argument("run_dir", type=Path, metavar="RUN", help="the directory of a run, or a model.pt alone")
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="a picture, or a folder of pictures")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the probability of every class, too")


def run(args: argparse.Namespace) -> int:
    """Print the table, and write it; 1 where a picture could not be read (the others are in the table).

    Raises FileNotFoundError where there is no model or no picture, ValueError for a file that is none, or a --csv
    that names a picture.
    """
    if args.csv and args.csv.suffix.lower() in PICTURES:  # the table's name was forgotten: this is a picture
        raise ValueError(f"--csv would write the table over the picture {args.csv}: name a file for it, table.csv say.")
    use_cpu_threads()
    model, class_names = load_model(model_file(args.run_dir))
    paths = [path for given in args.images for path in pictures_of(given)]
    if not paths:
        raise FileNotFoundError(f"There is no picture in {', '.join(map(str, args.images))}.")
    probabilities, read, unreadable = classify(model, paths, pick_device())
    print_table(probabilities, read, class_names)
    for path, why in unreadable:
        print(f"{path}: {why}", file=sys.stderr)
    if args.csv:
        rows = [
            {"picture": path.as_posix(), "class": class_names[row.argmax()]}
            | {f"p({name})": f"{p:.4f}" for name, p in zip(class_names, row.tolist(), strict=True)}
            for path, row in zip(read, probabilities, strict=True)
        ]
        write_table(args.csv, rows, columns=["picture", "class", *(f"p({name})" for name in class_names)])
    return 1 if unreadable else 0


def model_file(run_dir: Path) -> Path:
    """The model of a run. Raises FileNotFoundError where the run is none, or is not complete."""
    if run_dir.is_file():
        return run_dir
    if not run_dir.is_dir():
        raise FileNotFoundError(f"There is no run {run_dir}.")
    if not (run_dir / MODEL_FILE).is_file():
        raise FileNotFoundError(
            f"There is no {MODEL_FILE} in {run_dir}: it is written when a training is complete. Go on with: "
            f'python -m course_utils train --out "{run_dir}" --resume'
        )
    return run_dir / MODEL_FILE


def pictures_of(given: Path) -> list[Path]:
    """The file itself, or the pictures below a folder."""
    return [path for path in files_below(given) if path.suffix.lower() in PICTURES] if given.is_dir() else [given]


def print_table(probabilities: torch.Tensor, read: list[Path], class_names: tuple[str, ...]) -> None:
    """A line a picture: the class, how probable the network thinks it, and what it would say next."""
    if not read:
        return
    width, wide = (max(map(len, texts)) for texts in ([*map(str, read), "picture"], [*class_names, "class"]))
    print(f"{'picture':{width}}  {'class':{wide}}  probability  or else")
    best = probabilities.topk(min(2, len(class_names)), dim=1)
    for path, values, places in zip(map(str, read), best.values.tolist(), best.indices.tolist(), strict=True):
        second = f"{class_names[places[1]]} ({values[1]:.1%})" if len(places) > 1 else ""
        print(f"{path:{width}}  {class_names[places[0]]:{wide}}  {values[0]:11.1%}  {second}")
