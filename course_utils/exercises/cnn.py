"""The exercises of notebook 03: a split, an accuracy, a training step, freezing, learning rates, a new head."""

import copy
from collections import OrderedDict

import numpy as np
import torch
import torch.nn as nn

from course_utils import training
from course_utils.data import make_loader
from course_utils.exercises.question import Finding, Mistake, Question, calls
from course_utils.models import build_classifier, freeze, parameter_groups
from course_utils.training import evaluation_mode

WHOLE = "by patient, with 20 to 50 % of the images in the test set"


def patients(shuffled: bool) -> torch.Tensor:
    """The patient of each of 57 images: ten patients with 3 to 9 images; 0 to 9 in order, or 40 to 49 shuffled."""
    numbers = torch.repeat_interleave(torch.arange(10), torch.tensor([3, 9, 4, 8, 5, 7, 6, 3, 8, 4]))
    return numbers[torch.randperm(57, generator=torch.Generator().manual_seed(0))] + 40 if shuffled else numbers


def judged_split(split) -> dict:
    seen = {}
    for label, shuffled in (
        ("images sorted by patient", False),
        ("images in mixed order, of the patients 40 to 49,", True),
    ):
        of_patient = patients(shuffled)
        try:
            sides = [torch.as_tensor(np.asarray(side)) for side in split(of_patient.clone())]
            sides = [side.nonzero().flatten() if side.dtype == torch.bool else side for side in sides]
            seen[f"Your split of {label}"] = Finding(judgement(sides, of_patient))
        except Exception as error:
            error.add_note(f"for {label}")
            raise
    return seen


def judgement(sides: list[torch.Tensor], of_patient: torch.Tensor) -> str:
    """What is to be said of a split; IndexError for what is no index."""
    if len(sides) != 2:
        return f"in {len(sides)} parts, where two are asked for"
    if any(side.ndim != 1 for side in sides):
        return "not made of indices of the shape (N,)"
    train, test = (set(of_patient[side].tolist()) for side in sides)
    both, known = len(train & test), of_patient.unique()
    missing = of_patient[~torch.isin(torch.arange(len(of_patient)), torch.cat(sides))]
    if len(missing) and torch.isin(torch.cat(sides), known).all():
        return "made of the numbers of patients"
    if len(missing):
        left_out = set(missing.tolist())
        whole = "" if left_out & (train | test) else f", all that there are of {len(left_out)} of the ten patients"
        return f"incomplete, with {len(missing)} of {len(of_patient)} images on neither side{whole}"
    if len(torch.cat(sides)) > len(of_patient):
        return "not clean, since some images are on both sides or on one side twice"
    if both:
        return "not clean, since " + ("one patient is" if both == 1 else "several patients are") + " on both sides"
    in_range = 0.2 <= len(sides[1]) / len(of_patient) <= 0.5
    return WHOLE if in_range else f"by patient, with {len(sides[1])} of {len(of_patient)} images in the test set"


def tested(of_patient: torch.Tensor) -> torch.Tensor:
    """Which images are of the three patients with the largest numbers."""
    return of_patient >= of_patient.unique()[7]


def cut(order: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return order[: int(0.7 * len(order))], order[int(0.7 * len(order)) :]


q1 = Question(
    name="cnn.q1",
    title="A split without a leak",
    text="`patients` holds the patient's number of each image, a tensor of shape `(N,)`. Write "
    "`split_by_patient(patients)`: the indices of the training images and of the test images, two tensors. The model "
    "will be used on new patients. The test set is to hold at least 20 and at most 50 % of the images.",
    fills="split_by_patient",
    right=lambda of_patient: tuple(part.nonzero().flatten() for part in (~tested(of_patient), tested(of_patient))),
    observe=judged_split,
    praise="No patient is on two sides. (Which patients are tested is still a matter of luck: repeat with others.)",
    mistakes=(
        Mistake(
            "images at random",
            lambda of_patient: cut(torch.randperm(len(of_patient), generator=torch.Generator().manual_seed(1))),
            "You deal out images at random, so most patients have images on both sides. The test then asks whether "
            "the model knows these patients. Deal out patients, and let their images follow.",
        ),
        Mistake(
            "a cut through the list",
            lambda of_patient: cut(torch.arange(len(of_patient))),
            "You cut the list of images at one place. Where it is sorted, one patient is cut in two; where it is "
            "mixed, nearly all are. Choose patients first, then take all of their images.",
        ),
        Mistake(
            "patients in place of images",
            lambda of_patient: cut(of_patient.unique()),
            "You return the numbers of patients. The indices of their images are wanted: `torch.isin(patients, "
            "chosen)` says which images these are, and `.nonzero().flatten()` gives their indices.",
        ),
        Mistake(
            "nonzero without flatten",
            lambda of_patient: ((~tested(of_patient)).nonzero(), tested(of_patient).nonzero()),
            "`nonzero()` gives the shape (N, 1), a row for each image (and so does `np.argwhere`). Indices have the "
            "shape (N,): add `.flatten()`.",
        ),
        Mistake(
            "the test set is a part of the training set",
            lambda of_patient: (torch.arange(len(of_patient)), tested(of_patient).nonzero().flatten()),
            "Some of your test images, or all, are training images too. What a model knows by heart, it gets right.",
        ),
    ),
    hints=(
        "What must not be on both sides: an image, or a patient?",
        "`patients.unique()` gives the patients. Choose about a third of them for the test.",
        "`in_test = torch.isin(patients, chosen)` marks the test images; `in_test.nonzero().flatten()` are their "
        "indices, and `~in_test` marks the others.",
    ),
    solution_code='''import torch


def split_by_patient(patients):
    """Indices (train, test); patients has the shape (N,)."""
    known = patients.unique()
    in_test = torch.isin(patients, known[: (len(known) + 2) // 3])
    return (~in_test).nonzero().flatten(), in_test.nonzero().flatten()''',
)


def small_net(seed: int = 0) -> nn.Module:
    """A convolution with BatchNorm and a head for three classes; the same weights every time."""
    torch.manual_seed(seed)
    parts = {"conv1": nn.Conv2d(1, 4, 3), "bn1": nn.BatchNorm2d(4), "pool": nn.AdaptiveAvgPool2d(1)}
    return nn.Sequential(OrderedDict(**parts, flatten=nn.Flatten(), fc=nn.Linear(4, 3)))


def small_batch(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 1, 6, 6, generator=generator) + 1, torch.randint(3, (count,), generator=generator)


def trained(count: int, batch_size: int, seed: int) -> tuple:
    """The net in training mode, and a loader."""
    return small_net(seed).train(), make_loader(*small_batch(count, seed), batch_size=batch_size)


def counted(mode: bool, total, divide):
    """An accuracy function: sums `total(outputs, targets)`, then divides by `divide(loader)`."""

    @torch.no_grad()
    def function(model, loader):
        model.train(mode)
        return sum(total(model(inputs), targets).item() for inputs, targets in loader) / divide(loader)

    return function


def hits(outputs, targets):
    return (outputs.argmax(dim=1) == targets).sum()


def examples(loader):
    return sum(len(targets) for _, targets in loader)


def course_accuracy(model, loader):
    metrics = {"accuracy": training.accuracy}
    return training.evaluate(model, loader, loss_fn=nn.CrossEntropyLoss(), device="cpu", metrics=metrics)["accuracy"]


q2 = Question(
    name="cnn.q2",
    title="Accuracy over an uneven last batch",
    text="Write `measure(model, loader)`: the share of right answers over all examples of the loader. It gives "
    "batches `(inputs, targets)`, and the last one may be smaller. The model comes as a training leaves it.",
    fills="measure",
    right=course_accuracy,
    observe=calls(
        ("batches of 8, 8 and 2", lambda: trained(18, 8, 1)),
        ("batches of 5 and 3", lambda: trained(8, 5, 3)),
        ("one batch of 10", lambda: trained(10, 10, 5)),
    ),
    praise="Right answers are counted over all batches, and divided once.",
    mistakes=(
        Mistake(
            "the mean of the batches' accuracies",
            counted(False, lambda outputs, targets: hits(outputs, targets) / len(targets), len),
            "You take the mean of the batches' accuracies: {got} in place of {want}. So two examples of a last batch "
            "weigh as much as eight of a full one. Count right answers and examples, and divide once.",
        ),
        Mistake(
            "training mode",
            counted(True, hits, examples),
            "The count is right and the model is not in evaluation mode: BatchNorm normalises with the batch's own "
            "mean, so an answer depends on its neighbours. You get {got} in place of {want}. Call `model.eval()` "
            "first.",
        ),
        Mistake(
            "training mode, and the mean of the batches",
            counted(True, lambda outputs, targets: hits(outputs, targets) / len(targets), len),
            "Two things: the model is still in training mode (call `model.eval()` first), and you take the mean of "
            "the batches' accuracies, which gives a small last batch the weight of a full one.",
        ),
        Mistake(
            "every batch taken for a full one",
            counted(False, hits, lambda loader: len(loader) * len(next(iter(loader))[1])),
            "You divide by batches times batch size, as if the last batch were full: {got} in place of {want}. Count "
            "the examples: `len(targets)` of each batch.",
        ),
        Mistake(
            "not divided",
            counted(False, hits, lambda loader: 1),
            "{got} is the number of right answers. Divide it by the number of examples.",
        ),
    ),
    hints=(
        "Two traps: what BatchNorm does in training mode, and what a mean over batches does with a small last one.",
        "Call `model.eval()`. Keep two counts over all batches: right answers, and examples.",
        "In the loop: `right += (model(inputs).argmax(dim=1) == targets).sum().item()` and `seen += len(targets)`; at "
        "the end `right / seen`.",
    ),
    solution_code='''import torch


def measure(model, loader):
    """Accuracy over all examples, 0 to 1; `model(inputs)` gives logits (B, K)."""
    model.eval()
    right = seen = 0
    with torch.no_grad():
        for inputs, targets in loader:
            right += (model(inputs).argmax(dim=1) == targets).sum().item()
            seen += len(targets)
    return right / seen''',
)


def two_steps(step) -> dict:
    """What the losses and the weights are after each of two calls, in two trainings."""
    seen = {}
    weighted = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0]))
    for of, loss_fn, lr in (("", nn.CrossEntropyLoss(), 0.5), (" of a second training", weighted, 0.2)):
        net = small_net().train()
        optimizer = torch.optim.SGD(net.parameters(), lr=lr)
        for number, (inputs, targets) in (("first", small_batch(6, 1)), ("second", small_batch(6, 2))):
            before = nn.utils.parameters_to_vector(net.parameters()).detach().clone()
            try:
                seen[f"The loss that your {number} call{of} returns"] = step(net, inputs, targets, loss_fn, optimizer)
            except Exception as error:
                error.add_note(f"at the {number} step{of}")
                raise
            change = nn.utils.parameters_to_vector(net.parameters()).detach() - before
            if not change.any():
                there = any(p.grad is not None and p.grad.any() for p in net.parameters())
                change = Finding("none, " + ("though there are gradients" if there else "and there is no gradient"))
            seen[f"The change of the weights in the {number} step{of}"] = change
            seen[f"BatchNorm's running mean after the {number} step{of}"] = net.bn1.running_mean.clone()
    return seen


def course_step(model, inputs, targets, loss_fn, optimizer):
    loader = [(inputs, targets)]
    return training.train_one_epoch(model, loader, loss_fn=loss_fn, optimizer=optimizer, device="cpu")["loss"]


def step_of(*lines):
    """A training step that does these of the five things, in this order, and returns the loss."""

    def function(model, inputs, targets, loss_fn, optimizer):
        for line in lines:
            if line == "loss":
                loss = loss_fn(model(inputs), targets)
            elif line in ("train", "eval"):
                getattr(model, line)()
            elif line == "backward":
                loss.backward()
            else:
                {"zero": optimizer.zero_grad, "step": optimizer.step}[line]()
        return loss.item()

    return function


q3 = Question(
    name="cnn.q3",
    title="A training step",
    text="Write the five lines of a training step, in order, and return the loss as a number. The model is in "
    "training mode already. Your function is called twice and must do what `fit` does.",
    fills="training_step",
    right=course_step,
    observe=two_steps,
    praise="After two steps your weights are those of the course's own loop.",
    mistakes=(
        Mistake(
            "zero_grad is missing",
            step_of("loss", "backward", "step"),
            "The first step is right and the second is not: its gradient was added to the one of the first step. "
            "`backward()` adds up, so call `optimizer.zero_grad()` in every step.",
        ),
        Mistake(
            "step is missing",
            step_of("zero", "loss", "backward"),
            "There are gradients, and no weight has moved: `optimizer.step()` is missing, or stands before "
            "`backward()`.",
        ),
        Mistake(
            "backward is missing, or zero_grad comes after it",
            step_of("loss", "backward", "zero", "step"),
            "No weight has moved, and there is no gradient: `loss.backward()` is missing, or `zero_grad()` stands "
            "between it and `step()` and wipes out what was just computed.",
        ),
        Mistake(
            "evaluation mode",
            step_of("eval", "zero", "loss", "backward", "step"),
            "You put the model into evaluation mode. Then BatchNorm neither uses nor learns the statistics of the "
            "batch: your first loss is {got} instead of {want}. Train in training mode.",
        ),
    ),
    hints=(
        "Forget, forward, loss, backward, step.",
        "Forget is `optimizer.zero_grad()`, and the last is `optimizer.step()`. Between them, `loss.backward()` needs "
        "a loss.",
        "optimizer.zero_grad(); outputs = model(inputs); loss = loss_fn(outputs, targets); loss.backward(); "
        "optimizer.step(). Then return loss.item().",
    ),
    solution_code='''def training_step(model, inputs, targets, loss_fn, optimizer):
    """One update; returns the loss before it."""
    optimizer.zero_grad()
    outputs = model(inputs)
    loss = loss_fn(outputs, targets)
    loss.backward()
    optimizer.step()
    return loss.item()''',
)


def frozen_net(freezing) -> dict:
    """What trains after the call, and what has moved after two epochs, each of which begins with `model.train()`."""
    return frozen_of(small_net(), freezing, "") | frozen_of(small_net(1), freezing, " of a second model")


def frozen_of(net: nn.Module, freezing, of: str) -> dict:
    for seed in (4, 5, 6):  # so that the statistics are no longer 0 and 1
        net.train()(small_batch(6, seed)[0])
    net.fc.requires_grad_(True)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    freezing(net)
    trains = [name for name, parameter in net.named_parameters() if parameter.requires_grad]
    mode = "training" if net.bn1.training else "evaluation"
    seen = {f"What can train afterwards{of}": trains}
    if trains:
        for seed in (1, 2):
            step_of("train", "zero", "loss", "backward", "step")(
                net, *small_batch(6, seed), nn.CrossEntropyLoss(), optimizer
            )
    after = {name: before[name] for name in before if name.endswith("num_batches_tracked")}  # frozen, few count
    after |= net.state_dict()
    gone = [name for name in before if name not in after]
    moved = [name for name in before if name in after and not torch.equal(after[name], before[name])]
    seen[f"The list of what your function has taken out of the model{of}"] = gone
    seen[f"What has moved after two epochs{of}"] = moved
    if moved != ["fc.weight", "fc.bias"]:
        seen[f"The mode of bn1 right after your call{of}"] = Finding(mode)
    with torch.no_grad():
        seen[f"The output of bn1 in the next epoch{of}"] = net.train()[:2](small_batch(6, 3)[0])
    return seen


def no_gradients(model, *, evaluation=False, names=("conv1", "bn1")):
    for name in names:
        model.get_submodule(name).requires_grad_(False)
    if evaluation:
        model.get_submodule("bn1").eval()


q4 = Question(
    name="cnn.q4",
    title="Frozen, BatchNorm too",
    text="A small model has the parts `conv1`, `bn1` (BatchNorm) and `fc`. Write `freeze_backbone(model)`: afterwards "
    "`fc` alone trains, and nothing in `conv1` and `bn1` moves any more, though every epoch begins with "
    "`model.train()`. You may use what the notebook used.",
    fills="freeze_backbone",
    right=lambda model: freeze(model, ["conv1", "bn1"]),
    observe=frozen_net,
    praise="After two epochs the backbone is the same to the last bit, statistics included.",
    mistakes=(
        Mistake(
            "requires_grad only",
            no_gradients,
            "The parameters are frozen and BatchNorm is not: in training mode it goes on updating its running mean "
            "and variance, without any gradient. These have moved too: `bn1.running_mean` and `bn1.running_var`.",
        ),
        Mistake(
            "eval once",
            lambda model: no_gradients(model, evaluation=True),
            "You put bn1 into evaluation mode once, and the next `model.train()` undoes it: its running mean and "
            "variance have moved. It has to stay so through `model.train()`, as the course's `freeze` makes it.",
        ),
        Mistake(
            "a momentum of 0",
            lambda model: (no_gradients(model), setattr(model.bn1, "momentum", 0.0)),
            "With a momentum of 0 the running mean stands still, and bn1 does not use it: in training mode it "
            "normalises with the mean of the batch, so what `fc` gets depends on the other images. Keep bn1 in "
            "evaluation mode.",
        ),
        Mistake(
            "the head as well",
            lambda model: freeze(model, ""),
            "Nothing trains any more: you have frozen the head too. `fc` has to go on learning.",
        ),
        Mistake(
            "BatchNorm left out",
            lambda model: freeze(model, ["conv1"]),
            "You have frozen conv1 alone. bn1 has a weight and a bias of its own, and statistics besides: freeze it "
            "too.",
        ),
    ),
    hints=(
        "Parameters move by gradients. What moves BatchNorm's running mean?",
        "`requires_grad_(False)` for conv1 and bn1 is one half. The other half must survive `model.train()`.",
        "`from course_utils.models import freeze` does both: give it the model and the list of the two parts.",
    ),
    solution_code='''def freeze_backbone(model):
    """Hold conv1 and bn1 still; changes the model in place."""
    from course_utils.models import freeze

    freeze(model, ["conv1", "bn1"])''',
)


def rates(make) -> dict:
    """The type of the optimiser, and the rate of each parameter, for the small net and for a deeper one."""
    deeper, seen = small_net(1), {}
    deeper.conv2 = nn.Conv2d(4, 4, 3)
    for of, net in (("", small_net()), (" for a deeper model", deeper)):
        optimizer = make(net)
        kind = "AdamW" if isinstance(optimizer, torch.optim.AdamW) else type(optimizer).__name__
        seen[f"What your function returns{of}"] = Finding(f"of the type {kind}")
        groups = getattr(optimizer, "param_groups", [])
        of_tensor = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
        for name, parameter in net.named_parameters():
            seen[f"The rate of {name} in your optimiser{of}"] = of_tensor.get(id(parameter), Finding("not in it"))
    return seen


q5 = Question(
    name="cnn.q5",
    title="Two learning rates",
    text="Write `make_optimizer(model)`: an AdamW in which the head, `model.fc`, learns with 1e-2 and everything else "
    "with 1e-3. Every parameter must be in it once.",
    fills="make_optimizer",
    right=lambda model: torch.optim.AdamW(parameter_groups(model, {"fc": 1e-2}, default_lr=1e-3)),
    observe=rates,
    tolerance=1e-6,
    praise="Every parameter is in one group, and each group has its rate.",
    mistakes=(
        Mistake(
            "the head alone",
            lambda model: torch.optim.AdamW(model.fc.parameters(), lr=1e-2),
            "The head alone is in your optimiser. The rest would never move, frozen or not: an optimiser moves what "
            "it was given when it was built.",
        ),
        Mistake(
            "Adam",
            lambda model: torch.optim.Adam(parameter_groups(model, {"fc": 1e-2}, default_lr=1e-3)),
            "Your optimiser is Adam, and AdamW is asked for. AdamW also makes the weights a little smaller in each "
            "step (weight decay of 0.01); Adam does so only on demand, and in another way.",
        ),
        Mistake(
            "one rate for all",
            lambda model: torch.optim.AdamW(model.parameters(), lr=1e-3),
            "Everything learns with 1e-3, the head too. Pass a list of groups, each a dict with `params` and `lr`.",
        ),
        Mistake(
            "the head's rate for all",
            lambda model: torch.optim.AdamW(model.parameters(), lr=1e-2),
            "Everything learns with 1e-2. That is much for pretrained layers: pass a list of groups, each with its "
            "own `lr`.",
        ),
        Mistake(
            "the rates changed about",
            lambda model: torch.optim.AdamW(parameter_groups(model, {"fc": 1e-3}, default_lr=1e-2)),
            "The two rates have changed places. The new head has far to go and gets the large one.",
        ),
        Mistake(
            "the head's bias with the rest",
            lambda model: torch.optim.AdamW(parameter_groups(model, {"fc.weight": 1e-2}, default_lr=1e-3)),
            "The weight of fc has its rate, but its bias learns with {got}. `model.fc.parameters()` gives both.",
        ),
    ),
    hints=(
        "An optimiser takes a list of dicts, each with `params` and `lr`.",
        "For the rest you need all parameters whose name, in `model.named_parameters()`, does not begin with `fc.`.",
        "Or call `parameter_groups` from `course_utils.models`, with a dict for the head and `default_lr` for the "
        "rest.",
    ),
    solution_code='''import torch


def make_optimizer(model):
    """AdamW: fc with 1e-2, the rest with 1e-3."""
    rest = [parameter for name, parameter in model.named_parameters() if not name.startswith("fc.")]
    head = model.fc.parameters()
    return torch.optim.AdamW([{"params": head, "lr": 1e-2}, {"params": rest, "lr": 1e-3}])''',
)


def pocket(classes=10, weights="DEFAULT"):
    return build_classifier("tiny_resnet", classes, weights=weights)


def judged_model(model) -> dict:
    """What a model gives for four images, and whether the pretrained backbone is in it. A function makes the model."""
    model = model if isinstance(model, nn.Module) else model()
    turned = copy.deepcopy(model)
    linear = [module for module in turned.modules() if isinstance(module, nn.Linear)]
    device = next(model.parameters(), torch.zeros(())).device
    inputs = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)).to(device)
    with torch.no_grad(), evaluation_mode(model), evaluation_mode(turned):
        outputs = model(inputs)
        for parameter in linear[-1].parameters() if linear else ():
            parameter.mul_(-3)
        as_logits = torch.allclose(turned(inputs), -3 * outputs, rtol=1e-3, atol=1e-3)
    sums = outputs.exp().sum(1) if (outputs <= 0).all() else outputs.sum(1)
    normalised = outputs.ndim == 2 and torch.allclose(sums, torch.ones_like(sums), atol=1e-3)
    kind = "log-probabilities" if (outputs <= 0).all() else "probabilities"
    kind = kind if normalised else "what a function behind the head makes of the logits"
    return {
        "The shape of what your model gives for four images": list(outputs.shape),
        "Its output": Finding("logits" if as_logits and not normalised else kind),
        "The backbone": Finding(backbone_of(model)),
        "The number of linear layers": len(linear),
        "The inputs of the last linear layer": linear[-1].in_features if linear else 0,
    }


def backbone_of(model: nn.Module) -> str:
    """How much of the pretrained backbone is in a model, under whatever names."""
    there = [value.cpu() for value in model.state_dict().values()]
    wanted = {name: value for name, value in pocket().state_dict().items() if not name.startswith("fc.")}
    missing = [name for name, value in wanted.items() if not any(torch.equal(value, other) for other in there)]
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if not missing:
        return "the pretrained one"
    if all(name.endswith(("running_mean", "running_var")) for name in missing):
        return "pretrained, but for BatchNorm's statistics, which a forward pass in training mode moves"
    weights = [name for name in wanted if name.endswith(".weight")]
    return "not the pretrained one" if set(weights) <= set(missing) else f"pretrained in part, but not in {missing[0]}"


q6 = Question(
    name="cnn.q6",
    title="A model for a new task",
    text="Build a model for ten classes out of the pocket network: the pretrained backbone, one new linear head, and "
    "an output that `nn.CrossEntropyLoss` can use. Pass the model itself.",
    fills="new_model",
    kind="model",
    right=pocket,
    observe=judged_model,
    praise="Pretrained backbone, one new head, logits out.",
    mistakes=(
        Mistake(
            "softmax at the end",
            lambda: nn.Sequential(pocket(), nn.Softmax(dim=1)),
            "Your model ends in a softmax, and `nn.CrossEntropyLoss` applies one too. Applied twice, the loss of ten "
            "classes cannot fall below 1.461. Give it the logits.",
        ),
        Mistake(
            "log-softmax at the end",
            lambda: nn.Sequential(pocket(), nn.LogSoftmax(dim=1)),
            "Your model ends in a log-softmax. `nn.CrossEntropyLoss` then does the same work again; with `nn.NLLLoss` "
            "it would fit. Leave it out, and the course's loss gets the logits that it expects.",
        ),
        Mistake(
            "another function at the end",
            lambda: nn.Sequential(pocket(), nn.Sigmoid()),
            "Behind the head there is one more function, a sigmoid or a ReLU perhaps. `nn.CrossEntropyLoss` expects "
            "the logits as the head gives them: of both signs, and of any size.",
        ),
        Mistake(
            "the old number of classes",
            lambda: pocket(37),
            "Your model has 37 outputs, one a letter: it needs a head for ten classes.",
        ),
        Mistake(
            "random weights",
            lambda: pocket(weights=None),
            'The shape is right, and nothing in it is pretrained: pass `weights="DEFAULT"`.',
        ),
        Mistake(
            "a new layer on the old head",
            lambda: nn.Sequential(pocket(37), nn.Linear(37, 10)),
            "You have put a layer on top of the old head, so that the digits are told from 37 letter scores. Replace "
            "the head: it should see the backbone's 128 features.",
        ),
    ),
    hints=(
        "The notebook does it in section 3, in one call.",
        "`build_classifier` takes the network's name, the number of classes, and `weights`.",
        '`build_classifier("tiny_resnet", 10, weights=...)`, with the weights that it also had in section 3.',
    ),
    solution_code="""from course_utils.models import build_classifier

new_model = build_classifier("tiny_resnet", 10, weights="DEFAULT")""",
)

QUESTIONS = (q1, q2, q3, q4, q5, q6)
