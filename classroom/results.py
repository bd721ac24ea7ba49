"""docs/results.md: the headline numbers of every notebook, for a class to compare its own with.

`python -m classroom.results` reads them from the notebooks as they are stored and from results/, and writes the page.
With --yours FOLDER it reads the same numbers from notebooks that you have run and saved, and prints them beside these.
With --measured-here it renews the line that names the machine and the date: for whoever has run the notebooks again.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import re
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torchvision.models import ResNet50_Weights

from benchmarks.measure import machine
from course_utils.device import use_cpu_threads
from course_utils.files import load_results, write_atomically

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "results.md"
NOTEBOOKS = ROOT / "notebooks"
NUMBER = r"([-+]?\d+(?:\.\d+)?)"  # what N stands for in the patterns below

# Where another machine should land: from what was measured here and the numbers of a claim to the lowest and highest.
RANGES = {
    "same": lambda here: (here, here),  # no machine may change it
    "within": lambda here, by: (here - by, here + by),
    "spread": lambda here, deviation: (here - 2 * deviation, here + 2 * deviation),
    "near": lambda here, middle, by: (middle - by, middle + by),
    "between": lambda here, low, high: (low, high),
    "above": lambda here, low: (low, math.inf),
    "below": lambda here, high: (-math.inf, high),
}


@dataclass(frozen=True)
class Printed:
    """A number that a notebook prints when it is run, so that whoever runs it has one of their own.

    pattern: a regular expression for the output, with N for the number. kind: a key of RANGES. claim: a regular
    expression for the numbers of that range, in the code of the notebook or else in its outputs.
    scale: what numbers of the code are multiplied by, 100 where the code counts in shares and the output in per cent.
    """

    what: str
    pattern: str
    kind: str = "same"
    claim: str = ""
    unit: str = "%"
    scale: float = 100


@dataclass(frozen=True)
class Stored:
    """The mean of a column of results/GRID.csv, over the rows that have the values of `only`.

    claim: a regular expression for how far the notebook lets its own runs be away from theirs, run by run.
    """

    what: str
    grid: str
    only: dict = field(default_factory=dict)
    column: str = "accuracy"
    claim: str = ""


def plain(what: str, pattern: str, kind: str = "same", claim: str = "", unit: str = "") -> Printed:
    """A number that the code and the output count alike."""
    return Printed(what, pattern, kind, claim, unit, scale=1)


def five_labels(recipe: str, what: str) -> Stored:
    only = dict(recipe=recipe, labels_per_class=5, freeze_batch_norm=1)
    return Stored(f"{what}, 5 labels a class", "fine_tuning", only, claim=r"grid\[recipe\]\[5\]\[:3\], atol=N")


def text(recipe: str, what: str, labels: int, claim: str = "") -> Stored:
    only = dict(recipe=recipe, labels_per_class=labels)
    return Stored(f"{what}, {labels} labels a class", "text_fine_tuning", only, claim=claim)


def remedy(name: str, what: str, claim: str = "") -> Stored:
    return Stored(what, "remedies", dict(situation="50 labels", remedy=name, kept="last"), claim=claim)


def twenty_labels(method: str, what: str) -> Printed:
    claim = r"abs\(live\[method\] - grid\[method\]\[20\]\[0\]\) < N"
    return Printed(f"{what}, 20 labels a class", rf"^{method} +N% of the test forms", "within", claim)


def fourth_round(what: str, **only: str) -> Stored:
    return Stored(f"{what}, round 4", "federated", dict(start="pretrained", epochs=2, round=4, **only))


ROWS: dict[str, Sequence[Printed | Stored]] = {
    "00_start_here": (
        Printed("pretrained, three runs", r"^pretrained +N ± \S+ % right", "spread", r"^pretrained .* ± N % right"),
        Printed(
            "from scratch, three runs", r"^from scratch +N ± \S+ % right", "spread", r"^from scratch .* ± N % right"
        ),
        plain("the difference", r"^the difference is N points", "above", r"assert gain > N,", "points"),
    ),
    "01_environment_setup": (
        plain("the first event file", r"^one file, N bytes", unit="bytes"),
        plain("values of the accuracy", r"^accuracy +N values"),
    ),
    "02_loss_derivation": (
        plain("first loss, 10 classes", r"^as it should be +N", "near", r'first\["as it should be"\] - N\) < N'),
        plain("first loss, 1000 outputs", r"^1000 outputs .* N$", "near", r'first\["1000 outputs .*"\] - N\) < N'),
        plain("where BCE on probabilities gets stuck", r"the lowest it can be +N"),
    ),
    "03_cnn_fine_tuning": (
        five_labels("scratch", "from scratch"),
        five_labels("probe", "a new head alone"),
        five_labels("full", "all layers"),
        Printed("all training forms, the test", r"test accuracy N% ±", "between", r"N < correct\.mean\(\) < N"),
    ),
    "03b_article_script": (
        Printed("plain SGD, three seeds", r"^plain SGD +at 0\.01 +N%", "spread", r"^plain SGD +at 0\.01 .* N%$"),
        Printed("with momentum, three seeds", r"^momentum +at 0\.01 +N%", "spread", r"^momentum +at 0\.01 .* N%$"),
        Printed("the script put right", r"test images: accuracy N%", "between", r'N < result\["accuracy"\] < N'),
    ),
    "03c_your_own_pictures": (
        Printed("all layers, 56 test pictures", r"^full +N% +\S+ to", "above", r'summary\["test_accuracy"\] > N'),
        Printed("all layers, three splits", r"^full .* N% ± \S+%$", "spread", r"^full .* ± N%$"),
        Printed("a new head alone, three splits", r"^probe .* N% ± \S+%$", "spread", r"^probe .* ± N%$"),
    ),
    "04_tensorboardx_visualization": (
        Printed("after the last epoch, three seeds", r"^after the last epoch N%", "above", r"assert mean\[-1\] > N"),
        Printed("nearest of another hand agrees, after training", r"before: \S+ after: N%", "above", r"before: N%"),
    ),
    "04b_logging_traps": (
        plain("RunLogger, killed: left of 50 values", r"^RunLogger .* later: +N of 50"),
        plain("tensorboardX, killed", r"^tensorboardX .* later: +N of 50", "below", r'later\["tensorboardX"\] < N'),
        plain("a scalar in the file", r"^scalar, tag 'loss' +N bytes", "below", r"tag 'loss'\"\] < N", "bytes"),
    ),
    "05_diagnosing_training": (
        plain("first loss of the healthy run", r"^first loss N,", "between", r"N to +N +the loss of the first step"),
        Stored("healthy runs, validation accuracy", "clinic/runs", dict(run="healthy"), "val_accuracy"),
    ),
    "05b_over_fitting_and_cost": (
        plain("wrong labels: the best epoch", r"lowest validation loss after epoch N", "below", r"assert best < N"),
        remedy("nothing", "50 labels, as they are"),
        remedy("augmentation", "50 labels, augmentation", r"abs\(live - same\) < N"),
    ),
    "06_text_fine_tuning": (
        Printed("TF-IDF on new modules", r"new modules N%", "between", r"N < by_module < N"),
        text("full", "pretrained, all layers", 20, r"abs\(value - stored\[recipe\]\[20\]\[0\]\) < N"),
        text("full at its own rate", "pretrained, all layers, at 5e-3", 80),
        text("tf-idf", "TF-IDF, no network", 80),
    ),
    "07_recommender_fine_tuning": (
        Stored("share of new songs, as pretrained", "recommender_adapt", dict(method="as pretrained"), "new_share"),
        Stored("share of new songs, all layers, news alone", "recommender_adapt", dict(method="full"), "new_share"),
        Stored("songs shown to anybody, round 1", "recommender_loop", dict(explore=0, step=0), "coverage"),
        Stored("songs shown to anybody, round 7", "recommender_loop", dict(explore=0, step=6), "coverage"),
    ),
    "08_what_comes_next": (
        twenty_labels("probe", "a new head alone"),
        twenty_labels("lora", "LoRA of rank 4"),
        twenty_labels("full", "all layers"),
        Printed("trained on attacks, PGD at 16/255", r"= 16/255: N%;", "within", r"abs\(live_robust - stored\) < N"),
    ),
    "09_federated_and_beyond": (
        Printed("ten writers, round 2", r"^pretrained by writer +\S+% N%", "within", r'\[row\["round"\]\]\[0\]\) < N'),
        fourth_round("ten writers", way="by writer", batch_norm="averaged"),
        fourth_round("by digit, BatchNorm averaged", way="by digit", batch_norm="averaged"),
        fourth_round("by digit, BatchNorm frozen", way="by digit", batch_norm="frozen"),
    ),
}

HEAD = """\
# What was measured, and what you should find

{measured}

This is for comparing. The pocket size is deterministic on one machine: the same seeds give the same numbers again.
Another processor, or another version of PyTorch, rounds otherwise, and after some hundred steps of a training an
accuracy may differ by a point or two. *Should lie* says how far that may go. Most of it is what the notebook itself
asserts; where it asserts no range, it is two standard deviations of its own runs to either side.

- **Numbers with an empty place under *yours*** come out of the notebook as it is stored here. Run it and save it;
  `python3 start.py run -m classroom.results --yours FOLDER` then reads yours, and marks what lies outside. FOLDER is
  the one with your notebooks, by its full path. With conda, the command is
  `conda run -n finetune-course --no-capture-output python -m classroom.results --yours FOLDER`.
- **Numbers with a dash there** are means and standard deviations over several seeds from a file in `results`. They take
  too long for a lesson. Your notebook shows the same file; where it has runs of its own beside it, it holds each to the
  stored run of the same seed, and stops with an error where one is further away than *should lie* says.

The seconds after a title are computing time on two CPU cores, from the [README](../README.md).

This page is made by `python3 start.py run -m classroom.results`; a test makes it again and compares.
"""

FULL_SIZE = """\
## The full size

| what | measured | should lie | yours | from |
|---|---|---|---|---|
| CIFAR-10, ResNet-50, all layers, ten epochs | not measured: no GPU was at hand |  |  | `train --size full` |
| the same, a new head alone | not measured: no GPU was at hand |  |  | `train --size full --recipe probe` |

Both are described in [03c](../notebooks/03c_your_own_pictures.ipynb), section 6. It also lists what *was* run with
ImageNet weights, on a part of CIFAR-10 with a smaller network. Published for the network that both start from, by
torchvision: {imagenet:.2f} % on ImageNet, with the weights `{weights}`. How ResNet-50 and others do on CIFAR-10 after
a longer, tuned training stands in the tables of [Kornblith, Shlens and Le](https://arxiv.org/abs/1805.08974).
"""


@dataclass(frozen=True)
class Line:
    """One line of the page. low and high are None where nobody's own run has the number."""

    what: str
    measured: str
    should: str
    source: str
    low: float | None = None
    high: float | None = None


def numbers_at(pattern: str, text: str) -> list[str] | None:
    """The numbers at the first place where the pattern fits, with N for a number. None where it fits nowhere."""
    found = re.search(re.sub(r"\bN\b", lambda _: NUMBER, pattern), text, re.MULTILINE)
    return list(found.groups()) if found else None


class Notebook:
    """What a saved notebook holds: its code, and what its cells have printed. Raises OSError or ValueError for none."""

    def __init__(self, path: Path):
        self.name = path.stem
        try:
            self.cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
            code = [cell for cell in self.cells if cell["cell_type"] == "code"]
            self.code = "\n".join("".join(cell["source"]) for cell in code)
            self.outputs = "\n".join(map(printed_by, code))
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{path.name} is no notebook. Save it again in JupyterLab.") from None

    def printed(self, pattern: str) -> list[str]:
        """The numbers that its cells have printed. Raises ValueError where they have not."""
        found = numbers_at(pattern, self.outputs)
        if found is None:
            raise ValueError(f"{self.name} prints nothing like {pattern!r}. Has it been run to its end, and saved?")
        return found

    def claimed(self, pattern: str, scale: float) -> list[float]:
        """The numbers of a claim, from its code, times scale, or else from its outputs. Raises ValueError for none."""
        if in_code := numbers_at(pattern, self.code):
            return [scale * float(number) for number in in_code]
        return [float(number) for number in self.printed(pattern)]

    def section(self, pattern: str) -> str:
        """The heading above the cell that prints what fits the pattern."""
        heading = ""
        for cell in self.cells:
            if cell["cell_type"] == "markdown":
                heading = ([heading] + re.findall(r"^## (.+)$", "".join(cell["source"]), re.MULTILINE))[-1]
            elif numbers_at(pattern, printed_by(cell)):
                return heading
        raise ValueError(f"{self.name} prints nothing like {pattern!r}.")


def printed_by(cell: dict) -> str:
    return "".join("".join(output.get("text", ())) for output in cell.get("outputs", ()))


def line_of(row: Printed | Stored, notebook: Notebook) -> Line:
    """Raises ValueError where the notebook or the stored file does not hold what the row asks for."""
    return line_of_grid(row, notebook) if isinstance(row, Stored) else line_of_print(row, notebook)


def line_of_print(row: Printed, notebook: Notebook) -> Line:
    (here,) = notebook.printed(row.pattern)
    numbers = notebook.claimed(row.claim, row.scale) if row.claim else []
    low, high = RANGES[row.kind](float(here), *numbers)
    if row.unit == "%" and math.isfinite(high):
        high = min(high, 100.0)
    digits = len(here.partition(".")[2])  # as many as the notebook prints
    if low == high:
        should = "the same"
    elif math.isinf(high):
        should = f"above {low:g} {row.unit}"
    elif math.isinf(low):
        should = f"below {high:g} {row.unit}"
    else:
        should = f"{low:.{digits}f} to {high:.{digits}f} {row.unit}"
    return Line(row.what, f"{here} {row.unit}".strip(), should.strip(), notebook.section(row.pattern), low, high)


def line_of_grid(row: Stored, notebook: Notebook) -> Line:
    rows = [found for found in load_results(row.grid) if all(fits(found[name], row.only[name]) for name in row.only)]
    if len(rows) < 2:
        raise ValueError(f"results/{row.grid}.csv has {len(rows)} rows with {row.only}.")
    values = [100 * found[row.column] for found in rows]
    measured = f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f} %"
    should = f"± {notebook.claimed(row.claim, 100)[0]:.0f} points, run by run" if row.claim else ""
    return Line(row.what, measured, should, f"`results/{row.grid}.csv`, {len(rows)} runs")


def fits(value: object, wanted: object) -> bool:
    """Equal, or a name below it: healthy/seed-00 is one of healthy."""
    return value == wanted or str(value).startswith(f"{wanted}/")


def titles() -> dict[str, tuple[str, str]]:
    """{notebook: (title, seconds)}, from the table of the README."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\| \[(.+)\]\(notebooks/(\w+)\.ipynb\) \|.*\| (\d+ s) \|$", readme, re.MULTILINE)
    return {name: (title, seconds) for title, name, seconds in lines}


def page(measured: str, folder: Path = NOTEBOOKS) -> str:
    """docs/results.md as Markdown. measured: the line that names the machine and the date."""
    parts = [HEAD.format(measured=measured)]
    known = titles()
    for name, rows in ROWS.items():
        notebook, (title, seconds) = Notebook(folder / f"{name}.ipynb"), known[name]
        table = ["| what | measured | should lie | yours | from |", "|---|---|---|---|---|"]
        for line in (line_of(row, notebook) for row in rows):
            yours = "–" if line.low is None else ""
            table.append(f"| {line.what} | {line.measured} | {line.should} | {yours} | {line.source} |")
        parts.append(f"## [{title}](../notebooks/{name}.ipynb): {seconds}\n\n" + "\n".join(table) + "\n")
    weights = ResNet50_Weights.IMAGENET1K_V1
    imagenet = weights.meta["_metrics"]["ImageNet-1K"]["acc@1"]
    parts.append(FULL_SIZE.format(imagenet=imagenet, weights=f"ResNet50_Weights.{weights.name}"))
    return "\n".join(parts)


def measured_here() -> str:
    """The line that names this machine, with the one thread that the notebooks compute with, and today's date."""
    use_cpu_threads()
    return f"*Measured on {datetime.date.today()}, {re.sub(', load [^;]+', '', machine())}.*"


def measured_before() -> str:
    """The line of the page that there is. Raises ValueError where it has none."""
    text = PAGE.read_text(encoding="utf-8") if PAGE.is_file() else ""
    found = re.search(r"^\*Measured on .+\*$", text, re.MULTILINE)
    if not found:
        raise ValueError(f"{PAGE.name} does not say where it was measured. Call this with --measured-here.")
    return found[0]


def compare(folder: Path) -> str:
    """The numbers of somebody's own notebooks, beside the stored ones. Raises FileNotFoundError for no such folder."""
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}. Name the one with your notebooks, by its full path.")
    lines, known = [], titles()
    for name, rows in ROWS.items():
        lines += ["", known[name][0]]
        stored = Notebook(NOTEBOOKS / f"{name}.ipynb")
        for row in rows:
            if isinstance(row, Printed):
                line = line_of(row, stored)
                yours = own(row, line, folder / f"{name}.ipynb")
                lines.append(f"  {line.what:38} {line.measured:>12}  {line.should:>20}  {yours}")
    return "\n".join([f"{'':40} {'measured':>12}  {'should lie':>20}  yours", *lines])


def own(row: Printed, line: Line, path: Path) -> str:
    """The number of a notebook of somebody's own, or why there is none."""
    try:
        if path.read_bytes() == (NOTEBOOKS / path.name).read_bytes():
            return "not run by you: the notebook is as it came"
        (value,) = Notebook(path).printed(row.pattern)
    except OSError:
        return "no such notebook there"
    except ValueError:
        return "not run to its end, or not saved"
    rounding = 1e-9  # the ends of a range are sums of decimals
    inside = line.low - rounding <= float(value) <= line.high + rounding
    return f"{value} {row.unit}".strip() + ("" if inside else "   OUTSIDE")


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page, or print the comparison. Returns 0, or 1 after a message where something is missing."""
    parser = argparse.ArgumentParser(prog="python -m classroom.results", description=__doc__.splitlines()[0])
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--yours", type=Path, metavar="FOLDER", help="compare the notebooks in it, and write nothing")
    group.add_argument("--measured-here", action="store_true", help="the notebooks were run on this machine, today")
    args = parser.parse_args(arguments)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a console without a character shows its code
    try:
        if args.yours:
            print(compare(args.yours))
        else:
            write_atomically(PAGE, page(measured_here() if args.measured_here else measured_before()).encode())
            print(f"{PAGE.relative_to(ROOT).as_posix()} is written.")
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
