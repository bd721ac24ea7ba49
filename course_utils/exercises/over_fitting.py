"""The exercises of notebook 05b: does it help, a large batch in small parts, what a larger image costs."""

import math
import statistics

import torch
import torch.nn as nn
import torch.nn.functional as F

from course_utils.exercises.question import Finding, Mistake, Question, calls

WITH, WITHOUT = [0.93, 0.90, 0.95, 0.91], [0.91, 0.89, 0.92, 0.90]
WORSE, BETTER = [0.80, 0.85, 0.70, 0.82, 0.88], [0.82, 0.84, 0.75, 0.86, 0.90]


def differences(one, other) -> list[float]:
    return [a - b for a, b in zip(one, other, strict=True)]


def in_standard_errors(one, other) -> float:
    found = differences(one, other)
    return statistics.mean(found) / (statistics.stdev(found) / math.sqrt(len(found)))


q1 = Question(
    name="over_fitting.q1",
    title="Does it help?",
    text="Two lists hold accuracies of the same seeds in the same order, with a remedy and without. Write "
    "`in_errors(with_remedy, without)`: the mean of the differences, seed by seed, divided by the standard error of "
    "that mean (the standard deviation over $\\sqrt{n}$, with $n - 1$ in the deviation).",
    fills="in_errors",
    right=in_standard_errors,
    observe=calls(
        ("four seeds", lambda: (list(WITH), list(WITHOUT))),
        ("five seeds", lambda: (list(WORSE), list(BETTER))),
    ),
    praise="Beyond about 3 with so few seeds there is something to talk about. The seeds are paired: what makes one "
    "draw of labels hard is hard for both, and falls out of the difference.",
    mistakes=(
        Mistake(
            "not paired",
            lambda one, other: (
                (statistics.mean(one) - statistics.mean(other))
                / math.sqrt((statistics.variance(one) + statistics.variance(other)) / len(one))
            ),
            "You take the spread of each list by itself. Much of it is the luck of a seed, which both share: take the "
            "differences first, then their spread.",
        ),
        Mistake(
            "the deviation",
            lambda one, other: statistics.mean(differences(one, other)) / statistics.stdev(differences(one, other)),
            "You divide by the deviation of one difference. Their mean is surer than one of them, by the root of n.",
        ),
        Mistake(
            "n in the deviation",
            lambda one, other: (
                statistics.mean(differences(one, other))
                / (statistics.pstdev(differences(one, other)) / math.sqrt(len(one)))
            ),
            "Your deviation divides by n. The mean was taken from the same numbers, so n - 1 is right: "
            "`torch.std` does so, and `np.std(..., ddof=1)`.",
        ),
    ),
    hints=(
        "Begin with the list of differences, one a seed.",
        "`torch.tensor(a) - torch.tensor(b)` gives the differences; `.mean()`, `.std()` and `len` do the rest.",
    ),
    solution_code='''import torch


def in_errors(with_remedy, without):
    """The mean paired difference in units of its standard error."""
    found = torch.tensor(with_remedy) - torch.tensor(without)
    return (found.mean() / (found.std() / len(found) ** 0.5)).item()''',
)


class Passes:
    """Counts the forward passes of a model: the rows of the largest, and the most whose backward pass is still due."""

    def __init__(self, model: nn.Module):
        self.rows = self.due = self.most_due = 0
        model.register_forward_hook(self.count)

    def count(self, model, inputs, output):
        self.rows = max(self.rows, len(output))
        if output.requires_grad:
            self.due += 1
            self.most_due = max(self.most_due, self.due)
            output.register_hook(self.done)

    def done(self, gradient):
        self.due -= 1


def watch(function) -> dict:
    """The weights, (15,), after each of two steps of a small model, and its forward passes; for two losses."""
    seen = {}
    for name, loss_fn, rate in (("cross-entropy", F.cross_entropy, 0.5), ("squares", F.mse_loss, 0.1)):
        torch.manual_seed(0)
        model = nn.Linear(4, 3)
        optimizer = torch.optim.SGD(model.parameters(), lr=rate)
        for step, sizes in (("the first", (4, 4)), ("the second", (6, 2, 1))):
            case = f"{step} step, with {name} and parts of {' and '.join(map(str, sizes))} images"
            parts = [(torch.randn(count, 4), torch.randint(3, (count,))) for count in sizes]
            if name == "squares":
                parts = [(inputs, F.one_hot(targets, 3).float()) for inputs, targets in parts]
            passes = Passes(model)
            try:
                function(model, parts, loss_fn, optimizer)
            except Exception as error:
                error.add_note(f"in {case}")
                raise
            seen[f"The model after {case},"] = torch.cat([weight.detach().flatten() for weight in model.parameters()])
            rows = "one part at most" if passes.rows <= max(sizes) else f"{passes.rows} images"
            seen[f"What is in one forward pass, in {case},"] = Finding(rows)
            due = "one forward pass" if passes.most_due <= 1 else f"{passes.most_due} forward passes"
            seen[f"What waits for its `backward()` at one time, in {case},"] = Finding(due)
    return seen


def accumulating(weigh, *, clear="once", step_each=False):
    """A step over parts, each loss multiplied by weigh(its size, all parts). clear: "once", "each" time or "never"."""

    def function(model, parts, loss_fn, optimizer):
        for number, (inputs, targets) in enumerate(parts):
            if clear == "each" or (clear == "once" and number == 0):
                optimizer.zero_grad()
            (loss_fn(model(inputs), targets) * weigh(len(targets), parts)).backward()
            if step_each:
                optimizer.step()
                optimizer.zero_grad()
        if not step_each:
            optimizer.step()

    return function


def in_one_pass(model, parts, loss_fn, optimizer):
    inputs, targets = (torch.cat(both) for both in zip(*parts, strict=True))
    accumulating(share)(model, [(inputs, targets)], loss_fn, optimizer)


def one_backward(model, parts, loss_fn, optimizer):
    optimizer.zero_grad()
    sum(loss_fn(model(inputs), targets) * share(len(targets), parts) for inputs, targets in parts).backward()
    optimizer.step()


def share(count, parts):
    return count / sum(len(targets) for _, targets in parts)


q2 = Question(
    name="over_fitting.q2",
    title="A large batch in small parts",
    text="Write `step_in_parts(model, parts, loss_fn, optimizer)`: one step whose gradient is that of the whole batch. "
    "`parts` is a list of pairs `(inputs, targets)`, of different sizes; `loss_fn` gives the mean over a part. "
    "Only one part may be in memory at a time: its `backward()` comes before the next forward pass.",
    fills="step_in_parts",
    right=accumulating(share),
    observe=watch,
    praise="Each part counts by its share of the images, and the memory is that of the largest part.",
    mistakes=(
        Mistake(
            "not divided",
            accumulating(lambda count, parts: 1),
            "You add up the means of the parts, so the gradient is too large. Weigh each by its share.",
        ),
        Mistake(
            "divided by the number of parts",
            accumulating(lambda count, parts: 1 / len(parts)),
            "You divide by the number of parts, which is right where all are of one size. Here one image of a small "
            "part would count for more than one of a large part: multiply by `len(targets) / total`.",
        ),
        Mistake(
            "cleared in each part",
            accumulating(share, clear="each"),
            "You clear the gradients before each part, so only the last part is left when the optimiser steps.",
        ),
        Mistake(
            "a step in each part",
            accumulating(share, step_each=True),
            "You take a step after each part: these are several small batches, and not one large one.",
        ),
        Mistake(
            "never cleared",
            accumulating(share, clear="never"),
            "The first step is right. In the second the gradients of the first are still there, and `backward()` adds "
            "to them: call `optimizer.zero_grad()` once a step.",
        ),
        Mistake(
            "in one forward pass",
            in_one_pass,
            "The step is right, and the memory is that of the whole batch: you put all parts into one forward pass.",
        ),
        Mistake(
            "one backward pass",
            one_backward,
            "The step is right, and the memory is that of the whole batch: all forward passes come before the first "
            "`backward()`, and what they keep for it stays. Call `backward()` for each part, right after its loss.",
        ),
    ),
    hints=(
        "`backward()` adds to the gradients that are there. Which call clears them, and how often is it wanted here?",
        "The mean over all images is the sum over parts of `mean of the part * images of the part / all images`.",
    ),
    solution_code='''def step_in_parts(model, parts, loss_fn, optimizer):
    """One step for a batch that comes in parts."""
    total = sum(len(targets) for _, targets in parts)
    optimizer.zero_grad()
    for inputs, targets in parts:
        loss = loss_fn(model(inputs), targets) * len(targets) / total
        loss.backward()
    optimizer.step()''',
)

MEASURED = 5.8621  # megabytes at 32 images of 32 pixels; a test compares it with results/costs.csv

q3 = Question(
    name="over_fitting.q3",
    title="A larger batch of larger images",
    text="For 32 images of 32 pixels, autograd keeps 5.9 MB until the backward pass. About how many megabytes does it "
    "keep for 64 images of 64 by 64 pixels? One digit behind the point is more than enough.",
    fills="megabytes",
    kind="value",
    right=8 * MEASURED,
    tolerance=0.02,
    praise="Twice the images and four times the pixels: eight times as much.",
    mistakes=(
        Mistake("the batch alone", 2 * MEASURED, "You have counted the batch. The images are larger, too."),
        Mistake("twice and twice", 4 * MEASURED, "An image of twice the side has four times the pixels, not twice."),
        Mistake("the pixels squared", 32 * MEASURED, "The pixels are four times as many: 4, and not 16."),
    ),
    hints=(
        "What is kept are the outputs of the layers: a number for each image, channel and pixel.",
        "Twice as many images, and four times as many pixels in each.",
    ),
    solution_code="megabytes = 5.9 * 2 * 4",
)

QUESTIONS = (q1, q2, q3)
