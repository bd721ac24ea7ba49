"""Change each exercise's solution a little, and see whether its check refuses what is no solution any more."""

from __future__ import annotations

import argparse
import ast
import copy
import difflib
import multiprocessing
import os
import pkgutil
import sys
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import NamedTuple

import torch

from course_utils import exercises
from course_utils.exercises.equivalents import EQUIVALENTS

SWAPPED = {
    **{ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq},
    **{ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And},
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Div},
    **{ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult, ast.MatMult: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd},
}
KEPT = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.Pass)  # without these nothing runs, or nothing changes


class Report(NamedTuple):
    """What a check said to the mutants of one solution."""

    refused: int
    late: int  # how many of the refused were stopped by the time limit
    equivalent: int
    surviving: list[str]  # changes that are praised though no list says why
    stale: list[str]  # listed as equivalent, but refused, or no change of this solution


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME", help="a question or a notebook's: loss.q2, loss (all)")
    parser.add_argument("--seconds", type=float, default=10, metavar="N", help="the most for one answer (default 10)")
    parser.add_argument("--sample", type=int, metavar="N", help="N changes of each solution, spread over it")


def run(args: argparse.Namespace) -> int:
    """Print a line a question, and return 1 where a mutant survives. Raises ValueError for an unknown name."""
    names = [question.name for questions in exercises.BY_NOTEBOOK.values() for question in questions]
    for asked in args.names:
        if not any(asked in (name, name.partition(".")[0]) for name in names):
            raise ValueError(f"There is no exercise {asked}. There are: {', '.join(names)}")
    chosen = [name for name in names if not args.names or {name, name.partition(".")[0]} & set(args.names)]
    reports = {}
    for name in chosen:
        where = f"course_utils.exercises.{name.replace('.', ':')}"
        reports[name] = found = examine(where, EQUIVALENTS.get(name, {}), args.seconds, args.sample)
        others = f", {found.late} of them by the time limit" if found.late else ""
        others += f"; {found.equivalent} equivalent" if found.equivalent else ""
        print(f"{name:20} {found.refused:3} refused{others}", flush=True)
        for what, changes in (("PRAISED", found.surviving), ("STALE", found.stale)):
            for change in changes:
                print(f"    {what}: {change}", flush=True)
    praised = sum(len(found.surviving) for found in reports.values())
    refused, equivalent = (sum(found[i] for found in reports.values()) for i in (0, 2))
    print(f"All: {refused} refused, {equivalent} equivalent, {praised} praised.")
    return int(any(found.surviving or found.stale for found in reports.values()))


def examine(where: str, equivalents: dict[str, str], seconds: float, sample: int | None = None) -> Report:
    """Ask the check of the question at "module:attribute" about the mutants of its solution.

    Raises ValueError where the check does not even praise the solution.
    """
    code = pkgutil.resolve_name(where).solution_code
    begun = time.monotonic()
    if (verdict := ask(where, code, 10 * seconds)) not in ("RIGHT", "SAME"):
        raise ValueError(f"The check of {where} says to its own solution: {verdict or 'nothing, in time'}")
    seconds = max(seconds, 5 * (time.monotonic() - begun))  # a machine may be slow today
    changed = dict(mutants(code))
    count = min(sample or len(changed), len(changed))
    tried = [list(changed)[i * len(changed) // count] for i in range(count)]
    verdicts = {change: ask(where, changed[change], seconds) for change in tried}
    praised = [change for change, verdict in verdicts.items() if verdict == "RIGHT"]
    same = sum(verdict == "SAME" for verdict in verdicts.values())
    return Report(
        refused=count - len(praised) - same,
        late=sum(verdict is None for verdict in verdicts.values()),
        equivalent=sum(change in equivalents for change in praised) + same,
        surviving=[change for change in praised if change not in equivalents],
        stale=[change for change in equivalents if change not in changed or change in set(verdicts) - set(praised)],
    )


def ask(where: str, code: str, seconds: float) -> str | None:
    """The verdict on what `code` defines; None where there is none in time.

    "ERROR" where the code stops by itself, "SAME" where it gives the very number that is right. Each answer has a
    process and a folder of its own. So it can be stopped, and what it leaves behind (files, threads, patched classes,
    random numbers) goes with it.
    """
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if "forkserver" in methods:
        context.set_forkserver_preload([__name__])  # import torch once, not for each answer
    ours, theirs = context.Pipe(duplex=False)
    with ours, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        process = context.Process(target=answer, args=(where, code, folder, theirs), daemon=True)
        process.start()
        theirs.close()
        try:
            verdict = ours.recv() if ours.poll(seconds) else None
        except EOFError:  # it has ended its process
            verdict = "ERROR"
        process.join(0 if verdict is None else 5)  # it ends by itself, unless it loops or leaves a thread behind
        process.kill()
        process.join()
    return verdict


def answer(where: str, code: str, folder: str, connection: Connection) -> None:
    """In a process of its own: send the verdict on what `code` defines."""
    tempfile.tempdir = folder
    os.chdir(folder)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    torch.set_num_threads(1)
    question, names = pkgutil.resolve_name(where), {}
    try:
        exec(code, names)
        given = names[question.fills]
        same = question.kind == "value" and given == question.right
        verdict = question.reply(given).verdict
        connection.send("SAME" if verdict == "RIGHT" and same else verdict)
    except (Exception, SystemExit):
        connection.send("ERROR")


def mutants(code: str) -> Iterator[tuple[str, str]]:
    """(what is changed, the changed code) for each small change, each text once."""
    tree = ast.parse(code)
    original = ast.unparse(tree)
    seen = {original}
    for parent in ast.walk(tree):
        for field, value in ast.iter_fields(parent):
            for changed in changed_fields(parent, value):
                setattr(parent, field, changed)
                mutant = ast.unparse(tree)
                if mutant not in seen:
                    seen.add(mutant)
                    yield what_differs(original, mutant), mutant
            setattr(parent, field, value)


def changed_fields(parent: ast.AST, value) -> Iterator:
    """What can take the place of a field of a node: one other node, or a list in which one is another."""
    if is_docstring(parent):
        return
    if isinstance(value, list):
        for i, item in enumerate(value):
            for other in others(item):
                yield [*value[:i], other, *value[i + 1 :]]
    else:
        yield from others(value)


def is_docstring(node) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def others(node) -> Iterator:
    """What a small mistake would write in the place of a node."""
    match node:
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value)):
            yield from (ast.Constant(value + 1), ast.Constant(value - 1))
        case ast.Constant(value=float(value)):
            yield ast.Constant(1.1 * value if value else 1.0)
        case ast.Constant(value=str(value)):
            yield ast.Constant(value + "_")
        case ast.UnaryOp():
            yield node.operand
        case ast.Call():
            for i in range(len(node.keywords)):
                yield ast.Call(node.func, node.args, node.keywords[:i] + node.keywords[i + 1 :])
        case ast.operator() | ast.cmpop() | ast.boolop() if type(node) in SWAPPED:
            yield SWAPPED[type(node)]()
        case ast.FunctionDef():
            for argument in node.args.args:
                changed = copy.deepcopy(node)
                changed.body[: is_docstring(node.body[0])] = ast.parse(f"{argument.arg} = 1").body
                yield changed
        case ast.stmt() if not isinstance(node, KEPT) and not is_docstring(node):
            yield ast.Pass()


def what_differs(original: str, mutant: str) -> str:
    """The lines that differ: "line 2: old -> new"."""
    old, new = original.splitlines(), mutant.splitlines()
    first = next(i for i, pair in enumerate(zip(old, new, strict=False)) if pair[0] != pair[1])
    lines = [line for line in difflib.ndiff(old, new) if line[0] in "-+"]
    left, right = (" / ".join(line[2:].strip() for line in lines if line[0] == sign) for sign in "-+")
    return f"line {first + 1}: {left or '(nothing)'} -> {right or '(nothing)'}"
