"""The exercises of notebook 04b: points on the screen, steps that survive, a smoothed minimum, images, a whole log."""

import logging
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from tensorboard.backend.event_processing.event_accumulator import HISTOGRAMS, SCALARS, EventAccumulator
from tensorboardX import SummaryWriter
from tensorboardX.event_file_writer import EventsWriter

from course_utils.exercises.question import Finding, Mistake, Question, calls

q1 = Question(
    name="logging_traps.q1",
    title="Points on the screen",
    text='A loop calls `writer.add_scalar("accuracy", value, epoch)` after every batch: 5 epochs of 40 batches, '
    "`epoch` from 0 to 4. The writer is closed at the end. How many points does TensorBoard draw, with its "
    "usual reader?",
    fills="points",
    right=5,
    kind="value",
    praise="One point an epoch: its 40 values share a step, and the last of them is kept. The file holds all 200.",
    mistakes=(
        Mistake(
            "the file",
            200,
            "200 values are in the file. On the screen there are fewer: which steps were passed, and what does "
            "TensorBoard do with a step that does not grow?",
        ),
        Mistake(
            "the last epoch",
            40,
            "40 would be a step that restarts in every epoch, 0 to 39. Here the step is the epoch itself, which never "
            "goes back; it only stands still.",
        ),
        Mistake(
            "one",
            1,
            "A single point is what comes of no step at all, since then every value lies at step 0. Here the steps are "
            "0 to 4.",
        ),
    ),
    hints=(
        "Write down the steps in the order in which they are logged: 0, 0, 0, ..., 1, 1, 1, ...",
        "A step that is not larger than one before replaces what stood from there on.",
    ),
    solution_code="# 5 epochs of 40 values, but only the steps 0, 1, 2, 3 and 4: one point each\npoints = 5",
)


def survivors(steps) -> list[int]:
    kept = []
    for step in steps:
        while kept and kept[-1] >= step:
            kept.pop()
        kept.append(step)
    return kept


def after_the_last_restart(steps) -> list[int]:
    kept = []
    for step in steps:
        kept = [*kept, step] if kept and step > kept[-1] else [step]
    return kept


def growing_only(steps) -> list[int]:
    kept = []
    for step in steps:
        if not kept or step > kept[-1]:
            kept.append(step)
    return kept


q2 = Question(
    name="logging_traps.q2",
    title="Steps that survive",
    text="Write `on_screen(steps)`. `steps` is a list of the steps of one tag in the order in which they were logged. "
    "Return the list of those that TensorBoard draws. Remember: when a step comes, every earlier one that is not "
    "smaller is dropped.",
    fills="on_screen",
    right=survivors,
    observe=calls(
        ("the resumed run [1, 2, 3, 4, 5, 4, 5, 6]", lambda: ([1, 2, 3, 4, 5, 4, 5, 6],)),
        ("an epoch and half of the next, [0, 1, 2, 3, 0, 1]", lambda: ([0, 1, 2, 3, 0, 1],)),
        ("[0, 0, 0], a run without steps", lambda: ([0, 0, 0],)),
        ("[2, 4, 6, 5]", lambda: ([2, 4, 6, 5],)),
    ),
    praise="The same rule makes a restarted count lose epochs and a resumed run come out clean.",
    mistakes=(
        Mistake(
            "each step once",
            lambda steps: sorted(set(steps)),
            "You return every step once, sorted. But after [0, 1, 2, 3] a 0 drops 1, 2 and 3 too, and they only come "
            "back if they are logged again.",
        ),
        Mistake(
            "all",
            list,
            "You return what is in the file. On the screen some are missing: a step that does not grow drops others.",
        ),
        Mistake(
            "after the last restart",
            after_the_last_restart,
            "You drop everything as soon as a step goes back. Only steps that are not smaller go: a run resumed at 4 "
            "keeps its steps 1 to 3. Yours gives {got}, and it should be {want}.",
        ),
        Mistake(
            "the first ones stay",
            growing_only,
            "You leave out the step that comes late. It is the other way round: the later one stays, and what stood "
            "from there on goes. That way a resumed run replaces what its crash left behind.",
        ),
    ),
    hints=(
        "Keep a list of what is on the screen so far. What happens to its end when a smaller step comes?",
        "Before you append a step, take away from the end of the list while the last one is not smaller.",
        "`while kept and kept[-1] >= step: kept.pop()`, then `kept.append(step)`.",
    ),
    solution_code='''def on_screen(steps):
    """The steps that are drawn, a list."""
    kept = []
    for step in steps:
        while kept and kept[-1] >= step:
            kept.pop()
        kept.append(step)
    return kept''',
)


def smooth(values, weight: float) -> list[float]:
    """TensorBoard's smoothing; source: classicSmoothing in its line_chart_v2/data_transformer.ts."""
    total, smoothed = 0.0, []
    for count, value in enumerate(values, start=1):
        total = weight * total + (1 - weight) * value
        smoothed.append(total / (1 - weight**count))
    return smoothed


def unsmooth(smoothed, weight: float, unbiased: bool = True) -> np.ndarray:
    counts = np.arange(1, len(smoothed) + 1)
    totals = np.asarray(smoothed) * (1 - weight**counts if unbiased else 1.0)
    return (totals - weight * np.concatenate([[0.0], totals[:-1]])) / (1 - weight)


def curve(lowest: int, weight: float) -> tuple[list[float], float]:
    """A validation loss of 101 steps that falls, steeply at first, and rises again slowly, as the chart shows it."""
    values = [0.5 + 0.002 * max(lowest - t, 0) ** 2 + 0.005 * max(t - lowest, 0) for t in range(101)]
    return smooth(values, weight), weight


NO_DENOMINATOR = (
    "You undo the average, but not its denominator, 1 - weight to the power of t. Multiply by it first, with t counted "
    "from 1."
)

q3 = Question(
    name="logging_traps.q3",
    title="The minimum behind the smoothing",
    text="A colleague sends the numbers of a smoothed curve: a list `smoothed`, made by the rule of section 11 with "
    "the slider at `weight`. Write `true_minimum(smoothed, weight)`: the index, from 0, at which the curve that was "
    "logged is lowest.",
    fills="true_minimum",
    right=lambda smoothed, weight: int(unsmooth(smoothed, weight).argmin()),
    observe=calls(
        ("a curve smoothed at 0.6", lambda: curve(30, 0.6)),
        ("a curve smoothed at 0.9", lambda: curve(12, 0.9)),
        ("a curve smoothed at 0.99", lambda: curve(45, 0.99)),
        ("a curve that only rises", lambda: curve(0, 0.9)),
    ),
    praise="Smoothing loses nothing as long as you know the weight. The eye cannot undo it, though: look at 0.",
    mistakes=(
        Mistake(
            "the smoothed minimum",
            lambda smoothed, weight: int(np.argmin(smoothed)),
            "That is where the smoothed curve is lowest, {got}. It comes late: the logged one is lowest at {want}. "
            "Undo the smoothing first.",
        ),
        Mistake(
            "the denominator forgotten",
            lambda smoothed, weight: int(unsmooth(smoothed, weight, unbiased=False).argmin()),
            NO_DENOMINATOR,
        ),
        Mistake(
            "the denominator forgotten, but for the first value",
            lambda smoothed, weight: int(
                np.argmin([smoothed[0], *(np.diff(smoothed) * weight / (1 - weight) + smoothed[1:])])
            ),
            NO_DENOMINATOR,
        ),
        Mistake(
            "a fixed delay",
            lambda smoothed, weight: max(0, int(np.argmin(smoothed)) - round(weight / (1 - weight))),
            "You take a fixed delay off. How far the minimum moves depends on the curve, how steeply it falls and "
            "rises, so no fixed number undoes it. Compute the logged values.",
        ),
    ),
    hints=(
        "Let total_t be the sum in the rule, without its denominator. How does total_t follow from total_(t-1)?",
        "total_t = smoothed_t * (1 - weight**t), t from 1, and total_t = weight * total_(t-1) + (1 - weight) * v_t.",
        "Solve that for v_t, with total_0 = 0, for every t; then take the index of the smallest.",
    ),
    solution_code='''def true_minimum(smoothed, weight):
    """The index of the lowest logged value, an int."""
    total, values = 0.0, []
    for t, shown in enumerate(smoothed, start=1):
        before, total = total, shown * (1 - weight**t)
        values.append((total - weight * before) / (1 - weight))
    return values.index(min(values))''',
)

DIGITS, PHOTOS = ((0.5, 0.4, 0.3), (0.2, 0.25, 0.5)), ((0.4, 0.6, 0.5), (0.3, 0.2, 0.25))  # mean and std


def column(values) -> torch.Tensor:
    return torch.tensor(values).view(1, -1, 1, 1)


def restored(inputs, mean, std) -> torch.Tensor:
    return inputs * column(std) + column(mean)


def some_inputs(scale: float, mean_and_std: tuple) -> tuple:
    return scale * torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)), *mean_and_std


def stretched(inputs, mean, std) -> torch.Tensor:
    return (inputs - inputs.min()) / (inputs.max() - inputs.min())


q4 = Question(
    name="logging_traps.q4",
    title="A picture of the input",
    text="Write `to_show(inputs, mean, std)`: inputs `(B, 3, H, W)` as a network gets them, normalised with `mean` and "
    "`std` (three numbers each), become images that `add_images` of either writer shows rightly: floats between 0 and "
    "1. After some augmentations inputs can lie a little outside what an image can hold.",
    fills="to_show",
    right=lambda inputs, mean, std: restored(inputs, mean, std).clamp(0, 1),
    observe=calls(
        ("usual inputs", lambda: some_inputs(0.5, DIGITS)),
        ("inputs that augmentation has made brighter", lambda: some_inputs(2.0, PHOTOS)),
    ),
    praise="De-normalised first, then clipped: the same picture from either writer.",
    mistakes=(
        Mistake(
            "not clipped",
            restored,
            "The normalisation is undone, but nothing is clipped. What lies above 1 wraps around in tensorboardX and "
            "comes out dark. `.clamp(0, 1)` at the end.",
        ),
        Mistake(
            "only clipped",
            lambda inputs, mean, std: inputs.clamp(0, 1),
            "You clip the inputs without undoing the normalisation: everything darker than the mean turns black. "
            "Multiply by std and add mean first.",
        ),
        Mistake(
            "clipped too early",
            lambda inputs, mean, std: restored(inputs.clamp(0, 1), mean, std),
            "You clip before you undo the normalisation. The inputs may be negative, it is the image that may not: "
            "clip last.",
        ),
        Mistake(
            "stretched",
            stretched,
            "You stretch the batch until it fits. It looks like a picture, but brightness and colours are not those of "
            "the data, and change with every batch: a fault in the normalisation stays hidden. Use mean and std.",
        ),
        Mistake(
            "mean and deviation swapped",
            lambda inputs, mean, std: ((inputs + column(mean)) * column(std)).clamp(0, 1),
            "You add the mean before you multiply. Normalising was (image - mean) / std; undone from behind, that is "
            "first times std, then plus mean.",
        ),
    ),
    hints=(
        "Normalising was (image - mean) / std. Undo it from behind.",
        "mean and std are three numbers, one a channel: give them the shape (3, 1, 1).",
        "`torch.tensor(mean).view(3, 1, 1)`, and `.clamp(0, 1)` at the very end.",
    ),
    solution_code='''def to_show(inputs, mean, std):
    """Normalised inputs (B, 3, H, W) -> images between 0 and 1."""
    import torch

    mean, std = torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)
    return (inputs * std + mean).clamp(0, 1)''',
)

NAN, INF = float("nan"), float("inf")
RUNS = {
    "three epochs, the second with NaN and infinity": (
        ([2.0, 1.5], torch.tensor([0.1, 0.2, 0.3])),
        ([1.2, 1.1], torch.tensor([0.5, NAN, INF, -INF, NAN, -0.5])),
        ([NAN, NAN], torch.tensor([NAN, NAN])),
    ),
    "two epochs, the first with a frozen layer": (([2.0, 1.5, 1.0], None), ([0.8], torch.tensor([0.1]))),
}


def logged(function) -> dict:
    """What is in the log when the function returns. Only closing writes: no flush and no full buffer helps by luck."""
    seen = {}
    for label, epochs in RUNS.items():
        with (
            tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
            mock.patch.object(EventsWriter, "flush", lambda writer: True),
            mock.patch("tensorboardX.record_writer.open_file", lambda path: Path(path).open("wb", 2**24)),
            mock.patch("tensorboardX.x2num.logger.disabled", True),  # it reports every NaN
            np.errstate(invalid="ignore"),  # NumPy warns of infinity
        ):
            try:
                function(folder, [(list(losses), gradient) for losses, gradient in epochs])
            except Exception as error:
                error.add_note(f"for {label}")
                raise
            sizes = [file.stat().st_size for file in Path(folder).glob("*tfevents*")]
            if not any(sizes):
                seen[f"The log of {label}"] = Finding(
                    "empty when your function returns" if sizes else "not in `folder`"
                )
                continue
            logging.getLogger("tensorboard").setLevel(logging.ERROR)
            events = EventAccumulator(folder, size_guidance={SCALARS: 0, HISTOGRAMS: 0}).Reload()
            tags = events.Tags()
        if "loss/train" not in tags["scalars"]:
            seen[f"The log of {label}"] = Finding(f"a curve named {', '.join(tags['scalars']) or 'nothing'}")
            continue
        seen[f"The log of {label}"] = Finding("a curve named loss/train")
        points = events.Scalars("loss/train")
        seen[f"The list of steps for {label}"] = [point.step for point in points]
        seen[f"The list of losses for {label}"] = torch.tensor([point.value for point in points])
        pictures = events.Histograms("gradient") if "gradient" in tags["histograms"] else []
        seen[f"The list of the histograms' steps for {label}"] = [picture.step for picture in pictures]
        counts = [int(picture.histogram_value.num) for picture in pictures]
        seen[f"The list of how many values each histogram holds, for {label},"] = counts
        sums = [[picture.histogram_value.sum, picture.histogram_value.sum_squares] for picture in pictures]
        seen[f"The sum of the values in each histogram, and of their squares, for {label},"] = torch.tensor(sums)
    return seen


def finite(gradient):
    return None if gradient is None else gradient[gradient.isfinite()]


def log_epochs(folder, epochs, *, tag="loss/train", restart=False, by_epoch=False, values=finite, close=True) -> None:
    writer, step = SummaryWriter(folder), 0
    for epoch, (losses, gradient) in enumerate(epochs, start=1):
        step = 0 if restart else step
        for loss in losses:
            step += 1
            writer.add_scalar(tag, loss, step)
        gradient = values(gradient)
        if gradient is not None and len(gradient):
            writer.add_histogram("gradient", gradient, epoch if by_epoch else step)
    if close:
        writer.close()


def zeros_for_nan(gradient):
    return None if gradient is None else gradient.nan_to_num()


q5 = Question(
    name="logging_traps.q5",
    title="Repair a logging loop",
    text="The loop below holds five traps of this notebook. Write `log_run(folder, epochs)` without them. `epochs` is "
    "a list of pairs: the losses of an epoch, one an update, and the gradient of a layer at its end, a tensor or "
    "`None`. All losses go into the curve `loss/train`, at steps 1, 2, 3 and so on through the whole run. The finite "
    "values of each gradient become a histogram `gradient` at the step of the epoch's last loss; where there are none, "
    "no histogram. When the function returns, everything is in the file.",
    fills="log_run",
    right=log_epochs,
    observe=logged,
    praise="One count of steps, a plain tag, histograms that survive NaN, and a file that is whole.",
    mistakes=(
        Mistake(
            "not closed",
            lambda folder, epochs: log_epochs(folder, epochs, close=False),
            "When your function returns, nothing is in the file. `flush()` does not wait for the queue, only closing "
            "does: `with SummaryWriter(folder) as writer:`.",
        ),
        Mistake(
            "the tag as it was",
            lambda folder, epochs: log_epochs(folder, epochs, tag="loss (train)"),
            "The curve is called loss__train_: blanks and brackets became `_`. Use the tag `loss/train`.",
        ),
        Mistake(
            "steps restart",
            lambda folder, epochs: log_epochs(folder, epochs, restart=True),
            "Your steps begin anew in every epoch: {got}. TensorBoard would show the last epoch alone. Count through "
            "the whole run: {want}.",
        ),
        Mistake(
            "histograms by epoch",
            lambda folder, epochs: log_epochs(folder, epochs, by_epoch=True),
            "Your histograms lie at the number of the epoch, {got}, the losses at the number of the update. Then "
            "the two cannot be laid side by side. Pass the step of the epoch's last loss: {want}.",
        ),
        Mistake(
            "zeros for NaN",
            lambda folder, epochs: log_epochs(folder, epochs, values=zeros_for_nan),
            "You put a number in the place of NaN. The histogram then shows a peak that the gradient has not. Leave "
            "out what is not finite: `gradient[gradient.isfinite()]`.",
        ),
        Mistake(
            "infinity left in",
            lambda folder, epochs: log_epochs(
                folder, epochs, values=lambda g: None if g is None or g.isnan().all() else g[~g.isnan()]
            ),
            "Infinity is left in. It is not finite either, and the histogram has no bin for it: take "
            "`gradient[gradient.isfinite()]`.",
        ),
        Mistake(
            "no histogram with NaN",
            lambda folder, epochs: log_epochs(
                folder, epochs, values=lambda g: g if g is not None and g.isfinite().all() else None
            ),
            "You leave out the whole histogram where one value is NaN. The finite values are worth seeing: "
            "`gradient[gradient.isfinite()]`, and a histogram if any are left.",
        ),
    ),
    hints=(
        "The five: the tag, the step, NaN, `None`, and the end.",
        "A counter outside both loops; `gradient[gradient.isfinite()]`; a histogram only where something is left.",
        "`with SummaryWriter(folder) as writer:` around everything; it closes the writer, and only that is sure.",
    ),
    solution_code='''def log_run(folder, epochs):
    """Write all losses and the gradients' histograms into one event file in `folder`."""
    from tensorboardX import SummaryWriter

    step = 0
    with SummaryWriter(folder) as writer:
        for losses, gradient in epochs:
            for loss in losses:
                step += 1
                writer.add_scalar("loss/train", loss, step)
            if gradient is not None and gradient.isfinite().any():
                writer.add_histogram("gradient", gradient[gradient.isfinite()], step)''',
)

QUESTIONS = (q1, q2, q3, q4, q5)
