"""LoRA is exact at its start and after merging, trains what it says, and is what peft computes; int8 storage."""

import copy

import pytest
import torch
import torch.nn as nn

from course_utils.beyond.efficient import (
    METHODS,
    LoRA,
    add_lora,
    choose_what_trains,
    from_int8,
    merge_lora,
    round_frozen_to_int8,
    stored_bytes,
    task_state,
    to_int8,
)
from course_utils.data import make_loader
from course_utils.models import build_classifier, freeze
from course_utils.recipes import tune

LAYERS = {
    "linear": (lambda: nn.Linear(12, 7), (5, 12)),
    "linear without bias": (lambda: nn.Linear(12, 7, bias=False), (5, 12)),
    "convolution": (lambda: nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), (2, 3, 9, 9)),
    "dilated": (lambda: nn.Conv2d(3, 8, (3, 1), padding=(2, 0), dilation=2, padding_mode="reflect"), (2, 3, 9, 9)),
    "1 x 1": (lambda: nn.Conv2d(4, 6, 1), (2, 4, 5, 5)),
}
each_layer = pytest.mark.parametrize("name", LAYERS)


def lora_layer(name: str, *, trained: bool, rank: int = 3) -> tuple[LoRA, torch.Tensor]:
    """A layer with LoRA, its `up` filled as a training would, and an input."""
    make, shape = LAYERS[name]
    torch.manual_seed(0)
    wrapped = LoRA(make().double(), rank=rank)
    if trained:
        nn.init.normal_(wrapped.up.weight)
    return wrapped, torch.randn(shape, dtype=torch.float64)


def pocket(method: str, rank: int = 4) -> nn.Module:
    torch.manual_seed(0)
    model = build_classifier("tiny_resnet", 10, weights="DEFAULT")
    choose_what_trains(model, method, rank=rank)
    return model


def batch(count: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 3, 32, 32, generator=generator), torch.randint(10, (count,), generator=generator)


# --- a layer ----------------------------------------------------------------------------------------------------------


@each_layer
def test_the_start_is_the_old_layer_exactly(name):
    wrapped, x = lora_layer(name, trained=False)
    assert torch.equal(wrapped(x), wrapped.layer(x))


@each_layer
def test_merged_is_unmerged(name):
    wrapped, x = lora_layer(name, trained=True)
    before, plain = wrapped(x), wrapped.layer(x)
    merged = wrapped.merged()
    assert type(merged) in (nn.Linear, nn.Conv2d)
    torch.testing.assert_close(merged(x), before)
    assert not torch.allclose(before, plain)


@each_layer
def test_the_correction_has_the_rank(name):
    wrapped, _ = lora_layer(name, trained=True, rank=2)
    correction = wrapped.correction()
    assert correction.shape == wrapped.layer.weight.shape
    assert torch.linalg.matrix_rank(correction.flatten(1)) == 2


def test_only_the_correction_gets_gradients():
    wrapped, x = lora_layer("convolution", trained=True)
    wrapped(x).square().sum().backward()
    assert {name for name, p in wrapped.named_parameters() if p.grad is not None} == {"down.weight", "up.weight"}


@pytest.mark.parametrize("rank", [0, -1, 1.5, True])
def test_a_bad_rank_is_refused(rank):
    with pytest.raises(ValueError, match="rank"):
        LoRA(nn.Linear(3, 3), rank=rank)


@pytest.mark.parametrize("layer", [nn.BatchNorm2d(3), nn.Conv2d(4, 4, 3, groups=4)])
def test_another_layer_is_refused(layer):
    with pytest.raises(ValueError, match="LoRA here takes"):
        LoRA(layer, rank=1)


@pytest.mark.parametrize("name", ["linear", "convolution"])
def test_peft_computes_the_same(name):
    peft = pytest.importorskip("peft", reason="the library peft is not installed: pip install peft")
    ours, x = lora_layer(name, trained=True)
    config = peft.LoraConfig(r=3, lora_alpha=8, target_modules=["0"])
    theirs = peft.get_peft_model(nn.Sequential(copy.deepcopy(ours.layer)), config)
    layer = theirs.base_model.model[0].double()
    assert torch.equal(theirs(x), ours.layer(x))
    layer.lora_A["default"].load_state_dict(ours.down.state_dict())
    layer.lora_B["default"].load_state_dict(ours.up.state_dict())
    assert layer.scaling["default"] == ours.scale
    torch.testing.assert_close(theirs(x), ours(x))
    torch.testing.assert_close(theirs.merge_and_unload()[0].weight, ours.merged().weight)


# --- a network --------------------------------------------------------------------------------------------------------


def test_the_pocket_network_starts_as_the_pretrained_one():
    images, _ = batch()
    torch.manual_seed(0)
    plain = build_classifier("tiny_resnet", 10, weights="DEFAULT").eval()
    assert torch.equal(pocket("lora").eval()(images), plain(images))


@pytest.mark.parametrize("method", METHODS)
def test_what_trains_is_what_is_stored_and_nothing_else_moves(method):
    """Put into a fresh model, the stored part gives the trained model back, bit for bit."""
    model, images, labels = pocket(method), *batch()
    before = copy.deepcopy(model.state_dict())
    tune(model, make_loader(images, labels, batch_size=12), rates=(1e-2, 1e-2), epochs=6, device="cpu")
    state = task_state(model)
    counts = "num_batches_tracked"  # how often a mean was updated: nothing is computed with it
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert {name for name in moved if not name.endswith(counts)} == set(state)
    again = pocket(method)
    again.load_state_dict(state, strict=False)
    assert torch.equal(again.eval()(images), model.eval()(images))


def test_trained_parameters_and_bytes_are_ordered():
    models = {method: pocket(method) for method in METHODS}
    trained = {m: sum(p.numel() for p in model.parameters() if p.requires_grad) for m, model in models.items()}
    size = {method: stored_bytes(task_state(model).values()) for method, model in models.items()}
    assert trained["probe"] == 1290 and trained["full"] == 308_826
    for counts in (trained, size):
        assert counts["probe"] < counts["batch norm"] < counts["lora"] < counts["full"]
    assert size["probe"] == 4 * trained["probe"]
    assert size["batch norm"] > 4 * trained["batch norm"]  # the statistics move too


def test_merging_a_network_gives_the_old_names_and_the_new_outputs():
    model, images, labels = pocket("lora"), *batch()
    tune(model, make_loader(images, labels, batch_size=12), rates=(1e-2, 1e-2), epochs=6, device="cpu")
    wanted = model.eval()(images)
    merge_lora(model)
    plain = build_classifier("tiny_resnet", 10)
    plain.load_state_dict(model.state_dict())
    torch.testing.assert_close(plain.eval()(images), wanted, rtol=1e-4, atol=1e-4)


def test_the_layers_draw_their_random_numbers_in_the_order_of_the_model():
    """And not in that of a set of names, which is another in every process."""
    model = build_classifier("tiny_resnet", 10)
    first, second = copy.deepcopy(model.conv1), copy.deepcopy(model.layer1[0].conv1)
    torch.manual_seed(1)
    add_lora(model, rank=2)
    torch.manual_seed(1)
    for alone, inside in ((first, model.conv1), (second, model.layer1[0].conv1)):
        assert torch.equal(LoRA(alone, rank=2).down.weight, inside.down.weight)


def test_lora_twice_or_an_unknown_name_is_refused():
    model = pocket("lora")
    with pytest.raises(ValueError, match="already"):
        add_lora(model, rank=2)
    with pytest.raises(ValueError, match="head"):
        add_lora(build_classifier("tiny_resnet", 10), rank=2, skip=["head"])


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="There are: probe"):
        choose_what_trains(build_classifier("tiny_resnet", 10), "adapter")


def test_what_is_frozen_by_hand_is_not_stored():
    model = build_classifier("tiny_resnet", 10)
    freeze(model, ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4"])
    assert set(task_state(model)) == {"fc.weight", "fc.bias"}


# --- int8 -------------------------------------------------------------------------------------------------------------


def test_int8_is_off_by_half_a_step_at_most_in_each_channel():
    torch.manual_seed(0)
    weight = torch.randn(6, 4, 3, 3) * torch.tensor([1e-3, 1, 1, 5, 10, 100]).view(-1, 1, 1, 1)
    values, scale = to_int8(weight)
    assert values.dtype == torch.int8 and scale.shape == (6, 1, 1, 1)
    assert ((from_int8(values, scale) - weight).abs() <= scale / 2 * 1.001).all()
    assert (values.flatten(1).abs().amax(1) == 127).all()


def test_a_channel_of_zeros_stays_zero_and_nan_is_refused():
    assert torch.equal(from_int8(*to_int8(torch.zeros(2, 3))), torch.zeros(2, 3))
    with pytest.raises(ValueError, match="NaN"):
        to_int8(torch.tensor([[float("nan")]]))


def test_frozen_weights_alone_are_rounded():
    model = pocket("lora")
    nn.init.normal_(model.layer1[0].conv1.up.weight)
    before = copy.deepcopy(model.state_dict())
    float_bytes, int8_bytes = round_frozen_to_int8(model)
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {name for name in before if name.endswith(".layer.weight")}
    convolutions = sum(before[name].numel() for name in moved)
    assert float_bytes == 4 * convolutions and convolutions < int8_bytes < 0.3 * float_bytes
    assert not torch.equal(before["conv1.layer.weight"], model.conv1.layer.weight)
