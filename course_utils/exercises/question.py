"""A question of the course: it checks an answer, explains what is wrong with it, gives hints and shows a solution.

An answer is watched doing its work on hidden inputs (`observe`), and what is seen is compared with what the right
answer does there. Where it does just what a catalogued mistake does, the reply explains that mistake; elsewhere it
says what differs. No reply depends on earlier ones, and none raises.
"""

import dis
import html
import re
import textwrap
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn as nn
from IPython.display import display
from torch.overrides import TorchFunctionMode

from course_utils.doctor.machine import clean
from course_utils.exercises.memory import remember

COLOURS = {"RIGHT": "#009e73", "NOT YET": "#d55e00"}
# What messages of PyTorch mean that students meet here.
MEANINGS = {
    "1D target tensor expected": "Class labels have the shape (N,); yours have one dimension too many.",
    "expected scalar type Long": "Class labels are whole numbers: `.long()` makes them.",
    "target dtype to be Long": "Class labels are whole numbers: `.long()` makes them.",
    "index tensor of type LongTensor": "Class labels are whole numbers: `.long()` makes them.",
    "used as indices must be long": "Indices are whole numbers: `.long()` makes them.",
    "to match target batch_size": "There must be one label an example. `squeeze()` takes N away too, if N is 1.",
    "does not require grad": "Nothing leads back from the loss to the weights: is it detached, or under `no_grad`?",
    "inplace operation": "The weights were changed before `backward()` had used them.",
    "more than one parameter group": "What is in the head's group must be left out of the other.",
}


@dataclass(frozen=True)
class Reply:
    """A verdict in words and a text, shown as plain text or as HTML; `...` is code, and so is what is indented."""

    verdict: str
    text: str

    def __repr__(self) -> str:
        first, gap, code = f"{self.verdict}: {self.text}".partition("\n\n")
        return textwrap.fill(first, 88, break_long_words=False, break_on_hyphens=False) + gap + code

    def _repr_html_(self) -> str:
        first, _, code = html.escape(self.text, quote=False).partition("\n\n")
        first = re.sub(r"`([^`]+)`", r"<code>\1</code>", first)
        code = f"<pre><code>{textwrap.dedent(code)}</code></pre>" if code else ""
        style = f"border-left: 4px solid {COLOURS.get(self.verdict, '#0072b2')}; padding: 2px 10px"
        return f'<div style="{style}"><b>{self.verdict}</b>: {first}{code}</div>'


class Mistake(NamedTuple):
    """A wrong answer that people give, and the misunderstanding behind it."""

    name: str
    answer: Any  # a wrong value, or a function that does what is done wrongly
    why: str  # may hold {got} and {want}: what is seen first to differ


class Finding(str):
    """Words for what is seen, where there is nothing to compute with: they end a sentence that begins "... is"."""


class Watched(TorchFunctionMode):
    """Notes the names of PyTorch's functions that are called under it, whatever way they were imported."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", "")
        name = function.__self__.__name__ if name == "__get__" else name  # of an attribute: tensor.grad
        self.names.add(name.removeprefix("special_"))
        return function(*args, **(kwargs or {}))


def the_answer(answer) -> dict[str, Any]:
    """What is seen of a value: itself."""
    return {"Your answer": answer}


def calls(*cases: tuple[str, Callable[[], tuple]]) -> Callable:
    """Watch a function return: cases are (what is said of the inputs, a function that makes them anew)."""

    def observe(function) -> dict[str, Any]:
        seen = {}
        for label, make in cases:
            try:
                seen[f"What your function returns for {label}"] = function(*make())
            except Exception as error:
                error.add_note(f"for {label}")
                raise
        return seen

    return observe


@dataclass
class Question:
    """One exercise. In a notebook: its text, its cell, and `check`; hints and solution stand there commented out."""

    name: str  # "loss.q1"
    title: str
    text: str  # Markdown
    fills: str  # the name that the student gives a value, or the function that they complete
    right: Any  # a right answer, written with the course's or PyTorch's own functions
    mistakes: tuple[Mistake, ...]
    hints: tuple[str, ...]
    solution_code: str
    praise: str = ""  # said when it is right
    kind: str = "function"  # or "value", "model"
    observe: Callable[[Any], dict[str, Any]] = the_answer  # answer -> {subject of a sentence: value}
    tolerance: float = 1e-4
    also_right: tuple = ()  # answers that do something else and are right too
    without: tuple[str, ...] = ()  # names of PyTorch's functions that the text forbids
    hints_given: int = field(default=0, init=False)

    @property
    def cell(self) -> str:
        """What the student completes: the solution up to the end of its docstring, or a name, and dots."""
        if self.kind != "function":
            return f"{self.fills} = ..."
        head, quotes, _ = self.solution_code.rpartition('"""')
        return f"{head}{quotes}\n    ..."

    def check(self, answer=None) -> None:
        """Show what there is to say about an answer, and remember whether it was right."""
        reply = self.reply(answer)
        if reply.verdict != "NO ANSWER YET":
            remember(self.name, "right" if reply.verdict == "RIGHT" else "tried")
        display(reply)

    def hint(self) -> None:
        """Show the next hint; after the last one, the last again."""
        self.hints_given = min(self.hints_given + 1, len(self.hints))
        last = " This was the last one." if self.hints_given == len(self.hints) else ""
        display(Reply(f"HINT {self.hints_given} of {len(self.hints)}", self.hints[self.hints_given - 1] + last))

    def solution(self) -> None:
        """Show one way to do it."""
        code = textwrap.indent(self.solution_code, "    ")
        display(Reply("SOLUTION", f"One way to write it. Type it, change it, and check it.\n\n{code}"))

    def reply(self, answer) -> Reply:
        """The reply to an answer, never an exception."""
        if answer is None or answer is ... or is_untouched(answer):
            return Reply("NO ANSWER YET", f"Put your answer in place of the dots (`{self.fills}`), then run the cell.")
        if wrong_kind := self._wrong_kind(answer):
            return Reply("NOT YET", wrong_kind)
        with torch.random.fork_rng(devices=[]):
            try:
                with Watched() if self.without else nullcontext() as watched:
                    seen = self._watch(answer)
                wanted, *others = map(self._watch, (self.right, *self.also_right))
                found = [first_difference(seen, right, self.tolerance) for right in (wanted, *others)]
                if None in found:
                    if used := [f"`{name}`" for name in self.without if name in watched.names]:
                        return Reply("NOT YET", f"The result is right. Now compute it without PyTorch's {used[0]}.")
                    return Reply("RIGHT", self.praise)
                label, sentence = found[0]
                for mistake in self.mistakes:
                    same = self._watch(mistake.answer)
                    if same.keys() == seen.keys() and first_difference(seen, same, self.tolerance) is None:
                        why = mistake.why.format(got=short(seen[label]), want=short(wanted[label]))
                        return Reply("NOT YET", why)
            except (Exception, SystemExit) as error:
                return Reply("NOT YET", explain_error(error))
        if self.kind == "value":  # the right value stays hidden
            sentence = sentence.partition(":")[0]
        return Reply("NOT YET", f"{label} {sentence}".rstrip("?") + ("?" if sentence.endswith("?") else "."))

    def _watch(self, answer) -> dict[str, Any]:
        """What is seen of an answer; where it turns gradients off, they are on again afterwards."""
        with torch.enable_grad():
            return self.observe(answer)

    def _wrong_kind(self, answer) -> str:
        given = f"a {type(answer).__name__}"
        if self.kind == "model" and not isinstance(answer, nn.Module):
            return f"The answer is a model, an `nn.Module`; this is {given}."
        if self.kind == "function" and not callable(answer):
            return f"The answer is the function itself, without brackets: `check({self.fills})`. This is {given}."
        if self.kind == "value" and callable(answer):
            return "The answer is a value; this is a function. Did you mean what it returns?"
        if self.kind == "value" and isinstance(answer, str):
            return "The answer is a number; this is text. Leave out the quotation marks."
        if self.kind == "value" and (answer.ndim if hasattr(answer, "ndim") else hasattr(answer, "__len__")):
            return f"The answer is one number; this is {given}."
        return ""


def is_untouched(answer) -> bool:
    """Is it a function that only returns None, as the cell's own does?"""
    if not hasattr(answer, "__code__"):
        return False
    steps = [step for step in dis.get_instructions(answer) if step.opname not in ("RESUME", "NOP")]
    return all(step.argval is None for step in steps)


def explain_error(error: BaseException) -> str:
    """What happened, for which input, and in which line of the student's."""
    said = textwrap.shorten(clean(str(error)).strip().partition("\n")[0], 200, placeholder=" ...")
    what = f"Your code stopped {' '.join(getattr(error, '__notes__', []))}".rstrip()
    what += f", with {type(error).__name__}" + (f": {said.rstrip('. ')}." if said else ".")
    what += next((f" {meaning}" for words, meaning in MEANINGS.items() if words in said), "")
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not Path(f.filename).is_file()]
    if frames and not frames[-1].filename.startswith("<frozen"):  # a notebook's cell is no file
        what += f" It happened in line {frames[-1].lineno} of your cell"
        what += f": `{frames[-1].line}`." if frames[-1].line else "."
    return what


def first_difference(seen: dict, wanted: dict, tolerance: float) -> tuple[str, str] | None:
    """(subject, what is wrong with it) of the first thing that differs, or None."""
    for label, value in wanted.items():
        if sentence := differs(seen.get(label), value, tolerance):
            return label, sentence
    return None


def differs(got, want, tolerance: float) -> str:
    """What differs, as a sentence without its subject: kind, shape, sign, size; "" where nothing does."""
    if got is None and want is not None:
        return "is None: is there a `return` in your function, on every way through it?"
    if isinstance(got, Finding) or isinstance(want, Finding):
        return "" if isinstance(got, str) and got == want else f"is {short(got)}: it should be {short(want)}"
    if isinstance(got, Fraction | Decimal):
        got = float(got)
    if isinstance(want, list):
        if not isinstance(got, list | tuple):
            return f"is of the type {type(got).__name__}: it should be a list, {short(want)}"
        return "" if list(got) == want else f"is {short(list(got))}: it should be {short(want)}"
    try:
        given, right = (torch.as_tensor(value).detach().cpu() for value in (got, want))
    except (TypeError, ValueError, RuntimeError):
        return f"is of the type {type(got).__name__}: it should be {short(want)}"
    if (given.dtype == torch.bool) != (right.dtype == torch.bool):
        return f"is {short(got)}: it should be {'True or False' if right.dtype == torch.bool else 'a number'}"
    if right.dtype == torch.bool and given.shape == right.shape == ():
        return "" if given == right else f"is {short(given)}: it should be {short(right)}"
    given, right = given.double(), right.double()
    if given.shape != right.shape and not given.numel() == right.numel() == 1:
        wanted = f"have the shape {tuple(right.shape)}" if right.ndim else "be one number. Is a mean or a sum missing?"
        return f"has the shape {tuple(given.shape)}: it should {wanted}"
    return _numbers_differ(given.reshape(right.shape), right, tolerance)


def _numbers_differ(given: torch.Tensor, right: torch.Tensor, tolerance: float) -> str:
    if torch.allclose(given, right, rtol=tolerance, atol=tolerance, equal_nan=True):
        return ""
    if not given.isfinite().all():
        what = "NaN" if given.isnan().any() else "infinity"
        why = "Look for 0 / 0, as in the mean of nothing, a logarithm of 0 or less, and an exponential of much"
        return f"holds {what}: it should be {short(right)}. {why}"
    both = f"it is {short(given)}, and should be {short(right)}"
    if torch.allclose(-given, right, rtol=tolerance, atol=tolerance):
        return f"has the right size and the wrong sign: {both}"
    largest = right.abs().argmax()
    ratio = given.flatten()[largest] / right.flatten()[largest]
    if right.count_nonzero() > 1 and ratio != 0 and torch.allclose(given, ratio * right, rtol=1e-3, atol=tolerance):
        return f"is {ratio:.3g} times what it should be, everywhere: {both}"
    if right.numel() == 1:
        return f"is too {'large' if given > right else 'small'}: {both}"
    worst = (given - right).abs().flatten().argmax()
    where = tuple(int(i) for i in torch.unravel_index(worst, right.shape))
    return f"differs most at {where}: there {short(given.flatten()[worst])}, not {short(right.flatten()[worst])}"


def short(value) -> str:
    """A value in a few characters."""
    if isinstance(value, torch.Tensor) or type(value).__module__ == "numpy":
        value = value.tolist()
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list) and all(isinstance(part, int | float | list) for part in value):
        return f"[{', '.join(short(part) for part in value[:6])}{', ...' if len(value) > 6 else ''}]"
    return textwrap.shorten(clean(value if isinstance(value, str) else repr(value)), 160, placeholder=" ...")
