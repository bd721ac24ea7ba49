"""The exercises of notebook 09: the weight of a client, clipping with NaN in sight, variances, bytes, noise."""

import math
from collections.abc import Callable

import torch

from course_utils.exercises.question import Mistake, Question, calls

NUMBERS = 308_826  # parameters of the pocket network with ten classes


q1 = Question(
    name="federated.q1",
    title="What goes over the wire",
    text="The pocket network has 308,826 parameters, as float32. In each of 20 rounds each of 10 clients receives the "
    "whole model and sends a change of the same size back. How many megabytes (millions of bytes) travel in all?",
    fills="megabytes",
    kind="value",
    right=NUMBERS * 4 * 2 * 10 * 20 / 1e6,
    tolerance=2e-3,
    praise="Nearly 500 MB for ten clients and a very small network: the bytes are the price of federated learning.",
    mistakes=(
        Mistake(
            "one way only",
            NUMBERS * 4 * 10 * 20 / 1e6,
            "You counted one way. The model goes out to every client, and a change of the same size comes back.",
        ),
        Mistake(
            "numbers taken for bytes",
            NUMBERS * 2 * 10 * 20 / 1e6,
            "You counted numbers. A float32 takes 4 bytes.",
        ),
        Mistake("one client", NUMBERS * 4 * 2 * 20 / 1e6, "That is one client's share. There are ten."),
        Mistake("one round", NUMBERS * 4 * 2 * 10 / 1e6, "That is one round. There are twenty."),
        Mistake("mebibytes", NUMBERS * 4 * 2 * 10 * 20 / 2**20, "You divided by 2**20. Here a megabyte is 1e6 bytes."),
        Mistake("bits", NUMBERS * 32 * 2 * 10 * 20 / 1e6, "Those are megabits. A byte has 8 bits."),
    ),
    hints=(
        "Numbers, times bytes a number, times ways, times clients, times rounds.",
        "308,826 numbers of 4 bytes, 2 ways, 10 clients, 20 rounds; a megabyte is a million bytes.",
    ),
    solution_code="megabytes = 308_826 * 4 * 2 * 10 * 20 / 1e6",
)


def three_clients() -> tuple:
    """The changes of three clients in one tensor, and how many examples each has."""
    return [torch.tensor([1.0, -2.0, 0.5]), torch.tensor([3.0, 0.0, 1.5]), torch.tensor([-1.0, 4.0, 2.0])], [10, 30, 60]


def two_clients() -> tuple:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 3, generator=generator) for _ in range(2)], [5, 1]


q2 = Question(
    name="federated.q2",
    title="The server's mean",
    text="`changes` is a list of tensors of one shape, one a client, and `examples` a list of how many examples each "
    "client trained on. Write `server_mean(changes, examples)`: the mean in which every *example* counts the same.",
    fills="server_mean",
    right=lambda changes, examples: sum(c * n for c, n in zip(changes, examples, strict=True)) / sum(examples),
    observe=calls(("three clients", three_clients), ("two clients", two_clients)),
    praise="This is the averaging in FedAvg. Note what it believes: the number of examples is the client's own word.",
    mistakes=(
        Mistake(
            "every client the same",
            lambda changes, examples: sum(changes) / len(changes),
            "Here every client counts the same, so an example of a small client counts more than one of a large "
            "client. `examples` is not used.",
        ),
        Mistake(
            "not divided",
            lambda changes, examples: sum(c * n for c, n in zip(changes, examples, strict=True)),
            "The sum is right, and is not yet a mean: divide by the number of all examples.",
        ),
        Mistake(
            "divided by the clients",
            lambda changes, examples: sum(c * n for c, n in zip(changes, examples, strict=True)) / len(changes),
            "You weigh by examples and divide by clients. The weights have to add up to 1: divide by `sum(examples)`.",
        ),
        Mistake(
            "weighed the other way round",
            lambda changes, examples: (
                sum(c / n for c, n in zip(changes, examples, strict=True)) / sum(1 / n for n in examples)
            ),
            "You divide by the number of examples, so the smallest client counts most. Multiply by it.",
        ),
    ),
    hints=(
        "A client with 60 of 100 examples should count 60/100.",
        "Multiply each change by its number of examples, add up, and divide by `sum(examples)`.",
    ),
    solution_code='''def server_mean(changes, examples):
    """changes: tensors of one shape; examples: whole numbers -> a tensor of that shape."""
    total = sum(examples)
    return sum(change * (count / total) for change, count in zip(changes, examples))''',
)


def shorten(change, limit):
    norm = change.norm()
    if not norm.isfinite():
        return torch.zeros_like(change)
    return change * min(1.0, limit / max(norm.item(), 1e-12))


def a_change(*values: float, limit: float) -> Callable[[], tuple]:
    """What makes the arguments, new ones each time."""
    return lambda: (torch.tensor(values), limit)


q3 = Question(
    name="federated.q3",
    title="A limit that holds",
    text="Write `shorten(change, limit)` for a change in one tensor: as it is where its Euclidean norm is `limit` or "
    "less, else in the same direction with the norm `limit`. A change that holds NaN or infinity becomes all zeros.",
    fills="shorten",
    right=shorten,
    observe=calls(
        ("a change of norm 5 and a limit of 2", a_change(3.0, -4.0, limit=2.0)),
        ("a change of norm 1.5 and a limit of 2", a_change(0.9, 1.2, limit=2.0)),
        ("a change of norm 1.5 and a limit of 0.5", a_change(0.9, 1.2, limit=0.5)),
        ("a change of zeros", a_change(0.0, 0.0, limit=1.0)),
        ("a change with a NaN in it", a_change(0.5, math.nan, -0.5, limit=1.0)),
        ("a change with infinity in it", a_change(0.5, math.inf, -0.5, limit=1.0)),
        ("a change with minus infinity in it", a_change(0.5, -math.inf, -0.5, limit=1.0)),
    ),
    praise="And a NaN does not slip through, which it does in much code that looks as good.",
    mistakes=(
        Mistake(
            "NaN slips through",
            lambda change, limit: change * limit / change.norm() if change.norm() > limit else change,
            "The limit itself is right. But a comparison with NaN is always False: `norm > limit` is False too, and "
            "the NaN goes on to the model. Ask `norm.isfinite()` first.",
        ),
        Mistake(
            "NaN slips through min",
            lambda change, limit: change * (limit / change.norm().clamp(min=1e-12)).clamp(max=1.0),
            "The limit itself is right. But `clamp` passes a NaN on, and the model gets it. Ask `norm.isfinite()` "
            "first.",
        ),
        Mistake(
            "infinity slips through",
            lambda change, limit: (
                torch.zeros_like(change) if change.isnan().any() else change * min(1.0, limit / change.norm())
            ),
            "NaN is caught, and infinity is not: its norm is infinite, infinity divided by infinity is NaN, and so is "
            "0 times infinity. `norm.isfinite()` asks for both.",
        ),
        Mistake(
            "minus infinity slips through",
            lambda change, limit: (
                torch.zeros_like(change)
                if change.isnan().any() or (change == math.inf).any()
                else change * min(1.0, limit / change.norm())
            ),
            "NaN and infinity are caught, and minus infinity is not. `norm.isfinite()` asks for all three.",
        ),
        Mistake(
            "NaN times zero",
            lambda change, limit: change * min(1.0, limit / change.norm()) if change.isfinite().all() else 0 * change,
            "You find the NaN, and then multiply by 0. But 0 times NaN is NaN, and so is 0 times infinity: make the "
            "zeros anew, with `torch.zeros_like(change)`.",
        ),
        Mistake(
            "each number by itself",
            lambda change, limit: change.nan_to_num(0, 0, 0).clamp(-limit, limit),
            "You limit each number by itself. Of 300,000 numbers each may then be as large as the limit, and the "
            "direction changes. Limit the norm of the whole.",
        ),
        Mistake(
            "short ones made longer",
            lambda change, limit: (
                change * limit / change.norm() if change.norm().isfinite() and change.norm() else change * 0
            ).nan_to_num(0),
            "A change that was short enough has become longer. The factor is `limit / norm`, and 1 at most.",
        ),
        Mistake(
            "a unit vector",
            lambda change, limit: shorten(change, limit) if change.norm() <= limit else shorten(change, 1.0),
            "A change that is too long gets the norm 1. It should get the norm `limit`: multiply by `limit / norm`.",
        ),
        Mistake(
            "1 in place of the limit",
            lambda change, limit: shorten(change, 1.0),
            "You limit the norm to 1, whatever `limit` says. The factor is `limit / norm`, and 1 at most.",
        ),
    ),
    hints=(
        "The factor is limit / norm, and never more than 1.",
        "What is `float('nan') > 1`? So which question finds a NaN?",
        "First `if not norm.isfinite(): return torch.zeros_like(change)`; infinity times 0 is NaN.",
    ),
    solution_code='''import torch


def shorten(change, limit):
    """change: a tensor -> a tensor of its shape, with a norm of limit at most."""
    norm = change.norm()
    if not norm.isfinite():
        return torch.zeros_like(change)
    return change * min(1.0, limit / norm)''',
)

q4 = Question(
    name="federated.q4",
    title="Averaged variances",
    text="In one channel the activations of client A have the mean -2 and the variance 1, those of client B the mean 2 "
    "and the variance 1. Both have as many examples. A server that averages running statistics gets the mean 0 and the "
    "variance 1. What is the variance of all activations together?",
    fills="variance",
    kind="value",
    right=5,
    praise="1 within the clients and 4 between them. The server would divide by 1 in place of the square root of 5.",
    mistakes=(
        Mistake(
            "the mean of the variances",
            1,
            "That is what the server gets. It knows how far values are from their own client's mean, and misses how "
            "far the clients are from each other.",
        ),
        Mistake(
            "only between the clients",
            4,
            "That is the part between the clients, the variance of their means. The part within them is missing.",
        ),
        Mistake("variances added", 2, "Variances of a sum add up. This is a mixture: half of the values from each."),
        Mistake(
            "the difference of the means squared",
            17,
            "The means are 4 apart, but each is only 2 from the common mean: square that.",
        ),
        Mistake("the standard deviation", 5**0.5, "That is the standard deviation. The question is for its square."),
    ),
    hints=(
        "The common mean is 0. How far from it is a typical value of A?",
        "The mean of the squares is variance + mean * mean, for each client.",
    ),
    solution_code="variance = ((1 + 2**2) + (1 + 2**2)) / 2",
)

q5 = Question(
    name="federated.q5",
    title="How loud is the noise?",
    text="Ten clients send 307,386 numbers each (BatchNorm is frozen), clipped to a norm of 1. The server adds "
    "Gaussian noise with the standard deviation 1 to every number of their *sum*, then divides by 10. About how long "
    "is the noise in the mean, as a Euclidean norm? (The mean itself has a norm of 1 at most.)",
    fills="noise_norm",
    kind="value",
    right=307_386**0.5 / 10,
    tolerance=2e-2,
    praise="55 times the longest mean that there can be. With 10,000 clients it would be 0.055: noise needs a crowd.",
    mistakes=(
        Mistake(
            "one number",
            0.1,
            "So much is in one number. There are 307,386 of them, and a norm grows with the root of their number.",
        ),
        Mistake("not divided by the clients", 307_386**0.5, "That is in the sum. The mean is a tenth of it."),
        Mistake("no root", 307_386 / 10, "A norm takes the root of the sum of squares, and you added up without it."),
        Mistake(
            "divided by the root of the clients",
            (307_386 / 10) ** 0.5,
            "The noise is added once, to the sum, not once a client. So the whole of it is divided by 10.",
        ),
    ),
    hints=(
        "The norm of N independent numbers of standard deviation s is about s times the root of N.",
        "In the mean s is 1/10, and N is 307,386.",
    ),
    solution_code="noise_norm = 307_386**0.5 / 10",
)

QUESTIONS = (q1, q2, q3, q4, q5)
