"""The exercises: solutions pass, what students do wrong is explained, nothing passes by chance, nothing raises."""

import functools
import inspect
import linecache
import re
from collections.abc import Iterable, Iterator, Mapping

import nbformat
import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from tensorboardX import SummaryWriter

from course_utils import exercises
from course_utils.exercises.question import Reply, differs, explain_error

QUESTIONS = {question.name: question for questions in exercises.BY_NOTEBOOK.values() for question in questions}
each_question = pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)


@pytest.fixture(autouse=True)
def progress(tmp_path, monkeypatch):
    """A progress file of the test's own."""
    monkeypatch.setenv("COURSE_PROGRESS", str(tmp_path / "progress.json"))
    return tmp_path / "progress.json"


def run_cell(code: str, name: str = "answer"):
    """What a cell defines under a name; its lines are known, as a notebook's are."""
    linecache.cache["<cell>"] = (len(code), None, code.splitlines(keepends=True), "<cell>")
    names = {}
    exec(compile(code, "<cell>", "exec"), names)
    return names[name]


def wrong(question, answer) -> str:
    reply = question.reply(answer)
    assert reply.verdict == "NOT YET", reply
    return reply.text


# --- every question -------------------------------------------------------------------------------------------------


def test_there_are_enough_questions():
    counts = [len(questions) for questions in exercises.BY_NOTEBOOK.values()]
    assert sum(counts) >= 14
    assert counts[0] >= 1 and min(counts[1:]) >= 3


@each_question
def test_the_solution_passes(question):
    reply = question.reply(run_cell(question.solution_code, question.fills))
    assert reply.verdict == "RIGHT", reply
    assert question.praise


@each_question
def test_the_untouched_cell_is_met_kindly(question):
    for answer in (run_cell(question.cell, question.fills), None, ...):
        assert question.reply(answer).verdict == "NO ANSWER YET"


@each_question
def test_no_constant_passes(question):
    for constant in (0, 1, -1, 0.5, True, False, "", "no", [], (), {}, torch.zeros(3), torch.tensor(1.0), float("nan")):
        assert wrong(question, constant)
        assert wrong(question, lambda *inputs, constant=constant: constant)
    for model in (nn.Identity(), nn.Linear(2, 2)):
        assert wrong(question, model)


@each_question
def test_a_catalogued_mistake_gets_its_own_explanation(question):
    assert len(question.mistakes) >= 2
    for mistake in question.mistakes:
        text = wrong(question, mistake.answer() if question.kind == "model" else mistake.answer)
        for part in re.split(r"\{got\}|\{want\}", mistake.why):
            assert part in text, mistake.name


def content(value):
    """What a value holds, to compare it with another: the numbers of tensors and models, never where they lie."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype), tuple(value.shape), value.tolist()
    if isinstance(value, nn.Module):
        return type(value).__name__, [part.training for part in value.modules()], content(value.state_dict())
    if isinstance(value, torch.optim.Optimizer):
        return type(value).__name__, value.defaults
    if isinstance(value, Mapping):
        return [(key, content(part)) for key, part in value.items()]
    if isinstance(value, Iterable) and not isinstance(value, str | Iterator):
        return [content(part) for part in value]
    return re.sub(r" at 0x\w+", "", repr(value))


# Arguments that have one reasonable value: (question, argument) and why.
ALWAYS_THE_SAME = {
    (f"tensorboard.{name}", "writer"): "each case has an empty one of its own: there is nothing to tell them apart by"
    for name in ("q3", "q4", "q5")
}


@each_question
def test_every_argument_takes_two_values_over_the_cases_of_a_check(question):
    if question.kind != "function":
        return
    answer, seen = run_cell(question.solution_code, question.fills), {}

    @functools.wraps(answer)
    def watched(*given, **named):
        for name, value in inspect.signature(answer).bind(*given, **named).arguments.items():
            seen.setdefault(name, set()).add(repr(content(value)))
        return answer(*given, **named)

    question.observe(watched)
    same = {name for name, values in seen.items() if len(values) < 2}
    assert same == {name for asked, name in ALWAYS_THE_SAME if asked == question.name}
    assert seen


@each_question
def test_an_answer_that_raises_is_explained(question):
    if question.kind == "model":
        source = (
            "from torch import nn\n\n\nclass Net(nn.Module):\n    def forward(self, x):\n        return x / lost\n\n\n"
            "answer = Net()"
        )
        kind = "NameError"
    else:
        source, kind = "def answer(*inputs):\n    return 1 / 0", "ZeroDivisionError"
    text = wrong(question, run_cell(source))
    if question.kind != "value":
        assert kind in text and "`return " in text and "line" in text


@each_question
def test_hints_come_one_at_a_time_and_the_solution_is_shown(question, capsys):
    question.hints_given = 0
    assert len(question.hints) >= 2
    for number, hint in enumerate(question.hints, start=1):
        question.hint()
        shown = " ".join(capsys.readouterr().out.split())
        assert f"HINT {number} of {len(question.hints)}" in shown and hint in shown
    question.hint()
    assert "This was the last one." in " ".join(capsys.readouterr().out.split())
    question.solution()
    shown = capsys.readouterr().out
    assert all(line.strip() in shown for line in question.solution_code.splitlines())


@pytest.mark.parametrize("notebook", exercises.BY_NOTEBOOK)
def test_its_notebook_asks_it_word_for_word(notebook, root):
    path = root / "notebooks" / f"{notebook}.ipynb"
    if not path.is_file():
        pytest.skip("not written yet")
    cells = nbformat.read(path, as_version=4).cells
    for question in exercises.BY_NOTEBOOK[notebook]:
        call = f"exercises.{question.name}"
        (at,) = [i for i, cell in enumerate(cells) if f"{call}.check({question.fills})" in cell.source]
        assert f"{question.title} {question.text}" in " ".join(cells[at - 1].source.split())
        assert cells[at].source.startswith(question.cell)
        assert cells[at].source.endswith(f"# {call}.hint()\n# {call}.solution()")
        assert "NO ANSWER YET" in str(cells[at].outputs)


# --- what students write: the question, their code, and words of the reply ------------------------------------------

KNOWN = [
    (
        "environment.q1",
        "def answer(v, f):\n    one, two = (x.split('+')[0].split('.') for x in (v, f))\n"
        "    return [int(x) for x in one[:2]] >= [int(x) for x in two[:2]]",
        ["first two numbers alone", "2.6.5"],
    ),
    ("loss.q1", "import math\nanswer = -math.log(1 / 10)", ["right for ten classes"]),
    (
        "cnn.q1",
        "import torch\n\n\ndef answer(p):\n    test = torch.isin(p, p.unique()[:3])\n"
        "    return (~test).nonzero(), test.nonzero()",
        ["`.flatten()`", "(N, 1)"],
    ),
    (
        "cnn.q1",
        "import numpy as np\nanswer = lambda p: (np.argwhere(p.numpy() > 2), np.argwhere(p.numpy() < 3))",
        ["`np.argwhere`"],
    ),
    ("cnn.q1", "answer = lambda p: (p[p > 2], p[p <= 2])", ["numbers of patients"]),
    (
        "cnn.q5",
        "import torch\n\n\ndef answer(m):\n    head = {*m.fc.parameters()}\n"
        "    rest = [p for p in m.parameters() if p not in head]\n"
        "    return torch.optim.Adam([{'params': [*head], 'lr': 1e-2}, {'params': rest}], lr=1e-3)",
        ["Adam, and AdamW is asked for"],
    ),
    (
        "cnn.q6",
        "from torch import nn\nfrom course_utils.models import build_classifier\n"
        "answer = build_classifier('tiny_resnet', 10, weights='DEFAULT')\n"
        "answer.fc = nn.Sequential(answer.fc, nn.ReLU())",
        ["one more function", "of both signs"],
    ),
    (
        "cnn.q6",
        "from torch import nn\nfrom course_utils.models import build_classifier\n"
        "answer = nn.Sequential(build_classifier('tiny_resnet', 10, weights='DEFAULT'), nn.Sigmoid())",
        ["a sigmoid or a ReLU"],
    ),
    ("own_pictures.q1", "import numpy as np\nanswer = lambda pixels: np.round(pixels / 257)", ["still float64"]),
    (
        "logging_traps.q5",
        "from tensorboardX import SummaryWriter\n\n\ndef answer(folder, epochs):\n    step = 0\n"
        "    with SummaryWriter(folder) as w:\n        for losses, g in epochs:\n            for x in losses:\n"
        "                step += 1\n                w.add_scalar('loss/train', x, step)\n"
        "            if g is not None and not g.isnan().all():\n"
        "                w.add_histogram('gradient', g[~g.isnan()], step)",
        ["Infinity is left in"],
    ),
    ("tensorboard.q1", "answer = 3", ["counted from 0"]),
    ("tensorboard.q1", "answer = 3 * 4", ["the next value is the lowest"]),
    (
        "tensorboard.q3",
        "def answer(writer, model, step):\n    with writer.use_metadata(global_step=step):\n"
        "        for name, p in model.named_parameters():\n            if p.grad is not None:\n"
        "                writer.add_histogram(f'gradients/{name}', p.grad)",
        ["the year 1970", "Pass the step to each call"],
    ),
    (
        "tensorboard.q5",
        "def answer(writer, curves, steps):\n    m, s = curves.mean(0), curves.std(0)\n"
        "    tags = ['accuracy/mean', 'accuracy/lower', 'accuracy/upper']\n    for i, step in enumerate(steps):\n"
        "        for tag, v in zip(tags, (m, m - s, m + s)):\n            writer.add_scalar(tag, v[i], step)\n"
        "        writer.add_custom_scalars_marginchart(tags)",
        ["3 layouts in all", "behind the loop"],
    ),
    ("start.q1", "answer = 50 // 16 * 12", ["drop_last", "fourth batch"]),
    ("start.q1", "answer = 50 / 16 * 12", ["no eighth of a batch"]),
    ("environment.q1", "answer = lambda version, floor: not version < floor", ["character by character"]),
    ("environment.q1", "answer = lambda v, f: v.split('+')[0].split('.') >= f.split('.')", ["character by character"]),
    (
        "environment.q1",
        "def answer(v, f):\n    one, two = (x.split('+')[0].split('.') for x in (v, f))\n"
        "    return float('.'.join(one[:2])) >= float('.'.join(two[:2]))",
        ["decimal"],
    ),
    (
        "environment.q2",
        "def answer(report):\n    names = []\n    for line in report.split('\\n'):\n        if 'FAIL' in line:\n"
        "            names.append(line.split()[1])\n    return names",
        ["first word", "gpu"],
    ),
    (
        "environment.q2",
        "answer = lambda report: [row.split()[1] for row in report.splitlines() if not row.startswith('OK')]",
        ["NOTE is worth knowing"],
    ),
    (
        "environment.q3",
        "from tensorboardX import SummaryWriter\n\n\ndef answer(folder, epochs):\n    w = SummaryWriter(folder)\n"
        "    for i, x in enumerate(sum(epochs, []), 1):\n        w.add_scalar('loss', x, i)",
        ["writer.close()"],
    ),
    (
        "environment.q3",
        "from tensorboardX import SummaryWriter\n\n\ndef answer(folder, epochs):\n"
        "    with SummaryWriter(folder) as w:\n        for losses in epochs:\n"
        "            for i in range(len(losses)):\n                w.add_scalar('loss', losses[i], i + 1)",
        ["anew in every epoch", "[1, 2, 3, 4, 5, 6]"],
    ),
    ("loss.q1", "import math\nanswer = round(math.log10(37), 2)", ["base 10"]),
    ("loss.q1", "answer = 0.027", ["probability"]),
    (
        "loss.q2",
        "import torch\n\n\ndef answer(p, y):\n    n = len(y)\n"
        "    return -1 / n * torch.sum(y * torch.log(p)) + (1 - y) * torch.log(1 - p)",
        ["article", "first term only"],
    ),
    (
        "loss.q2",
        "import torch\n\n\ndef answer(p, y):\n    return sum(-torch.log(a if b else 1 - a) for a, b in zip(p, y))",
        ["sum", "0.2798"],
    ),
    ("loss.q3", "def answer(z, k):\n    g = -z.softmax(0)\n    g[k] += 1\n    return g", ["sign"]),
    ("loss.q3", "def answer(z, k):\n    e = z.exp()\n    return e / e.sum()", ["1 has to be taken away"]),
    ("loss.q4", "import torch\nanswer = lambda z: torch.log(torch.softmax(z, -1))", ["log 0"]),
    ("loss.q4", "answer = lambda z: (z.exp() / z.exp().sum(1).unsqueeze(1)).log()", ["NaN", "exp(1000)"]),
    (
        "loss.q5",
        "from torch import nn\n\n\ndef answer(logits, labels):\n    p = nn.Softmax(dim=1)(logits)\n"
        "    return nn.CrossEntropyLoss()(p, labels.reshape(-1).long())",
        ["probabilities", "0.7576 instead of 0.01998"],
    ),
    (
        "loss.q5",
        "def answer(z, y):\n    return z.logsumexp(1).mean() - z[:, y.long().flatten()].mean()",
        ["(N, N)", "look at the shapes"],
    ),
    (
        "cnn.q1",
        "import torch\n\n\ndef answer(p):\n    order = torch.randperm(len(p))\n    return order[17:], order[:17]",
        ["most patients"],
    ),
    (
        "cnn.q1",
        "import torch\n\n\ndef answer(p):\n    order = torch.randperm(10)\n    return order[3:], order[:3]",
        ["numbers of patients"],
    ),
    (
        "cnn.q2",
        "def answer(model, loader):\n    model.eval()\n    shares = []\n    for x, y in loader:\n"
        "        shares.append((model(x).argmax(1) == y).float().mean().item())\n    return sum(shares) / len(shares)",
        ["mean of the batches' accuracies"],
    ),
    (
        "cnn.q2",
        "def answer(model, loader):\n    right = n = 0\n    for x, y in loader:\n"
        "        right += (model(x).argmax(1) == y).sum()\n        n += len(y)\n    return right / n",
        ["model.eval()", "BatchNorm"],
    ),
    (
        "cnn.q3",
        "def answer(model, inputs, targets, loss_fn, optimizer):\n    loss = loss_fn(model(inputs), targets)\n"
        "    loss.backward()\n    optimizer.step()\n    return loss.item()",
        ["zero_grad", "adds up"],
    ),
    (
        "cnn.q3",
        "def answer(model, inputs, targets, loss_fn, optimizer):\n    optimizer.zero_grad()\n"
        "    loss = loss_fn(model(inputs), targets)\n    optimizer.step()\n    loss.backward()\n    return loss",
        ["stands before `backward()`"],
    ),
    (
        "cnn.q4",
        "def answer(model):\n    for name, p in model.named_parameters():\n        p.requires_grad = 'fc' in name",
        ["running mean"],
    ),
    (
        "cnn.q4",
        "def answer(model):\n    model.eval()\n    for part in (model.conv1, model.bn1):\n"
        "        for p in part.parameters():\n            p.requires_grad_(False)",
        ["`model.train()` undoes it"],
    ),
    ("cnn.q5", "import torch\nanswer = lambda m: torch.optim.AdamW([*m.fc.parameters()], 0.01)", ["never move"]),
    (
        "cnn.q5",
        "import torch\n\n\ndef answer(m):\n    rest = [p for n, p in m.named_parameters() if n != 'fc.weight']\n"
        "    return torch.optim.AdamW([{'params': [m.fc.weight], 'lr': 1e-2}, {'params': rest, 'lr': 1e-3}])",
        ["bias"],
    ),
    (
        "cnn.q6",
        "from torch import nn\nfrom course_utils.models import build_classifier\n"
        "answer = build_classifier('tiny_resnet', 10, weights='DEFAULT')\n"
        "answer.fc = nn.Sequential(answer.fc, nn.Softmax(dim=-1))",
        ["ends in a softmax", "1.461"],
    ),
    (
        "cnn.q6",
        "from course_utils.models import build_classifier\nanswer = build_classifier('tiny_resnet', 10)",
        ["nothing in it is pretrained"],
    ),
    ("logging_traps.q1", "answer = 40 * 5", ["200 values are in the file"]),
    ("logging_traps.q1", "answer = len(range(0, 40))", ["stands still"]),
    (
        "logging_traps.q2",
        "def answer(steps):\n    seen = steps[:1]\n    for step in steps:\n        if step > max(seen):\n"
        "            seen.append(step)\n    return seen",
        ["the other way round"],
    ),
    (
        "logging_traps.q2",
        "def answer(steps):\n    starts = [i for i in range(len(steps)) if i and steps[i] <= steps[i - 1]]\n"
        "    return steps[starts[-1]:] if starts else steps",
        ["keeps its steps 1 to 3", "[4, 5, 6]"],
    ),
    ("logging_traps.q3", "import numpy as np\nanswer = lambda s, w: np.argmin(s)", ["It comes late", "30"]),
    (
        "logging_traps.q3",
        "def answer(s, w):\n    values = [(b - w * a) / (1 - w) for a, b in zip([0.0, *s], s)]\n"
        "    return values.index(min(values))",
        ["denominator"],
    ),
    (
        "logging_traps.q4",
        "import numpy as np\n\n\ndef answer(x, mean, std):\n    x = x.permute(0, 2, 3, 1).numpy()\n"
        "    return np.moveaxis(x * np.array(std) + np.array(mean), 3, 1)",
        ["wraps around"],
    ),
    (
        "logging_traps.q4",
        "def answer(x, mean, std):\n    x = x - x.amin()\n    return x / x.amax()",
        ["stretch", "every batch"],
    ),
    (
        "logging_traps.q5",
        "from tensorboardX import SummaryWriter\n\n\ndef answer(folder, epochs):\n"
        "    w, step = SummaryWriter(folder, flush_secs=1), 0\n    for losses, g in epochs:\n"
        "        for x in losses:\n            step += 1\n            w.add_scalar('loss/train', x, step)\n"
        "        if g is not None and g.isfinite().any():\n"
        "            w.add_histogram('gradient', g[g.isfinite()], step)\n    w.flush()",
        ["does not wait for the queue"],
    ),
    (
        "logging_traps.q5",
        "from tensorboardX import SummaryWriter\n\n\ndef answer(folder, epochs):\n"
        "    with SummaryWriter(folder) as w:\n        for losses, g in epochs:\n"
        "            for i, x in enumerate(losses, 1):\n                w.add_scalar('loss/train', x, i)\n"
        "            if g is not None and g.isfinite().any():\n"
        "                w.add_histogram('gradient', g[g.isfinite()], i)",
        ["the last epoch alone", "[1, 2, 3, 4, 5, 6]"],
    ),
    ("tensorboard.q1", "answer = 4", ["number of the epoch"]),
    ("tensorboard.q1", "import torch\nanswer = torch.tensor(24.0)", ["smoothed"]),
    (
        "tensorboard.q2",
        "answer = dict(a='add_figure', b='add_scalar', c='add_image', d='add_scalar', e='add_hparams', "
        "f='add_mesh').get",
        ["question d", "one threshold"],
    ),
    ("tensorboard.q2", "def answer(x):\n    return 'add_scalar'", ["a scalar for everything"]),
    (
        "tensorboard.q3",
        "def answer(writer, model, step):\n    for name, p in model.named_parameters():\n        if p.requires_grad:\n"
        "            writer.add_histogram('gradients/' + name, p.detach().numpy(), step)",
        ["*weights*"],
    ),
    (
        "tensorboard.q3",
        "def answer(w, m, step):\n    for n, p in m.head.named_parameters():\n"
        "        w.add_histogram(f'gradients/head.{n}', p.grad)",
        ["no step"],
    ),
    (
        "tensorboard.q4",
        "import torch\n\n\ndef answer(writer, logits, labels, digit, step):\n"
        "    p = torch.sigmoid(logits)[:, digit]\n"
        "    writer.add_pr_curve('digit/' + str(digit), (labels == digit).int(), p, step)",
        ["sigmoid of one logit"],
    ),
    (
        "tensorboard.q4",
        "from torch import nn\n\n\ndef answer(w, z, y, k, s):\n"
        "    w.add_pr_curve(f'digit/{k}', z.argmax(1) == k, nn.Softmax(-1)(z)[:, k], s)",
        ["compared with itself"],
    ),
    (
        "tensorboard.q5",
        "import numpy as np\n\n\ndef answer(writer, curves, steps):\n"
        "    m, s = curves.numpy().mean(0), np.std(curves.numpy(), axis=0)\n    names = ['mean', 'lower', 'upper']\n"
        "    for i, step in enumerate(steps):\n        for n, v in zip(names, (m[i], m[i] - s[i], m[i] + s[i])):\n"
        "            writer.add_scalar('accuracy/' + n, v, step)\n"
        "    writer.add_custom_scalars_marginchart(['accuracy/' + n for n in names])",
        ["divide by the number of seeds", "ddof=1"],
    ),
    (
        "tensorboard.q5",
        "def answer(writer, curves, steps):\n    m, s = curves.mean(0), curves.std(0)\n"
        "    for i in range(len(steps)):\n        writer.add_scalar('accuracy/mean', m[i], steps[i])\n"
        "        writer.add_scalar('accuracy/lower', m[i] - s[i], steps[i])\n"
        "        writer.add_scalar('accuracy/upper', m[i] + s[i], steps[i])\n"
        "    tags = ['accuracy/lower', 'accuracy/mean', 'accuracy/upper']\n"
        "    writer.add_custom_scalars_marginchart(tags)",
        ["the value comes first"],
    ),
    ("own_pictures.q1", "answer = lambda pixels: (pixels % 256).astype('uint8')", ["lower eight bits"]),
    ("own_pictures.q1", "answer = lambda pixels: (pixels * (255 / pixels.max())).round()", ["own maximum"]),
    (
        "own_pictures.q2",
        "def answer(right, count):\n    p = right / count\n    e = (p * (1 - p) / count) ** 0.5\n"
        "    return [p - 1.96 * e, p + 1.96 * e]",
        ["plain interval", "after five pictures"],
    ),
    (
        "own_pictures.q2",
        "from course_utils.full_size.experiment import wilson\nanswer = lambda right, count: wilson(right, count, z=1)",
        ["one of three"],
    ),
    ("own_pictures.q3", "answer = 45_000 // (4 * 128)", ["over all four"]),
    ("own_pictures.q3", "import math\nanswer = math.ceil(45_000 / 128)", ["last batch of 72"]),
    ("text.q1", "import numpy as np\nanswer = np.log2(8000)", ["in bits"]),
    ("text.q1", "import math\nanswer = 0.15 * math.log(8000)", ["mean over the masked places"]),
    ("text.q2", "import torch\nanswer = lambda h, mask: torch.mean(h, dim=1)", ["depends on its neighbours"]),
    (
        "text.q2",
        "import torch\n\n\ndef answer(h, mask):\n    total = torch.einsum('btd,bt->bd', h, mask.float())\n"
        "    return total / h.shape[1]",
        ["still divide by T"],
    ),
    ("text.q3", "def answer(ids, chosen):\n    return ids * chosen", ["number of [PAD]"]),
    (
        "text.q3",
        "def answer(ids, chosen):\n    targets = ids.clone()\n    targets[ids == 0] = -100\n    return targets",
        ["words in plain sight"],
    ),
    (
        "text.q4",
        "def answer(lengths, limit):\n    lost = [max(0, n - limit) for n in lengths]\n"
        "    return sum(lost) / sum(lengths)",
        ["take two of the places", "0.4857"],
    ),
    (
        "text.q4",
        "def answer(lengths, limit):\n    return len([n for n in lengths if n + 2 > limit]) / len(lengths)",
        ["share of *texts*"],
    ),
    (
        "text.q5",
        "def answer(step, total, warm_up, peak):\n    return min((step + 1) / warm_up, 1) * peak if warm_up else peak",
        ["fall to 0"],
    ),
    ("next_steps.q1", "answer = 768 * 8", ["one of the two matrices"]),
    ("next_steps.q1", "answer = 768 * 8 + 768 * 8 + 768", ["stays frozen"]),
    ("next_steps.q2", "answer = lambda w, down, up, alpha: w + up.mm(down)", ["`alpha / r` times"]),
    (
        "next_steps.q2",
        "answer = lambda w, down, up, alpha: w + (alpha / down.shape[0]) * down.T @ up.T",
        ["transposed"],
    ),
    ("next_steps.q3", "import torch\nanswer = lambda a, x, e: torch.clip(a, 0, 1)", ["epsilon is not used"]),
    (
        "next_steps.q3",
        "import torch\n\n\ndef answer(a, x, e):\n    return x + torch.maximum(torch.minimum(a - x, torch.tensor(e)),"
        " torch.tensor(-e))",
        ["outside of 0 to 1"],
    ),
    (
        "next_steps.q4",
        "import torch.nn.functional as F\n\n\ndef answer(model, x, y, e):\n    x.requires_grad = True\n"
        "    F.cross_entropy(model(x), y).backward()\n    return (x + e * x.grad.sign()).clamp(0, 1)",
        ["Two things"],
    ),
    (
        "next_steps.q4",
        "import torch.nn.functional as F\n\n\ndef answer(model, x, y, e):\n    model.eval()\n"
        "    x.requires_grad = True\n"
        "    F.cross_entropy(model(x), y).backward()\n    return (x + e * x.grad.sign()).clamp(0, 1).detach()",
        ["torch.autograd.grad"],
    ),
    ("next_steps.q5", "answer = round(255 * 0.03, 2)", ["0.03 times 0.35"]),
    ("next_steps.q5", "answer = 0.03 / 0.35 * 255", ["wrong way round"]),
    (
        "text.q3",
        "def answer(ids, chosen):\n    ids[~chosen] = -100\n    return ids",
        ["written them into `input_ids`"],
    ),
    (
        "text.q4",
        "answer = lambda n, top: sum(max(0, x + 2 - top) for x in n) / sum(x + 2 for x in n)",
        ["[CLS] and [SEP] among"],
    ),
    (
        "text.q5",
        "def answer(step, total, warm_up, peak):\n    if step < warm_up:\n        return peak * (step + 1) / warm_up",
        ["None", "`return`"],
    ),
    (
        "text.q5",
        "def answer(step, total, warm_up, peak):\n    decayed = peak * (1 - step / total)\n    if warm_up:\n"
        "        is_warmup = float(step < warm_up)\n"
        "        return (1 - is_warmup) * decayed + is_warmup * peak * step / warm_up\n    return decayed",
        ["BERT's own code", "begins at `warm_up`"],
    ),
    (
        "text.q5",
        "def answer(step, total, warm_up, peak):\n    if step < warm_up:\n        return peak * step / warm_up\n"
        "    return peak * max(0.0, float(total - 1 - step) / float(max(1, total - 1 - warm_up)))",
        ["the last step that is taken"],
    ),
    ("recommender.q1", "import math\nanswer = math.log(1 + 20)", ["sampled softmax", "one out of two"]),
    ("recommender.q1", "answer = 0.7", ["too large"]),
    ("recommender.q2", "answer = lambda r, v: len(set(r) & v) / min(len(r), len(v))", ["smaller number"]),
    ("recommender.q1", "import math\nanswer = -math.log2(0.5)", ["in bits"]),
    (
        "recommender.q2",
        "def answer(recommended, relevant):\n    hits = [song for song in recommended if song in relevant]\n"
        "    return len(hits) / len(recommended)",
        ["precision", "(0.4)"],
    ),
    ("recommender.q2", "answer = lambda songs, relevant: 1.0 if set(songs) & relevant else 0.0", ["hit rate"]),
    ("recommender.q3", "answer = lambda days, border: ~(days > border)", ["belongs to the test"]),
    (
        "recommender.q3",
        "import torch\n\n\ndef answer(days, border):\n    mask = torch.zeros(len(days), dtype=torch.bool)\n"
        "    mask[: int((days < border).sum())] = True\n    return mask",
        ["first rows of the table"],
    ),
    (
        "recommender.q4",
        "from torch import nn\n\n\ndef answer(scores):\n"
        "    return -nn.LogSigmoid()(scores[:, [0]] - scores[:, 1:]).mean()",
        ["That is BPR"],
    ),
    (
        "recommender.q4",
        "import torch\nfrom torch import nn\n\n\ndef answer(scores):\n    p = torch.softmax(scores, -1)\n"
        "    return nn.CrossEntropyLoss()(p, torch.zeros(len(p)).long())",
        ["You pass probabilities"],
    ),
    ("recommender.q5", "answer = lambda v: 1 - v.mm(v.T).mean()", ["Leave the diagonal out"]),
    (
        "recommender.q5",
        "def answer(v):\n    c, k = v @ v.T, len(v)\n"
        "    return sum(c[i, j] for i in range(k) for j in range(i)) / (k * (k - 1) / 2)",
        ["how alike", "1 minus"],
    ),
    ("clinic.q1", "import math\nanswer = round(math.log(10), 2)", ["there are 37 classes"]),
    ("clinic.q1", "import numpy as np\nanswer = np.log2(37)", ["in bits"]),
    ("clinic.q2", "answer = lambda p, t: (p == t).float().mean().item()", ["over all images"]),
    (
        "clinic.q2",
        "answer = lambda p, t: min((t[p == k] == k).float().mean().item() for k in t.unique())",
        ["(precision)"],
    ),
    (
        "clinic.q2",
        "answer = lambda p, t: min((p[t == k] == k).float().mean().item() for k in p.unique() if k in t)",
        ["never predicted"],
    ),
    (
        "clinic.q2",
        "answer = lambda p, t: min((p[t == k] == k).float().mean().item() for k in p.unique())",
        ["never predicted"],
    ),
    (
        "clinic.q2",
        "import warnings\nfrom sklearn.metrics import recall_score\n\n\ndef answer(predicted, targets):\n"
        '    with warnings.catch_warnings():\n        warnings.simplefilter("ignore")\n'
        "        return recall_score(targets, predicted, average=None).min()",
        ["is predicted and has no image"],
    ),
    ("clinic.q3", "import numpy as np\nanswer = lambda losses, patience: int(np.argmin(losses))", ["do not exist"]),
    (
        "clinic.q3",
        "def answer(losses, patience):\n    for i in range(len(losses)):\n"
        "        if i - losses[: i + 1].index(min(losses[: i + 1])) >= patience:\n            break\n    return i",
        ["the training ends"],
    ),
    (
        "clinic.q3",
        "def answer(losses, patience):\n    best, waited = 0, 0\n    for epoch in range(1, len(losses)):\n"
        "        if losses[epoch] < losses[best]:\n            best, waited = epoch, 0\n        else:\n"
        "            waited += 1\n        if waited > patience:\n            break\n    return best",
        ["one epoch too late"],
    ),
    (
        "clinic.q3",
        "def answer(losses, patience):\n    best, waited = 0, 0\n    for epoch in range(1, len(losses)):\n"
        "        if losses[epoch] < losses[best]:\n            best, waited = epoch, 0\n        else:\n"
        "            waited += 1\n        if waited >= -1 + patience:\n            break\n    return best",
        ["one epoch too early"],
    ),
    (
        "clinic.q3",
        "def answer(losses, patience):\n    best, waited = 0, 0\n    for epoch in range(1, len(losses)):\n"
        "        if losses[epoch] <= losses[best]:\n            best, waited = epoch, 0\n        else:\n"
        "            waited += 1\n        if waited >= patience:\n            break\n    return best",
        ["equals the lowest", "`<`, not `<=`"],
    ),
    (
        "over_fitting.q1",
        "import numpy as np\n\n\ndef answer(a, b):\n    return (np.mean(a) - np.mean(b)) / (np.var(a, ddof=1) / len(a)"
        " + np.var(b, ddof=1) / len(b)) ** 0.5",
        ["both share"],
    ),
    (
        "over_fitting.q1",
        "import numpy as np\n\n\ndef answer(a, b):\n    d = np.array(a) - np.array(b)\n"
        "    return d.mean() / (d.std() / len(d) ** 0.5)",
        ["n - 1 is right"],
    ),
    (
        "over_fitting.q2",
        "def answer(model, parts, loss_fn, optimizer):\n    optimizer.zero_grad()\n    for x, y in parts:\n"
        "        loss_fn(model(x), y).backward()\n    optimizer.step()",
        ["the gradient is too large"],
    ),
    (
        "over_fitting.q2",
        "def answer(model, parts, loss_fn, optimizer):\n    optimizer.zero_grad()\n    for x, y in parts:\n"
        "        (loss_fn(model(x), y) / len(parts)).backward()\n    optimizer.step()",
        ["where all are of one size"],
    ),
    (
        "over_fitting.q2",
        "def answer(model, parts, loss_fn, optimizer):\n    n = sum(len(y) for _, y in parts)\n    for x, y in parts:\n"
        "        (loss_fn(model(x), y) * len(y) / n).backward()\n    optimizer.step()",
        ["The first step is right", "zero_grad"],
    ),
    (
        "over_fitting.q2",
        "import torch\n\n\ndef answer(model, parts, loss_fn, optimizer):\n"
        "    x, y = torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts])\n"
        "    optimizer.zero_grad()\n    loss_fn(model(x), y).backward()\n    optimizer.step()",
        ["one forward pass"],
    ),
    (
        "over_fitting.q2",
        "def answer(model, parts, loss_fn, optimizer):\n    n = sum(len(y) for _, y in parts)\n    loss = 0\n"
        "    for x, y in parts:\n        loss = loss + loss_fn(model(x), y) * len(y) / n\n"
        "    optimizer.zero_grad()\n    loss.backward()\n    optimizer.step()",
        ["Call `backward()` for each part, right after"],
    ),
    (
        "over_fitting.q2",
        "def answer(model, parts, loss_fn, optimizer):\n    n = sum(len(y) for _, y in parts)\n"
        "    optimizer.zero_grad()\n    outputs = [model(x) for x, _ in parts]\n"
        "    for z, (_, y) in zip(outputs, parts):\n        (loss_fn(z, y) * len(y) / n).backward()\n"
        "    optimizer.step()",
        ["before the first `backward()`"],
    ),
    ("over_fitting.q3", "answer = 5.9 * 2", ["You have counted the batch"]),
    ("over_fitting.q3", "answer = 5.9 * 4", ["four times the pixels"]),
    ("federated.q1", "answer = 308_826 * 4 * 10 * 20 / 1e6", ["You counted one way"]),
    ("federated.q1", "answer = round(308_826 * 2 * 10 * 20 / 1e6, 1)", ["takes 4 bytes"]),
    (
        "federated.q2",
        "import torch\nanswer = lambda c, n: torch.stack(c).mean(dim=0)",
        ["every client counts the same"],
    ),
    ("federated.q2", "answer = lambda c, n: sum(a * m for a, m in zip(c, n))", ["not yet a mean"]),
    (
        "federated.q3",
        "def answer(c, limit):\n    n = c.norm()\n    return c / n * limit if n > limit else c",
        ["comparison with NaN"],
    ),
    ("federated.q3", "answer = lambda c, limit: c.nan_to_num(0, 0, 0).clip(-limit, limit)", ["the whole"]),
    (
        "federated.q3",
        "import torch\n\n\ndef answer(c, limit):\n    if c.isnan().any():\n        return torch.zeros_like(c)\n"
        "    return c * min(1.0, limit / c.norm())",
        ["infinity is not"],
    ),
    (
        "next_steps.q4",
        "import torch.nn.functional as F\n\n\ndef answer(model, x, y, e):\n    model.eval()\n"
        "    x.requires_grad = True\n"
        "    F.cross_entropy(model(x), y).backward()\n    model.zero_grad(set_to_none=False)\n"
        "    return (x + e * x.grad.sign()).clamp(0, 1)",
        ["wipes out"],
    ),
    (
        "next_steps.q4",
        "import torch\nimport torch.nn.functional as F\n\n\ndef answer(model, x, y, e):\n    model.eval()\n"
        "    x = x.detach().requires_grad_(True)\n    g = torch.autograd.grad(F.cross_entropy(model(x), y), x)[0]\n"
        "    return (x + e * g.sign()).clamp(0, 1).detach()",
        ["left in evaluation mode", "model.train(was)"],
    ),
    (
        "next_steps.q4",
        "import torch\nimport torch.nn.functional as F\n\n\ndef answer(model, x, y, e):\n    model.eval()\n"
        "    x = x.detach().requires_grad_(True)\n    g = torch.autograd.grad(F.cross_entropy(model(x), y), x)[0]\n"
        "    model.train()\n    return (x + e * g.sign()).clamp(0, 1).detach()",
        ["in training mode, however it came"],
    ),
    (
        "next_steps.q4",
        "import torch.nn.functional as F\n\n\ndef answer(model, x, y, e):\n    model.eval()\n"
        "    for p in model.parameters():\n        p.requires_grad_(False)\n    x.requires_grad = True\n"
        "    F.cross_entropy(model(x), y).backward()\n    return (x + e * x.grad.sign()).clamp(0, 1).detach()",
        ["requires_grad=False", "would teach nothing", "left in evaluation mode"],
    ),
    (
        "next_steps.q4",
        "import torch.nn.functional as F\n\n\ndef answer(model, x, y, e):\n    was = model.training\n"
        "    model.eval().requires_grad_(False)\n    x.requires_grad = True\n"
        "    F.cross_entropy(model(x), y).backward()\n    model.train(was)\n"
        "    return (x + e * x.grad.sign()).clamp(0, 1).detach()",
        ["requires_grad=False"],
    ),
    ("next_steps.q2", "answer = lambda w, down, up, a: w + a / len(down) ** 0.5 * (up @ down)", ["rank-stabilised"]),
    ("next_steps.q5", "answer = round(0.03 * 0.35 * 255, 1)", ["two digits"]),
    (
        "federated.q3",
        "def answer(c, limit):\n    n = c.norm()\n    if not n.isfinite():\n        return c.new_zeros(c.shape)\n"
        "    return c / n if n > limit else c",
        ["should get the norm `limit`"],
    ),
    (
        "federated.q3",
        "def answer(c, limit):\n    n = c.norm()\n    if not n.isfinite():\n        return c.new_zeros(c.shape)\n"
        "    return c * min(1.0, 1 / n)",
        ["whatever `limit` says"],
    ),
    (
        "federated.q3",
        "def answer(c, limit):\n    n = c.norm()\n    if not n.isfinite():\n        return c.new_zeros(c.shape)\n"
        "    return c / n if n > 1 else c",
        ["whatever `limit` says"],
    ),
    (
        "federated.q3",
        "import torch\n\n\ndef answer(c, limit):\n    if c.isnan().any() or (c == torch.inf).any():\n"
        "        return torch.zeros_like(c)\n    return c * min(1.0, limit / c.norm())",
        ["minus infinity is not"],
    ),
    ("federated.q4", "answer = (1 + 1) / 2", ["what the server gets"]),
    ("federated.q4", "import statistics\nanswer = statistics.pvariance([-2, 2])", ["between the clients"]),
    ("federated.q5", "answer = 1 / 10", ["in one number"]),
    ("federated.q5", "answer = 307_386**0.5", ["in the sum"]),
    (
        "environment.q1",
        "def answer(version, floor):\n"
        "    one, two = ([int(x) for x in v.split('+')[0].split('.')] for v in (version, floor))\n"
        "    for a, b in zip(one, two):\n        if a != b:\n            return a > b\n    return True",
        ["as many parts as both have"],
    ),
    (
        "clinic.q2",
        "answer = lambda p, t: min((p[t == k] == k).float().mean().item() for k in range(10))",
        ["the mean of nothing is NaN"],
    ),
    (
        "clinic.q3",
        "def answer(losses, patience):\n    best = waited = 0\n    for epoch in range(1, len(losses)):\n"
        "        if losses[epoch] < losses[best]:\n            best = epoch\n        else:\n"
        "            waited += 1\n            if waited >= patience:\n                return best\n    return best",
        ["begins the count again"],
    ),
    (
        "clinic.q2",
        "def answer(predicted, targets):\n    count = len(targets.unique())\n"
        "    return min((predicted[targets == k] == k).float().mean().item() for k in range(count))",
        ["the mean of nothing is NaN"],
    ),
    (
        "own_pictures.q1",
        "import numpy as np\nanswer = lambda pixels: (pixels * 255 / 65535).astype(np.uint8)",
        ["is black", "convert last"],
    ),
    (
        "own_pictures.q1",
        "import numpy as np\nanswer = lambda pixels: np.round(pixels / 2**8).astype('uint8')",
        ["white turns black"],
    ),
    (
        "cnn.q4",
        "def answer(model):\n    for part in (model.conv1, model.bn1):\n        part.requires_grad_(False)\n"
        "    model.bn1.momentum = 0.0",
        ["momentum of 0", "does not use it"],
    ),
    (
        "own_pictures.q1",
        "answer = lambda pixels: (pixels * 255 / 65535).round().astype('uint8')",
        ["wraps around", "0 and 1 alone"],
    ),
    (
        "own_pictures.q1",
        "answer = lambda pixels: (pixels.astype('uint8') / 257).astype('uint8')",
        ["is black", "convert first"],
    ),
    (
        "logging_traps.q3",
        "def answer(smoothed, weight):\n    values = [smoothed[0]]\n"
        "    for before, now in zip(smoothed, smoothed[1:]):\n"
        "        values.append((now - weight * before) / (1 - weight))\n    return values.index(min(values))",
        ["not its denominator"],
    ),
    (
        "text.q2",
        "import torch\nanswer = lambda h, m: torch.stack([h[i, : m[i].sum()].mean(0) for i in range(len(h))])",
        ["padding stands on the left"],
    ),
    (
        "next_steps.q4",
        "import torch.nn.functional as F\n\n\ndef answer(model, x, y, e):\n    was = model.training\n"
        "    model.eval()\n    x = x.clone().requires_grad_()\n    F.cross_entropy(model(x), y).backward()\n"
        "    for p in model.parameters():\n        p.grad = None\n    model.train(was)\n"
        "    return (x + e * x.grad.sign()).clamp(0, 1).detach()",
        ["gradients that were there before"],
    ),
]

# Wrong in a way that no catalogue holds: the reply says what differs.
UNKNOWN = [
    ("loss.q1", "answer = 3.62", ["too large"]),
    ("loss.q1", "answer = 3.6", ["too small"]),
    ("loss.q2", "import torch.nn.functional as F\nanswer = F.binary_cross_entropy", ["without PyTorch's `binary_cr"]),
    ("loss.q2", "from torch import nn\nanswer = nn.BCELoss()", ["result is right", "`binary_cross_entropy`"]),
    (
        "loss.q2",
        "import torch\nfrom torch.nn.functional import binary_cross_entropy_with_logits as loss\n"
        "answer = lambda p, y: loss(torch.logit(p), y)",
        ["`binary_cross_entropy_with_logits`"],
    ),
    (
        "loss.q3",
        "import torch\nimport torch.nn.functional as F\n\n\ndef answer(z, k):\n    z = z.clone().requires_grad_()\n"
        "    F.cross_entropy(z[None], torch.tensor([k])).backward()\n    return z.grad",
        ["without PyTorch's `backward`"],
    ),
    ("loss.q3", "import torch\nanswer = lambda z, k: torch.func.grad(lambda v: -v.log_softmax(0)[k])(z)", ["`grad`"]),
    ("loss.q4", "import torch\nanswer = lambda z: torch.special.log_softmax(z, dim=1)", ["`log_softmax`"]),
    ("loss.q4", "answer = lambda z: z - z.logsumexp(1, keepdim=True)", ["without PyTorch's `logsumexp`"]),
    (
        "loss.q5",
        "import torch.nn.functional as F\nanswer = lambda z, y: F.cross_entropy(z, y[:, 0])",
        ["Float", "`.long()` makes them"],
    ),
    (
        "loss.q5",
        "import torch.nn.functional as F\n\n\ndef answer(z, y):\n    truth = F.one_hot(y[:, 0], z.shape[1])\n"
        "    return F.cross_entropy(z, truth.float())",
        ["`.long()` makes them", "`truth = "],
    ),
    (
        "loss.q5",
        "answer = lambda z, y: -z.log_softmax(1)[range(len(y)), y[:, 0]].mean()",
        ["Indices are whole numbers"],
    ),
    (
        "cnn.q1",
        "answer = lambda p: ((p < 6).nonzero()[:, 0], (p > 7).nonzero()[:, 0])",
        ["with 9 of 57", "2 of the ten"],
    ),
    ("cnn.q1", "answer = lambda p: ((p < 6).nonzero()[1:, 0], (p >= 6).nonzero()[:, 0])", ["incomplete, with 1 of 57"]),
    ("cnn.q1", "answer = lambda p: (p < 4, (p > 3) & (p < 7), p > 6)", ["in 3 parts"]),
    (
        "cnn.q4",
        "from torch import nn\n\n\ndef answer(model):\n    model.conv1.requires_grad_(False)\n"
        "    model.bn1 = nn.Identity()",
        ["taken out of the model", "bn1.running_var"],
    ),
    (
        "cnn.q4",
        "def answer(model):\n    model.conv1.requires_grad_(False)\n    model.bn1.requires_grad_(False)\n"
        "    model.bn1.reset_running_stats()\n    model.bn1.train = lambda mode=True: model.bn1\n"
        "    model.bn1.training = False",
        ["What has moved", "bn1.running_mean"],
    ),
    ("cnn.q5", "import torch\nanswer = lambda m: torch.optim.SGD(m.parameters(), lr=1e-3)", ["type SGD", "type AdamW"]),
    (
        "cnn.q5",
        "import torch\n\n\ndef answer(m):\n    rest = [*m.conv1.parameters(), *m.bn1.parameters()]\n"
        "    return torch.optim.AdamW([{'params': m.fc.parameters(), 'lr': 1e-2}, {'params': rest, 'lr': 1e-3}])",
        ["conv2.weight", "for a deeper model is not in it"],
    ),
    (
        "cnn.q6",
        "from course_utils.models import build_classifier\n"
        "pretrained = build_classifier('tiny_resnet', 10, weights='DEFAULT')\n"
        "answer = build_classifier('tiny_resnet', 10)\nanswer.conv1 = pretrained.conv1",
        ["pretrained in part, but not in bn1.weight"],
    ),
    (
        "cnn.q6",
        "import torch\nfrom course_utils.models import build_classifier\n"
        "answer = build_classifier('tiny_resnet', 10, weights='DEFAULT').train()\nanswer(torch.rand(3, 3, 32, 32))",
        ["BatchNorm's statistics", "training mode"],
    ),
    (
        "own_pictures.q1",
        "answer = lambda pixels: pixels // 257",
        ["The numbers are right", "uint16: it should be uint8"],
    ),
    ("own_pictures.q1", "answer = lambda pixels: (pixels // 257).astype(int)", ["int64"]),
    ("own_pictures.q1", "answer = lambda pixels: (pixels // 257).tolist()", ["list: it should be uint8"]),
    (
        "tensorboard.q2",
        "answer = dict(a='add_figure', b='add_histogram', c='add_image_with_boxes', d='add_pr_curve', e='add_hparams', "
        "f='add_embedding').get",
        ["question c", "boxes around things"],
    ),
    (
        "tensorboard.q2",
        "answer = dict(a='add_custom_scalars', b='add_histogram', c='add_images', d='add_pr_curve', e='add_hparams', "
        "f='add_embedding').get",
        ["question a", "charts of your own"],
    ),
    (
        "tensorboard.q4",
        "def answer(writer, logits, labels, digit, step):\n    p = logits.softmax(1)[:, digit]\n"
        "    writer.add_pr_curve(f'digit/{digit}', labels == digit, p, step, num_thresholds=100)",
        ["The number of thresholds", "`num_thresholds`", "127, as by default"],
    ),
    (
        "tensorboard.q5",
        "def answer(writer, curves, steps):\n    m, s = curves.mean(0), curves.std(0)\n"
        "    tags = ['accuracy/mean', 'accuracy/lower', 'accuracy/upper']\n    for i, step in enumerate(steps):\n"
        "        for tag, v in zip(tags, (m, m - s, m + s)):\n            writer.add_scalar(tag, v[i], step)\n"
        "    writer.add_custom_scalars_marginchart(tags)\n    writer.add_custom_scalars_marginchart(tags)",
        ["number of layouts", "it is 2"],
    ),
    ("start.q1", "answer = 47", ["too small"]),
    ("start.q1", "answer = '48'", ["quotation marks"]),
    ("environment.q1", "answer = lambda v, f: 'yes'", ["the type str"]),
    (
        "environment.q1",
        "answer = lambda v, f: int(v.split('.')[1]) >= int(f.split('.')[1])",
        ["'3.0', '2.21' is False: it should be True"],
    ),
    ("environment.q2", "answer = lambda r: 'packages, kernel'", ["a list"]),
    (
        "environment.q2",
        "answer = lambda r: [x.split()[1] for x in r.splitlines() if x[:4] == 'FAIL'][:1]",
        ["'kernel'"],
    ),
    (
        "environment.q3",
        "from tensorboardX import SummaryWriter\n\n\ndef answer(folder, epochs):\n"
        "    with SummaryWriter(folder) as w:\n        w.add_scalar('Loss', 1.0, 1)",
        ["a curve named Loss: it should be a curve named loss"],
    ),
    (
        "environment.q3",
        "from tensorboardX import SummaryWriter\n\n\ndef answer(folder, epochs):\n"
        "    with SummaryWriter(folder) as w:\n        for i, x in enumerate(epochs[0], 1):\n"
        "            w.add_scalar('loss', x, i)",
        ["[1, 2, 3]: it should be [1, 2, 3, 4, 5, 6]"],
    ),
    ("loss.q1", "answer = 3.5", ["too small"]),
    ("loss.q1", "import torch\nanswer = torch.full((37,), 3.61)", ["one number"]),
    ("loss.q2", "import torch\nanswer = lambda p, y: ((p - y) ** 2).mean()", ["too small", "0.2798"]),
    ("loss.q2", "def answer(p, y):\n    -(y * p.log() + (1 - y) * (1 - p).log()).mean()", ["`return`"]),
    ("loss.q3", "import torch\nanswer = lambda z, k: 2 * (z.softmax(0) - torch.eye(len(z))[k])", ["2 times"]),
    ("loss.q3", "answer = lambda z, k: (z.softmax(0)[k] - 1)", ["shape"]),
    ("loss.q4", "answer = lambda z: z - z.max(1, keepdim=True).values", ["differs most"]),
    ("loss.q4", "import torch\nanswer = lambda z: torch.logsumexp(z, 1)", ["(2, 3)"]),
    ("loss.q5", "import torch.nn.functional as F\nanswer = F.cross_entropy", ["one dimension too many"]),
    (
        "loss.q5",
        "import torch.nn.functional as F\nanswer = lambda z, y: F.cross_entropy(z, y.squeeze().long())",
        ["1 example"],
    ),
    (
        "loss.q5",
        "import torch.nn.functional as F\nanswer = lambda z, y: F.cross_entropy(2 * z, y[:, 0].long())",
        ["small"],
    ),
    ("cnn.q1", "answer = lambda p: ((p < 9).nonzero()[:, 0], (p >= 9).nonzero()[:, 0])", ["by patient, with 4 of 57"]),
    ("cnn.q1", "answer = lambda p: (p[p < 7], p[p > 7])", ["numbers of patients"]),
    ("cnn.q2", "answer = lambda m, loader: 100 * 8 / 18", ["too large"]),
    ("cnn.q2", "def answer(m, loader):\n    m.eval()\n    return [m(x).argmax(0) == y for x, y in loader]", ["Error"]),
    (
        "cnn.q3",
        "def answer(model, inputs, targets, loss_fn, optimizer):\n    optimizer.zero_grad()\n"
        "    loss = loss_fn(model(inputs), targets)\n    loss.backward()\n    optimizer.step()\n    optimizer.step()\n"
        "    return loss.item()",
        ["first step is 2 times"],
    ),
    (
        "cnn.q3",
        "def answer(model, inputs, targets, loss_fn, optimizer):\n    optimizer.zero_grad()\n"
        "    loss = loss_fn(targets, model(inputs))\n    loss.backward()\n    optimizer.step()\n    return loss.item()",
        ["`loss = loss_fn(targets, model(inputs))`", "first step"],
    ),
    ("cnn.q4", "def answer(model):\n    model.bn1.momentum = 0\n    model.conv1.requires_grad_(False)", ["bn1.weight"]),
    (
        "cnn.q4",
        "def answer(model):\n    model.conv1.requires_grad_(False)\n    model.bn1.requires_grad_(False)\n"
        "    model.bn1.momentum = 0\n    model.bn1.num_batches_tracked = None",
        ["bn1 in the next epoch"],
    ),
    ("cnn.q5", "import torch\nanswer = lambda m: torch.optim.AdamW(m.parameters(), lr=1e-4)", ["conv1.weight"]),
    ("cnn.q5", "answer = lambda m: [{'params': m.fc.parameters(), 'lr': 0.01}]", ["the type list"]),
    ("cnn.q6", "from torch import nn\nanswer = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))", ["pretrained"]),
    ("cnn.q6", "from course_utils.models import build_classifier\nanswer = build_classifier", ["nn.Module"]),
    ("logging_traps.q1", "answer = 39", ["too large"]),
    ("logging_traps.q1", "answer = [0, 1, 2, 3, 4]", ["one number"]),
    ("logging_traps.q2", "answer = lambda steps: steps[::2]", ["the resumed run", "[1, 2, 3, 4, 5, 6]"]),
    ("logging_traps.q2", "answer = lambda steps: len(set(steps))", ["the type int", "a list"]),
    ("logging_traps.q3", "answer = lambda s, w: int(len(s) * (1 - w))", ["too large", "30"]),
    ("logging_traps.q3", "def answer(s, w):\n    values = sorted(s)", ["`return`"]),
    ("logging_traps.q4", "answer = lambda x, mean, std: (x * std + mean).clamp(0, 1)", ["TypeError", "line"]),
    ("logging_traps.q4", "answer = lambda x, mean, std: x.mean(1)", ["shape (2, 4, 4)"]),
    (
        "logging_traps.q5",
        "from course_utils.tracking import RunLogger\n\n\ndef answer(folder, epochs):\n"
        "    with RunLogger(folder) as w:\n        w.log_scalars({'loss': 1.0}, 1)",
        ["a curve named loss: it should be a curve named loss/train"],
    ),
    (
        "logging_traps.q5",
        "from tensorboardX import SummaryWriter\n\n\ndef answer(folder, epochs):\n"
        "    with SummaryWriter(folder) as w:\n        for losses, g in epochs:\n"
        "            w.add_histogram('gradient', g, 1)",
        ["ValueError", "the second with NaN"],
    ),
    ("tensorboard.q1", "answer = 44", ["Your answer is too large"]),
    ("tensorboard.q1", "answer = ['B', 16]", ["one number"]),
    (
        "tensorboard.q2",
        "answer = dict(a='add_figure', b='add_graph', c='add_images', d='add_pr_curve', e='add_hparams', "
        "f='add_embedding').get",
        ["question b", "how the network is wired"],
    ),
    ("tensorboard.q2", "answer = lambda letter: 'confusion matrix'", ["question a", "no method of `SummaryWriter`"]),
    (
        "tensorboard.q3",
        "def answer(writer, model, step):\n    for name, p in model.named_parameters():\n"
        "        writer.add_histogram(f'gradients/{name}', p.grad, step)",
        ["`writer.add_histogram(f'gradients/{name}', p.grad, step)`"],
    ),
    (
        "tensorboard.q3",
        "def answer(writer, model, step):\n    writer.add_histogram('gradients/head.bias', model.head.bias.grad, step)",
        ["gradients/head.weight"],
    ),
    (
        "tensorboard.q4",
        "def answer(writer, logits, labels, digit, step):\n"
        "    writer.add_pr_curve('pr', labels == digit, logits.softmax(1)[:, digit], step)",
        ["digit/2"],
    ),
    (
        "tensorboard.q4",
        "def answer(writer, logits, labels, digit, step):\n"
        "    writer.add_pr_curve(f'digit/{digit}', labels == digit, logits.softmax(1)[:, digit])",
        ["The step of digit/2 is too small"],
    ),
    (
        "tensorboard.q5",
        "def answer(writer, curves, steps):\n    for step, value in zip(steps, curves.mean(0)):\n"
        "        writer.add_scalar('accuracy/mean', value, step)",
        ["accuracy/lower"],
    ),
    (
        "tensorboard.q5",
        "def answer(writer, curves, steps):\n    m, s = curves.median(0).values, curves.std(0)\n"
        "    for i, step in enumerate(steps):\n        for n, v in (('mean', m), ('lower', m - s), ('upper', m + s)):\n"
        "            writer.add_scalar(f'accuracy/{n}', v[i], step)\n"
        "    writer.add_custom_scalars_marginchart(['accuracy/mean', 'accuracy/lower', 'accuracy/upper'])",
        ["The curve accuracy/lower"],
    ),
    ("own_pictures.q1", "answer = lambda pixels: 255 - (pixels / 257).round()", ["differs most at"]),
    ("own_pictures.q1", "answer = lambda pixels: (pixels / 257).mean()", ["shape"]),
    ("own_pictures.q2", "answer = lambda right, count: right / count", ["shape"]),
    ("own_pictures.q2", "answer = lambda right, count: (0.0, 1.0)", ["differs most at"]),
    ("own_pictures.q3", "answer = 45_000 // 128 * 4", ["too large"]),
    ("own_pictures.q3", "answer = 10", ["too small"]),
    ("text.q1", "answer = 9.1", ["too large"]),
    ("text.q1", "answer = 'ln 8000'", ["quotation marks"]),
    ("text.q2", "answer = lambda h, mask: (h * mask).sum(1) / mask.sum(1)", ["RuntimeError", "line"]),
    ("text.q2", "answer = lambda h, mask: (h * mask[..., None]).amax(1)", ["differs most at"]),
    ("text.q3", "answer = lambda ids, chosen: chosen", ["a number"]),
    ("text.q3", "import torch\nanswer = lambda ids, chosen: torch.where(chosen, ids, -1)", ["not -100"]),
    ("text.q4", "answer = lambda lengths, limit: sum(lengths) - limit", ["texts of 10, 30 and 100", "too large"]),
    ("text.q4", "answer = lambda lengths, limit: lengths - limit", ["TypeError"]),
    (
        "text.q5",
        "def answer(step, total, warm_up, peak):\n    return peak * min((step + 1) / warm_up, 1)",
        ["ZeroDivisionError", "warm-up of 0"],
    ),
    ("text.q5", "answer = lambda step, total, warm_up, peak: peak / 2", ["differs most at"]),
    (
        "text.q5",
        "def answer(step, total, warm_up, peak):\n    if step < warm_up:\n"
        "        return peak * (step + 1) / max(2, warm_up)\n"
        "    return peak * (total - step) / (total - warm_up)",
        ["3 steps with a warm-up of 1"],
    ),
    ("next_steps.q1", "answer = 768 * 769", ["too large"]),
    ("next_steps.q1", "answer = [6144, 6144]", ["one number"]),
    ("next_steps.q2", "answer = lambda w, down, up, alpha: w + alpha / 2 * up @ down", ["size 5 and rank 3"]),
    ("next_steps.q2", "answer = lambda w, down, up, alpha: w + down @ up", ["RuntimeError"]),
    ("next_steps.q3", "answer = lambda a, x, e: (x + (a - x) * e).clamp(0, 1)", ["differs most"]),
    ("next_steps.q3", "answer = lambda a, x, e: (a - x).abs().amax().clamp(max=e)", ["shape"]),
    ("next_steps.q4", "answer = lambda model, x, y, e: (x + e * x.grad.sign()).clamp(0, 1)", ["AttributeError"]),
    (
        "next_steps.q4",
        "import torch\nanswer = lambda model, x, y, e: (x + e * torch.ones_like(x)).clamp(0, 1)",
        ["differs most"],
    ),
    ("next_steps.q5", "answer = 0.03", ["too small"]),
    ("next_steps.q5", "answer = '2.68'", ["quotation marks"]),
    ("recommender.q1", "import math\nanswer = math.log(20)", ["too large"]),
    ("recommender.q1", "answer = [0.69] * 20", ["one number"]),
    ("recommender.q2", "answer = lambda recommended, relevant: recommended & relevant", ["TypeError", "line"]),
    (
        "recommender.q2",
        "answer = lambda recommended, relevant: sum(x in relevant for x in recommended[:3]) / len(relevant)",
        ["too small", "five songs"],
    ),
    ("recommender.q3", "answer = lambda days, border: days[days < border]", ["True or False"]),
    ("recommender.q3", "answer = lambda days, border: (days - 60).abs() > 1", ["differs"]),
    ("recommender.q3", "answer = lambda days, border: days < 60", ["an earlier border"]),
    ("recommender.q4", "answer = lambda scores: scores.log_softmax(1)[:, 0].mean()", ["wrong sign"]),
    ("recommender.q4", "answer = lambda scores: -scores.log_softmax(1)[:, 0]", ["Is a mean or a sum missing?"]),
    ("recommender.q5", "answer = lambda vectors: 1 - vectors @ vectors.T", ["shape (4, 4)"]),
    ("recommender.q5", "answer = lambda vectors: 1 - (vectors[0] @ vectors[1:].T).mean()", ["four songs"]),
    (
        "recommender.q5",
        "def answer(v):\n    c = v @ v.T\n    k = len(v)\n    return 1 - c.triu(1).sum() / 6",
        ["six songs"],
    ),
    ("recommender.q5", "answer = lambda v: 1 - ((v @ v.T).sum() - 4) / 12", ["six songs"]),
    ("clinic.q1", "answer = 37", ["too large"]),
    ("clinic.q1", "answer = '3.61'", ["quotation marks"]),
    ("clinic.q2", "answer = lambda p, t: (p == t).float().min().item()", ["11 images"]),
    ("clinic.q2", "answer = lambda p, t: max(p[k] for k in t)", ["11 images"]),
    (
        "clinic.q2",
        "def answer(p, t):\n"
        "    return min((p[t == k] == k).float().mean().item() for k in t.unique() if (t == k).sum() > 1)",
        ["one of them of class 1", "too large"],
    ),
    ("clinic.q3", "answer = lambda losses, patience: patience", ["patience"]),
    ("clinic.q3", "answer = lambda losses, patience: losses[patience + 9]", ["IndexError"]),
    (
        "clinic.q3",
        "def answer(losses, patience):\n    best = waited = 0\n    for epoch, loss in enumerate(losses):\n"
        "        if loss < losses[best]:\n            best, waited = epoch, 0\n        else:\n"
        "            waited += 1\n        if waited >= patience:\n            break\n    return best",
        ["[2, 2.1, 1, 1.5] with patience 2", "too small"],
    ),
    ("over_fitting.q1", "answer = lambda a, b: sum(a) - sum(b)", ["four seeds"]),
    ("over_fitting.q1", "answer = lambda a, b: a - b", ["TypeError"]),
    ("over_fitting.q2", "answer = lambda model, parts, loss_fn, optimizer: optimizer.step()", ["images"]),
    ("over_fitting.q2", "answer = lambda model, parts, loss_fn, optimizer: model(parts).backward()", ["TypeError"]),
    (
        "over_fitting.q2",
        "import torch.nn.functional as F\n\n\ndef answer(model, parts, loss_fn, optimizer):\n"
        "    n = sum(len(y) for _, y in parts)\n    optimizer.zero_grad()\n    for x, y in parts:\n"
        "        (F.cross_entropy(model(x), y) * len(y) / n).backward()\n    optimizer.step()",
        ["squares"],
    ),
    (
        "over_fitting.q2",
        "import torch\n\n\ndef answer(model, parts, loss_fn, optimizer):\n"
        "    n = sum(len(y) for _, y in parts)\n    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)\n"
        "    for x, y in parts:\n        (loss_fn(model(x), y) * len(y) / n).backward()\n    optimizer.step()\n"
        "    optimizer.zero_grad()",
        ["first step, with squares"],
    ),
    ("over_fitting.q3", "answer = 5.9", ["too small"]),
    ("over_fitting.q3", "answer = [47]", ["one number"]),
    ("federated.q1", "answer = 12.35", ["too small"]),
    ("federated.q1", "answer = '494'", ["quotation marks"]),
    ("federated.q2", "answer = lambda c, n: c[0]", ["three clients"]),
    ("federated.q2", "answer = lambda c, n: c / n", ["TypeError"]),
    ("federated.q3", "answer = lambda c, limit: c / 2", ["norm 5"]),
    ("federated.q3", "answer = lambda c, limit: c.shorten(limit)", ["AttributeError"]),
    (
        "federated.q3",
        "def answer(c, limit):\n    n = c.norm()\n    if not n.isfinite():\n        return c.new_zeros(c.shape)\n"
        "    return c * limit**2 / n if n > limit else c",
        ["norm 5", "2 times"],
    ),
    (
        "federated.q3",
        "def answer(c, limit):\n    n = c.norm()\n    if not n.isfinite():\n        return c.new_zeros(c.shape)\n"
        "    return c / (limit * n) if n > limit else c",
        ["norm 5", "0.25 times"],
    ),
    (
        "next_steps.q4",
        "from course_utils.beyond.attacks import fgsm\n\n\ndef answer(model, x, y, e):\n"
        "    found = fgsm(model, x, y, epsilon=e)\n    for p in model.parameters():\n        p.data *= 0\n"
        "    return found",
        ["the model's weights, for a model in training mode", "a change"],
    ),
    (
        "next_steps.q4",
        "from course_utils.beyond.attacks import fgsm\n\n\ndef answer(model, x, y, e):\n"
        "    model.requires_grad_(False)\n    found = fgsm(model, x, y, epsilon=e)\n    model.requires_grad_(True)\n"
        "    return found",
        ["`requires_grad` of the weights, for a model in evaluation mode"],
    ),
    ("federated.q4", "answer = 3", ["too small"]),
    ("federated.q4", "answer = (1, 4)", ["one number"]),
    ("federated.q5", "answer = 5", ["too small"]),
    ("federated.q5", "answer = '55'", ["quotation marks"]),
    (
        "environment.q1",
        "def answer(v, f):\n    one, two = ([int(x) for x in t.replace('+cpu', '').split('.')] for t in (v, f))\n"
        "    return one >= two",
        ["'2.14.1+cu130', '2.6'", "ValueError"],
    ),
    (
        "environment.q3",
        "import tempfile\nfrom tensorboardX import SummaryWriter\n\n\ndef answer(folder, epochs):\n"
        "    with SummaryWriter(tempfile.mkdtemp()) as w:\n        for i, x in enumerate(sum(epochs, []), 1):\n"
        "            w.add_scalar('loss', x, i)",
        ["is not in `folder`"],
    ),
    (
        "clinic.q2",
        "import torch\nanswer = lambda p, t: torch.stack([(p[t == k] == k).float().mean() for k in range(10)]).min()",
        ["0 / 0, as in the mean of nothing"],
    ),
    (
        "cnn.q1",
        "import torch\nanswer = lambda p: (torch.where(p < 7)[0], torch.where(p >= 7)[0])",
        ["of the patients 40 to 49", "57 of 57"],
    ),
    (
        "logging_traps.q5",
        "from tensorboardX import SummaryWriter\n\n\ndef answer(folder, epochs):\n    step = 0\n"
        "    with SummaryWriter(folder) as w:\n        for losses, g in epochs:\n            for x in losses:\n"
        "                step += 1\n                w.add_scalar('loss/train', x, step)\n"
        "            if g is not None and g.isfinite().any():\n"
        "                w.add_histogram('gradient', g[g.isfinite()].abs(), step)",
        ["The sum of the values in each histogram"],
    ),
    (
        "logging_traps.q5",
        "import tempfile\nfrom tensorboardX import SummaryWriter\n\n\ndef answer(folder, epochs):\n"
        "    with SummaryWriter(tempfile.mkdtemp()) as w:\n        for losses, _ in epochs:\n"
        "            w.add_scalar('loss/train', losses[0], 1)",
        ["is not in `folder`"],
    ),
    (
        "text.q3",
        "import torch\n\n\ndef answer(ids, chosen):\n    targets = torch.where(chosen, ids, -100)\n"
        "    chosen.logical_not_()\n    return targets",
        ["changed in `chosen`"],
    ),
    (
        "recommender.q3",
        "answer = lambda days, border: days.int() < border",
        ["an earlier border", "differs most at (1,)"],
    ),
]


@pytest.mark.parametrize("name, code, words", KNOWN)
def test_what_students_do_wrong_is_recognised(name, code, words):
    text = wrong(QUESTIONS[name], run_cell(code))
    assert all(word in text for word in words), text


@pytest.mark.parametrize("name, code, words", UNKNOWN)
def test_what_nobody_foresaw_is_told_what_differs(name, code, words):
    text = wrong(QUESTIONS[name], run_cell(code))
    assert all(word in text for word in words), text


def test_each_question_is_tried_with_two_answers_of_either_kind():
    for name in QUESTIONS:
        for answers in (KNOWN, UNKNOWN):
            assert sum(question == name for question, *_ in answers) >= 2, name


# Right in another way than the solution: the field's own functions, NumPy, loops, in place.
OTHER_STYLES = [
    ("environment.q1", "from packaging.version import Version\nanswer = lambda v, f: Version(v) >= Version(f)"),
    (
        "environment.q1",
        "import re\nanswer = lambda v, f: [[int(n) for n in re.findall(r'\\d+', x)] for x in (v, f)] == "
        "sorted([[int(n) for n in re.findall(r'\\d+', x)] for x in (v, f)], reverse=True)",
    ),
    (
        "environment.q1",
        "def answer(v, f):\n    v, f = v.split('+')[0].split('.'), f.split('.')\n    for a, b in zip(v, f):\n"
        "        if int(a) != int(b):\n            return int(a) > int(b)\n    return len(v) >= len(f)",
    ),
    (
        "environment.q1",
        "import numpy as np\nanswer = lambda v, f: np.array([*map(int, v.split('+')[0].split('.'))]).tolist() >= "
        "np.array([*map(int, f.split('.'))]).tolist()",
    ),
    ("environment.q1", "import torch\n\n\ndef answer(v, f):\n    return torch.torch_version.TorchVersion(v) >= f"),
    ("loss.q1", "answer = 3.61"),
    ("loss.q1", "answer = 3.611"),
    ("loss.q1", "import numpy as np\nanswer = np.log(37)"),
    ("loss.q1", "import torch\nanswer = torch.nn.functional.cross_entropy(torch.zeros(1, 37), torch.tensor([5]))"),
    ("loss.q1", "import torch\nanswer = torch.zeros(37).logsumexp(0)"),
    ("loss.q2", "import torch\nanswer = lambda p, y: -torch.where(y == 1, p, 1 - p).log().mean()"),
    ("loss.q2", "import torch\nanswer = lambda p, y: -(torch.xlogy(y, p) + torch.xlogy(1 - y, 1 - p)).mean()"),
    (
        "loss.q2",
        "import numpy as np\n\n\ndef answer(p, y):\n    p, y = p.numpy(), y.numpy()\n"
        "    return -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p))",
    ),
    (
        "loss.q2",
        "import torch\n\n\ndef answer(p, y):\n    total = 0\n    for a, b in zip(p, y):\n"
        "        total -= torch.log(a if b else 1 - a)\n    return total / len(p)",
    ),
    ("loss.q2", "def answer(p, y):\n    q = 1 - p\n    q[y == 1] = p[y == 1]\n    return q.log_().neg().mean()"),
    ("loss.q3", "import torch\nanswer = lambda z, k: z.softmax(-1) - torch.eye(len(z))[k]"),
    (
        "loss.q3",
        "import torch\n\n\ndef answer(z, k):\n    with torch.no_grad():\n        p = z.exp() / z.exp().sum()\n"
        "        p[k] -= 1\n        return p",
    ),
    (
        "loss.q3",
        "import numpy as np\n\n\ndef answer(z, k):\n    e = np.exp(z.numpy())\n    p = e / e.sum()\n    p[k] -= 1\n"
        "    return p",
    ),
    (
        "loss.q3",
        "import torch\nimport torch.nn.functional as F\n"
        "answer = lambda z, k: F.softmax(z, 0).sub(F.one_hot(torch.tensor(k), len(z)))",
    ),
    (
        "loss.q3",
        "import torch\nanswer = lambda z, k: torch.stack([q - int(i == k) for i, q in enumerate(z.softmax(0))])",
    ),
    (
        "loss.q4",
        "import torch\nanswer = lambda z: (z - z.amax(1, True)) - torch.log(torch.exp(z - z.amax(1, True)).sum(1, "
        "True))",
    ),
    (
        "loss.q4",
        "import torch\n\n\ndef answer(z):\n    rows = []\n    for row in z:\n        row = row - row.max()\n"
        "        rows.append(row - torch.log(torch.exp(row).sum()))\n    return torch.stack(rows)",
    ),
    (
        "loss.q4",
        "import numpy as np\n\n\ndef answer(z):\n    z = z.numpy() - z.numpy().max(1, keepdims=True)\n"
        "    return z - np.log(np.exp(z).sum(1, keepdims=True))",
    ),
    (
        "loss.q4",
        "def answer(z):\n    z = z.clone()\n    z -= z.max(dim=-1).values[:, None]\n"
        "    z -= z.exp().sum(-1)[:, None].log()\n    return z",
    ),
    (
        "loss.q4",
        "import torch\nfrom functools import reduce\nanswer = lambda z: z - reduce(torch.logaddexp, z.T)[:, None]",
    ),
    (
        "cnn.q1",
        "import numpy as np\nanswer = lambda p: [np.flatnonzero(side) for side in (p.numpy() % 4, p.numpy() % 4 == 0)]",
    ),
    (
        "cnn.q1",
        "answer = lambda p: ([i for i, x in enumerate(p) if x % 4], [i for i, x in enumerate(p) if not x % 4])",
    ),
    ("cnn.q1", "answer = lambda p: ((p % 5 > 1).nonzero(as_tuple=True)[0], (p % 5 < 2).nonzero(as_tuple=True)[0])"),
    ("cnn.q1", "import torch\nanswer = lambda p: (torch.where(p % 3 > 0)[0], torch.where(p % 3 == 0)[0])"),
    (
        "cnn.q1",
        "import numpy as np\nimport torch\n\n\ndef answer(p):\n"
        "    known = np.random.default_rng(0).permutation(np.unique(p))\n"
        "    test = np.isin(p, known[:3])\n"
        "    return torch.from_numpy(np.where(~test)[0]), torch.from_numpy(np.where(test)[0])",
    ),
    (
        "cnn.q4",
        "def answer(model):\n    for part in (model.conv1, model.bn1):\n        for p in part.parameters():\n"
        "            p.requires_grad = False\n    model.bn1.eval()\n    model.bn1.train = lambda mode=True: model.bn1",
    ),
    (
        "cnn.q4",
        "from torchvision.ops import FrozenBatchNorm2d\n\n\ndef answer(model):\n    model.conv1.requires_grad_(False)\n"
        "    frozen = FrozenBatchNorm2d(4)\n    frozen.load_state_dict(model.bn1.state_dict())\n    model.bn1 = frozen",
    ),
    (
        "cnn.q4",
        "def answer(model):\n    train = model.train\n\n    def keep(mode=True):\n        train(mode)\n"
        "        model.bn1.eval()\n"
        "        return model\n\n    model.train = keep\n    for name, p in model.named_parameters():\n"
        "        p.requires_grad_(name.startswith('fc'))\n    model.train()",
    ),
    (
        "cnn.q4",
        "def answer(model):\n    for name, p in model.named_parameters():\n        p.requires_grad = 'fc' in name\n"
        "    model.bn1.register_forward_pre_hook(lambda module, inputs: module.eval() and None)",
    ),
    (
        "cnn.q4",
        "from torch import nn\n\n\nclass Frozen(nn.BatchNorm2d):\n    def train(self, mode=True):\n"
        "        return super().train(False)\n\n\ndef answer(model):\n    model.conv1.requires_grad_(False)\n"
        "    model.bn1.requires_grad_(False).__class__ = Frozen\n    model.bn1.eval()",
    ),
    (
        "cnn.q5",
        "import torch\n\n\ndef answer(m):\n"
        "    o = torch.optim.AdamW([p for n, p in m.named_parameters() if 'fc' not in n], 1e-3)\n"
        "    o.add_param_group({'params': list(m.fc.parameters()), 'lr': 1e-2})\n    return o",
    ),
    (
        "cnn.q5",
        "import torch\nanswer = lambda m: torch.optim.AdamW([{'params': [p], 'lr': 1e-2 if n[:3] == 'fc.' else 1e-3} "
        "for n, p in m.named_parameters()])",
    ),
    (
        "cnn.q5",
        "import torch\n\n\ndef answer(m):\n    head = set(m.fc.parameters())\n"
        "    rest = [p for p in m.parameters() if p not in head]\n"
        "    return torch.optim.AdamW([{'params': list(head), 'lr': 0.01}, {'params': rest}], lr=0.001)",
    ),
    (
        "cnn.q5",
        "import torch\n\n\ndef answer(m):\n    parts = [{'params': part.parameters()} for part in m.children()]\n"
        "    o = torch.optim.AdamW([part for part in parts if (part.update(params=[*part['params']]) or "
        "part['params'])])\n"
        "    for g in o.param_groups:\n        g['lr'] = 0.01 if g['params'][0] is m.fc.weight else 0.001\n"
        "    return o",
    ),
    (
        "cnn.q5",
        "import torch\nfrom course_utils.models import parameter_groups\n"
        "answer = lambda m: torch.optim.AdamW(parameter_groups(m, {'fc': 1e-2}, default_lr=1e-3), weight_decay=0.1)",
    ),
    (
        "cnn.q6",
        "from torch import nn\nfrom course_utils.models import build_classifier\n"
        "answer = build_classifier('tiny_resnet', 37, weights='DEFAULT')\nanswer.fc = nn.Linear(128, 10)",
    ),
    (
        "cnn.q6",
        "from torch import nn\nfrom course_utils.models import build_classifier\n"
        "body = build_classifier('tiny_resnet', 37, weights='DEFAULT')\nbody.fc = nn.Identity()\n"
        "answer = nn.Sequential(body, nn.Linear(128, 10))",
    ),
    (
        "cnn.q6",
        "from torch import nn\nfrom course_utils.models import build_classifier\n"
        "answer = build_classifier('tiny_resnet', 37, weights='DEFAULT').eval()\n"
        "answer.fc = nn.Sequential(nn.Dropout(0.2), nn.Linear(128, 10))",
    ),
    (
        "cnn.q6",
        "from torch import nn\nfrom course_utils.models import build_classifier, freeze\n"
        "answer = build_classifier('tiny_resnet', 10, weights='DEFAULT')\n"
        "freeze(answer, [name for name, _ in answer.named_children() if name != 'fc'])",
    ),
    (
        "cnn.q6",
        "from torch import nn\nfrom course_utils.models import build_classifier\n"
        "answer = build_classifier('tiny_resnet', 10, weights='DEFAULT')\nnn.init.zeros_(answer.fc.weight)\n"
        "nn.init.zeros_(answer.fc.bias)",
    ),
    ("own_pictures.q1", "answer = lambda pixels: (pixels >> 8).astype('uint8')"),
    ("own_pictures.q1", "import numpy as np\nanswer = lambda pixels: np.rint(pixels / 65535 * 255).astype(np.uint8)"),
    (
        "own_pictures.q1",
        "import torch\nanswer = lambda x: (torch.from_numpy(x.astype('int32')) / 257).round().to(torch.uint8)",
    ),
    (
        "own_pictures.q1",
        "import numpy as np\n\n\ndef answer(pixels):\n    out = np.zeros(pixels.shape, dtype=np.uint8)\n"
        "    for i, row in enumerate(pixels):\n        for j, pixel in enumerate(row):\n"
        "            out[i, j] = round(pixel / 257)\n    return out",
    ),
    (
        "own_pictures.q1",
        "import numpy as np\nanswer = lambda x: np.interp(x, [0, 65535], [0, 255]).round().astype(np.uint8)",
    ),
    (
        "logging_traps.q5",
        "import numpy as np\nfrom torch.utils.tensorboard import SummaryWriter\n\n\ndef answer(folder, epochs):\n"
        "    w, step = SummaryWriter(folder), 0\n    for losses, g in epochs:\n"
        "        for step, x in enumerate(losses, step + 1):\n"
        "            w.add_scalar('loss/train', x, step)\n        g = np.array([]) if g is None else g.numpy()\n"
        "        if np.isfinite(g).any():\n            w.add_histogram('gradient', g[np.isfinite(g)], step)\n"
        "    w.close()",
    ),
    (
        "logging_traps.q5",
        "from course_utils.tracking import RunLogger\n\n\ndef answer(folder, epochs):\n    step = 0\n"
        "    with RunLogger(folder) as logger:\n        for losses, g in epochs:\n            for x in losses:\n"
        "                step += 1\n"
        "                logger.log_scalars({'loss/train': x}, step)\n"
        "            g = [] if g is None else [v for v in g.tolist() if abs(v) < float('inf')]\n"
        "            if g:\n                logger.writer.add_histogram('gradient', g, step)",
    ),
    *(
        (
            "tensorboard.q2",
            "views = dict(a='add_figure', b='add_histogram', c='add_images', d='add_pr_curve', e='add_hparams', "
            f"f='add_embedding')\nanswer = {{**views, {other}}}.get",
        )
        for other in (
            "'a': 'add_video'",
            "'b': 'add_scalar'",
            "'e': 'add_custom_scalars_marginchart'",
            "'a': 'add_figure()'",
            "'c': 'writer.add_image(tag, image, step)'",
            "'f': ' SummaryWriter.add_mesh'",
        )
    ),
    (
        "tensorboard.q3",
        "import time\n\n\ndef answer(writer, model, step):\n"
        "    with writer.use_metadata(global_step=step, walltime=time.time()):\n"
        "        for n, p in model.named_parameters():\n"
        "            if p.grad is not None:\n                writer.add_histogram(f'gradients/{n}', p.grad)",
    ),
    (
        "tensorboard.q3",
        "def answer(writer, model, step):\n    for n, p in model.named_parameters():\n        if p.requires_grad:\n"
        "            writer.add_histogram('gradients/' + n, p.grad.numpy(), global_step=step, bins='auto')",
    ),
    (
        "tensorboard.q3",
        "def answer(writer, model, step):\n    found = {n: p.grad for n, p in model.named_parameters()}\n"
        "    for n, g in found.items():\n        if g is not None:\n"
        "            writer.add_histogram(f'gradients/{n}', g.flatten().tolist(), step)",
    ),
    (
        "tensorboard.q3",
        "import numpy as np\n\n\ndef answer(writer, model, step):\n    for n, p in model.named_parameters():\n"
        "        if p.grad is None:\n            continue\n        g = p.grad.numpy().ravel()\n"
        "        counts, edges = np.histogram(g, 9)\n"
        "        writer.add_histogram_raw(f'gradients/{n}', g.min(), g.max(), g.size, g.sum(), (g**2).sum(), "
        "edges[1:].tolist(), "
        "counts.tolist(), step)",
    ),
    (
        "tensorboard.q3",
        "def answer(writer, model, step):\n    for part, layer in model.named_children():\n"
        "        for name, p in layer.named_parameters():\n            try:\n"
        "                writer.add_histogram(f'gradients/{part}.{name}', p.grad.detach(), step)\n"
        "            except AttributeError:\n                pass",
    ),
    (
        "tensorboard.q4",
        "def answer(writer, logits, labels, digit, step):\n"
        "    writer.add_pr_curve(f'digit/{digit}', (labels == digit).int(), logits.softmax(-1)[:, digit], "
        "global_step=step)",
    ),
    (
        "tensorboard.q4",
        "import numpy as np\n\n\ndef answer(writer, logits, labels, digit, step):\n    e = np.exp(logits.numpy())\n"
        "    p = e / e.sum(1, keepdims=True)\n"
        "    writer.add_pr_curve('digit/%d' % digit, labels.numpy() == digit, p[:, digit], step)",
    ),
    (
        "tensorboard.q4",
        "def answer(writer, logits, labels, digit, step):\n    p = [row.softmax(0)[digit].item() for row in logits]\n"
        "    writer.add_pr_curve(f'digit/{digit}', [int(y == digit) for y in labels], p, step)",
    ),
    (
        "tensorboard.q4",
        "import torch.nn.functional as F\n\n\ndef answer(writer, logits, labels, digit, step):\n"
        "    p = F.log_softmax(logits, 1).exp()[:, digit]\n"
        "    writer.add_pr_curve(f'digit/{digit}', labels.eq(digit), p, step, 127)",
    ),
    (
        "tensorboard.q4",
        "import torch.nn.functional as F\n\n\ndef answer(writer, logits, labels, digit, step):\n"
        "    writer.add_pr_curve(f'digit/{digit}', F.one_hot(labels)[:, digit], F.softmax(logits, 1)[:, digit], step)",
    ),
    (
        "tensorboard.q5",
        "def answer(writer, curves, steps):\n    m, s = curves.mean(0), curves.std(0)\n"
        "    tags = ['accuracy/mean', 'accuracy/lower', 'accuracy/upper']\n"
        "    writer.add_custom_scalars_marginchart(tags, category='seeds', title='band')\n"
        "    for tag, values in zip(tags, (m, m - s, m + s)):\n        for step, v in zip(steps, values.tolist()):\n"
        "            writer.add_scalar(tag, v, step)",
    ),
    (
        "tensorboard.q5",
        "def answer(writer, curves, steps):\n    m, s = curves.mean(0), curves.std(0)\n"
        "    bands = {'accuracy/mean': m, 'accuracy/lower': m - s, 'accuracy/upper': m + s}\n"
        "    for tag, values in bands.items():\n"
        "        for step, v in zip(steps, values):\n            writer.add_scalar(tag, v, step)\n"
        "    writer.add_custom_scalars({'seeds': {'band': ['Margin', list(bands)]}})",
    ),
    (
        "tensorboard.q5",
        "import numpy as np\n\n\ndef answer(writer, curves, steps):\n    a = curves.numpy()\n"
        "    m, s = a.mean(axis=0), a.std(axis=0, ddof=1)\n    for i in range(len(steps)):\n"
        "        writer.add_scalar('accuracy/mean', m[i], steps[i])\n"
        "        writer.add_scalar('accuracy/lower', (m - s)[i], steps[i])\n"
        "        writer.add_scalar('accuracy/upper', (m + s)[i], steps[i])\n"
        "    writer.add_custom_scalars_marginchart(['accuracy/' + end for end in ('mean', 'lower', 'upper')])",
    ),
    (
        "tensorboard.q5",
        "import statistics\n\n\ndef answer(writer, curves, steps):\n"
        "    tags = ['accuracy/mean', 'accuracy/lower', 'accuracy/upper']\n"
        "    for step, values in zip(steps, curves.T.tolist()):\n"
        "        m, s = statistics.mean(values), statistics.stdev(values)\n"
        "        for tag, v in zip(tags, (m, m - s, m + s)):\n"
        "            writer.add_scalar(tag, v, step)\n    writer.add_custom_scalars_marginchart(tags)",
    ),
    (
        "tensorboard.q5",
        "import torch\n\n\ndef answer(writer, curves, steps):\n    s, m = torch.std_mean(curves, dim=0)\n"
        "    for i, step in enumerate(steps):\n        writer.add_scalar('accuracy/mean', m[i], step)\n"
        "        writer.add_scalar('accuracy/lower', m[i] - s[i], step)\n"
        "        writer.add_scalar('accuracy/upper', m[i] + s[i], step)\n"
        "    writer.add_custom_scalars_marginchart(tags=['accuracy/mean', 'accuracy/lower', 'accuracy/upper'])",
    ),
    (
        "federated.q3",
        "answer = lambda c, m: c[None].renorm(2, 0, m)[0] if c.norm().isfinite() else c.new_zeros(c.shape)",
    ),
    (
        "federated.q3",
        "import torch\n\n\ndef answer(c, limit):\n    if not torch.isfinite(c).all():\n"
        "        return torch.zeros_like(c)\n    p = torch.nn.Parameter(c.clone())\n    p.grad = c.clone()\n"
        "    torch.nn.utils.clip_grad_norm_(p, limit)\n    return p.grad",
    ),
    (
        "federated.q3",
        "import numpy as np\n\n\ndef answer(c, limit):\n    c = c.numpy()\n    n = np.linalg.norm(c)\n"
        "    if not np.isfinite(n):\n        return np.zeros_like(c)\n    return c * min(1, limit / n) if n else c",
    ),
    (
        "federated.q3",
        "import math\n\n\ndef answer(c, limit):\n    n = math.sqrt(sum(float(x) ** 2 for x in c))\n"
        "    if not math.isfinite(n):\n        return c.zero_()\n    return c.mul_(limit / n) if n > limit else c",
    ),
    (
        "federated.q3",
        "import torch\n\n\ndef answer(c, limit):\n    n = torch.linalg.vector_norm(c)\n"
        "    scale = torch.clamp(limit / (n + 1e-12), max=1)\n"
        "    return torch.where(n.isfinite(), c * scale, torch.zeros_like(c))",
    ),
    ("next_steps.q2", "import torch\nanswer = lambda w, d, u, a: torch.addmm(w, u, d, alpha=a / d.shape[0])"),
    ("next_steps.q2", "import torch\nanswer = lambda w, d, u, a: w + a / len(d) * torch.einsum('or,ri->oi', u, d)"),
    ("next_steps.q2", "answer = lambda w, d, u, a: w.numpy() + a / len(d) * u.numpy() @ d.numpy()"),
    ("next_steps.q2", "answer = lambda w, d, u, a: w.add_(u.mm(d), alpha=a / u.shape[1])"),
    (
        "next_steps.q2",
        "def answer(w, d, u, a):\n    for i in range(len(d)):\n        w = w + u[:, i].outer(d[i]) * a / len(d)\n"
        "    return w",
    ),
    (
        "next_steps.q4",
        "from course_utils.beyond.attacks import fgsm\nanswer = lambda m, x, y, e: fgsm(m, x, y, epsilon=e)",
    ),
    (
        "next_steps.q4",
        "import copy\nimport torch.nn.functional as F\n\n\ndef answer(model, x, y, e):\n"
        "    model = copy.deepcopy(model).eval()\n    x.requires_grad = True\n"
        "    F.cross_entropy(model(x), y).backward()\n    return x.add(e * x.grad.sign()).clamp_(0, 1)",
    ),
    (
        "next_steps.q4",
        "import torch\nfrom course_utils.training import evaluation_mode\n\n\ndef answer(model, x, y, e):\n"
        "    x = torch.nn.Parameter(x)\n    with evaluation_mode(model):\n"
        "        loss = torch.nn.CrossEntropyLoss(reduction='sum')(model(x), y)\n"
        "    loss.backward(inputs=[x])\n    return torch.clip(x + e * torch.sign(x.grad), 0, 1)",
    ),
    (
        "next_steps.q4",
        "import torch\nimport torch.nn.functional as F\n\n\ndef answer(model, x, y, e):\n"
        "    modes = [m.training for m in model.modules()]\n    model.eval()\n    made = []\n"
        "    for image, label in zip(x, y):\n        image = image[None].clone().requires_grad_()\n"
        "        loss = F.cross_entropy(model(image), label[None])\n"
        "        made += [image + e * torch.autograd.grad(loss, [image])[0].sign()]\n"
        "    for m, mode in zip(model.modules(), modes):\n        m.training = mode\n"
        "    return torch.cat(made).detach().clamp(min=0, max=1)",
    ),
    (
        "next_steps.q4",
        "import torch\nimport torch.nn.functional as F\n\n\ndef answer(model, x, y, e):\n    was = model.training\n"
        "    old = [(p, p.requires_grad) for p in model.parameters()]\n    model.eval().requires_grad_(False)\n"
        "    x.requires_grad_()\n    F.cross_entropy(model(x), y).backward()\n    model.train(was)\n"
        "    for p, trains in old:\n        p.requires_grad = trains\n"
        "    with torch.no_grad():\n        x += e * x.grad.sign()\n    return x.clamp(0, 1)",
    ),
    ("next_steps.q5", "answer = 2.67"),
    ("next_steps.q5", "answer = 2.68"),
    (
        "over_fitting.q2",
        "def answer(model, parts, loss_fn, optimizer):\n    for x, y in parts:\n"
        "        (len(y) * loss_fn(model(x), y)).backward()\n    for p in model.parameters():\n"
        "        p.grad /= sum(len(y) for _, y in parts)\n    optimizer.step()\n    optimizer.zero_grad()",
    ),
    (
        "over_fitting.q2",
        "import torch\n\n\ndef answer(model, parts, loss_fn, optimizer):\n"
        "    n = sum(len(y) for _, y in parts)\n    weights = list(model.parameters())\n"
        "    found = [torch.zeros_like(w) for w in weights]\n    for x, y in parts:\n"
        "        for f, g in zip(found, torch.autograd.grad(loss_fn(model(x), y), weights)):\n"
        "            f += g * len(y) / n\n    for w, f in zip(weights, found):\n        w.grad = f\n"
        "    optimizer.step()",
    ),
    (
        "over_fitting.q2",
        "def answer(model, parts, loss_fn, optimizer):\n    n = sum(len(y) for _, y in parts)\n"
        "    optimizer.zero_grad()\n    for inputs, targets in parts:\n"
        "        for x, y in zip(inputs.split(1), targets.split(1)):\n"
        "            loss_fn(model(x), y).div(n).backward()\n    optimizer.step()",
    ),
    (
        "over_fitting.q2",
        "import numpy as np\n\n\ndef answer(model, parts, loss_fn, optimizer):\n"
        "    sizes = np.array([y.shape[0] for _, y in parts])\n    model.zero_grad()\n"
        "    for share, (x, y) in zip(sizes / sizes.sum(), parts):\n        loss = loss_fn(model(x), y)\n"
        "        loss.backward(gradient=loss.new_tensor(share))\n    optimizer.step()",
    ),
    (
        "over_fitting.q2",
        "import torch\n\n\ndef answer(model, parts, loss_fn, optimizer):\n    optimizer.zero_grad(set_to_none=False)\n"
        "    n = len(torch.cat([y for _, y in parts]))\n    model.train()\n    losses = []\n"
        "    for x, y in list(parts):\n        loss = loss_fn(model.forward(x), y) * (len(x) / n)\n"
        "        loss.backward()\n        losses.append(loss.detach())\n    optimizer.step()\n    return sum(losses)",
    ),
    (
        "clinic.q3",
        "def answer(losses, patience):\n    best, waited = 0, 0\n    for epoch in range(1, len(losses)):\n"
        "        if losses[epoch] < losses[best]:\n            best, waited = epoch, 0\n        else:\n"
        "            waited += 1\n        if waited >= patience:\n            break\n    return best",
    ),
    (
        "clinic.q3",
        "import math\n\n\ndef answer(losses, patience):\n    best, kept, bad = math.inf, None, 0\n"
        "    for epoch, loss in enumerate(losses):\n        if loss < best:\n"
        "            best, kept, bad = loss, epoch, 0\n        else:\n            bad += 1\n"
        "            if bad == patience:\n                return kept\n    return kept",
    ),
    (
        "clinic.q3",
        "import numpy as np\n\n\ndef answer(losses, patience):\n    for end in range(1, len(losses) + 1):\n"
        "        best = np.argmin(losses[:end])\n        if end - 1 - best >= patience:\n            break\n"
        "    return best",
    ),
    (
        "clinic.q3",
        "def answer(losses, patience):\n    keep = 0\n"
        "    while any(x < losses[keep] for x in losses[keep + 1 : keep + 1 + patience]):\n"
        "        keep += next(i for i, x in enumerate(losses[keep:]) if x < losses[keep])\n    return keep",
    ),
    (
        "clinic.q3",
        "import torch\n\n\ndef answer(losses, patience):\n    losses = torch.tensor(losses)\n"
        "    lowest = losses.cummin(0).values\n"
        "    new = torch.cat([torch.tensor([True]), losses[1:] < lowest[:-1]]).nonzero().flatten().tolist()\n"
        "    for one, other in zip(new, new[1:]):\n        if other - one > patience:\n"
        "            return torch.tensor(one)\n    return torch.tensor(new[-1])",
    ),
    (
        "clinic.q2",
        "from sklearn.metrics import recall_score\n"
        "answer = lambda p, t: recall_score(t, p, labels=t.unique(), average=None).min()",
    ),
    (
        "clinic.q2",
        "from sklearn.metrics import confusion_matrix\n\n\ndef answer(predicted, targets):\n"
        "    table = confusion_matrix(targets, predicted)\n    there = table.sum(1) > 0\n"
        "    return (table.diagonal()[there] / table.sum(axis=1)[there]).min()",
    ),
    (
        "clinic.q2",
        "import numpy as np\n\n\ndef answer(predicted, targets):\n"
        "    predicted, targets = predicted.numpy(), targets.numpy()\n"
        "    return min(np.mean(predicted[targets == k] == k) for k in np.unique(targets))",
    ),
    (
        "clinic.q2",
        "def answer(predicted, targets):\n    right, count = {}, {}\n"
        "    for p, t in zip(predicted.tolist(), targets.tolist()):\n        count[t] = count.get(t, 0) + 1\n"
        "        right[t] = right.get(t, 0) + (p == t)\n    return min(right[t] / count[t] for t in count)",
    ),
    (
        "clinic.q2",
        "import torch\n\n\ndef answer(predicted, targets):\n    n = int(targets.max()) + 1\n"
        "    count = torch.bincount(targets, minlength=n)\n"
        "    hits = torch.bincount(targets[predicted == targets], minlength=n)\n"
        "    return (hits / count)[count > 0].min()",
    ),
    (
        "text.q5",
        "def answer(step, total, warm_up, peak):\n    if step < warm_up:\n        return peak * step / warm_up\n"
        "    return peak * max(0.0, float(total - step) / float(max(1, total - warm_up)))",
    ),
    (
        "text.q5",
        "def answer(step, total, warm_up, peak):\n"
        "    return peak * min((step + 1) / max(warm_up, 1e-9), (total - step) / (total - warm_up))",
    ),
    (
        "text.q5",
        "import numpy as np\n\n\ndef answer(step, total, warm_up, peak):\n    if not warm_up:\n"
        "        return np.interp(step, [0, total], [peak, 0])\n"
        "    return np.interp(step, [0, warm_up - 1, warm_up, total], [peak / warm_up, peak, peak, 0])",
    ),
    (
        "text.q5",
        "import torch\n\n\ndef answer(step, total, warm_up, peak):\n"
        "    climb = torch.arange(1, warm_up + 1) / max(1, warm_up)\n"
        "    fall = torch.linspace(1, 0, total - warm_up + 1)\n    return peak * torch.cat([climb, fall])[step]",
    ),
    (
        "text.q5",
        "import torch\n\n\ndef answer(step, total, warm_up, peak):\n"
        "    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=peak)\n"
        "    share = lambda s: s / warm_up if s < warm_up else (total - s) / (total - warm_up)\n"
        "    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, share)\n    for _ in range(step):\n"
        "        optimizer.step()\n        schedule.step()\n    return schedule.get_last_lr()[0]",
    ),
    (
        "text.q5",
        "import numpy as np\n\n\ndef answer(step, total, warm_up, peak):\n"
        "    scale = (step + 1) / warm_up if step < warm_up else 1 - (step - warm_up) / (total - warm_up)\n"
        "    return np.float32(peak * scale)",
    ),
    (
        "text.q2",
        "import torch\nanswer = lambda h, m: torch.stack([one[keep.bool()].mean(0) for one, keep in zip(h, m)])",
    ),
    ("text.q2", "import torch\nanswer = lambda h, m: torch.einsum('btd,bt->bd', h, m / m.sum(1, keepdim=True))"),
    (
        "text.q2",
        "import numpy as np\n\n\ndef answer(h, m):\n"
        "    weights = np.repeat(m.numpy()[:, :, None], h.shape[2], axis=2)\n"
        "    return np.average(h.numpy(), axis=1, weights=weights)",
    ),
    ("text.q2", "answer = lambda h, m: h.masked_fill(m[..., None] == 0, float('nan')).nanmean(dim=1)"),
    (
        "text.q2",
        "def answer(hidden, mask):\n    hidden *= mask.unsqueeze(-1)\n"
        "    return (mask.float()[:, None] @ hidden).squeeze(1) / mask.sum(-1)[:, None]",
    ),
    ("text.q3", "answer = lambda ids, chosen: ids.clone().masked_fill_(~chosen, -100)"),
    ("text.q3", "def answer(ids, chosen):\n    targets = ids.clone()\n    targets[~chosen] = -100\n    return targets"),
    (
        "text.q3",
        "import torch\nanswer = lambda ids, chosen: torch.full_like(ids, -100).masked_scatter(chosen, ids[chosen])",
    ),
    ("text.q3", "import numpy as np\nanswer = lambda ids, chosen: np.where(chosen.numpy(), ids.numpy(), -100)"),
    (
        "text.q3",
        "import torch\n\n\ndef answer(ids, chosen):\n    rows = zip(ids.tolist(), chosen.tolist())\n"
        "    return torch.tensor([[t if c else -100 for t, c in zip(*row)] for row in rows])",
    ),
    (
        "recommender.q5",
        "import numpy as np\nanswer = lambda v: 1 - (v.numpy() @ v.numpy().T)[np.triu_indices(len(v), 1)].mean()",
    ),
    (
        "recommender.q5",
        "import itertools\nimport torch.nn.functional as F\n\n\ndef answer(v):\n"
        "    pairs = list(itertools.combinations(v, 2))\n"
        "    return 1 - sum(F.cosine_similarity(a, b, dim=0) for a, b in pairs) / len(pairs)",
    ),
    (
        "recommender.q5",
        "import torch\n\n\ndef answer(v):\n    cosines = torch.einsum('if,jf->ij', v, v)\n"
        "    return 1 - cosines[~torch.eye(len(v), dtype=torch.bool)].mean()",
    ),
    ("recommender.q5", "from torch.nn.functional import pdist\nanswer = lambda v: pdist(v).square().mean() / 2"),
    ("recommender.q5", "def answer(v):\n    k = len(v)\n    return 1 - (v.sum(0).norm() ** 2 - k) / (k * (k - 1))"),
    ("recommender.q3", "import torch\nanswer = lambda days, border: torch.lt(days, border)"),
    ("recommender.q3", "answer = lambda days, border: ~(days >= border)"),
    ("recommender.q3", "import numpy as np\nanswer = lambda days, border: np.less(days.numpy(), border)"),
    (
        "recommender.q3",
        "import torch\nanswer = lambda days, border: torch.tensor([day < border for day in days.tolist()])",
    ),
    (
        "recommender.q3",
        "import torch\n\n\ndef answer(days, border):\n    mask = torch.ones(len(days), dtype=torch.bool)\n"
        "    mask[days >= border] = False\n    return mask",
    ),
    (
        "recommender.q4",
        "import torch\nfrom torch import nn\n\n\ndef answer(scores):\n"
        "    return nn.CrossEntropyLoss()(scores, torch.zeros(scores.shape[0], dtype=torch.long))",
    ),
    ("recommender.q4", "answer = lambda scores: (scores.logsumexp(1) - scores[:, 0]).mean()"),
    (
        "recommender.q4",
        "import torch\n\n\ndef answer(scores):\n    total = 0\n    for row in scores:\n"
        "        total -= torch.log(row[0].exp() / row.exp().sum())\n    return (total / len(scores)).item()",
    ),
    (
        "recommender.q4",
        "import numpy as np\nfrom scipy.special import log_softmax\n\n\ndef answer(scores):\n"
        "    return -np.mean(log_softmax(scores.numpy(), axis=1)[:, 0])",
    ),
    (
        "recommender.q4",
        "import torch.nn.functional as F\n\n\ndef answer(scores):\n"
        "    return F.softplus((scores[:, 1:] - scores[:, :1]).logsumexp(1)).mean()",
    ),
    ("environment.q1", "from packaging.version import Version\nanswer = lambda v, f: Version(v) >= Version(f)"),
    (
        "clinic.q3",
        "def answer(losses, patience):\n    for e in range(len(losses)):\n"
        "        if all(x >= losses[e] for x in losses[e + 1 : e + 1 + patience]):\n            return e",
    ),
    (
        "federated.q3",
        "import torch\nfrom torch import nn\n\n\ndef answer(change, limit):\n    if not change.isfinite().all():\n"
        "        return torch.zeros_like(change)\n    weight = nn.Parameter(change)\n"
        "    weight.grad = change.clone()\n    nn.utils.clip_grad_norm_([weight], limit)\n    return weight.grad",
    ),
    (
        "tensorboard.q2",
        "answer = dict(a='add_image', b='add_histogram', c='add_image', d='add_pr_curve', e='add_hparams', "
        "f='add_embedding').get",
    ),
    (
        "text.q2",
        "import torch\n\n\ndef answer(hidden, attention_mask):\n"
        "    mask = attention_mask.unsqueeze(-1).expand(hidden.size()).float()\n"
        "    return torch.sum(hidden * mask, 1) / torch.clamp(mask.sum(1), min=1e-9)",
    ),
]


@pytest.mark.parametrize("name, code", OTHER_STYLES)
def test_what_is_right_in_another_style_passes(name, code):
    assert QUESTIONS[name].reply(run_cell(code)).verdict == "RIGHT", QUESTIONS[name].reply(run_cell(code))


# --- the machinery --------------------------------------------------------------------------------------------------


def test_a_right_answer_may_take_another_way():
    code = "def answer(model, inputs, targets, loss_fn, optimizer):\n    loss = loss_fn(model(inputs), targets)\n"
    code += "    loss.backward()\n    optimizer.step()\n    optimizer.zero_grad()\n    return loss"
    assert QUESTIONS["cnn.q3"].reply(run_cell(code)).verdict == "RIGHT"
    assert QUESTIONS["loss.q1"].reply(3.61).verdict == "RIGHT"
    masks = run_cell("import torch\nanswer = lambda p: (p % 3 > 0, p % 3 == 0)")
    assert QUESTIONS["cnn.q1"].reply(masks).verdict == "RIGHT"


@pytest.mark.parametrize("answer", ["decimal.Decimal(5)", "fractions.Fraction(10, 2)", "numpy.float32(5)"])
def test_a_number_may_be_of_any_type(answer):
    reply = QUESTIONS["federated.q4"].reply(run_cell(f"import decimal, fractions, numpy\nanswer = {answer}"))
    assert reply.verdict == "RIGHT"


def test_a_check_leaves_random_numbers_and_modes_alone():
    model = QUESTIONS["cnn.q6"].right().train()
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    for question in QUESTIONS.values():
        question.reply(model if question.kind == "model" else question.right)
    assert torch.equal(torch.rand(3), expected)
    assert all(module.training for module in model.modules())


def test_an_answer_may_turn_gradients_off():
    code = "import torch\n\n\ndef answer(model, loader):\n    torch.set_grad_enabled(False)\n    model.eval()\n"
    code += "    return torch.cat([model(x).argmax(1) == y for x, y in loader]).float().mean()"
    assert QUESTIONS["cnn.q2"].reply(run_cell(code)).verdict == "RIGHT"
    assert torch.is_grad_enabled()
    code = (
        "import torch\n\n\ndef answer(logits, label):\n    torch.set_grad_enabled(False)\n    p = logits.softmax(0)\n"
    )
    code += "    p[label] -= 1\n    return p"
    assert QUESTIONS["loss.q3"].reply(run_cell(code)).verdict == "RIGHT"


def test_exit_and_long_messages_do_not_come_through():
    assert "SystemExit" in wrong(QUESTIONS["loss.q2"], run_cell("def answer(p, y):\n    exit()"))
    code = (
        "def answer(p, y, secret='sec' + 'ret'):\n    raise OSError(f'no file /some/{secret}/place.txt\\n' + 500 * 'x')"
    )
    text = wrong(QUESTIONS["loss.q2"], run_cell(code))
    assert "place.txt" in text and "/some/secret/" not in text and len(text) < 400


def test_a_reply_reads_well_in_both_forms():
    reply = Reply("NOT YET", "You compare `a < b` & more.\n\n    x = 1\n    y = 2")
    assert repr(reply) == "NOT YET: You compare `a < b` & more.\n\n    x = 1\n    y = 2"
    page = reply._repr_html_()
    assert "<b>NOT YET</b>: You compare <code>a &lt; b</code> &amp; more." in page
    assert "<pre><code>x = 1\ny = 2</code></pre>" in page


LOGITS, FLOATS = torch.zeros(3, 4, requires_grad=True), torch.ones(3)


def step_before_backward():
    layer = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    loss = layer(torch.ones(1, 2)).sum()
    with torch.no_grad():  # as a step of an optimiser does
        layer[1].weight.add_(1)
    loss.backward()


@pytest.mark.parametrize(
    "fail, meaning",
    [
        (lambda: F.cross_entropy(LOGITS, FLOATS), "`.long()` makes them"),
        (lambda: F.nll_loss(LOGITS, FLOATS), "`.long()` makes them"),
        (lambda: F.one_hot(FLOATS), "`.long()` makes them"),
        (lambda: LOGITS[range(3), FLOATS], "`.long()` makes them"),
        (lambda: F.cross_entropy(LOGITS, FLOATS.long()[:, None]), "one dimension too many"),
        (lambda: F.cross_entropy(LOGITS[:1], FLOATS[:1].long().squeeze()), "`squeeze()` takes N away"),
        (lambda: LOGITS.detach().sum().backward(), "Nothing leads back"),
        (step_before_backward, "before `backward()` had used them"),
        (lambda: torch.optim.SGD([{"params": [LOGITS]}, {"params": [LOGITS]}], lr=1), "left out of the other"),
    ],
)
def test_messages_of_pytorch_that_students_meet_are_explained(fail, meaning):
    with pytest.raises(Exception) as caught:
        fail()
    assert meaning in explain_error(caught.value)


def test_every_method_of_the_writer_that_logs_is_described():
    assert {name for name in dir(SummaryWriter) if name.startswith("add_")} == set(exercises.tensorboard.SHOWS)


@pytest.mark.parametrize(
    "got, want, words",
    [
        (torch.ones(2, 1), torch.ones(2), "shape (2, 1): it should have the shape (2,)"),
        (torch.tensor([1.0, 2]), torch.tensor(1.5), "one number. Is a mean or a sum missing?"),
        (-torch.ones(2), torch.ones(2), "wrong sign"),
        (torch.tensor([3.0, 6]), torch.tensor([1.0, 2]), "3 times"),
        (torch.tensor([True, True, True]), torch.tensor([True, False, True]), "differs most at (1,): there 1, not 0"),
        (float("nan"), 1.0, "NaN"),
        (float("inf"), 1.0, "infinity"),
        (True, 1.0, "a number"),
        (object(), 1.0, "of the type object"),
        (2, 1, "too large"),
    ],
)
def test_what_differs_is_named(got, want, words):
    assert words in differs(got, want, 1e-4)
