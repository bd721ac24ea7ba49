"""The exercises of notebook 01: versions, the doctor's report, and a log that TensorBoard shows whole."""

import tempfile
from pathlib import Path

from tensorboardX import SummaryWriter

from course_utils.doctor.machine import release
from course_utils.exercises.question import Finding, Mistake, Question, calls
from course_utils.tracking import RunLogger, read_scalars

VERSIONS = (("2.10", "2.9"), ("2.14.1+cpu", "2.6"), ("2.6", "2.6"), ("2.5.1", "2.6"), ("3.0", "2.21"), ("11.0", "9.1"))
VERSIONS += (("2.6.0", "2.6.5"), ("2.6.12", "2.6.5"), ("2.6.1", "2.6"), ("2.6", "2.6.5"), ("2.14.1+cu130", "2.6"))


def as_decimal(version: str) -> float:
    return float(".".join(version.partition("+")[0].split(".")[:2]))


q1 = Question(
    name="environment.q1",
    title="Is it new enough?",
    text="Write `new_enough(version, floor)`: is a version such as `2.10` or `2.14.1+cpu` at least the floor? The "
    "floor is digits and dots alone. Return `True` or `False`. Do it without the course's `release`.",
    fills="new_enough",
    right=lambda version, floor: release(version) >= release(floor),
    observe=calls(*((repr(pair)[1:-1], lambda pair=pair: pair) for pair in VERSIONS)),
    praise="You compare number by number, so 2.10 is newer than 2.9. `packaging.version` also knows 2.10rc1.",
    mistakes=(
        Mistake(
            "compares text",
            lambda version, floor: version >= floor,
            "You compare text, character by character. Then `2.10` comes before `2.9`, since `1` comes before `9`. "
            "Compare numbers, part by part. (Lists of text parts have the same fault.)",
        ),
        Mistake(
            "compares decimal numbers",
            lambda version, floor: as_decimal(version) >= as_decimal(floor),
            "You read the version as a decimal number. Then `2.10` is 2.1, and older than 2.9. The dot is no decimal "
            "point: it parts whole numbers, here 2 and 10.",
        ),
        Mistake(
            "strictly newer",
            lambda version, floor: release(version) > release(floor),
            "You ask whether it is newer. The floor itself is new enough too: for `2.6` and `2.6` you say {got}. "
            "Write `>=` in place of `>`.",
        ),
        Mistake(
            "looks at the first number alone",
            lambda version, floor: release(version)[0] >= release(floor)[0],
            "You compare the first number alone. Then `2.5.1` would do where `2.6` is asked for.",
        ),
        Mistake(
            "looks at two numbers alone",
            lambda version, floor: release(version)[:2] >= release(floor)[:2],
            "You compare the first two numbers alone. Then `2.6.0` would do where `2.6.5` is asked for, as this course "
            "asks for it of tensorboardX. Compare all parts.",
        ),
        Mistake(
            "as far as both have parts",
            lambda version, floor: release(version)[: len(release(floor))] >= release(floor)[: len(release(version))],
            "You compare as many parts as both have. Then `2.6` would do where `2.6.5` is asked for. Python's tuples "
            "and lists get this right: `(2, 6) >= (2, 6, 5)` is False.",
        ),
    ),
    hints=(
        "`'2.10' >= '2.9'` is False. Why?",
        "Cut off what follows a `+`, split at the dots, and make whole numbers of the parts.",
        "Python compares tuples of numbers part by part: `(2, 10) >= (2, 9)`. Build such a tuple of each version.",
    ),
    solution_code='''def new_enough(version, floor):
    """Is `version` at least `floor`? Both are text."""

    def numbers(text):
        return tuple(int(part) for part in text.partition("+")[0].split("."))

    return numbers(version) >= numbers(floor)''',
)

HEALTHY = """\
OK    python       Python 3.11.7, 64 bit, Linux on x86_64.
NOTE  port         Port 6006 is taken: pass --port 6007 to TensorBoard.
OK    weights      The pretrained weights of the pocket network are whole."""
ILL = """\
OK    python       Python 3.13.1, 64 bit, Windows on AMD64.
FAIL  packages     torchvision is missing. Install what is needed.
NOTE  gpu          No GPU was found. Lines with FAIL would come first.
FAIL  kernel       The kernel python3 starts another Python."""
WRONG_KERNEL = """\
NOTE  disk         2 GB are free. Less would be a FAIL.
FAIL  kernel       The kernel python3 starts another Python.
OK    memory       7.1 of 16.0 GiB are free."""


def rows(report: str) -> list[list[str]]:
    return [line.split(maxsplit=2) for line in report.splitlines()]


q2 = Question(
    name="environment.q2",
    title="What stops the course?",
    text="A line of the doctor's report is a status, a name and a sentence, with blanks between them. Thirty students "
    "send you theirs. Write `stops(report)`: the list of the names that stop the course, in the order of the "
    "report.",
    fills="stops",
    right=lambda report: [name for status, name, _ in rows(report) if status == "FAIL"],
    observe=calls(
        ("a report with two FAIL", lambda: (ILL,)),
        ("a report with a NOTE and no FAIL", lambda: (HEALTHY,)),
        ("a report with FAIL in the middle", lambda: (WRONG_KERNEL,)),
    ),
    praise="A NOTE stops nothing. And `doctor --json` gives the same to a program, without cutting up text.",
    mistakes=(
        Mistake(
            "takes a NOTE for a fault",
            lambda report: [name for status, name, _ in rows(report) if status != "OK"],
            "You take all that is not OK: {got}. A NOTE is worth knowing and stops nothing; only FAIL does.",
        ),
        Mistake(
            "looks for FAIL in the whole line",
            lambda report: [line.split()[1] for line in report.splitlines() if "FAIL" in line],
            "You look for FAIL anywhere in the line. A sentence can hold that word too: you get {got}. The status is "
            "the first word of the line.",
        ),
        Mistake(
            "gives the whole lines",
            lambda report: [line for line in report.splitlines() if line.startswith("FAIL")],
            "These are the right lines, and you return them whole. The name is the second word: {want}.",
        ),
        Mistake(
            "gives the sentences",
            lambda report: [sentence for status, _, sentence in rows(report) if status == "FAIL"],
            "You return the sentences. The name is the second word of the line: {want}.",
        ),
    ),
    hints=(
        "Which of OK, NOTE and FAIL stops the course? The notebook says it above the report.",
        "`report.splitlines()` gives the lines, and `line.split()` the words of one.",
        "Keep `line.split()[1]` of those lines whose `line.split()[0]` equals `'FAIL'`.",
    ),
    solution_code='''def stops(report):
    """The names of the checks that stop the course; `report` is text of several lines."""
    words = [line.split() for line in report.splitlines()]
    return [word[1] for word in words if word[0] == "FAIL"]''',
)


def logged(function) -> dict:
    """What is in the event file at the moment in which the function returns."""
    seen = {}
    for epochs in ([[2.3, 1.9, 1.5], [1.2, 1.0, 0.9]], [[2.0], [1.0], [0.5]]):
        label = f"{len(epochs)} epochs of {len(epochs[0])} losses"
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            try:
                function(folder, [list(losses) for losses in epochs])
            except Exception as error:
                error.add_note(f"for {label}")
                raise
            files = list(Path(folder).glob("*tfevents*"))
            curves = read_scalars(folder) if files else {}
        empty = "empty when your function returns" if files else "not in `folder`"
        if set(curves) == {"loss"}:
            seen[f"The log of {label}"] = Finding("a curve named loss")
            seen[f"The list of steps for {label}"] = curves["loss"].steps.tolist()
            seen[f"The list of losses for {label}"] = curves["loss"].values
        else:
            tags = f"a curve named {', '.join(sorted(curves))}" if curves else empty
            seen[f"The log of {label}"] = Finding(tags)
    return seen


def log_all(folder, epochs, step_of=lambda epoch, i, count: count, close=True):
    writer, count = SummaryWriter(folder), 0
    for epoch, losses in enumerate(epochs):
        for i, loss in enumerate(losses):
            count += 1
            writer.add_scalar("loss", loss, step_of(epoch, i, count))
    if close:
        writer.close()


def log_with_the_course(folder, epochs):
    losses = [loss for epoch in epochs for loss in epoch]
    with RunLogger(folder) as logger:
        for step, loss in enumerate(losses, start=1):
            logger.log_scalars({"loss": loss}, step)


q3 = Question(
    name="environment.q3",
    title="A log that is whole",
    text="Write `log_run(folder, epochs)` with tensorboardX. `epochs` holds a list of losses for each epoch, one an "
    "update. All of them go into one curve named `loss`, the first at step 1, the next at step 2, and so on "
    "through the whole run. When the function returns, the file must hold them all.",
    fills="log_run",
    right=log_with_the_course,
    observe=logged,
    praise="One count of steps through the whole run, and no value that still waits in the writer.",
    mistakes=(
        Mistake(
            "does not close the writer",
            lambda folder, epochs: log_all(folder, epochs, close=False),
            "When your function returns, nothing is in the file yet. The values still wait in the writer's queue, and "
            "`flush()` alone does not empty it. Call `writer.close()`, or use `with SummaryWriter(folder) as "
            "writer:`.",
        ),
        Mistake(
            "counts the steps anew in every epoch",
            lambda folder, epochs: log_all(folder, epochs, lambda epoch, i, count: i + 1),
            "Your steps begin anew in every epoch: {got}. TensorBoard drops what comes before a step that goes back, "
            "so only the last epoch would be drawn. Count through the whole run: {want}.",
        ),
        Mistake(
            "takes the epoch for the step",
            lambda folder, epochs: log_all(folder, epochs, lambda epoch, i, count: epoch + 1),
            "You pass the number of the epoch as the step: {got}. Then several losses share a step, and TensorBoard "
            "keeps one of them. Count the updates: {want}.",
        ),
        Mistake(
            "passes no step",
            lambda folder, epochs: log_all(folder, epochs, lambda epoch, i, count: None),
            "All values lie at step 0: you have passed no step. It is the third argument of `add_scalar`.",
        ),
        Mistake(
            "counts from 0",
            lambda folder, epochs: log_all(folder, epochs, lambda epoch, i, count: count - 1),
            "Nearly: your steps begin at 0. The first loss belongs to the first update, step 1.",
        ),
    ),
    hints=(
        "Two things to take care of: the step must never go back, and the writer must be closed.",
        "Keep a counter outside both loops, and add 1 to it for every loss.",
        "Inside `with SummaryWriter(folder) as writer:` go through all losses, and call `writer.add_scalar('loss', "
        "loss, step)` with the counter.",
    ),
    solution_code='''def log_run(folder, epochs):
    """Write all losses into one event file in `folder`."""
    from tensorboardX import SummaryWriter

    step = 0
    with SummaryWriter(folder) as writer:
        for losses in epochs:
            for loss in losses:
                step += 1
                writer.add_scalar("loss", loss, step)''',
)

QUESTIONS = (q1, q2, q3)
