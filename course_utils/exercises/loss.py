"""The exercises of notebook 02: first losses, cross-entropies by hand, their gradient, and numbers that overflow."""

import math

import torch
import torch.nn.functional as F

from course_utils.exercises.question import Mistake, Question, calls

q1 = Question(
    name="loss.q1",
    title="The first loss",
    text="A new head for 37 classes knows nothing yet: every class gets nearly the same logit. What is its "
    "cross-entropy, to two decimals? Predict it, then write the number or the expression.",
    fills="first_loss",
    kind="value",
    right=math.log(37),
    tolerance=1e-3,
    praise="log 37 = 3.61, whatever the labels are. A first loss far above it means that the logits are too large: "
    "look at the inputs, and at how the head starts.",
    mistakes=(
        Mistake(
            "log to the base 10",
            math.log10(37),
            "{got} is the logarithm to the base 10; PyTorch takes the natural one.",
        ),
        Mistake(
            "log to the base 2",
            math.log2(37),
            "{got} is the loss in bits, with base 2; PyTorch takes the natural logarithm.",
        ),
        Mistake(
            "the probability",
            1 / 37,
            "1/37 = {got} is the probability that each class gets. The loss is minus the logarithm of it.",
        ),
        Mistake(
            "log p without the minus", -math.log(37), "The logarithm of 1/37 is {got}. The loss has a minus before it."
        ),
        Mistake("another number of classes", math.log(10), "{got} is right for ten classes. This head has 37."),
    ),
    hints=(
        "Which probability does softmax give to each of 37 equal logits?",
        "The loss of one example is minus the natural logarithm of the probability of its class.",
        "It is -log(1/37), and `math.log` is the natural logarithm.",
    ),
    solution_code="import math\n\nfirst_loss = math.log(37)",
)

q2 = Question(
    name="loss.q2",
    title="Binary cross-entropy by hand",
    text="Write `mean_bce(p, y)`: the mean binary cross-entropy of probabilities `p` and labels `y`, both of shape "
    "`(N,)`. Use `torch.log`, and no loss of PyTorch.",
    fills="mean_bce",
    without=("binary_cross_entropy", "binary_cross_entropy_with_logits", "cross_entropy", "nll_loss"),
    right=F.binary_cross_entropy,
    observe=calls(
        ("p = [0.9, 0.2, 0.6], y = [1, 0, 1]", lambda: (torch.tensor([0.9, 0.2, 0.6]), torch.tensor([1.0, 0, 1]))),
        ("p = [0.9], y = [0]", lambda: (torch.tensor([0.9]), torch.tensor([0.0]))),
        ("p = [0.3, 0.5], y = [1, 0]", lambda: (torch.tensor([0.3, 0.5]), torch.tensor([1.0, 0]))),
    ),
    praise="Minus and mean reach both terms.",
    mistakes=(
        Mistake(
            "the minus and the mean reach the first term only",
            lambda p, y: -(y * p.log()).mean() + (1 - y) * (1 - p).log(),
            "This is the article's formula as printed: without brackets, minus and mean reach the first term only. "
            "You get {got} in place of {want}. Put brackets around the whole sum.",
        ),
        Mistake(
            "the minus reaches the first term only",
            lambda p, y: (-y * p.log() + (1 - y) * (1 - p).log()).mean(),
            "The minus reaches the first term only: you get {got} in place of {want}. Both terms are logarithms of "
            "probabilities, so both are negative; put brackets around their sum.",
        ),
        Mistake("no minus", lambda p, y: -F.binary_cross_entropy(p, y), "{got} is negative: the minus is missing."),
        Mistake(
            "the sum",
            lambda p, y: F.binary_cross_entropy(p, y, reduction="sum"),
            "{got} is the sum over the examples. The mean is {want}: divide by N, or the loss grows with the batch.",
        ),
        Mistake(
            "no mean",
            lambda p, y: F.binary_cross_entropy(p, y, reduction="none"),
            "You return one loss an example, {got}. One number is wanted, their mean: {want}.",
        ),
        Mistake(
            "the first term only",
            lambda p, y: -(y * p.log()).mean(),
            "Only the examples with y = 1 count in yours: you get {got} in place of {want}. For y = 0 the model has "
            "given 1 - p to the right answer, and that needs a term too.",
        ),
        Mistake(
            "a sigmoid too much",
            F.binary_cross_entropy_with_logits,
            "You apply a sigmoid to what is a probability already: {got} in place of {want}.",
        ),
    ),
    hints=(
        "One example with y = 1 costs -log p. What does one with y = 0 cost?",
        "y and 1 - y switch the two terms on and off: y log p + (1 - y) log(1 - p).",
        "`-(y * torch.log(p) + (1 - y) * torch.log(1 - p))` is the loss of each example. Take the mean.",
    ),
    solution_code='''import torch


def mean_bce(p, y):
    """Mean binary cross-entropy; p and y have the shape (N,), y is 0.0 or 1.0."""
    return -(y * torch.log(p) + (1 - y) * torch.log(1 - p)).mean()''',
)


def by_autograd(logits, label):
    logits = logits.clone().requires_grad_()
    F.cross_entropy(logits[None], torch.tensor([label])).backward()
    return logits.grad


def one_hot(logits, label):
    return F.one_hot(torch.tensor(label), len(logits)).float()


q3 = Question(
    name="loss.q3",
    title="The gradient for one example",
    text="Write `gradient(logits, label)`: the gradient of the cross-entropy with respect to the logits, of shape "
    "`(K,)`, for one example whose class is `label`. Do it without autograd.",
    fills="gradient",
    without=("backward", "grad"),
    right=by_autograd,
    observe=calls(
        ("logits [2, 1, 0], label 0", lambda: (torch.tensor([2.0, 1, 0]), 0)),
        ("logits [2, 1, 0], label 2", lambda: (torch.tensor([2.0, 1, 0]), 2)),
        ("logits [0, 0, 0, 0], label 1", lambda: (torch.zeros(4), 1)),
    ),
    praise="p - y. It sums to 0: what the right class gains, the others lose.",
    mistakes=(
        Mistake(
            "y - p",
            lambda z, label: one_hot(z, label) - z.softmax(0),
            "The sign is turned round: you get {got} in place of {want}. That is y - p, the direction in which the "
            "loss falls; the gradient points uphill.",
        ),
        Mistake(
            "the probabilities",
            lambda z, label: z.softmax(0),
            "You return the probabilities: {got}. For the right class 1 has to be taken away: {want}.",
        ),
        Mistake(
            "the derivative of a sigmoid too much",
            lambda z, label: (z.softmax(0) - one_hot(z, label)) * z.softmax(0) * (1 - z.softmax(0)),
            "You multiply by p(1 - p), as with a squared error behind a sigmoid. In cross-entropy the logarithm "
            "cancels that factor: {want} in place of {got}.",
        ),
        Mistake(
            "divided by the number of classes",
            lambda z, label: (z.softmax(0) - one_hot(z, label)) / len(z),
            "You divide by the number of classes. The mean goes over examples, and there is one: {want}.",
        ),
        Mistake(
            "no softmax",
            lambda z, label: z - one_hot(z, label),
            "You take the logits for probabilities: {got}. Apply softmax to them first.",
        ),
    ),
    hints=(
        "It is a difference of two vectors: what the model says, and what is true.",
        "p is `logits.softmax(0)`; y is 1 at the label and 0 elsewhere.",
        "Take a softmax of the logits, and subtract 1 at the place `label`.",
    ),
    solution_code='''import torch


def gradient(logits, label):
    """d loss / d logits; logits has the shape (K,), label is a whole number."""
    p = torch.softmax(logits, dim=0)
    p[label] -= 1
    return p''',
)

q4 = Question(
    name="loss.q4",
    title="A log-softmax that does not overflow",
    text="Write `log_softmax(z)` for logits of shape `(N, K)`, along the classes, with `exp`, `log` and what you need "
    "besides, but without PyTorch's `log_softmax`, `softmax` and `logsumexp`. It must stand logits of 1,000.",
    fills="log_softmax",
    without=("log_softmax", "softmax", "logsumexp"),
    right=lambda z: F.log_softmax(z, dim=1),
    observe=calls(
        ("small logits", lambda: (torch.tensor([[1.0, 2, 3], [0, 0, 1]]),)),
        ("one row of logits [0, 200, 1000]", lambda: (torch.tensor([[0.0, 200, 1000]]),)),
        ("a row around 1000 and a row around -1000", lambda: (torch.tensor([[1000.0, 999], [-1000, -1001]]),)),
    ),
    praise="With the row's largest logit taken away, no exponential exceeds 1 and no sum falls below 1.",
    mistakes=(
        Mistake(
            "exp of the logits as they are",
            lambda z: z - z.exp().sum(1, keepdim=True).log(),
            "Right for small logits, but `exp(1000)` is infinite in float32 (all above 88 is): you get {got}. Softmax "
            "does not change when the same number is taken from all logits of a row. Take the largest.",
        ),
        Mistake(
            "the logarithm of the quotient",
            lambda z: (z.exp() / z.exp().sum(1, keepdim=True)).log(),
            "Right for small logits, but `exp(1000)` is infinite in float32, and infinity / infinity is NaN: you get "
            "{got}. Take the row's largest logit away first.",
        ),
        Mistake(
            "the logarithm of a softmax",
            lambda z: z.softmax(1).log(),
            "The softmax is safe, its logarithm is not: a probability of exp(-1000) is rounded to 0, and log 0 is "
            "minus infinity. You get {got} in place of {want}. Do not divide and then take the logarithm: subtract "
            "logarithms.",
        ),
        Mistake(
            "the largest of the whole batch",
            lambda z: z - z.max() - (z - z.max()).exp().sum(1, keepdim=True).log(),
            "You take away the largest logit of the whole batch. In a row far below it every exponential is rounded "
            "to 0: you get {got}. Take each row's own: `z.max(dim=1, keepdim=True).values`.",
        ),
        Mistake(
            "along the examples",
            lambda z: F.log_softmax(z, dim=0),
            "You sum over the examples. Each row is one example, and its classes lie along `dim=1`.",
        ),
    ),
    hints=(
        "log(exp(z) / sum) is z - log(sum). So no quotient is needed.",
        "Adding a number to all logits of a row changes nothing in the result. Which number makes `exp` safe?",
        "z = z - z.max(dim=1, keepdim=True).values; then subtract the logarithm of the row's sum of exponentials.",
    ),
    solution_code='''import torch


def log_softmax(z):
    """Logarithm of softmax along the classes: (N, K) -> (N, K)."""
    z = z - z.max(dim=1, keepdim=True).values
    return z - z.exp().sum(dim=1, keepdim=True).log()''',
)


def batch(count, classes, seed):
    """Logits that are nearly always right and rather sure, and labels as a table gives them."""
    labels = torch.randint(classes, (count,), generator=torch.Generator().manual_seed(seed))
    return 5.0 * F.one_hot(labels, classes) + 0.1 * torch.arange(classes), labels.float()[:, None]


q5 = Question(
    name="loss.q5",
    title="Labels from a table",
    text="A model gives logits of shape `(N, K)`. The labels come from a table of numbers: floats of shape `(N, 1)`. "
    "Write `class_loss(logits, labels)`, their mean cross-entropy, with PyTorch's own. It must work for N = 1 "
    "too.",
    fills="class_loss",
    right=lambda logits, labels: F.cross_entropy(logits, labels[:, 0].long()),
    observe=calls(
        ("6 examples of 4 classes", lambda: batch(6, 4, 0)),
        ("1 example of 3 classes", lambda: batch(1, 3, 1)),
        ("5 examples of 5 classes", lambda: batch(5, 5, 2)),
    ),
    praise="Class labels are int64 of shape (N,), and the logits go in as they are.",
    mistakes=(
        Mistake(
            "softmax first",
            lambda logits, labels: F.cross_entropy(logits.softmax(1), labels[:, 0].long()),
            "You passed probabilities: `cross_entropy` expects logits, and applies softmax itself. Your loss is {got} "
            "instead of {want}, and no training can bring it near 0.",
        ),
        Mistake(
            "log-softmax too much or nll_loss of logits",
            lambda logits, labels: F.nll_loss(logits, labels[:, 0].long()),
            "`nll_loss` expects log-probabilities, and you passed logits: your loss is {got}, and a cross-entropy is "
            "never below 0. `cross_entropy` takes the logits.",
        ),
        Mistake(
            "every example against every label",
            lambda logits, labels: -logits.log_softmax(1)[:, labels[:, 0].long()].mean(),
            "Each example is compared with the labels of all others: the index has the shape (N, N). Your loss is "
            "{got} instead of {want}. Nothing crashes, so look at the shapes.",
        ),
        Mistake(
            "the sum",
            lambda logits, labels: F.cross_entropy(logits, labels[:, 0].long(), reduction="sum"),
            "{got} is the sum over the examples; the mean is {want}.",
        ),
        Mistake(
            "one-hot, mean over everything",
            lambda logits, labels: -(F.one_hot(labels[:, 0].long(), logits.shape[1]) * logits.log_softmax(1)).mean(),
            "You take the mean over examples and classes, {got}, and so divide by K too often. Sum over the classes, "
            "then take the mean over the examples: {want}.",
        ),
    ),
    hints=(
        "Which type and which shape does `F.cross_entropy` want for class labels?",
        "`.long()` makes whole numbers. `.squeeze()` makes (N,) of (N, 1), but what does it make of (1, 1)?",
        "`labels[:, 0].long()` has the right shape and type for every N. The logits need nothing.",
    ),
    solution_code='''import torch.nn.functional as F


def class_loss(logits, labels):
    """Mean cross-entropy; logits (N, K), labels (N, 1) as floats."""
    return F.cross_entropy(logits, labels[:, 0].long())''',
)

QUESTIONS = (q1, q2, q3, q4, q5)
