"""The exercises of notebook 04: read curves, choose a view, and write what TensorBoard shows by hand."""

import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn as nn
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.util.tensor_util import make_ndarray
from tensorboardX import SummaryWriter

from course_utils.exercises.question import Finding, Mistake, Question, short
from course_utils.tracking import RunLogger, read_scalars

# Three real fine-tunings of the pocket network on 200 digits, four steps an epoch, seed 0, in thousandths:
# (training loss, validation loss) after each of 20 epochs. How they were made stands in tests/test_visualization.py.
CURVES = {
    "A": (
        (1854, 594, 244, 114, 83, 44, 36, 33, 17, 14, 11, 11, 10, 6, 5, 3, 7, 5, 5, 8),
        (964, 408, 174, 109, 94, 85, 71, 59, 64, 70, 62, 53, 47, 45, 44, 43, 43, 42, 42, 43),
    ),
    "B": (
        (2118, 1140, 828, 708, 531, 432, 340, 260, 161, 108, 80, 62, 42, 35, 25, 21, 17, 13, 9, 10),
        (1099, 597, 366, 295, 317, 379, 440, 405, 418, 464, 469, 432, 415, 431, 453, 448, 454, 461, 466, 466),
    ),
    "C": (
        (2555, 2418, 2334, 2252, 2158, 2068, 1993, 1877, 1805, 1715)
        + (1636, 1567, 1524, 1451, 1378, 1324, 1307, 1232, 1182, 1122),
        (2554, 2432, 2319, 2209, 2106, 2007, 1916, 1830, 1749, 1674)
        + (1603, 1537, 1470, 1407, 1349, 1291, 1238, 1189, 1143, 1098),
    ),
}
STEPS_PER_EPOCH = 4


def write_runs(folder: Path | str) -> None:
    """Write the runs A, B and C of exercise 1 into folders of these names, as `fit` logs its epochs.

    Raises FileExistsError where they are there already.
    """
    for name, (train, val) in CURVES.items():
        with RunLogger(Path(folder) / name) as logger:
            for epoch, (train_loss, val_loss) in enumerate(zip(train, val, strict=True), start=1):
                values = {"loss/train": train_loss / 1000, "loss/val": val_loss / 1000}
                logger.log_scalars(values, epoch * STEPS_PER_EPOCH)


def lowest(run: str, *, which: int = 1, smoothing: float = 0.0) -> int:
    """The step at which a curve of a run is lowest, as TensorBoard draws it with that smoothing.

    Source of the smoothing: TensorBoard's line chart, an exponential average divided by the weight it has seen.
    """
    drawn, average = [], 0.0
    for count, value in enumerate(CURVES[run][which], start=1):
        average = smoothing * average + (1 - smoothing) * value
        drawn.append(average / (1 - smoothing**count))
    return (drawn.index(min(drawn)) + 1) * STEPS_PER_EPOCH


q1 = Question(
    name="tensorboard.q1",
    title="Which run over-fits, and from when?",
    text="The cell above wrote the logs of three real trainings, `A`, `B` and `C`, and drew them. Open them in "
    "TensorBoard, or read them back with `read_scalars`. One of them over-fits. Of that run, give the step whose "
    "network you would keep: after it the training teaches it nothing that holds for the validation digits.",
    fills="step_to_keep",
    kind="value",
    right=lowest("B"),
    praise="Run B: its training loss falls to the end, and its validation loss rises from here on. (A fifth of its "
    "training labels are wrong, and it learns them by heart.) C is slow, not over-fitted: both its losses fall.",
    mistakes=(
        Mistake(
            "the epoch",
            lowest("B") // STEPS_PER_EPOCH,
            "That is the number of the epoch. The x axis counts steps, four an epoch.",
        ),
        Mistake(
            "the index",
            lowest("B") // STEPS_PER_EPOCH - 1,
            "That is the place in the list, counted from 0. The x axis counts steps, four an epoch, and the first "
            "value stands at step 4.",
        ),
        Mistake(
            "the index times four",
            lowest("B") - STEPS_PER_EPOCH,
            "There the validation loss still falls, and the next value is the lowest. (Have you counted the epochs "
            "from 0? The first value stands at step 4.)",
        ),
        Mistake(
            "the smoothed curve",
            lowest("B", smoothing=0.6),
            "There the *smoothed* curve is lowest, at TensorBoard's usual smoothing of 0.6. It lags behind the values: "
            "set the slider to 0, or look at the light line.",
        ),
        Mistake(
            "the strongly smoothed curve",
            lowest("B", smoothing=0.9),
            "There the curve is lowest at a smoothing of 0.9. It lags far behind the values: set the slider to 0, or "
            "look at the light line.",
        ),
        Mistake(
            "the training loss",
            lowest("B", which=0),
            "There the *training* loss is lowest. It falls on and on while a network learns its examples by heart; "
            "look at the validation loss.",
        ),
        Mistake(
            "the last step",
            len(CURVES["B"][0]) * STEPS_PER_EPOCH,
            "That is the last step. It would be right for a run that still gets better. One of the three has a "
            "validation loss that rises.",
        ),
        Mistake(
            "run A",
            lowest("A"),
            "There run A is lowest. Its validation loss stays where it is afterwards: that is a plateau, and no harm. "
            "Look for one that *rises*.",
        ),
        Mistake(
            "where it has risen",
            lowest("B") + STEPS_PER_EPOCH,
            "There the validation loss has risen for the first time. The network to keep is the one before.",
        ),
    ),
    hints=(
        "A run over-fits where its training loss still falls and its validation loss rises.",
        "It is run B. Look at its validation loss alone, without smoothing.",
        "`read_scalars(RUNS / 'exercise' / 'B')['loss/val']` has the fields `steps` and `values`, two arrays. Which "
        "step belongs to the smallest value?",
    ),
    solution_code="""from course_utils.exercises.tensorboard import CURVES

training, validation = CURVES["B"]  # what the cell above wrote, in thousandths
epoch = validation.index(min(validation)) + 1  # the fourth is the lowest
step_to_keep = 4 * epoch""",
)

# What each method shows, for the replies to exercise 2.
SHOWS = {
    "add_scalar": "one number a step",
    "add_scalars": "numbers over the steps, and a run for each",
    "add_custom_scalars": "curves, in charts of your own",
    "add_custom_scalars_marginchart": "a curve in a band",
    "add_custom_scalars_multilinechart": "several curves in one chart",
    "add_figure": "any chart that you can draw, as a picture",
    "add_histogram": "how the values of a tensor are spread",
    "add_histogram_raw": "how values are spread, from counts",
    "add_image": "a picture",
    "add_images": "pictures side by side",
    "add_image_with_boxes": "a picture with boxes around things in it",
    "add_video": "a film",
    "add_audio": "a sound",
    "add_pr_curve": "precision against recall at each threshold",
    "add_pr_curve_raw": "precision against recall, from counts",
    "add_hparams": "a table of settings and results",
    "add_embedding": "vectors as points, each with its label",
    "add_mesh": "points or surfaces in 3D",
    "add_graph": "how the network is wired",
    "add_onnx_graph": "how a network from an ONNX file is wired",
    "add_openvino_graph": "how a network from an OpenVINO file is wired",
    "add_text": "words",
}
# The methods that answer a question, and what an answer must show.
ANSWERS = {
    "a": (("add_figure", "add_image", "add_video"), "a method that can show each pair of classes"),
    "b": (
        ("add_histogram", "add_histogram_raw", "add_scalar", "add_scalars"),
        "a method that shows all values of a tensor, or how many of them are 0",
    ),
    "c": (("add_images", "add_image"), "a method that shows the inputs themselves"),
    "d": (("add_pr_curve", "add_pr_curve_raw"), "a method that shows what each threshold costs"),
    "e": (("add_hparams", "add_custom_scalars_marginchart"), "a method that sets settings or seeds side by side"),
    "f": (("add_embedding", "add_mesh"), "a method that shows vectors as points"),
}


def chosen(function) -> dict:
    """For each question, whether the method answers it; else what that method shows."""
    seen = {}
    for letter, (methods, wanted) in ANSWERS.items():
        try:
            method = function(letter)
        except Exception as error:
            error.add_note(f"for question {letter}")
            raise
        called = re.fullmatch(r"(?:\w+\.)?(\w+)(?:\(.*\))?", str(method).strip())  # "writer.add_text()"
        name = called[1] if called else ""
        if name in methods:
            finding = wanted
        elif name.startswith("add_") and hasattr(SummaryWriter, name):
            finding = f"`{name}`, which shows {SHOWS.get(name, 'something else')}"
        else:
            finding = f"`{short(method)}`, which is no method of `SummaryWriter` that logs"
        seen[f"Your choice for question {letter}"] = Finding(finding)
    return seen


def choices(**other) -> Callable[[str], str]:
    """The right choices, but for the letters given."""
    return lambda letter: other.get(letter, ANSWERS[letter][0][0])


q2 = Question(
    name="tensorboard.q2",
    title="The right view for a question",
    text="Write `choose(letter)`: the name of the method of `SummaryWriter`, such as `'add_text'`, whose view answers "
    "the question best. - `a`: Which digits are taken for which others? - `b`: Have many gradients of the first "
    "convolution become exactly 0? - `c`: Does the augmentation turn the digits too far? - `d`: From which "
    "probability on should a digit be called a 3, if a wrong 3 is costly? - `e`: Which of five rates did best, with "
    "three seeds each? - `f`: Do the features of the digits lie in groups by class, or by writer?",
    fills="choose",
    right=choices(),
    observe=chosen,
    praise="Each question has its view. A scalar answers b alone as well: the share of gradients that are 0.",
    mistakes=(
        Mistake(
            "a scalar for everything",
            lambda letter: "add_scalar",
            "You log a scalar for everything. One number a step says *that* something happened. Five of these six "
            "questions ask for more: for which classes, which images, which thresholds or settings it happened.",
        ),
        Mistake(
            "an image of the misread digits",
            choices(a="add_images"),
            "For question a you show the misread digits themselves. That says what they look like, not how often each "
            "class is taken for each other. A confusion matrix does: any chart of matplotlib can be logged.",
        ),
        Mistake(
            "accuracy for the threshold",
            choices(d="add_scalar"),
            "For question d you log one number. It belongs to one threshold; the question is which one to take. A "
            "precision-recall curve shows all of them.",
        ),
        Mistake(
            "scalars for the search",
            choices(e="add_scalar"),
            "For question e you lay fifteen curves over each other. Which colour was which rate? The table of "
            "hyper-parameters has a row per run and can be sorted; a margin chart shows a rate with its seeds.",
        ),
    ),
    hints=(
        "The table at the end of section 16 has a row for each kind of question.",
        "b is about all values of a tensor, d about thresholds, e about settings, f about vectors.",
        "`add_figure`, `add_histogram`, `add_images`, `add_pr_curve`, `add_hparams`, `add_embedding`: which is whose?",
    ),
    solution_code='''def choose(letter):
    """The name of a method of SummaryWriter."""
    views = {
        "a": "add_figure",  # a confusion matrix
        "b": "add_histogram",  # of the gradients; or a scalar, the share that is 0
        "c": "add_images",  # of the inputs, turned back from their normalisation
        "d": "add_pr_curve",  # each threshold is a point of it
        "e": "add_hparams",  # a row a run
        "f": "add_embedding",  # coloured once by class, once by writer
    }
    return views[letter]''',
)


def logged(call: Callable[[SummaryWriter], None]) -> EventAccumulator:
    """What is in the event file when a function that gets a writer has returned and the writer is closed."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        with RunLogger(folder) as logger:
            call(logger.writer)
        return EventAccumulator(folder, size_guidance={"histograms": 0, "tensors": 0}).Reload()


def half_frozen(seed: int) -> nn.Module:
    """A small model after one backward pass: `body` is frozen and has no gradients."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential()
        model.add_module("body", nn.Linear(6, 5).requires_grad_(False))
        model.add_module("head", nn.Linear(5, 3))
        model(torch.randn(8, 6)).square().mean().backward()
    return model


def gradients_logged(function) -> dict:
    """Tags, steps and contents of the histograms after two calls."""

    def two_calls(writer):
        for step in (4, 8):
            function(writer, half_frozen(seed=step), step)

    begun = time.time()
    events = logged(two_calls)
    tags = sorted(events.Tags()["histograms"])
    seen = {"The list of histograms in your log": tags}
    for tag in tags:
        found = events.Histograms(tag)
        seen[f"The list of steps of {tag}"] = [event.step for event in found]
        now = all(begun - 1 <= event.wall_time <= time.time() + 1 for event in found)
        year = time.gmtime(found[-1].wall_time).tm_year
        seen[f"The time of {tag}"] = Finding("that of the call" if now else f"another one, in the year {year}")
        values = [event.histogram_value for event in found]
        seen[f"What is in {tag} at each step (number of values, sum, sum of squares)"] = torch.tensor(
            [[value.num, value.sum, value.sum_squares] for value in values]
        )
    return seen


def log_each(writer, model, step, *, tag="gradients/{}", of=lambda parameter: parameter.grad, walltime=None) -> None:
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            writer.add_histogram(tag.format(name), of(parameter), step, walltime=walltime)


q3 = Question(
    name="tensorboard.q3",
    title="Gradients, layer by layer",
    text="Write `log_gradients(writer, model, step)`: a histogram of the gradient of each parameter, under the tag "
    "`gradients/NAME`, where NAME is the parameter's name. `writer` is a `SummaryWriter`. Some layers are frozen and "
    "have no gradient: leave them out. Do it without the course's `log_weights`.",
    fills="log_gradients",
    right=log_each,
    observe=gradients_logged,
    praise="And at the right step. In a training, call it once an epoch: it costs more than a small step.",
    mistakes=(
        Mistake(
            "the weights",
            lambda writer, model, step: log_each(writer, model, step, of=lambda parameter: parameter),
            "The tags say gradients, and the values are the *weights*. The gradient of a parameter is in its field "
            "`grad`.",
        ),
        Mistake(
            "no step",
            lambda writer, model, step: log_each(writer, model, None),
            "You have passed no step, so every histogram stands at step 0, and TensorBoard keeps one of them. It is "
            "the third argument of `add_histogram`.",
        ),
        Mistake(
            "the year 1970",
            lambda writer, model, step: log_each(writer, model, step, walltime=0),
            "Your histograms have the time 0, in the year 1970, so that the axes *Relative* and *Wall* of TensorBoard "
            "are wrong. `use_metadata` does this in tensorboardX 2.6.5. Pass the step to each call instead.",
        ),
        Mistake(
            "sizes without signs",
            lambda writer, model, step: log_each(writer, model, step, of=lambda parameter: parameter.grad.abs()),
            "You log the *absolute* values. Then one side of the histogram is missing, and you cannot see whether "
            "all gradients of a layer push the same way.",
        ),
        Mistake(
            "tags without the group",
            lambda writer, model, step: log_each(writer, model, step, tag="{}"),
            "The tags lack `gradients/`: what stands before the slash groups the charts, and keeps them apart from the "
            "weights of the same names.",
        ),
    ),
    hints=(
        "`model.named_parameters()` gives pairs of a name and a parameter.",
        "A parameter has its gradient in `parameter.grad`. Where it is frozen, that is None.",
        "For each name and parameter with a gradient: `writer.add_histogram(f'gradients/{name}', parameter.grad, "
        "step)`.",
    ),
    solution_code='''def log_gradients(writer, model, step):
    """A histogram of each gradient that there is."""
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            writer.add_histogram(f"gradients/{name}", parameter.grad, step)''',
)


def some_logits(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (60, 4) of a network that is right in most cases, and labels (60,)."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(seed, seed + 60) % 4
    return torch.randn(60, 4, generator=generator) + 2 * nn.functional.one_hot(labels, 4), labels


def curve_logged(function) -> dict:
    """The curves in the log after two calls, and what is in them."""

    def two_calls(writer):
        for digit, step in ((2, 40), (3, 44)):
            function(writer, *some_logits(seed=digit), digit, step)

    events = logged(two_calls)
    tags = sorted(events.Tags()["tensors"])
    seen = {"The list of curves in your log": tags}
    for tag in tags:
        event = events.Tensors(tag)[-1]
        seen[f"The step of {tag}"] = event.step
        table = make_ndarray(event.tensor_proto)
        count = table.shape[1]
        usual = "127, as by default" if count == 127 else f"{count}, since you pass `num_thresholds`"
        seen[f"The number of thresholds in {tag}"] = Finding(usual)
        seen[f"The number of digits of the class in {tag}"] = float(table[0, 0])
        seen[f"What is in {tag} (true and false positives, true and false negatives, precision, recall)"] = table
    return seen


def log_curve(writer, logits, labels, digit, step, *, truth=None, score=None) -> None:
    truth = labels == digit if truth is None else truth(logits, labels, digit)
    score = logits.softmax(dim=1)[:, digit] if score is None else score(logits, digit)
    writer.add_pr_curve(f"digit/{digit}", truth, score, step)


def curve_with(**parts) -> Callable:
    return lambda *arguments: log_curve(*arguments, **parts)


q4 = Question(
    name="tensorboard.q4",
    title="A precision-recall curve",
    text="Write `log_curve(writer, logits, labels, digit, step)`: one precision-recall curve for one class against "
    "all others, under the tag `digit/N`, where N is the class. `logits` `(N, K)` come from a classifier trained "
    "with cross-entropy, `labels` `(N,)` are class numbers.",
    fills="log_curve",
    right=log_curve,
    observe=curve_logged,
    praise="Truth as 0 or 1, and a probability that adds up to 1 over the classes.",
    mistakes=(
        Mistake(
            "logits for probabilities",
            curve_with(score=lambda logits, digit: logits[:, digit]),
            "You pass logits. The thresholds run from 0 to 1, and logits do not: those outside are not counted, so "
            "digits are missing from the curve. Take the softmax first.",
        ),
        Mistake(
            "sigmoid for softmax",
            curve_with(score=lambda logits, digit: logits[:, digit].sigmoid()),
            "You take the sigmoid of one logit. A classifier trained with cross-entropy says with all its logits "
            "together how sure it is: take the softmax over the classes, then the column of the class.",
        ),
        Mistake(
            "softmax over the examples",
            curve_with(score=lambda logits, digit: logits.softmax(dim=0)[:, digit]),
            "Your softmax runs over the examples, `dim=0`: the probabilities of a class add up to 1 over the images. "
            "It has to run over the classes, `dim=1`.",
        ),
        Mistake(
            "class numbers for truth",
            curve_with(truth=lambda logits, labels, digit: labels),
            "You pass the class numbers as truth. `add_pr_curve` takes 0 or 1, or False and True: whether it *is* "
            "this digit.",
        ),
        Mistake(
            "predictions for truth",
            curve_with(truth=lambda logits, labels, digit: logits.argmax(dim=1) == digit),
            "As truth you pass what the network predicts. Then it is compared with itself. The truth is in `labels`.",
        ),
    ),
    hints=(
        "`add_pr_curve(tag, truth, probability, step)`: two tensors of shape `(N,)`. What must be in them?",
        "The truth is whether the label equals the digit. The probability is a column of the softmax over the classes.",
        "`logits.softmax(dim=1)[:, digit]` and `labels == digit`.",
    ),
    solution_code='''def log_curve(writer, logits, labels, digit, step):
    """One class against the others; logits (N, K), labels (N,)."""
    probability = logits.softmax(dim=1)[:, digit]
    writer.add_pr_curve(f"digit/{digit}", labels == digit, probability, step)''',
)


FOUR_SEEDS = ([[0.50, 0.81, 0.90], [0.58, 0.84, 0.92], [0.69, 0.88, 0.91], [0.61, 0.83, 0.95]], [4, 8, 12])
TWO_SEEDS = ([[0.3, 0.7], [0.4, 0.9]], [10, 20])


def band_logged(function) -> dict:
    """The three curves in the log, and the order of their tags in the chart, of four seeds and of two."""
    return band_of(function, *FOUR_SEEDS, "") | band_of(function, *TWO_SEEDS, ", of two seeds,")


def band_of(function, curves: list[list[float]], steps: list[int], of: str) -> dict:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        with RunLogger(folder) as logger:
            function(logger.writer, torch.tensor(curves), list(steps))
        scalars = read_scalars(folder)
        events = EventAccumulator(folder).Reload()
    seen = {f"The list of curves in your log{of}": sorted(scalars)}
    for tag, series in sorted(scalars.items()):
        seen[f"The list of steps of {tag}{of}"] = series.steps.tolist()
        seen[f"The curve {tag}{of}"] = torch.from_numpy(series.values)
    name = "custom_scalars__config__"
    layouts = events.Tensors(name) if name in events.Tags()["tensors"] else []
    charts = [
        chart
        for event in layouts[-1:]
        for category in Layout.FromString(event.tensor_proto.string_val[0]).category
        for chart in category.chart
    ]
    seen[f"The number of layouts in your log{of}"] = len(layouts)
    seen[f"The number of margin charts in your layout{of}"] = sum(chart.HasField("margin") for chart in charts)
    for chart in charts:
        for series in chart.margin.series:
            seen[f"The list of tags in your chart{of}"] = [series.value, series.lower, series.upper]
    return seen


def log_band(writer, curves, steps, *, spread=lambda curves: curves.std(dim=0), order=(0, 1, 2), charts=1) -> None:
    tags = ("accuracy/mean", "accuracy/lower", "accuracy/upper")
    mean, width = curves.mean(dim=0), spread(curves)
    for step, *values in zip(steps, mean, mean - width, mean + width, strict=True):
        for tag, value in zip(tags, values, strict=True):
            writer.add_scalar(tag, value, step)
    for _ in range(charts):
        writer.add_custom_scalars_marginchart([tags[i] for i in order])


def band_with(**parts) -> Callable:
    return lambda *arguments: log_band(*arguments, **parts)


q5 = Question(
    name="tensorboard.q5",
    title="A band over seeds",
    text="Write `log_band(writer, curves, steps)`. `curves` is a tensor `(seeds, epochs)` of accuracies, and `steps` a "
    "list with the step of each epoch. Log three curves, `accuracy/mean`, `accuracy/lower` and `accuracy/upper`: the "
    "mean over the seeds, and one standard deviation (of a sample, as `Tensor.std` gives it) below and above. Then "
    "make one margin chart of them.",
    fills="log_band",
    right=log_band,
    observe=band_logged,
    praise="Value, lower, upper: in this order, and with the spread of the runs, not of their mean.",
    mistakes=(
        Mistake(
            "another order",
            band_with(order=(1, 0, 2)),
            "The curves are right, and the chart takes their tags in another order: the value comes first, then the "
            "lower edge, then the upper one. With yours the line would run along the lower edge.",
        ),
        Mistake(
            "the standard error",
            band_with(spread=lambda curves: curves.std(dim=0) / len(curves) ** 0.5),
            "Your band is the standard *error*: how well the mean is known. Asked for is the spread of the runs, the "
            "standard deviation; it does not shrink with more seeds.",
        ),
        Mistake(
            "divides by n",
            band_with(spread=lambda curves: curves.std(dim=0, correction=0)),
            "You divide by the number of seeds. A *sample* of a few runs looks too narrow that way: divide by one "
            "fewer, as `Tensor.std` does by itself (NumPy needs `ddof=1`).",
        ),
        Mistake(
            "no chart",
            band_with(charts=0),
            "The three curves are there, and no chart joins them: `add_custom_scalars_marginchart` is missing.",
        ),
        Mistake(
            "a layout for each step",
            lambda writer, curves, steps: log_band(writer, curves, steps, charts=len(steps)),
            "You make the chart again for each step, {got} layouts in all. A layout belongs to the whole run: move the "
            "call of `add_custom_scalars_marginchart` behind the loop.",
        ),
        Mistake(
            "over the epochs",
            lambda writer, curves, steps: log_band(writer, curves.T[:, : len(steps)], steps),
            "You average over the epochs. The seeds are the rows: `curves.mean(dim=0)` is the mean of each epoch.",
        ),
    ),
    hints=(
        "`curves.mean(dim=0)` and `curves.std(dim=0)` have one number an epoch.",
        "Log the three values with `add_scalar`, at each step. One call after the loop makes the chart of three tags.",
        "`writer.add_custom_scalars_marginchart([value, lower, upper])`, with the tags in this order.",
    ),
    solution_code='''def log_band(writer, curves, steps):
    """Mean and one standard deviation over seeds; curves (seeds, epochs)."""
    mean, spread = curves.mean(dim=0), curves.std(dim=0)
    for i, step in enumerate(steps):
        writer.add_scalar("accuracy/mean", mean[i], step)
        writer.add_scalar("accuracy/lower", mean[i] - spread[i], step)
        writer.add_scalar("accuracy/upper", mean[i] + spread[i], step)
    writer.add_custom_scalars_marginchart(["accuracy/mean", "accuracy/lower", "accuracy/upper"])''',
)

QUESTIONS = (q1, q2, q3, q4, q5)
