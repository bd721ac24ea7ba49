"""python -m course_utils <command>: what the course does from a terminal."""

# ruff: noqa: E402
from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    # Python looks into this folder first: a file of one's own, called random.py for instance, would hide Python's.
    here = ("", os.getcwd())  # noqa: PTH109
    sys.path.sort(key=lambda folder: folder in here)

import argparse
import ast
import difflib
import importlib
from pathlib import Path

# Each is a module in course_utils/commands.
COMMANDS = (
    "doctor",
    "pretrain",
    "pretrain_text",
    "grid",
    "pictures",
    "screenshots",
    "progress",
    "runs",
    "prepare",
    "train",
    "predict",
    "clinic",
    "mutants",
)


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status: 0 done, 1 an expected error, 2 wrong usage, 130 Ctrl-C.

    A command is a module in `course_utils/commands` with a docstring of one line (its help), with
    `add_arguments(parser)` and `run(args) -> int`. Only the chosen one is imported: --help needs no torch.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a console without a character shows its code
    try:
        args = parse(arguments)
        return args.run(args)
    except BrokenPipeError:  # what reads the output, `head` for instance, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError) as error:  # what a user can mend; a bug keeps its traceback
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped by Ctrl+C.", file=sys.stderr)
        return 130


def parse(arguments: list[str]) -> argparse.Namespace:
    """Command line -> its options, with the command's `run`. Raises SystemExit for --help and wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m course_utils", description="The commands of the course.")
    subparsers = parser.add_subparsers(dest="command", metavar="<command>", required=True)
    chosen = arguments[0] if arguments else None
    if chosen and not chosen.startswith("-") and chosen not in COMMANDS:
        near = difflib.get_close_matches(chosen, COMMANDS) or COMMANDS
        parser.error(f"there is no command '{chosen}'. Did you mean: {', '.join(near)}?")
    for name in COMMANDS:
        subparser = subparsers.add_parser(name, help=one_line_help(name), description=one_line_help(name))
        if name == chosen:
            module = importlib.import_module(f"course_utils.commands.{name}")
            module.add_arguments(subparser)
            subparser.set_defaults(run=module.run)
    return parser.parse_args(arguments)


def one_line_help(command: str) -> str:
    """The first line of a command's docstring, read from its file, since importing it would import torch."""
    source = Path(__file__).parent / "commands" / f"{command}.py"
    return ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))).splitlines()[0]


if __name__ == "__main__":
    # Before torch is imported: its threads then sleep while they wait. Where other programs keep the cores busy,
    # threads that wait spinning can make a step of 0.05 s last 5 s. The numbers stay the same.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.exit(main())
