"""Measure, print the tables, and write them: python -m benchmarks"""

import argparse
import datetime
import importlib
import os
import re
import sys
from pathlib import Path

PARTS = (
    "images",
    "steps",
    "loop",
    "logging_cost",
    "first_curve",
    "notebooks",
    "gpu",
)  # each is a module here, with rows(quick)
RESULTS = Path(__file__).parent / "results.md"
TITLE = "# What was measured\n\nMade by `make bench`; [README.md](README.md) says how to read it.\n\n"


def main(arguments: list[str] | None = None) -> int:
    """Measure some parts or all; a part that was not measured keeps its section of the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="see that all runs; the figures mean nothing")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to (default: results.md; nowhere if --quick)")
    args = parser.parse_args(arguments)
    if unknown := [part for part in args.parts if part not in PARTS]:
        parser.error(f"there is no part {unknown[0]!r}; there are: {', '.join(PARTS)}")
    out = args.out or (None if args.quick else RESULTS)

    from course_utils.device import use_cpu_threads

    use_cpu_threads(1)
    for part in args.parts or PARTS:
        print(f"measuring {part} ...", file=sys.stderr, flush=True)
        text = section(part, args.quick)
        print(text, flush=True)
        if out is not None:
            update(out, part, text)
    return 0


def section(part: str, quick: bool) -> str:
    """What a part measures, when and where, and its table."""
    from benchmarks.measure import machine, table

    module = importlib.import_module(f"benchmarks.{part}")
    where = f"{datetime.date.today()}, {machine()}"  # before the measuring, which makes a load of its own
    return f"{module.__doc__.splitlines()[0]}\n\n*{where}.*\n\n{table(module.rows(quick))}\n\n"


def update(results: Path, part: str, text: str) -> None:
    """Put a part's section into the file, in the order of PARTS, in the place of its old one."""
    from course_utils.files import write_atomically

    old = results.read_text(encoding="utf-8") if results.exists() else ""
    sections = dict(re.findall(r"^## (\w+)\n\n(.*?)(?=^## |\Z)", old, flags=re.M | re.S)) | {part: text}
    body = "".join(f"## {name}\n\n{sections[name].rstrip()}\n\n" for name in PARTS if name in sections)
    write_atomically(results, (TITLE + body.rstrip() + "\n").encode("utf-8"))


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported
    sys.exit(main())
