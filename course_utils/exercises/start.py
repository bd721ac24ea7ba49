"""The exercise of notebook 00."""

from course_utils.exercises.question import Mistake, Question

q1 = Question(
    name="start.q1",
    title="How many updates?",
    text="You have 50 labelled images and a batch size of 16. The last batch is smaller and is used too. You train "
    "for 12 epochs. How many updates do the weights get? Work it out before you compute it.",
    fills="updates",
    kind="value",
    right=48,
    tolerance=1e-9,
    praise="Four batches an epoch, of 16, 16, 16 and 2 images, and 12 epochs: 48 updates.",
    mistakes=(
        Mistake(
            "drops the last batch",
            36,
            "You have counted three batches an epoch. That is right with `drop_last=True`. Here the two images that "
            "are left make a fourth batch, and a small batch gives an update too.",
        ),
        Mistake(
            "one update an image",
            600,
            "600 is how many images the network sees. It gets one update for each batch, not for each image.",
        ),
        Mistake("one update an epoch", 12, "12 is the number of epochs. Every batch of an epoch gives an update."),
        Mistake("forgets the epochs", 4, "4 is right for one epoch. Every epoch goes through all batches again."),
        Mistake(
            "a fraction of a batch",
            37.5,
            "50 / 16 is 3.125, but there is no eighth of a batch: what is left over makes one more, smaller batch. "
            "Round up before you multiply.",
        ),
    ),
    hints=(
        "How many batches does one epoch have? Every batch gives one update.",
        "50 images make three batches of 16, and two images are left. They make a batch too.",
        "The answer is `math.ceil(50 / 16)` times 12.",
    ),
    solution_code="import math\n\nupdates = math.ceil(50 / 16) * 12",
)

QUESTIONS = (q1,)
