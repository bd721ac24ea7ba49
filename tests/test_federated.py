"""Federated averaging: what it must equal, what the server's rules survive, and that stored results are the code's."""

import copy
import functools
import math

import pytest
import torch
import torch.nn as nn

from course_utils.beyond.efficient import stored_bytes
from course_utils.beyond.federated import (
    Sent,
    apply_change,
    clipped_mean,
    deal,
    federated_averaging,
    length,
    median,
    pocket_federation,
    spoil_first,
    train_at_home,
    weighted_mean,
)
from course_utils.beyond.federated_grids import RULES
from course_utils.commands.grid import rows_of
from course_utils.data import make_loader
from course_utils.files import load_results
from course_utils.models import build_classifier, freeze
from course_utils.training import TrainingDiverged, fit


def network() -> nn.Module:
    """The pretrained pocket network in float64, so that only rounding can hide a difference."""
    torch.manual_seed(0)
    return build_classifier("tiny_resnet", 10, weights="DEFAULT").double()


def still(model: nn.Module) -> nn.Module:
    """The model with every BatchNorm held in evaluation mode, its scale and shift training as before."""
    norms = [name for name, part in model.named_modules() if isinstance(part, nn.BatchNorm2d)]
    freeze(model, norms)
    for name in norms:
        model.get_submodule(name).requires_grad_(True)
    return model


def examples(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(count, 3, 32, 32, generator=generator, dtype=torch.float64)
    return images, torch.randint(10, (count,), generator=generator)


def train(model: nn.Module, loader, *, lr: float, epochs: int) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    options = dict(optimizer=optimizer, device="cpu", epochs=epochs, progress=False)
    fit(model, loader, None, loss_fn=nn.CrossEntropyLoss(), **options)


def assert_same(one: nn.Module, other: nn.Module, tolerance: float = 1e-11) -> None:
    theirs = other.state_dict()
    for name, value in one.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, theirs[name], rtol=tolerance, atol=tolerance, msg=name)


def sent_by(*values: list[float], counts: list[int] | None = None) -> list[Sent]:
    counts = counts or [10] * len(values)
    return [Sent({"w": torch.tensor(value)}, count) for value, count in zip(values, counts, strict=True)]


# --- what it must equal -----------------------------------------------------------------------------------------------


def test_one_client_is_ordinary_training():
    """Rounds of two epochs are epochs of the same training, BatchNorm's statistics included."""
    federated, ordinary, (images, labels) = network(), network(), examples(24)
    loaders = [make_loader(images, labels, batch_size=8, shuffle=True) for _ in range(2)]
    federated_averaging(federated, loaders[:1], rounds=2, epochs=2, lr=0.05, device="cpu")
    train(ordinary, loaders[1], lr=0.05, epochs=4)
    assert_same(federated, ordinary)


def test_one_local_step_of_equal_clients_is_a_step_on_the_big_batch():
    federated, ordinary, (images, labels) = still(network()), still(network()), examples(24)
    loaders = [make_loader(images[i : i + 8], labels[i : i + 8], batch_size=8) for i in (0, 8, 16)]
    start = copy.deepcopy(federated)
    federated_averaging(federated, loaders, rounds=1, lr=0.05, device="cpu")
    train(ordinary, make_loader(images, labels, batch_size=24), lr=0.05, epochs=1)
    assert_same(federated, ordinary)
    assert not torch.equal(federated.fc.weight, start.fc.weight)


def test_with_clients_of_unequal_size_it_is_the_big_batch_by_examples_not_by_clients():
    federated, ordinary, (images, labels) = still(network()), still(network()), examples(24)
    loaders = [make_loader(part, target, batch_size=24) for part, target in zip(
        images.split([4, 20]), labels.split([4, 20]), strict=True
    )]  # fmt: skip
    sent = [train_at_home(federated, loader, lr=0.05, epochs=1, device="cpu") for loader in loaders]
    train(ordinary, make_loader(images, labels, batch_size=24), lr=0.05, epochs=1)
    by_client = copy.deepcopy(federated)
    apply_change(by_client, weighted_mean([part._replace(examples=1) for part in sent]))
    apply_change(federated, weighted_mean(sent))
    assert_same(federated, ordinary)
    assert (by_client.fc.weight - ordinary.fc.weight).abs().max() > 1e-5


def test_with_batch_norm_in_training_mode_it_is_not_the_big_batch():
    federated, ordinary, (images, labels) = network(), network(), examples(24)
    loaders = [make_loader(images[i : i + 8], labels[i : i + 8], batch_size=8) for i in (0, 8, 16)]
    federated_averaging(federated, loaders, rounds=1, lr=0.05, device="cpu")
    train(ordinary, make_loader(images, labels, batch_size=24), lr=0.05, epochs=1)
    assert (federated.conv1.weight - ordinary.conv1.weight).abs().max() > 1e-6


# --- what is sent -----------------------------------------------------------------------------------------------------


def test_a_client_sends_what_changed_and_leaves_the_server_model_alone():
    model, (images, labels) = network(), examples(8)
    before = copy.deepcopy(model.state_dict())
    sent = train_at_home(model, make_loader(images, labels, batch_size=8), lr=0.1, epochs=1, device="cpu")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert sent.examples == 8
    assert "bn1.running_mean" in sent.change and not any("num_batches" in name for name in sent.change)
    without = train_at_home(
        model, make_loader(images, labels, batch_size=8), lr=0.1, epochs=1, device="cpu", send_statistics=False
    )
    assert set(without.change) == {name for name, _ in model.named_parameters()}


def test_what_is_frozen_is_not_sent():
    model, (images, labels) = network(), examples(8)
    freeze(model, ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4"])
    sent = train_at_home(model, make_loader(images, labels, batch_size=8), lr=0.1, epochs=1, device="cpu")
    assert set(sent.change) == {"fc.weight", "fc.bias"}
    assert stored_bytes(sent.change.values()) == 1290 * 8


# --- rules ------------------------------------------------------------------------------------------------------------


def test_the_mean_counts_examples_and_the_others_count_clients():
    sent = sent_by([0.0, 0.0], [2.0, 4.0], [4.0, 2.0], counts=[10, 10, 80])
    assert weighted_mean(sent)["w"].tolist() == pytest.approx([3.4, 2.0])
    assert median(sent)["w"].tolist() == [2.0, 2.0]
    assert clipped_mean(sent, limit=100.0)["w"].tolist() == pytest.approx([2.0, 2.0])


@pytest.mark.parametrize("bad", [[math.nan, 0.0], [math.inf, 0.0], [1e9, -1e9]])
def test_median_and_clipped_mean_survive_one_client_and_the_mean_does_not(bad):
    honest = [[1.0, 1.1], [1.1, 1.0], [0.9, 1.0], [1.0, 0.9]]
    sent = sent_by(*honest, bad)
    assert (median(sent)["w"] - 1).abs().max() <= 0.11
    assert (clipped_mean(sent)["w"] - 1).abs().max() <= 0.45  # a garbage direction is in it, as long as the others
    broken = weighted_mean(sent)["w"]
    assert not broken.isfinite().all() or broken.abs().max() > 1e6


def test_a_client_that_claims_a_million_examples_moves_the_mean_alone():
    sent = sent_by([1.0], [1.0], [-1.0], counts=[10, 10, 1_000_000])
    assert weighted_mean(sent)["w"].item() < -0.99
    assert median(sent)["w"].item() == 1.0


def test_clipping_limits_the_length_over_all_entries_and_keeps_the_direction():
    change = {"a": torch.tensor([3.0]), "b": torch.tensor([[0.0, 4.0]])}
    assert length(change) == 5
    clipped = clipped_mean([Sent(change, 1)], limit=1.0)
    assert length(clipped) == pytest.approx(1)
    assert clipped["a"].item() == pytest.approx(0.6) and clipped["b"][0, 1].item() == pytest.approx(0.8)
    assert clipped_mean([Sent(change, 1)], limit=10.0)["a"].item() == 3


def test_the_noise_has_the_deviation_that_is_said():
    sent = [Sent({"w": torch.zeros(20_000)}, 1) for _ in range(4)]
    noisy = clipped_mean(sent, limit=2.0, noise=3.0, generator=torch.Generator().manual_seed(0))["w"]
    assert noisy.std().item() == pytest.approx(3 * 2 / 4, rel=0.03)


@pytest.mark.parametrize(
    ("sent", "options", "words"),
    [
        (sent_by([math.nan], [math.inf]), {}, "none sent a finite change"),
        (sent_by([1.0]), dict(noise=1.0), "pass limit="),
        (sent_by([1.0]), dict(limit=0.0), "must be positive"),
        (sent_by([0.0], [0.0]), {}, "must be positive"),
        ([], {}, "No client has sent"),
    ],
)
def test_what_cannot_be_clipped_is_refused(sent, options, words):
    with pytest.raises(ValueError, match=words):
        clipped_mean(sent, **options)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_round_in_which_nothing_arrives_is_refused(rule):
    with pytest.raises(ValueError, match="nothing to average"):
        rule([])


def test_no_client_and_an_unknown_fault_are_refused():
    with pytest.raises(ValueError, match="needs a client"):
        federated_averaging(network(), [], rounds=1, lr=0.1, device="cpu")
    with pytest.raises(ValueError, match="drops out"):
        spoil_first(sent_by([1.0]), "lies")


def test_a_nan_that_the_mean_lets_in_stops_the_next_round():
    images, labels = examples(8)
    loaders = [make_loader(images, labels, batch_size=8) for _ in range(2)]
    options = dict(lr=0.1, device="cpu", in_transit=functools.partial(spoil_first, how="sends NaN"))
    with pytest.raises(TrainingDiverged):
        federated_averaging(network(), loaders, rounds=2, **options)
    model = network()
    federated_averaging(model, loaders, rounds=2, aggregate=median, **options)
    assert all(parameter.isfinite().all() for parameter in model.parameters())


# --- the digits -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["by writer", "shuffled", "by digit"])
def test_every_example_is_dealt_to_one_client(way):
    groups, labels = torch.arange(4).repeat_interleave(20), torch.arange(10).repeat(8)
    shares = deal(way, labels, groups, seed=0)
    assert [len(share) for share in shares] == [20] * 4
    assert torch.cat(shares).sort().values.tolist() == list(range(80))
    kinds = [len(labels[share].unique()) for share in shares]
    assert max(kinds) <= 6 if way == "by digit" else min(kinds) >= 6
    assert all(len(groups[share].unique()) == 1 for share in shares) == (way == "by writer")


def test_an_unknown_way_or_start_is_refused():
    with pytest.raises(ValueError, match="There are: by writer"):
        deal("by age", torch.zeros(3), torch.zeros(3), seed=0)
    with pytest.raises(ValueError, match="There are: scratch"):
        pocket_federation("warm", "by writer", seed=0)


def test_all_fourteen_writers_take_part_as_clients_or_as_newcomers():
    federation = pocket_federation("pretrained", "by writer", seed=0)
    assert len(federation.loaders) == 10
    assert [len(loader.dataset) for loader in federation.loaders] == [40] * 10
    assert len(federation.test_labels) > 450
    seen = torch.cat([loader.dataset.tensors[0] for loader in federation.loaders]).flatten(1)
    assert not (federation.test_images[:50].flatten(1)[:, None] == seen).all(dim=2).any()


# --- the stored results -----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "task", "tolerance"),
    [
        ("federated", dict(start="pretrained", way="by writer", batch_norm="averaged", epochs=1, seed=1), 0.05),
        ("federated_faults", dict(rule="median", fault="sends garbage", seed=2), 0.05),
        ("federated_noise", dict(noise=0.01, seed=0), 0.05),
    ],
)
def test_an_entry_computed_again_is_the_stored_one(name, task, tolerance):
    stored = [row for row in load_results(name) if task.items() <= row.items()]
    again = rows_of(name, task)
    assert [{**row, "accuracy": 0} for row in again] == [{**row, "accuracy": 0} for row in stored]
    for new, old in zip(again, stored, strict=True):
        loose = 2 if new.get("round", 9) < 3 else 1  # early on the curve is steep
        assert new["accuracy"] == pytest.approx(old["accuracy"], abs=loose * tolerance), (new, old)
