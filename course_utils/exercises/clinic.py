"""The exercises of notebook 05: a diagnosis for each patient, the first loss, the worst class, when to stop."""

import difflib
import math

import torch
from IPython.display import display

from course_utils import clinic
from course_utils.exercises.memory import remember
from course_utils.exercises.question import Mistake, Question, Reply, calls


def examine(name: str, diagnosis: str = ...) -> None:
    """Show what a patient's curves say to a diagnosis, one of `clinic.DIAGNOSES`; what was right is remembered.

    Raises ValueError for an unknown patient.
    """
    reply = opinion_on(name, diagnosis)
    if reply.verdict != "NO ANSWER YET":
        remember(f"clinic.{name}", "right" if reply.verdict == "RIGHT" else "tried")
    display(reply)


def opinion_on(name: str, diagnosis: str) -> Reply:
    """The reply that `examine` shows."""
    clinic.find(name)
    if diagnosis is ... or diagnosis is None:
        return Reply("NO ANSWER YET", f'What does {name} have? Put `"a diagnosis"` in place of the dots.')
    if diagnosis not in clinic.DIAGNOSES:
        near = difflib.get_close_matches(str(diagnosis), clinic.DIAGNOSES, n=1)
        return Reply(
            "NOT YET",
            f"There is no diagnosis {diagnosis!r}. "
            + (f"Did you mean `{near[0]}`?" if near else "`list(clinic.DIAGNOSES)` names all of them."),
        )
    verdict = clinic.diagnose(name, diagnosis)
    return Reply("RIGHT" if verdict.right else "NOT YET", verdict.text)


q1 = Question(
    name="clinic.q1",
    title="The first loss",
    text="A pretrained backbone gets a new head for 37 classes, and the loss is cross-entropy. Before the first "
    "step, near which number should the loss be? Two digits behind the point are enough.",
    fills="first_loss",
    kind="value",
    right=math.log(37),
    tolerance=2e-3,
    praise="log 37: the loss of one who gives each class the same chance. Twice that, and you look at the head's "
    "scale, or at the inputs; far less, and something gives the answer away.",
    mistakes=(
        Mistake("log 10", math.log(10), "That is the value for the ten digits. Here there are 37 classes."),
        Mistake("log2", math.log2(37), "That is in bits. PyTorch's cross-entropy takes the natural logarithm."),
        Mistake("log10", math.log10(37), "That is the logarithm to base 10. PyTorch takes the natural one."),
        Mistake("the chance", 1 / 37, "That is the chance of a right guess. The loss is minus its logarithm."),
    ),
    hints=(
        "What chance does somebody who knows nothing give to each class?",
        "The loss is -log(1 / K), which is log K.",
    ),
    solution_code="import math\n\nfirst_loss = math.log(37)",
)


def worst_class(predicted: torch.Tensor, targets: torch.Tensor) -> float:
    return min((predicted[targets == k] == k).double().mean().item() for k in targets.unique())


ANSWERS = torch.tensor([0, 0, 0, 0, 1, 1, 0, 3, 3, 1, 3]), torch.tensor([0, 0, 0, 0, 1, 1, 1, 3, 3, 3, 3])
MORE_ANSWERS = torch.tensor([2, 2, 0, 2, 2, 0, 1, 2]), torch.tensor([2, 2, 0, 2, 0, 0, 1, 2])
NEVER_A_2 = torch.tensor([0, 0, 1, 1, 1, 1, 1]), torch.tensor([0, 0, 0, 1, 1, 2, 2])
ONE_OF_A_CLASS = torch.tensor([0, 1, 0]), torch.tensor([0, 0, 1])
NO_CLASS_0 = torch.tensor([1, 1, 2, 3, 3, 3]), torch.tensor([1, 1, 1, 3, 3, 3])
q2 = Question(
    name="clinic.q2",
    title="The class that fails",
    text="Write `worst(predicted, targets)`, both class numbers of the shape `(N,)`: the share of right answers in the "
    "class where it is lowest, among the classes that occur in `targets`.",
    fills="worst",
    right=worst_class,
    observe=calls(
        ("11 images of the classes 0, 1 and 3", lambda: tuple(part.clone() for part in ANSWERS)),
        ("8 images of three classes", lambda: tuple(part.clone() for part in MORE_ANSWERS)),
        ("7 images of three classes, none of them answered 2", lambda: tuple(part.clone() for part in NEVER_A_2)),
        ("3 images, one of them of class 1", lambda: tuple(part.clone() for part in ONE_OF_A_CLASS)),
        ("6 images of the classes 1 and 3, one answered 2", lambda: tuple(part.clone() for part in NO_CLASS_0)),
    ),
    praise="One number that a rare class cannot hide behind. (With three images of it that number jumps by thirds: "
    "say how many there were.)",
    mistakes=(
        Mistake(
            "the accuracy",
            lambda predicted, targets: (predicted == targets).double().mean(),
            "That is the accuracy over all images. A class with few images hardly counts in it.",
        ),
        Mistake(
            "the mean over classes",
            lambda predicted, targets: (
                sum((predicted[targets == k] == k).double().mean() for k in targets.unique()) / len(targets.unique())
            ),
            "That is the mean over the classes. It is fairer than the accuracy, but the worst one is asked for.",
        ),
        Mistake(
            "divided by what was predicted",
            lambda predicted, targets: min((targets[predicted == k] == k).double().mean() for k in targets.unique()),
            "You ask how often an answer k is right (precision). Ask of the images whose true class is k how many are "
            "answered rightly (recall): choose with `targets == k`.",
        ),
        Mistake(
            "the classes that are predicted",
            lambda predicted, targets: min(
                (predicted[targets == k] == k).double().mean() for k in predicted.unique() if (targets == k).any()
            ),
            "You look at the classes that are predicted. A class that is never predicted is missing, and it is the "
            "worst of all: its share is 0. `targets.unique()` gives the classes that occur.",
        ),
        Mistake(
            "a class that is only predicted",
            lambda predicted, targets: (
                0.0 if set(predicted.tolist()) - set(targets.tolist()) else worst_class(predicted, targets)
            ),
            "A class that is predicted and has no image in `targets` counts as wholly wrong. Leave it out: "
            "`targets.unique()` gives those that occur.",
        ),
        Mistake(
            "classes without images",
            lambda predicted, targets: min(
                (((predicted == k) & (targets == k)).sum() / (targets == k).sum().clamp(min=1)).item()
                for k in range(int(targets.max()) + 1)
            ),
            "One of your classes has no image in `targets`, and counts as wholly wrong. Leave it out: "
            "`targets.unique()` gives those that occur.",
        ),
        Mistake(
            "the mean of no images",
            lambda predicted, targets: min(
                (predicted[targets == k] == k).double().mean().item() for k in range(int(targets.max()) + 1)
            ),
            "One of your classes has no image in `targets`, and the mean of nothing is NaN. Leave it out: "
            "`targets.unique()` gives those that occur.",
        ),
    ),
    hints=(
        "For one class k: which images have it as their true class, and how many of them are answered k?",
        "`(predicted[targets == k] == k).float().mean()` is the share for class k; take the minimum over "
        "`targets.unique()`.",
    ),
    solution_code='''def worst(predicted, targets):
    """The lowest share of right answers of a class; both inputs (N,) of class numbers."""
    return min((predicted[targets == k] == k).float().mean().item() for k in targets.unique())''',
)


def early_stopping(val_losses, patience, *, ties_count=False):
    """The best epoch so far and the epoch that is the last. ties_count: is the same loss again an improvement?"""
    best = 0
    for epoch, loss in enumerate(val_losses):
        if loss < val_losses[best] or (ties_count and loss == val_losses[best]):
            best = epoch
        elif epoch - best >= patience:
            break
    return best, epoch


def never_counted_again(val_losses, patience):
    best = waited = 0
    for epoch, loss in enumerate(val_losses):
        if loss < val_losses[best]:
            best = epoch
        elif epoch:
            waited += 1
        if waited == patience:
            break
    return best


def rises_in_a_row(val_losses, patience):
    best = rises = 0
    for epoch in range(1, len(val_losses)):
        rises = rises + 1 if val_losses[epoch] >= val_losses[epoch - 1] else 0
        if val_losses[epoch] < val_losses[best]:
            best = epoch
        if rises == patience:
            break
    return best


q3 = Question(
    name="clinic.q3",
    title="When to stop, and what to keep",
    text="Write `epoch_to_keep(val_losses, patience)`. The losses come one an epoch. The training ends after "
    "`patience` epochs in which the loss was not below the lowest so far. Return the number, from 0, of the epoch "
    "whose network is kept. Losses after the end do not exist yet when the decision falls.",
    fills="epoch_to_keep",
    right=lambda val_losses, patience: early_stopping(val_losses, patience)[0],
    observe=calls(
        ("[3, 2, 1, 1.5, 1.4, 1.3, 0.5] with patience 3", lambda: ([3, 2, 1, 1.5, 1.4, 1.3, 0.5], 3)),
        ("[3, 2, 2.1, 2.2, 1, 0.9] with patience 2", lambda: ([3, 2, 2.1, 2.2, 1, 0.9], 2)),
        ("[2, 1.9, 1.8, 1.7] with patience 2", lambda: ([2, 1.9, 1.8, 1.7], 2)),
        ("[3, 2, 2.5, 1, 1.5, 0.5] with patience 2", lambda: ([3, 2, 2.5, 1, 1.5, 0.5], 2)),
        ("[3, 2, 2.1, 2.2, 2.3, 1] with patience 2", lambda: ([3, 2, 2.1, 2.2, 2.3, 1], 2)),
        ("[2, 2.1, 1, 1.5] with patience 2", lambda: ([2, 2.1, 1, 1.5], 2)),
        ("[1, 1, 1, 2, 0.5] with patience 2", lambda: ([1, 1, 1, 2, 0.5], 2)),
    ),
    praise="The network of the lowest loss so far, and no look into the future. Note what a patience that is too short "
    "cost in the first case: 0.5 was one epoch away.",
    mistakes=(
        Mistake(
            "the lowest of all",
            lambda val_losses, patience: val_losses.index(min(val_losses)),
            "You take the lowest of all losses. The training has ended before some of them: they do not exist.",
        ),
        Mistake(
            "the last epoch",
            lambda val_losses, patience: early_stopping(val_losses, patience)[1],
            "You return the epoch in which the training ends. The one to keep lies `patience` epochs before it.",
        ),
        Mistake(
            "rises in a row",
            rises_in_a_row,
            "You count rises from one epoch to the next. A loss that falls a little, and stays above the lowest, is no "
            "progress either: compare with the lowest so far.",
        ),
        Mistake(
            "the count goes on",
            never_counted_again,
            "You count all epochs without progress, from the first on. A new lowest loss begins the count again: set "
            "it to 0 there.",
        ),
        Mistake(
            "one epoch too late",
            lambda val_losses, patience: early_stopping(val_losses, patience + 1)[0],
            "Your training ends one epoch too late, after `patience + 1` epochs that were not below the lowest. It "
            "ends as soon as `epoch - best` is `patience`: `>=`, not `>`.",
        ),
        Mistake(
            "one epoch too early",
            lambda val_losses, patience: early_stopping(val_losses, patience - 1)[0],
            "Your training ends one epoch too early, after `patience - 1` epochs that were not below the lowest. The "
            "epoch after the best one is the first of them.",
        ),
        Mistake(
            "ties",
            lambda val_losses, patience: early_stopping(val_losses, patience, ties_count=True)[0],
            "Where a loss equals the lowest so far, you take it for progress. Only a loss *below* the lowest counts: "
            "`<`, not `<=`.",
        ),
    ),
    hints=(
        "Keep the number of the best epoch so far, and compare each loss with the loss of that one.",
        "The training ends when `epoch - best` reaches `patience`.",
    ),
    solution_code='''def epoch_to_keep(val_losses, patience):
    """The number of the best epoch at the time when the training stops."""
    best = 0
    for epoch, loss in enumerate(val_losses):
        if loss < val_losses[best]:
            best = epoch
        elif epoch - best >= patience:
            break
    return best''',
)

QUESTIONS = (q1, q2, q3)
