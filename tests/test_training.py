"""The loop: exact averages, `fit` against a loop written by hand, resuming, divergence, overhead, and early errors."""

import copy
import functools
import math
import os
import sys

import numpy as np
import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from tensorboardX import SummaryWriter
from torch.optim import lr_scheduler as L
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, TensorDataset

from course_utils.data import make_loader, random_affine
from course_utils.models import freeze, unfreeze
from course_utils.recipes import one_cycle
from course_utils.tracking import RunLogger, read_scalars
from course_utils.training import History, TrainingDiverged, accuracy, evaluate, fit, predict

CPU = torch.device("cpu")


def small_cnn(classes=4):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.2),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, classes),
    )  # fmt: skip


def images_and_labels(count=46, classes=4):
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(count, 3, 8, 8, generator=generator),
        torch.randint(classes, (count,), generator=generator),
    )


def sgd(model, lr=0.1):
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)


def train(model, loader, val_loader=None, *, optimizer=None, epochs=2, loss_fn=None, device=CPU, **options):
    return fit(
        model, loader, val_loader, loss_fn=loss_fn or nn.CrossEntropyLoss(), optimizer=optimizer or sgd(model),
        device=device, epochs=epochs, progress=False, **options,
    )  # fmt: skip


# --- what the numbers are -------------------------------------------------------------------------------------------


def test_fit_gives_the_numbers_of_a_loop_written_by_hand():
    images, labels = images_and_labels()
    by_hand, by_fit = small_cnn(), small_cnn()

    torch.manual_seed(3)
    loader = make_loader(images, labels, batch_size=16, shuffle=True, seed=5, augment=random_affine)
    optimizer = sgd(by_hand)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=9)
    epoch_losses, step_losses = [], []
    for _ in range(3):
        by_hand.train()
        total, seen = 0.0, 0
        for inputs, targets in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(by_hand(inputs), targets)
            loss.backward()
            optimizer.step()
            scheduler.step()
            total, seen = total + loss.item() * len(targets), seen + len(targets)
            step_losses.append(loss.item())
        epoch_losses.append(total / seen)

    torch.manual_seed(3)
    loader = make_loader(images, labels, batch_size=16, shuffle=True, seed=5, augment=random_affine)
    optimizer = sgd(by_fit)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=9)
    history = train(by_fit, loader, optimizer=optimizer, scheduler=scheduler, epochs=3)

    assert history.step_loss == step_losses
    assert history["train_loss"] == pytest.approx(epoch_losses, rel=1e-6)
    for name, value in by_hand.state_dict().items():
        assert torch.equal(value, by_fit.state_dict()[name]), name


def test_averages_are_over_examples_not_over_batches():
    images, labels = images_and_labels(count=33)  # batches of 16, 16 and 1
    model = small_cnn().eval()
    loader = make_loader(images, labels, batch_size=16)
    result = evaluate(model, loader, loss_fn=nn.CrossEntropyLoss(), device=CPU, metrics={"accuracy": accuracy})
    with torch.no_grad():
        logits = model(images)
    assert result["loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
    assert result["accuracy"] == (logits.argmax(1) == labels).sum().item() / 33
    batch_means = [F.cross_entropy(a, b).item() for a, b in zip(logits.split(16), labels.split(16), strict=True)]
    assert result["loss"] != pytest.approx(sum(batch_means) / 3, rel=1e-3)


@pytest.mark.parametrize("weight", [None, torch.tensor([1.0, 5.0, 0.5, 2.0])])
def test_averages_follow_the_loss_in_what_it_counts(weight):
    """Ignored labels do not count, class weights weigh, so the average is that of one large batch."""
    images, labels = images_and_labels(count=40)
    labels = torch.where(torch.arange(40) % 16 < 5, -100, labels)
    loss_fn, model = nn.CrossEntropyLoss(weight=weight), small_cnn().eval()
    loader = DataLoader(TensorDataset(images, labels), batch_size=16)
    result = evaluate(model, loader, loss_fn=loss_fn, device=CPU)
    with torch.no_grad():
        assert result["loss"] == pytest.approx(loss_fn(model(images), labels).item(), rel=1e-5)


IGNORING = {
    "CrossEntropyLoss": (nn.CrossEntropyLoss(), -100),
    "CrossEntropyLoss of 255": (nn.CrossEntropyLoss(ignore_index=255), 255),
    "a class of its own ignored": (nn.CrossEntropyLoss(ignore_index=2), 2),
    "NLLLoss": (nn.NLLLoss(weight=torch.tensor([1.0, 5.0, 0.5]), ignore_index=255), 255),
    "F.cross_entropy": (F.cross_entropy, -100),
    "F.nll_loss": (F.nll_loss, -100),
    "partial": (functools.partial(F.cross_entropy, weight=torch.tensor([1.0, 5.0, 0.5]), ignore_index=255), 255),
    "lambda": (lambda outputs, targets: F.cross_entropy(outputs, targets), -100),
    "lambda of 255": (lambda outputs, targets: F.cross_entropy(outputs, targets, ignore_index=255), 255),
}


@pytest.mark.parametrize("name", IGNORING)
@pytest.mark.parametrize("shape", [(40,), (40, 5)], ids=["(B,)", "(B, L)"])
def test_accuracy_leaves_out_the_targets_that_the_loss_ignores(name, shape):
    """So do metrics of one's own, and a batch without any other target counts nothing."""
    loss_fn, ignored = IGNORING[name]
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(40, 3, *shape[1:], generator=generator).log_softmax(1)
    targets = torch.where(torch.rand(shape, generator=generator) < 0.6, logits.argmax(1), 1)
    targets[torch.rand(shape, generator=generator) < 0.5] = ignored
    targets[8:16] = ignored  # all of the second batch
    counted = targets != ignored

    def wrong(outputs, targets):
        return (outputs.argmax(1) != targets).float()

    loader = DataLoader(TensorDataset(logits, targets), batch_size=8)
    result = evaluate(
        nn.Identity(), loader, loss_fn=loss_fn, device=CPU,
        metrics={"accuracy": accuracy, "own": lambda o, t: accuracy(o, t)[t != ignored], "wrong": wrong},
    )  # fmt: skip
    share = (logits.argmax(1) == targets)[counted].double().mean().item()
    assert 0.3 < share < 1 and result["accuracy"] == result["own"] == pytest.approx(share)
    if name != "lambda of 255":  # which cannot be seen from outside
        assert result["wrong"] == pytest.approx(1 - share)
        assert result["loss"] == pytest.approx(loss_fn(logits, targets).item(), rel=1e-5)


def test_a_loss_of_ones_own_says_what_it_ignores_and_a_metric_of_other_shape_is_left_alone():
    def loss_fn(outputs, targets):
        return F.cross_entropy(outputs, targets, ignore_index=255)

    loss_fn.ignore_index = 255
    logits = torch.randn(6, 3, 4).log_softmax(1)
    targets = logits.argmax(1)
    targets[:, 0], targets[5] = 255, 255
    result = evaluate(
        nn.Identity(), DataLoader(TensorDataset(logits, targets), batch_size=5), loss_fn=loss_fn, device=CPU,
        metrics={"right": lambda o, t: o.argmax(1) == t, "places": lambda o, t: (t == 255).sum(1)},
    )  # fmt: skip
    assert result["right"] == 1 and result["places"] == pytest.approx((5 * 1 + 4) / 6)
    assert result["loss"] == pytest.approx(loss_fn(logits, targets).item(), rel=1e-5)


MEANS = {
    "KLDivLoss by batches": nn.KLDivLoss(reduction="batchmean"),
    "KLDivLoss by elements": nn.KLDivLoss(),
    "kl_div by batches": functools.partial(F.kl_div, reduction="batchmean"),
    "MSELoss": nn.MSELoss(),
    "l1_loss": F.l1_loss,
    "BCEWithLogitsLoss": nn.BCEWithLogitsLoss(pos_weight=torch.tensor(3.0)),
    "CrossEntropyLoss of shares": nn.CrossEntropyLoss(),
}


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")
@pytest.mark.parametrize("name", MEANS)
def test_the_average_is_that_of_one_large_batch_whatever_the_loss_is_a_mean_over(name):
    loss_fn = MEANS[name]
    torch.manual_seed(0)
    outputs, targets = torch.randn(42, 3).log_softmax(1), torch.rand(42, 3).softmax(1)
    loader = DataLoader(TensorDataset(outputs, targets), batch_size=10)
    average = evaluate(nn.Identity(), loader, loss_fn=loss_fn, device=CPU)["loss"]
    assert average == pytest.approx(loss_fn(outputs, targets).item(), rel=1e-5)


def test_batchmean_counts_examples_however_long_they_are():
    torch.manual_seed(0)
    loss_fn = nn.KLDivLoss(reduction="batchmean")
    batches = [(torch.randn(n, length, 3).log_softmax(-1), torch.rand(n, length, 3)) for n, length in ((8, 5), (3, 9))]
    total = sum(F.kl_div(outputs, targets, reduction="sum") for outputs, targets in batches)
    assert evaluate(nn.Identity(), batches, loss_fn=loss_fn, device=CPU)["loss"] == pytest.approx(total.item() / 11)


@pytest.mark.parametrize(
    ("loss_fn", "advice"),
    [
        (nn.CrossEntropyLoss(reduction="sum"), 'reduction="mean"'),
        (nn.MSELoss(reduction="none"), 'reduction="mean"'),
        (functools.partial(F.cross_entropy, reduction="sum"), 'reduction="mean"'),
        (nn.KLDivLoss(reduction="sum"), 'reduction="batchmean"'),
        (functools.partial(F.kl_div, reduction="none"), 'reduction="batchmean"'),
    ],
)
def test_a_loss_that_is_no_mean_is_refused_with_the_mean_of_its_own(loss_fn, advice):
    batch = [(GOOD[0][:8], GOOD[1][:8])]
    with pytest.raises(ValueError, match=advice):
        train(small_cnn(), batch, loss_fn=loss_fn)
    with pytest.raises(ValueError, match=advice):
        evaluate(small_cnn(), batch, loss_fn=loss_fn, device=CPU)


class MaskedWords(nn.Module):
    """Takes (words, mask), predicts a word at each place."""

    def __init__(self):
        super().__init__()
        self.embed, self.out = nn.Embedding(20, 8), nn.Linear(8, 20)

    def forward(self, words, mask):
        return self.out(self.embed(words) * mask[..., None]).transpose(1, 2)  # (B, 20, T)


class Pairs(nn.Module):
    """Takes a user and an item, predicts a rating."""

    def __init__(self):
        super().__init__()
        self.user, self.item = nn.Embedding(9, 4), nn.Embedding(7, 4)

    def forward(self, user, item):
        return (self.user(user) * self.item(item)).sum(1)


def masked_text():
    words, places = torch.randint(3, (30, 12)), torch.rand(30, 12) < torch.linspace(0.05, 0.8, 30)[:, None]
    batches = [
        ({"words": words[i : i + 8], "mask": (~places[i : i + 8]).float()}, torch.where(places, words, -100)[i : i + 8])
        for i in range(0, 30, 8)
    ]
    return MaskedWords(), batches, nn.CrossEntropyLoss()


def pairs():
    users, items, ratings = torch.randint(9, (30,)), torch.randint(7, (30,)), torch.randn(30)
    batches = [((users[i : i + 8], items[i : i + 8]), ratings[i : i + 8]) for i in range(0, 30, 8)]
    return Pairs(), batches, nn.MSELoss()


@pytest.mark.parametrize("task", [masked_text, pairs])
def test_dicts_and_tuples_go_through_the_same_fit(task):
    torch.manual_seed(0)
    model, batches, loss_fn = task()
    history = train(
        model, batches, batches, loss_fn=loss_fn, optimizer=torch.optim.Adam(model.parameters(), 0.03), epochs=8
    )
    assert history["val_loss"][-1] < 0.8 * history["val_loss"][0]
    whole = {}
    if task is masked_text:
        whole = {name: torch.cat([inputs[name] for inputs, _ in batches]) for name in batches[0][0]}
    else:
        whole = dict(
            zip(
                ("user", "item"),
                (torch.cat(parts) for parts in zip(*(i for i, _ in batches), strict=True)),
                strict=True,
            )
        )
    targets = torch.cat([targets for _, targets in batches])
    with torch.no_grad():
        assert history["val_loss"][-1] == pytest.approx(loss_fn(model(**whole), targets).item(), rel=1e-5)


def test_same_seed_same_numbers_and_another_seed_other_numbers():
    images, labels = images_and_labels()

    def run(seed):
        model = small_cnn()
        torch.manual_seed(seed)
        loader = make_loader(images, labels, batch_size=16, shuffle=True, seed=seed, augment=random_affine)
        return train(model, loader, loader)

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_evaluate_leaves_modes_as_they_were_and_changes_nothing():
    images, labels = images_and_labels()
    model = small_cnn().train()
    model[1].eval()
    before = copy.deepcopy(model.state_dict())
    evaluate(model, make_loader(images, labels, batch_size=16), loss_fn=nn.CrossEntropyLoss(), device=CPU)
    assert [module.training for module in model] == [True, False, True, True, True, True, True]
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_predict_keeps_the_order():
    images, labels = images_and_labels()
    model = small_cnn().eval()
    outputs, targets = predict(model, make_loader(images, labels, batch_size=16), device=CPU)
    assert torch.equal(targets, labels)
    assert torch.allclose(outputs, model(images).detach(), atol=1e-6)


# --- resuming ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("own_generator", [True, False], ids=["course loader", "plain DataLoader"])
def test_resuming_gives_the_uninterrupted_run_bit_for_bit(tmp_path, own_generator):
    images, labels = images_and_labels()

    def start():
        model = small_cnn()
        freeze(model, ["0", "1"])
        torch.manual_seed(7)
        if own_generator:
            loader = make_loader(images, labels, batch_size=16, shuffle=True, seed=5, augment=random_affine)
        else:
            data = TensorDataset(images, labels)
            sampler = RandomSampler(data, generator=torch.Generator().manual_seed(4))
            loader = DataLoader(data, batch_size=16, sampler=sampler)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=15)
        return model, loader, dict(optimizer=optimizer, scheduler=scheduler, metrics={"accuracy": accuracy})

    def thaw(epoch, model):
        if epoch == 1:  # once only: a resumed run must remember it
            unfreeze(model, ["0", "1"])

    whole, loader, options = start()
    uninterrupted = train(whole, loader, loader, epochs=5, before_epoch=lambda e: thaw(e, whole), **options)

    file = tmp_path / "run" / "checkpoint.pt"
    first, loader, options = start()
    train(first, loader, loader, epochs=2, before_epoch=lambda e: thaw(e, first), checkpoint=file, **options)
    second, loader, options = start()
    torch.randn(100)  # whatever happens in between
    resumed = train(
        second,
        loader,
        loader,
        epochs=5,
        before_epoch=lambda e: thaw(e, second),
        checkpoint=file,
        resume=True,
        **options,
    )
    assert resumed == uninterrupted
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
    assert [path.name for path in file.parent.iterdir()] == ["checkpoint.pt"]


def test_a_checkpoint_is_never_overwritten_unasked_and_survives_a_failed_write(tmp_path, monkeypatch):
    images, labels = images_and_labels()
    loader, file = make_loader(images, labels, batch_size=16), tmp_path / "checkpoint.pt"
    train(small_cnn(), loader, epochs=1, checkpoint=file)
    content = file.read_bytes()
    with pytest.raises(FileExistsError, match="resume=True"):
        train(small_cnn(), loader, epochs=1, checkpoint=file)

    def full_disk(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        train(small_cnn(), loader, epochs=2, checkpoint=file, resume=True)
    assert file.read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_checkpoint_that_does_not_fit_says_so(tmp_path):
    images, labels = images_and_labels()
    loader, file = make_loader(images, labels, batch_size=16), tmp_path / "checkpoint.pt"
    train(small_cnn(), loader, epochs=1, checkpoint=file)
    with pytest.raises(ValueError, match="another model"):
        train(small_cnn(classes=5), loader, epochs=2, checkpoint=file, resume=True)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ValueError, match="damaged"):
        train(small_cnn(), loader, epochs=2, checkpoint=file, resume=True)


def test_a_resumed_log_is_one_clean_series(tmp_path):
    images, labels = images_and_labels()
    loader = make_loader(images, labels, batch_size=16)  # 3 steps an epoch
    with RunLogger(tmp_path / "run") as logger:
        train(small_cnn(), loader, epochs=2, checkpoint=tmp_path / "c.pt", logger=logger)
        for step in (7, 8):  # an epoch that was begun and killed
            logger.log_scalars({"loss/step": 99.0}, step)
    with RunLogger(tmp_path / "run", resume=True) as logger:
        history = train(small_cnn(), loader, epochs=4, checkpoint=tmp_path / "c.pt", resume=True, logger=logger)
    series = read_scalars(tmp_path / "run")["loss/step"]
    assert series.steps.tolist() == list(range(1, 13))
    assert series.values.tolist() == pytest.approx(history.step_loss, rel=1e-6)


# --- schedules -----------------------------------------------------------------------------------------------------


def warm_up_and_cosine(optimizer, steps, warm_up):
    parts = [L.LinearLR(optimizer, 0.01, total_iters=warm_up), L.CosineAnnealingLR(optimizer, steps - warm_up)]
    return L.SequentialLR(optimizer, parts, milestones=[warm_up])


class LinearDecay:
    """A schedule as an object, which has a state."""

    def __init__(self, steps):
        self.steps = steps

    def __call__(self, step):
        return max(0.0, 1 - step / self.steps)


# Schedules over n steps, as they are built for a training of n steps.
BY_LENGTH = {
    "one_cycle": one_cycle,
    "OneCycleLR": lambda o, n: L.OneCycleLR(o, 0.1, total_steps=n),
    "cosine": lambda o, n: L.CosineAnnealingLR(o, n),
    "cosine with a floor": lambda o, n: L.CosineAnnealingLR(o, n, eta_min=1e-3),
    "polynomial": lambda o, n: L.PolynomialLR(o, n),
    "squares": lambda o, n: L.PolynomialLR(o, n, power=2.0),
    "linear": lambda o, n: L.LinearLR(o, 1.0, 0.01, n),
    "a function": lambda o, n: L.LambdaLR(o, lambda step: max(0.0, 1 - step / n)),
    "an object": lambda o, n: L.LambdaLR(o, LinearDecay(n)),
    "exponential to 1 %": lambda o, n: L.ExponentialLR(o, 0.01 ** (1 / n)),
    "thirds": lambda o, n: L.StepLR(o, -(-n // 3)),
    "late drops": lambda o, n: L.MultiStepLR(o, [n // 2, 3 * n // 4]),
    "sequence": lambda o, n: warm_up_and_cosine(o, n, n // 8),
    "chain": lambda o, n: L.ChainedScheduler([L.LinearLR(o, 0.1, total_iters=n // 8), L.CosineAnnealingLR(o, n)]),
    "restarts": lambda o, n: L.CosineAnnealingWarmRestarts(o, n // 2),
    "waves": lambda o, n: L.CyclicLR(o, 0.001, 0.1, step_size_up=n // 4),
}
# Schedules that do not depend on the number of steps.
ENDLESS = {
    "constant": lambda o: L.LambdaLR(o, lambda step: 1.0),
    "warm-up": lambda o: L.LinearLR(o, 0.01, total_iters=10),
    "inverse root": lambda o: L.LambdaLR(o, lambda step: min((step + 1) / 10, ((step + 1) / 10) ** -0.5)),
    "every 40": lambda o: L.StepLR(o, 40, 0.5),
    "exponential": lambda o: L.ExponentialLR(o, 0.99),
    "restarts": lambda o: L.CosineAnnealingWarmRestarts(o, 20, 2),
    "waves": lambda o: L.CyclicLR(o, 0.001, 0.1, step_size_up=40),
}
TEN = [(torch.randn(4, 4), torch.tensor([0, 1, 2, 0])) for _ in range(10)]  # ten batches an epoch


def ours(warned):
    """The course's own warnings of a schedule; older versions of PyTorch have some of their own."""
    return [str(warning.message) for warning in warned if "schedule does not seem" in str(warning.message)]


def scheduled(make, epochs, *, batches=TEN, parts=None, **options):
    """A training under a schedule; parts: model, optimiser and scheduler of an earlier call."""
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    optimizer = sgd(model)
    model, optimizer, scheduler = parts or (model, optimizer, make(optimizer))
    history = train(model, batches, optimizer=optimizer, scheduler=scheduler, epochs=epochs, **options)
    return history, (model, optimizer, scheduler)


@pytest.mark.parametrize("name", BY_LENGTH)
@pytest.mark.parametrize("epochs", [1, 2, 8])
def test_a_schedule_over_the_steps_is_not_warned_of(name, epochs, recwarn):
    history, _ = scheduled(lambda o: BY_LENGTH[name](o, 10 * epochs), epochs)
    assert len(history.step_lr) == 10 * epochs and not ours(recwarn)


@pytest.mark.parametrize("name", ENDLESS)
@pytest.mark.parametrize("epochs", [1, 8])
def test_nor_is_a_schedule_without_an_end(name, epochs, recwarn):
    scheduled(ENDLESS[name], epochs)
    assert not ours(recwarn)


@pytest.mark.parametrize("decay", [lambda o: L.ExponentialLR(o, 0.9), lambda o: L.MultiStepLR(o, [10, 15])])
def test_with_one_batch_an_epoch_epochs_may_be_counted(decay, recwarn):
    scheduled(decay, 50, batches=TEN[:1])
    assert not ours(recwarn)


BY_EPOCHS = {
    "StepLR": lambda o, epochs: L.StepLR(o, 7, 0.1),
    "StepLR, halved": lambda o, epochs: L.StepLR(o, 3, 0.5),
    "cosine": lambda o, epochs: L.CosineAnnealingLR(o, epochs),
    "cosine of twice as many": lambda o, epochs: L.CosineAnnealingLR(o, 2 * epochs),
    "cosine with a floor": lambda o, epochs: L.CosineAnnealingLR(o, epochs, eta_min=1e-4),
    "drops": lambda o, epochs: L.MultiStepLR(o, [2, 4]),
    "halving drops": lambda o, epochs: L.MultiStepLR(o, [2, 4], gamma=0.5),
    "exponential": lambda o, epochs: L.ExponentialLR(o, 0.9),
    "linear": lambda o, epochs: L.LinearLR(o, 1.0, 0.1, epochs),
    "polynomial": lambda o, epochs: L.PolynomialLR(o, epochs),
    "a function": lambda o, epochs: L.LambdaLR(o, lambda epoch: 0.5**epoch),
    "linear function": lambda o, epochs: L.LambdaLR(o, LinearDecay(epochs)),
    "sequence": lambda o, epochs: warm_up_and_cosine(o, epochs, 2),
    "chain": lambda o, epochs: L.ChainedScheduler([L.LinearLR(o, 0.1, total_iters=2), L.CosineAnnealingLR(o, epochs)]),
    "restarts": lambda o, epochs: L.CosineAnnealingWarmRestarts(o, epochs),
    "restarts of one half": lambda o, epochs: L.CosineAnnealingWarmRestarts(o, epochs // 2),
}


@pytest.mark.parametrize("name", BY_EPOCHS)
def test_a_schedule_that_counts_epochs_is_warned_of_before_the_first_step(name):
    def first(epoch):
        raise KeyboardInterrupt

    warns = pytest.warns(UserWarning, match=r"count steps.*50 times.*an epoch is 10.*= 50")
    with warns as warned, pytest.raises(KeyboardInterrupt):
        scheduled(lambda o: BY_EPOCHS[name](o, 5), 5, before_epoch=first)
    assert warned[0].filename.endswith("test_training.py")


def test_looking_ahead_changes_nothing():
    """The schedule that was looked at gives the rates of one that was not, and the optimiser keeps its own."""
    for make in (one_cycle, BY_LENGTH["sequence"], BY_LENGTH["chain"], BY_LENGTH["restarts"]):
        history, _ = scheduled(lambda o, make=make: make(o, 30), 3)
        optimizer = sgd(nn.Linear(4, 3))
        scheduler, rates = make(optimizer, 30), []
        for _ in range(30):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        assert history.step_lr == rates


def test_a_schedule_that_ends_before_the_training_is_refused_before_the_first_step():
    with pytest.raises(ValueError, match=r"stepped 20 times.*epochs \* len\(loader\) = 20") as caught:
        scheduled(lambda o: one_cycle(o, 15), 2)
    assert not hasattr(caught.value, "history")


@pytest.mark.filterwarnings("ignore:The schedule does not seem")
@pytest.mark.parametrize("name", BY_LENGTH)
@pytest.mark.parametrize("again", ["built for more steps", "built for as many", "the same object"])
def test_a_schedule_is_not_stretched_by_resuming(tmp_path, name, again):
    """Two epochs, then four: refused where that asks for another schedule, and nothing is changed."""
    file, make = tmp_path / "run.pt", BY_LENGTH[name]
    history, parts = scheduled(lambda o: make(o, 20), 2, checkpoint=file)
    model, optimizer, _ = parts if again == "the same object" else (nn.Linear(4, 3), None, None)
    optimizer = optimizer or sgd(model)
    scheduler = parts[2] if again == "the same object" else make(optimizer, 40 if "more" in again else 20)
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict(), scheduler.state_dict()))
    honest = (
        {"restarts", "waves", "exponential to 1 %", "linear", "thirds", "late drops"} if "more" not in again else {}
    )
    options = dict(parts=(model, optimizer, scheduler), checkpoint=file, resume=True)
    if name in honest:  # it goes on as it was: a floor is no end
        resumed, _ = scheduled(None, 4, **options)
        whole, _ = scheduled(lambda o: make(o, 20), 4)
        assert resumed == whole and resumed.step_lr[:20] == history.step_lr
        return
    with pytest.raises(ValueError, match=r"finishes a run as it was planned.*begin a new run") as caught:
        scheduled(None, 4, **options)
    assert "more" not in again or "is not the one that the checkpoint was written with" in str(caught.value)
    after = (model.state_dict(), optimizer.state_dict(), scheduler.state_dict())
    assert str(before) == str(after)


@pytest.mark.parametrize("name", [*BY_LENGTH, *ENDLESS])
@pytest.mark.parametrize("same_object", [True, False])
def test_under_the_same_schedule_a_run_goes_on_bit_for_bit(tmp_path, recwarn, name, same_object):
    make = ENDLESS.get(name) or (lambda o: BY_LENGTH[name](o, 40))
    whole, _ = scheduled(make, 4)
    _, parts = scheduled(make, 2, checkpoint=tmp_path / "run.pt")
    resumed, _ = scheduled(
        make, 4, parts=parts if same_object else None, checkpoint=tmp_path / "run.pt", resume=True
    )  # fmt: skip
    assert resumed == whole and not ours(recwarn)


def test_a_run_that_was_interrupted_within_an_epoch_goes_on_with_the_same_objects(tmp_path):
    def loss_fn(outputs, targets, calls=[]):  # noqa: B006
        calls.append(1)
        if len(calls) == 15:
            raise KeyboardInterrupt
        return F.cross_entropy(outputs, targets)

    whole, _ = scheduled(lambda o: one_cycle(o, 40), 4)
    file, parts = tmp_path / "run.pt", []

    def make(optimizer):
        parts.append(one_cycle(optimizer, 40))
        return parts[0]

    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    optimizer = sgd(model)
    scheduler = make(optimizer)
    objects = (model, optimizer, scheduler)
    with pytest.raises(KeyboardInterrupt):
        scheduled(None, 4, parts=objects, checkpoint=file, loss_fn=loss_fn)
    resumed, _ = scheduled(None, 4, parts=objects, checkpoint=file, resume=True)
    assert resumed == whole


LATER = {
    "another function": (BY_LENGTH["a function"], lambda o: BY_LENGTH["a function"](o, 80)),
    "another class": (BY_LENGTH["cosine"], lambda o: L.PolynomialLR(o, 40)),
    "a drop that comes later": (lambda o, n: L.MultiStepLR(o, [10]), lambda o: L.MultiStepLR(o, [10, 30])),
    "other thirds": (lambda o, n: L.StepLR(o, 25), lambda o: L.StepLR(o, 35)),
    "other restarts": (
        lambda o, n: L.CosineAnnealingWarmRestarts(o, 20),
        lambda o: L.CosineAnnealingWarmRestarts(o, 25),
    ),
    "another peak": (lambda o, n: L.OneCycleLR(o, 0.1, total_steps=n), lambda o: L.OneCycleLR(o, 0.2, total_steps=40)),
}


@pytest.mark.parametrize("name", LATER)
def test_another_schedule_is_refused_on_resuming_whatever_differs(tmp_path, name):
    make, other = LATER[name]
    scheduled(lambda o: make(o, 40), 2, checkpoint=tmp_path / "run.pt")
    with pytest.raises(ValueError, match="not the one that the checkpoint was written with.*pass the same schedule"):
        scheduled(other, 4, checkpoint=tmp_path / "run.pt", resume=True)


def test_a_stream_of_data_is_held_to_its_schedule_too(tmp_path):
    stream, file = DataLoader(Stream(), batch_size=4), tmp_path / "run.pt"  # five batches

    def run(epochs, steps, **options):
        model = small_cnn()
        optimizer = sgd(model)
        scheduler = BY_LENGTH["a function"](optimizer, steps)
        return train(model, stream, optimizer=optimizer, scheduler=scheduler, epochs=epochs, checkpoint=file, **options)

    run(2, 20)
    with pytest.raises(ValueError, match="not the one that the checkpoint"):
        run(4, 30, resume=True)
    assert len(run(4, 20, resume=True).step_lr) == 20


@pytest.mark.parametrize("first", [True, False])
def test_a_schedule_on_one_side_alone_is_refused_in_words(tmp_path, first):
    with_schedule = dict(make=lambda o: one_cycle(o, 40))
    without = dict(make=lambda o: None)
    one, other = (with_schedule, without) if first else (without, with_schedule)
    scheduled(**one, epochs=2, checkpoint=tmp_path / "run.pt")
    given = "no schedule, the checkpoint was written with one" if first else "a schedule, the checkpoint was .* none"
    with pytest.raises(ValueError, match=rf"This run has {given}.*pass the same schedule"):
        scheduled(**other, epochs=4, checkpoint=tmp_path / "run.pt", resume=True)


def test_training_for_longer_works_as_the_remedy_says(tmp_path):
    checkpoint = tmp_path / "run.pt"
    _, (trained, _, _) = scheduled(lambda o: one_cycle(o, 20), 2, checkpoint=checkpoint)
    model = nn.Linear(4, 3)
    model.load_state_dict(torch.load(checkpoint)["model"])
    assert all(torch.equal(a, b) for a, b in zip(trained.parameters(), model.parameters(), strict=True))
    optimizer = sgd(model)
    parts = (model, optimizer, one_cycle(optimizer, 10))
    history, _ = scheduled(None, 1, parts=parts, checkpoint=tmp_path / "longer.pt")
    assert len(history.step_lr) == 10


# --- what it costs -------------------------------------------------------------------------------------------------


class NullModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, inputs):
        return inputs * self.weight


def calls_of(function):
    count = 0

    def profile(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("logging", [False, True], ids=["silent", "logging"])
@pytest.mark.parametrize("measuring", [False, True], ids=["loss only", "with accuracy"])
def test_fit_makes_at_most_20_calls_a_step_more_than_a_hand_loop(tmp_path, logging, measuring):
    loss_fn = nn.CrossEntropyLoss()

    def by_hand(batches, run):
        model = NullModel()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        writer = SummaryWriter(str(tmp_path / f"hand{run}"), max_queue=1000) if logging else None
        model.train()
        total, correct, seen = 0.0, 0, 0
        for step, (inputs, targets) in enumerate(batches):
            inputs, targets = inputs.to(CPU), targets.to(CPU)
            optimizer.zero_grad()
            outputs = model(inputs)
            loss = loss_fn(outputs, targets)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(targets)
            seen += len(targets)
            if measuring:
                correct += (outputs.argmax(1) == targets).sum().item()
            if logging:
                writer.add_scalar("loss/step", loss.item(), step)
        if logging:
            writer.close()

    def by_fit(batches, run):
        model = NullModel()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        logger = RunLogger(tmp_path / f"fit{run}") if logging else None
        train(
            model, batches, optimizer=optimizer, loss_fn=loss_fn, epochs=1, logger=logger,
            metrics={"accuracy": accuracy} if measuring else None,
        )  # fmt: skip
        if logging:
            logger.close()

    batch = (torch.randn(4, 3), torch.tensor([0, 1, 2, 0]))
    counts = {}
    for name, loop in (("hand", by_hand), ("fit", by_fit)):
        loop([batch] * 20, f"{name} warm-up")
        # what happens once a run cancels out in the difference of a long run and a short one
        short, long = (calls_of(lambda n=n: loop([batch] * n, f"{name}{n}")) for n in (100, 500))  # noqa: B023
        counts[name] = (long - short) / 400
    print(counts)
    assert counts["fit"] - counts["hand"] <= 20, counts


# --- errors, early -------------------------------------------------------------------------------------------------


def test_a_loss_gone_nan_names_the_step_and_the_rate():
    images, labels = images_and_labels(count=64)
    batches = [(images[i : i + 8], labels[i : i + 8]) for i in range(0, 64, 8)]
    poison = torch.full_like(batches[5][0], math.nan)
    with pytest.raises(TrainingDiverged, match=r"nan at step 6, at a learning rate of 0\.1"):
        train(small_cnn(), [*batches[:5], (poison, batches[5][1]), *batches[6:]])


@pytest.mark.parametrize("ending", [TrainingDiverged, KeyboardInterrupt, RuntimeError])
def test_a_training_that_ends_early_carries_its_record(ending):
    """Three epochs of four steps; at the sixth step the loss is NaN, or the training is stopped, or fails."""
    images, labels = images_and_labels(count=32)
    batches, calls = [(images[i : i + 8], labels[i : i + 8]) for i in range(0, 32, 8)], []

    def loss_fn(outputs, targets):
        calls.append(len(calls) + 1)
        if calls[-1] == 6 and ending is not TrainingDiverged:
            raise ending("stop")
        return F.cross_entropy(outputs, targets) * (math.nan if calls[-1] == 6 else 1)

    model = small_cnn()
    with pytest.raises((ending, ValueError)) as caught:
        train(model, batches, epochs=3, loss_fn=loss_fn)
    history = caught.value.history
    assert len(history.step_loss) == len(history.step_lr) == 5 and all(map(math.isfinite, history.step_loss))
    assert history["epoch"] == [1] and history["step"] == [4]
    assert history["train_loss"] == [pytest.approx(sum(history.step_loss[:4]) / 4, rel=1e-5)]
    told = " ".join(getattr(caught.value, "__notes__", []))
    assert ("sys.last_value.history" in told) == (ending is not RuntimeError)


@pytest.mark.parametrize("fault", ["loader", "metric", "logger", "interrupt"])
def test_the_record_holds_every_step_up_to_the_end(fault, tmp_path):
    """At the sixth step, in the second epoch; nobody has looked at the losses of that epoch yet."""
    images, labels = images_and_labels(count=32)
    calls = []

    class Batches(list):
        def __iter__(self):
            for batch in super().__iter__():
                calls.append(batch)
                if len(calls) == 7 and fault in ("loader", "interrupt"):
                    raise KeyboardInterrupt if fault == "interrupt" else OSError("the disk is gone")
                yield batch

    def metric(outputs, targets):
        if len(calls) == 6 and fault == "metric":
            raise OSError("the metric is wrong")
        return outputs.argmax(1) == targets

    class FailingLogger(RunLogger):
        def log_scalars(self, values, step):
            if step == 6 and fault == "logger":
                raise OSError("the log is gone")
            super().log_scalars(values, step)

    batches = Batches((images[i : i + 8], labels[i : i + 8]) for i in range(0, 32, 8))
    with FailingLogger(tmp_path) as logger, pytest.raises((OSError, KeyboardInterrupt)) as caught:
        train(small_cnn(), batches, epochs=3, metrics={"right": metric}, logger=logger)
    history = caught.value.history
    steps = {"logger": 8}.get(fault, 6)  # a log that fails is seen at the end of the epoch
    assert len(history.step_loss) == len(history.step_lr) == steps and len(history.epochs) == 1
    logged = read_scalars(tmp_path)["loss/step"]
    assert logged.steps.tolist() == [*range(1, 6 if fault == "logger" else 7)]
    assert logged.values.tolist() == pytest.approx(history.step_loss[: len(logged.steps)], rel=1e-6)


def test_weights_gone_nan_carry_the_record_too():
    batch = [(torch.randn(8, 3), torch.randn(8, 1))]
    with pytest.raises(TrainingDiverged, match="weights are NaN") as caught:
        train(nn.Linear(3, 1), batch, loss_fn=lambda o, t: ((o - o.detach()) ** 2).sum().sqrt(), epochs=1)
    assert caught.value.history == History(step_loss=[0.0], step_lr=[0.1])


def test_an_interrupted_training_can_be_resumed_and_its_record_drawn(tmp_path):
    images, labels = images_and_labels()
    loader = make_loader(images, labels, batch_size=16)

    def stop(epoch):
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        train(small_cnn(), loader, loader, epochs=4, checkpoint=tmp_path / "c.pt", before_epoch=stop)
    assert caught.value.history["epoch"] == [1, 2] and len(caught.value.history["val_loss"]) == 2
    resumed = train(small_cnn(), loader, loader, epochs=4, checkpoint=tmp_path / "c.pt", resume=True)
    assert resumed.epochs[:2] == caught.value.history.epochs and len(resumed.epochs) == 4


def test_nan_is_found_without_a_device_sync_at_every_step(monkeypatch):
    images, labels = images_and_labels(count=64)
    fetched = []
    original = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self: fetched.append(self.numel()) or original(self))
    monkeypatch.setattr(torch.Tensor, "item", lambda self: pytest.fail("a sync in the loop"))
    monkeypatch.setattr("course_utils.training.LOOK_EVERY", 1e9)
    batches = [(images[i : i + 8], labels[i : i + 8]) for i in range(0, 64, 8)]
    history = train(small_cnn(), batches, epochs=1)
    assert fetched == [8]
    assert len(history.step_loss) == 8


GOOD = images_and_labels()


@pytest.mark.parametrize(
    ("inputs", "targets", "message"),
    [
        (GOOD[0], GOOD[1] + 1, r"labels run from 1 to 4, but the model has 4 outputs"),
        (GOOD[0], GOOD[1] - 1, r"labels run from -1 to 2"),
        (GOOD[0], GOOD[1].float(), r"int64, not torch.float32.*long"),
        (GOOD[0], GOOD[1].int(), r"int64, not torch.int32"),
        (GOOD[0], GOOD[1][:, None], r"labels of the shape \(8,\), not \(8, 1\)"),
        (GOOD[0][:, :1], GOOD[1], r"images of shape \(B, 3, H, W\)"),
        (GOOD[0][:, 0], GOOD[1], r"images of shape \(B, 3, H, W\)"),
        ((GOOD[0] * 50 + 128).clamp(0, 255), GOOD[1], r"reach 2\d\d; normalised"),
        ((GOOD[0] * 50 + 128).clamp(0, 255).byte(), GOOD[1], r"normalised float images"),
        (GOOD[0].index_fill(0, torch.tensor([2]), math.nan), GOOD[1], r"NaN or infinity"),
    ],
)
@pytest.mark.parametrize("how", ["fit", "evaluate"])
def test_bad_batches_are_explained(inputs, targets, message, how):
    loader = DataLoader(TensorDataset(inputs, targets), batch_size=8)
    with pytest.raises(ValueError, match=message):
        if how == "fit":
            train(small_cnn(), loader)
        else:
            evaluate(small_cnn(), loader, loss_fn=nn.CrossEntropyLoss(), device=CPU)


WORDS = ["cat", "dog"] * 4
NOT_TENSORS = {
    "words": (GOOD[0][:8], WORDS, "'cat', which is no tensor.*number the classes"),
    "words in an array": (GOOD[0][:8], np.array(WORDS), "ndarray, which is no tensor.*number the classes"),
    "words in a dict": (GOOD[0][:8], {"label": tuple(WORDS)}, "'cat', which is no tensor.*number the classes"),
    "texts": (["A film.", "A very long film."], GOOD[1][:2], "'A film.', which is no tensor.*tokenizer"),
    "arrays": (GOOD[0][:8].numpy(), GOOD[1][:8].numpy(), "ndarray, which is no tensor.*torch.as_tensor"),
    "an array of labels": (GOOD[0][:8], GOOD[1][:8].numpy(), "ndarray, which is no tensor.*torch.int64"),
    "a list of labels": (GOOD[0][:8], GOOD[1][:8].tolist(), "int, which is no tensor.*torch.int64"),
    "lists of lists": (GOOD[0][:8].tolist(), GOOD[1][:8], "float, which is no tensor.*torch.float32"),
    "one number": (GOOD[0][:8], 3.0, "float, which is no tensor.*torch.as_tensor"),
}


@pytest.mark.parametrize("name", NOT_TENSORS)
@pytest.mark.parametrize("how", ["fit", "evaluate", "predict"])
def test_batches_that_are_no_tensors_are_told_how_to_become_some(name, how):
    inputs, targets, message = NOT_TENSORS[name]
    calls = {
        "fit": lambda: train(small_cnn(), [(inputs, targets)]),
        "evaluate": lambda: evaluate(small_cnn(), [(inputs, targets)], loss_fn=nn.CrossEntropyLoss(), device=CPU),
        "predict": lambda: predict(small_cnn(), [(inputs, targets)], device=CPU),
    }
    with pytest.raises(ValueError, match=message):
        calls[how]()


def test_targets_that_are_missing_are_named():
    with pytest.raises(ValueError, match="did not accept inputs .* with targets NoneType"):
        train(small_cnn(), [(GOOD[0][:8], None)])


def test_words_are_refused_by_the_courses_loader_too():
    with pytest.raises(ValueError, match="Labels must be a tensor, not list. .*number the classes"):
        make_loader(GOOD[0][:8], WORDS, batch_size=4)


def test_a_bad_label_far_from_the_first_batch_is_found_before_the_first_step():
    images, labels = images_and_labels()
    labels = torch.cat([labels[:-1], torch.tensor([4])])
    model = small_cnn()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match="run from 0 to 4"):
        train(model, make_loader(images, labels, batch_size=8))
    assert torch.equal(before["0.weight"], model.state_dict()["0.weight"])


def test_a_bad_label_that_only_a_later_batch_shows_is_explained_too():
    images, labels = images_and_labels(count=16)
    batches = [(images[:8], labels[:8]), (images[8:], labels[8:] + 4)]
    with pytest.raises(ValueError, match="did not accept"):
        train(small_cnn(), batches)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(epochs=0), ValueError, "whole number from 1"),
        (dict(device="cuda"), ValueError, "no device 'cuda' here, only cpu"),
        (dict(epochs=2.5), ValueError, "whole number from 1"),
        (dict(loader=[]), ValueError, "training loader is empty"),
        (dict(loader=iter([])), ValueError, "no batch"),
        (dict(val_loader=[]), ValueError, "validation loader is empty"),
        (dict(loader=[{"inputs": GOOD[0], "targets": GOOD[1]}]), ValueError, r"must be \(inputs, targets\)"),
        (dict(loss_fn=nn.CrossEntropyLoss(reduction="sum")), ValueError, "mean over the batch"),
        (dict(optimizer=sgd(small_cnn())), ValueError, "none of the model's parameters"),
        (dict(plateau=True), TypeError, "ReduceLROnPlateau"),
        (dict(frozen=True), ValueError, "frozen"),
    ],
)
def test_a_set_up_that_cannot_work_is_refused(change, error, message):
    if "device" in change and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    model = small_cnn()
    options = {"loader": [(GOOD[0][:8], GOOD[1][:8])], "optimizer": sgd(model), **change}
    if options.pop("plateau", False):
        options["scheduler"] = torch.optim.lr_scheduler.ReduceLROnPlateau(options["optimizer"])
    if options.pop("frozen", False):
        freeze(model, "")
    with pytest.raises(error, match=message):
        train(model, **options)


class Stream(IterableDataset):
    """Data without a length, as from a file that is read line by line."""

    def __iter__(self):
        return iter(zip(*images_and_labels(count=20), strict=True))


def test_a_stream_of_data_trains_too():
    loader = DataLoader(Stream(), batch_size=8)
    history = train(small_cnn(), loader, loader, epochs=2)
    assert history["step"] == [3, 6]


def test_a_loss_that_would_broadcast_silently_is_refused():
    model = nn.Linear(3, 1)
    with pytest.raises(ValueError, match=r"\(8, 1\), the targets \(8,\).*squeeze"):
        train(model, [(torch.randn(8, 3), torch.randn(8))], loss_fn=nn.MSELoss())


def test_history_names_its_columns():
    with pytest.raises(KeyError, match="train_loss"):
        History(epochs=[{"train_loss": 1.0}])["val_loss"]


def test_an_optimiser_from_before_the_new_head_is_refused():
    model = small_cnn()
    optimizer = sgd(model)
    model[-1] = nn.Linear(24, 4)
    with pytest.raises(ValueError, match="some that are not the model's.*after the new head"):
        train(model, [(GOOD[0][:8], GOOD[1][:8])], optimizer=optimizer)


def test_labels_that_a_loader_changes_or_leaves_out_do_not_count():
    images, labels = images_and_labels(count=16)

    def halved(batch):
        return torch.stack([image for image, _ in batch]), torch.stack([label for _, label in batch]) // 2

    train(small_cnn(classes=2), DataLoader(TensorDataset(images, labels), 8, collate_fn=halved), epochs=1)
    unlabelled = torch.where(torch.arange(16) < 8, labels, -1)
    train(small_cnn(), DataLoader(TensorDataset(images, unlabelled), 8, sampler=range(8)), epochs=1)


# --- what a line-by-line reading found ------------------------------------------------------------------------------


def test_a_loss_of_ones_own_may_want_other_shapes_and_regression_never_broadcasts():
    def gaussian(outputs, targets):
        return F.gaussian_nll_loss(outputs[:, 0], targets, outputs[:, 1].exp())

    train(nn.Linear(3, 2), [(torch.randn(8, 3), torch.randn(8))], loss_fn=gaussian)
    with pytest.raises(ValueError, match="broadcast"):
        train(nn.Linear(3, 1), [(torch.randn(8, 3), torch.arange(8))], loss_fn=nn.MSELoss())


def test_weights_that_the_last_step_spoils_never_reach_the_checkpoint(tmp_path):
    """The loss is finite, its gradient is not: 0 under a square root."""
    model, file = nn.Linear(3, 1), tmp_path / "checkpoint.pt"
    batch = [(torch.randn(8, 3), torch.randn(8, 1))]
    with pytest.raises(TrainingDiverged, match="weights are NaN"):
        train(model, batch, loss_fn=lambda o, t: ((o - o.detach()) ** 2).sum().sqrt(), epochs=1, checkpoint=file)
    assert not file.exists()


def test_a_run_killed_before_its_first_checkpoint_begins_anew(tmp_path):
    images, labels = images_and_labels()
    loader = make_loader(images, labels, batch_size=16)
    with RunLogger(tmp_path / "run") as logger:
        for step in (1, 2):
            logger.log_scalars({"loss/step": 99.0}, step)
    with RunLogger(tmp_path / "run", resume=True) as logger:
        history = train(small_cnn(), loader, epochs=1, checkpoint=tmp_path / "c.pt", resume=True, logger=logger)
    series = read_scalars(tmp_path / "run")["loss/step"]
    assert series.steps.tolist() == [1, 2, 3]
    assert series.values.tolist() == pytest.approx(history.step_loss, rel=1e-6)


@pytest.mark.parametrize(
    ("outputs", "targets"),
    [(torch.randn(4, 1), torch.ones(4, 1)), (torch.randn(4, 4), torch.rand(4, 4)), (torch.randn(4, 1), torch.ones(4))],
)
def test_accuracy_refuses_what_it_would_count_wrongly(outputs, targets):
    with pytest.raises(ValueError, match="class numbers"):
        accuracy(outputs, targets)


def test_a_metric_that_gives_a_mean_is_refused():
    with pytest.raises(ValueError, match="one value an example"):
        train(small_cnn(), [(GOOD[0][:8], GOOD[1][:8])], metrics={"share": lambda o, t: accuracy(o, t).float().mean()})


def test_the_average_follows_the_function_cross_entropy_and_a_batch_of_ignored_labels():
    images, labels = images_and_labels(count=40)
    labels = torch.where((torch.arange(40) % 16 < 5) | (torch.arange(40) >= 32), -100, labels)  # all of the last batch
    model = small_cnn().eval()
    loader = DataLoader(TensorDataset(images, labels), batch_size=16)
    with torch.no_grad():
        wanted = F.cross_entropy(model(images), labels).item()
    for loss_fn in (F.cross_entropy, nn.CrossEntropyLoss()):
        assert evaluate(model, loader, loss_fn=loss_fn, device=CPU)["loss"] == pytest.approx(wanted, rel=1e-5)


def test_a_loss_that_learns_is_resumed_with_the_model(tmp_path):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.temperature = nn.Parameter(torch.ones(()))

        def forward(self, outputs, targets):
            return F.cross_entropy(outputs / self.temperature, targets)

    def run(epochs, file):
        model, loss_fn = small_cnn(), Scaled()
        torch.manual_seed(0)
        loader = make_loader(*images_and_labels(), batch_size=16, shuffle=True)
        optimizer = torch.optim.SGD([*model.parameters(), *loss_fn.parameters()], lr=0.1)
        return train(model, loader, loss_fn=loss_fn, optimizer=optimizer, epochs=epochs, checkpoint=file, resume=True)

    run(2, tmp_path / "c.pt")
    assert run(4, tmp_path / "c.pt") == run(4, tmp_path / "whole.pt")


def test_the_log_of_a_diverged_run_shows_how_it_came_to_that(tmp_path):
    images, labels = images_and_labels(count=32)
    batches = [(images[i : i + 8], labels[i : i + 8]) for i in range(0, 32, 8)]
    losses = iter([1.0, 1.0, 1.0, math.nan])
    with RunLogger(tmp_path / "run") as logger, pytest.raises(TrainingDiverged, match="step 4"):
        train(
            small_cnn(), batches, epochs=1, logger=logger,
            loss_fn=lambda o, t: F.cross_entropy(o, t) * next(losses),
        )  # fmt: skip
    assert read_scalars(tmp_path / "run")["loss/step"].steps.tolist() == [1, 2, 3]


def test_set_ups_that_would_do_nothing_are_refused_and_a_thaw_in_the_first_epoch_is_not():
    batch = [(GOOD[0][:8], GOOD[1][:8])]
    model = small_cnn()
    elsewhere = torch.optim.lr_scheduler.StepLR(sgd(small_cnn()), 1)
    with pytest.raises(ValueError, match="another optimiser"):
        train(model, batch, scheduler=elsewhere)
    with pytest.raises(ValueError, match="pass checkpoint"):
        train(model, batch, resume=True)
    freeze(model, "")
    train(model, batch, before_epoch=lambda epoch: unfreeze(model))


def test_a_batch_of_one_under_batch_norm_is_told_to_drop_last():
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 4), nn.BatchNorm1d(4))
    with pytest.raises(ValueError, match="drop_last=True"):
        train(model, make_loader(*images_and_labels(count=17), batch_size=16))
