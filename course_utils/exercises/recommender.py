"""The exercises of notebook 07: the first loss, recall, a split by time, a ranking loss, and what forgets."""

import math

import torch
import torch.nn.functional as F

from course_utils.exercises.question import Mistake, Question, calls

q1 = Question(
    name="recommender.q1",
    title="The first loss of BPR",
    text="Before any training, all scores are nearly equal. What is the BPR loss then, to two decimals? (BPR is the "
    "mean of $-\\log \\sigma(s_{clicked} - s_{other})$; there are 20 others for each clicked song.)",
    fills="first_loss",
    kind="value",
    right=math.log(2),
    tolerance=2e-3,
    praise="The sigmoid of 0 is one half, and the loss a mean over pairs: log 2, however many others there are.",
    mistakes=(
        Mistake(
            "sampled softmax",
            math.log(21),
            "log 21 is the first loss of the sampled softmax, which picks one out of 21. BPR compares pairs: one out "
            "of two, each time.",
        ),
        Mistake("the sum over pairs", 20 * math.log(2), "That is the sum over the 20 pairs. The loss is their mean."),
        Mistake(
            "logarithm to base 2", 1.0, "That is the loss in bits, to base 2. PyTorch takes the natural logarithm."
        ),
        Mistake(
            "the probability", 0.5, "That is the sigmoid itself. The loss is minus its logarithm, and so is larger."
        ),
    ),
    hints=("What is the sigmoid of a difference of 0?", "The loss is $-\\log 0.5$, for each pair and so for the mean."),
    solution_code="""import math

first_loss = math.log(2)""",
)


def lists() -> tuple[list, set]:
    return [7, 2, 9, 4, 1], {2, 1, 30, 31}


q2 = Question(
    name="recommender.q2",
    title="Recall, by hand",
    text="Write `recall(recommended, relevant)` for one user: `recommended` is a list of songs, best first, and "
    "`relevant` a set of those that the user clicked later (never empty). Return a number from 0 to 1.",
    fills="recall",
    right=lambda recommended, relevant: len(set(recommended) & relevant) / len(relevant),
    observe=calls(
        ("five songs, two of them among four relevant ones", lists),
        ("three songs and one relevant one", lambda: ([5, 6, 8], {8})),
        ("two songs, none of them relevant", lambda: ([5, 6], {1, 2, 3})),
        ("two songs, one of them among three relevant ones", lambda: ([5, 2], {1, 2, 3})),
    ),
    praise="What was found, over what there was to find.",
    mistakes=(
        Mistake(
            "precision",
            lambda recommended, relevant: len(set(recommended) & relevant) / len(recommended),
            "You divide by the length of the list: that is precision, the share of the list that is right ({got}). "
            "Recall divides by what there was to find ({want}).",
        ),
        Mistake(
            "hit rate",
            lambda recommended, relevant: float(bool(set(recommended) & relevant)),
            "You ask whether there was a hit at all: the hit rate. Recall counts how many of the relevant songs there "
            "are in the list.",
        ),
        Mistake(
            "the count",
            lambda recommended, relevant: len(set(recommended) & relevant),
            "That is the number of hits. Divide it by the number of relevant songs.",
        ),
        Mistake(
            "the shorter of the two",
            lambda recommended, relevant: len(set(recommended) & relevant) / min(len(recommended), len(relevant)),
            "You divide by the length of the list where that is the smaller number. Some papers define recall so, "
            "since no list of two can hold three songs; here it is the share of all that there was to find ({want}).",
        ),
    ),
    hints=("How many of the recommended songs are relevant?", "Divide by `len(relevant)`."),
    solution_code='''def recall(recommended, relevant):
    """The share of the relevant songs that is in the list, 0 to 1."""
    hits = sum(song in relevant for song in recommended)
    return hits / len(relevant)''',
)


def some_days() -> tuple[torch.Tensor, float]:
    return torch.tensor([61.0, 3.0, 60.0, 99.0, 12.0, 59.9]), 60.0


q3 = Question(
    name="recommender.q3",
    title="A split that cannot see the future",
    text="Write `train_mask(days, border)`: `days` `(N,)` says when each click happened. Return a bool tensor `(N,)`, "
    "True where a click may be trained on, if everything from the day `border` on is the test (the border too).",
    fills="train_mask",
    right=lambda days, border: days < border,
    observe=calls(
        ("six clicks in no order, one exactly on the border", some_days),
        ("four clicks and an earlier border", lambda: (torch.tensor([3.0, 12.5, 0.0, 12.25]), 12.25)),
    ),
    praise="Past and future, and nothing else: neither the order of the rows nor chance decides.",
    mistakes=(
        Mistake(
            "the border too",
            lambda days, border: days <= border,
            "The click on the border belongs to the test. With `<=` it is trained on and, where the test says `>=`, "
            "counted in both parts.",
        ),
        Mistake(
            "the future",
            lambda days, border: days >= border,
            "You choose the test: you would train on the future and be tested on the past.",
        ),
        Mistake(
            "the first rows",
            lambda days, border: torch.arange(len(days)) < int((days < border).sum()),
            "You take the first rows of the table. They are in no order here; a table by users, for instance, would "
            "put some users wholly into the test.",
        ),
        Mistake(
            "the days themselves",
            lambda days, border: days[days < border],
            "You return the days that were chosen. A mask is the comparison itself: True or False for each click, so "
            "that it can choose from the users and the songs too.",
        ),
    ),
    hints=("Compare each day with the border.", "`days < border` is a bool tensor already."),
    solution_code='''def train_mask(days, border):
    """bool (N,): True for the clicks before the border."""
    return days < border''',
)


def some_scores(users: int, songs: int) -> tuple[torch.Tensor]:
    return (torch.randn(users, songs, generator=torch.Generator().manual_seed(1)) * 2,)


def _bpr(scores):
    return -F.logsigmoid(scores[:, :1] - scores[:, 1:]).mean()


q4 = Question(
    name="recommender.q4",
    title="Two losses from one table",
    text="Write `sampled_softmax(scores)`: `scores` `(B, 1 + n)` holds the score of the clicked song in the first "
    "column, and those of n others beside it. Return the mean cross-entropy of picking the clicked one out of its row.",
    fills="sampled_softmax",
    right=lambda scores: F.cross_entropy(scores, torch.zeros(len(scores), dtype=torch.int64)),
    observe=calls(
        ("scores of three users and five songs", lambda: some_scores(3, 5)),
        ("scores of four users and two songs", lambda: some_scores(4, 2)),
    ),
    praise="A classification with the right answer always in column 0: that is why the loader's targets are zeros.",
    mistakes=(
        Mistake(
            "BPR",
            _bpr,
            "That is BPR, which compares the clicked song with one other at a time. Here it is picked out of the whole "
            "row: a softmax over the row.",
        ),
        Mistake(
            "softmax twice",
            lambda scores: F.cross_entropy(scores.softmax(1), torch.zeros(len(scores), dtype=torch.int64)),
            "You pass probabilities. `cross_entropy` takes scores, and applies the softmax itself: with both, the loss "
            "can hardly fall.",
        ),
        Mistake(
            "over the batch",
            lambda scores: -scores.log_softmax(0)[:, 0].mean(),
            "Your softmax goes down the column, over users. The candidates of one user stand in a row: `dim=1`.",
        ),
        Mistake(
            "the others left out",
            lambda scores: -F.logsigmoid(scores[:, 0]).mean(),
            "You look at the clicked song's score alone. It could grow for all songs alike, and rank nothing.",
        ),
    ),
    hints=(
        "It is the cross-entropy. Which class is right in each row?",
        "`scores.log_softmax(dim=1)` holds the logarithms of the probabilities, row by row. Which column counts?",
    ),
    solution_code='''def sampled_softmax(scores):
    """Mean cross-entropy; the clicked song stands in column 0."""
    return -scores.log_softmax(dim=1)[:, 0].mean()''',
)


def directions(songs: int, features: int) -> tuple[torch.Tensor]:
    return (F.normalize(torch.randn(songs, features, generator=torch.Generator().manual_seed(2)), dim=1),)


def _pairs(vectors):
    k = len(vectors)
    return 1 - ((vectors @ vectors.T).sum() - k) / (k * (k - 1))


q5 = Question(
    name="recommender.q5",
    title="How varied is a list?",
    text="Write `variety(vectors)`: `vectors` `(k, F)` are the features of the k songs of one list, each of length 1. "
    "Return 1 minus the mean cosine over all pairs of two *different* songs.",
    fills="variety",
    right=_pairs,
    observe=calls(
        ("a list of four songs", lambda: directions(4, 3)),
        ("a list of six songs", lambda: directions(6, 5)),
        ("a list of two songs", lambda: directions(2, 3)),
    ),
    praise="k songs have k (k - 1) ordered pairs; a song beside itself says nothing about variety.",
    mistakes=(
        Mistake(
            "each song with itself",
            lambda vectors: 1 - (vectors @ vectors.T).mean(),
            "You count each song beside itself, with a cosine of 1. The shorter the list, the less varied it would "
            "seem. Leave the diagonal out.",
        ),
        Mistake(
            "divided by all cells",
            lambda vectors: 1 - ((vectors @ vectors.T).sum() - len(vectors)) / len(vectors) ** 2,
            "The diagonal is left out of the sum, which is right; the number of pairs is k (k - 1), not k squared.",
        ),
        Mistake(
            "each pair once, divided by twice as many",
            lambda vectors: 1 - (vectors @ vectors.T).triu(1).sum() / (len(vectors) * (len(vectors) - 1)),
            "You add up each pair once, above the diagonal, and divide by k (k - 1), which counts each pair twice. Of "
            "pairs in no order there are half as many.",
        ),
        Mistake(
            "likeness",
            lambda vectors: 1 - _pairs(vectors),
            "That is how alike the songs are. Variety is 1 minus that.",
        ),
    ),
    hints=(
        "All cosines at once: `vectors @ vectors.T`, `(k, k)`.",
        "Take the k ones of the diagonal out of the sum, and divide by `k * (k - 1)`.",
    ),
    solution_code='''def variety(vectors):
    """1 - mean cosine over pairs of different songs; vectors (k, F) of length 1."""
    k = len(vectors)
    cosines = vectors @ vectors.T
    return 1 - (cosines.sum() - k) / (k * (k - 1))''',
)

QUESTIONS = (q1, q2, q3, q4, q5)
