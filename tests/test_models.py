"""Networks: heads of every family, inputs as the weights expect them, freezing that freezes, groups, descriptions."""

import copy
import io
import re
from urllib.error import URLError

import pytest
import torch
import torch.nn as nn
import torchvision
from torchvision.transforms import v2

from course_utils.data import make_loader
from course_utils.models import (
    build_classifier,
    describe,
    freeze,
    frozen_names,
    parameter_groups,
    unfreeze,
)
from course_utils.pocket import InputSpec, TinyResNet, load_pocket_checkpoint
from course_utils.training import fit

HEADS = {  # a network of each family, with the name of its head and the size of image that the tests show it
    "tiny_resnet": ("fc", 32),
    "resnet18": ("fc", 32),
    "resnet50": ("fc", 32),
    "mobilenet_v3_small": ("classifier.3", 32),
    "efficientnet_b0": ("classifier.1", 32),
    "squeezenet1_1": ("classifier.1", 64),
}
PRETRAINED = [name for name in HEADS if name != "tiny_resnet"]  # by torchvision


def batches(size=32, count=8, classes=3):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(count, 3, size, size, generator=generator)
    return make_loader(images, torch.arange(count) % classes, batch_size=4)


def train(model, loader=None, *, epochs=1, optimizer=None, lr=0.05):
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    loss_fn = nn.CrossEntropyLoss()
    return fit(
        model,
        loader or batches(),
        None,
        loss_fn=loss_fn,
        optimizer=optimizer,
        device="cpu",
        epochs=epochs,
        progress=False,
    )


def state(model):
    return copy.deepcopy(model.state_dict())


def moved(model, before):
    """Names of all parameters and buffers that are not what they were, bit for bit."""
    return {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}


def names_in(model, *parts):
    return {name for name in model.state_dict() if name.startswith(tuple(f"{part}." for part in parts))}


def tiny(classes=3):
    torch.manual_seed(0)
    return TinyResNet(classes)


# --- building -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HEADS)
def test_every_familys_head_trains(name):
    torch.manual_seed(0)
    head, size = HEADS[name]
    model = build_classifier(name, 3)
    assert model.head_name == head
    assert model.eval()(torch.randn(2, 3, size, size)).shape == (2, 3)

    loader = batches(size, count=4)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # statistics that fit these images at once, as those of pretrained weights would
    model.train()(next(iter(loader))[0])

    freeze(model, "")
    unfreeze(model, model.head_name)
    before = state(model)
    train(model, loader, lr=0.01)
    assert moved(model, before) == {f"{head}.weight", f"{head}.bias"}

    unfreeze(model)
    before = state(model)
    train(model, loader, lr=0.01)
    weights = {name for name, parameter in model.named_parameters() if parameter.ndim > 1}
    assert len(weights & moved(model, before)) > 0.9 * len(weights)


@pytest.mark.parametrize("name", ["tiny_resnet", "mobilenet_v3_small", "squeezenet1_1"])
@pytest.mark.parametrize("classes", [1, 2, 1000])
def test_a_head_has_as_many_outputs_as_classes(name, classes):
    model = build_classifier(name, classes)
    assert model.eval()(torch.randn(1, 3, 64, 64)).shape == (1, classes)


def test_a_new_head_leaves_the_pretrained_backbone_as_it_was():
    checkpoint = load_pocket_checkpoint()["state_dict"]
    torch.manual_seed(0)
    model = build_classifier("tiny_resnet", 37, weights="DEFAULT")  # as many as the letters: still a new head
    for name, value in model.state_dict().items():
        same = torch.equal(value, checkpoint[name].to(value.dtype))
        assert same != name.startswith("fc."), name
    assert all(parameter.dtype == torch.float32 and parameter.requires_grad for parameter in model.parameters())
    torch.manual_seed(0)
    scratch = build_classifier("tiny_resnet", 37)
    assert not torch.equal(scratch.conv1.weight, model.conv1.weight)


def test_the_seed_decides_on_a_new_head():
    heads = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        heads.append(build_classifier("tiny_resnet", 5, weights="DEFAULT").fc.weight)
    assert torch.equal(heads[0], heads[1]) and not torch.equal(heads[0], heads[2])


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("tinyresnet", "tiny_resnet"),
        ("resnet_18", "resnet18"),
        ("ResNet50", "resnet50"),
        ("mobilenet_v3", "mobilenet_v3_large"),
        ("efficientnet", "efficientnet_b"),
        ("squeezenet", "squeezenet1_"),
        ("bert-base-uncased", "tiny_resnet"),
        (18, "resnet18"),
        (None, "tiny_resnet"),
    ],
)
def test_an_unknown_network_names_the_near_ones(name, near):
    with pytest.raises(ValueError, match=re.escape(f"Unknown model {name!r}. Did you mean ") + f".*{near}"):
        build_classifier(name, 3)


@pytest.mark.parametrize("classes", [0, -1, True, 2.5, "10", None])
def test_a_number_of_classes_that_is_none_is_refused(classes):
    with pytest.raises(ValueError, match=rf"num_classes must be a whole number from 1, not {classes!r}"):
        build_classifier("tiny_resnet", classes)


@pytest.mark.parametrize("weights", ["IMAGENET1K_V1", "IMAGENET", "default", True])
def test_unknown_weights_are_refused(weights):
    with pytest.raises(ValueError, match=f"None .*DEFAULT.* not {weights!r}"):
        build_classifier("resnet18", 3, weights=weights)


@pytest.mark.parametrize("error", [URLError("no route to host"), TimeoutError("timed out")])
def test_weights_that_cannot_be_downloaded_say_what_to_do(monkeypatch, error):
    def no_network(*args, **kwargs):
        raise error

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", no_network)
    with pytest.raises(ConnectionError, match="weights of resnet18 could not be downloaded.*tiny_resnet"):
        build_classifier("resnet18", 3, weights="DEFAULT")


# --- inputs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRETRAINED)
def test_the_input_spec_holds_torchvisions_own_numbers(name):
    expected = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    spec = build_classifier(name, 3).input_spec
    assert [*spec.mean, *spec.std] == [*expected.mean, *expected.std]
    assert [spec.size] == expected.crop_size


def test_the_pocket_input_spec_holds_the_checkpoints_numbers():
    checkpoint = load_pocket_checkpoint()
    spec = build_classifier("tiny_resnet", 3).input_spec
    assert spec == InputSpec(tuple(checkpoint["mean"]), tuple(checkpoint["std"]), checkpoint["size"])


@pytest.mark.parametrize("shape", [(40, 40), (224, 224), (300, 260)], ids=str)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("name", ["tiny_resnet", "resnet18"])
def test_inputs_are_prepared_as_torchvision_prepares_them(name, dtype, shape):
    spec = build_classifier(name, 3).input_spec
    images = torch.randint(0, 256, (2, 3, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    if dtype == torch.float32:
        images = images.float() / 255
    pipeline = v2.Compose(
        [
            v2.ToDtype(torch.float32, scale=True),
            v2.Resize((spec.size, spec.size), antialias=True),
            v2.Normalize(spec.mean, spec.std),
        ]
    )
    inputs = spec(images)
    assert inputs.shape == (2, 3, spec.size, spec.size) and inputs.dtype == torch.float32
    assert (inputs - pipeline(images)).abs().max() < 1 / 255  # and so within one grey level of the image


def test_undo_gives_the_image_back():
    spec = InputSpec((0.5, 0.4, 0.3), (0.2, 0.3, 0.4), size=16)
    images = torch.rand(4, 3, 16, 16)
    assert torch.allclose(spec.undo(spec(images)), images, atol=1e-6)
    shown = spec.undo(torch.randn(4, 3, 16, 16) * 9)
    assert shown.min() == 0 and shown.max() == 1


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.rand(3, 32, 32), r"\(B, 3, H, W\), got \(3, 32, 32\)"),
        (torch.rand(2, 1, 32, 32), r"got \(2, 1, 32, 32\)"),
        (torch.rand(2, 32, 32, 3), r"got \(2, 32, 32, 3\)"),
        (torch.rand(2, 3, 32, 32) * 255, r"between 0 and 1.*Divide by 255"),
        (torch.randn(2, 3, 32, 32), r"between 0 and 1, these reach from -"),
        (torch.full((2, 3, 32, 32), torch.nan), "NaN"),
    ],
)
def test_images_that_an_input_spec_cannot_take_are_refused(images, message):
    with pytest.raises(ValueError, match=message):
        build_classifier("tiny_resnet", 3).input_spec(images)


def test_images_are_not_normalised_twice():
    spec = build_classifier("tiny_resnet", 3).input_spec
    with pytest.raises(ValueError, match="between 0 and 1"):
        spec(spec(torch.rand(2, 3, 32, 32)))


# --- freezing -------------------------------------------------------------------------------------------------------

BACKBONE = ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4"]


def test_a_frozen_backbone_is_bit_identical_after_two_epochs_and_moves_after_thawing():
    model = tiny()
    freeze(model, BACKBONE)
    before = state(model)
    assert {"bn1.running_mean", "bn1.running_var", "bn1.num_batches_tracked"} <= names_in(model, *BACKBONE)
    train(model.train(), epochs=2)
    assert moved(model, before) == {"fc.weight", "fc.bias"}

    unfreeze(model, BACKBONE)
    train(model, epochs=2)
    assert moved(model, before) == set(model.state_dict())


def test_requires_grad_alone_lets_the_statistics_drift():
    """Why `freeze` does more: without it, the frozen backbone gives other features after training than before."""
    model = tiny()
    for part in BACKBONE:
        model.get_submodule(part).requires_grad_(False)
    before = state(model)
    train(model, epochs=2)
    drifted = moved(model, before) - {"fc.weight", "fc.bias"}
    assert drifted == {name for name in model.state_dict() if "running_" in name or "num_batches" in name}


class Borders(nn.Module):
    """Names that begin alike: layer1, layer10, layer1_extra."""

    def __init__(self):
        super().__init__()
        self.layer1 = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 4), nn.Sigmoid())
        self.layer10 = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 4), nn.Sigmoid())
        self.layer1_extra = nn.Linear(4, 4)
        self.scale = nn.Parameter(torch.ones(4))
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        return self.fc(self.layer1_extra(self.layer10(self.layer1(x))) * self.scale)


@pytest.mark.parametrize(
    ("names", "still"),
    [
        ("layer1", {"layer1"}),
        (["layer10"], {"layer10"}),
        (("layer1", "layer10"), {"layer1", "layer10"}),
        ("layer1.0", {"layer1.0"}),
        (["layer1.1"], {"layer1.1"}),
        ("layer1_extra.weight", {"layer1_extra.weight"}),
        (["scale", "fc.bias"], {"scale", "fc.bias"}),
        ([], set()),
    ],
)
def test_a_part_is_frozen_up_to_its_border_and_no_further(names, still):
    torch.manual_seed(0)
    model = Borders()
    freeze(model, names)
    before = state(model)
    torch.manual_seed(1)
    train(model, [(torch.randn(6, 4) + 1, torch.tensor([0, 1, 2] * 2))] * 3)
    expected = {name for name in before if any(name == part or name.startswith(part + ".") for part in still)}
    assert set(before) - moved(model, before) == expected


@pytest.mark.parametrize(("name", "size"), [("squeezenet1_1", 64), ("mobilenet_v3_small", 32)])
def test_parts_of_a_sequential_are_frozen_by_number(name, size):
    torch.manual_seed(0)
    model = build_classifier(name, 3)
    freeze(model, [f"features.{i}" for i in range(5)])
    before = state(model)
    train(model, batches(size))
    still = set(before) - moved(model, before)
    frozen = names_in(model, *(f"features.{i}" for i in range(5)))
    assert frozen <= still
    assert len(still - frozen) < 0.1 * len(before), "all later layers train"


@pytest.mark.parametrize("thaw", [lambda model: unfreeze(model), lambda model: unfreeze(model, "")])
def test_the_empty_name_is_the_whole_model(thaw):
    model = tiny()
    freeze(model, "")
    before = state(model)
    with torch.no_grad():
        model.train()(torch.randn(4, 3, 32, 32))
    assert not moved(model, before)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    thaw(model)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(module.training for module in model.modules())
    assert {type(module) for module in model.modules()} == {type(module) for module in tiny().modules()}


def through_a_file(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize(
    "passed_on",
    [nn.Module.train, lambda model: model.eval().train(), copy.deepcopy, through_a_file],
    ids=["train", "eval and train", "deepcopy", "file"],
)
def test_freezing_holds_through_modes_copies_and_files(passed_on):
    model = tiny()
    keys = list(model.state_dict())
    freeze(model, BACKBONE)
    assert list(model.state_dict()) == keys
    copied = passed_on(model)
    assert list(copied.state_dict()) == keys
    assert frozen_names(copied) == frozen_names(model)
    before = state(copied)
    train(copied, epochs=2)
    assert moved(copied, before) == {"fc.weight", "fc.bias"}
    unfreeze(copied)
    train(copied)
    assert moved(copied, before) == set(keys)


def test_a_thawed_copy_leaves_the_original_frozen():
    model = tiny()
    freeze(model, BACKBONE)
    copied = copy.deepcopy(model)
    unfreeze(copied)
    assert copied.train().bn1.training and not model.train().bn1.training
    assert frozen_names(copied) == {"parameters": [], "batch_norms": []}
    assert not model.conv1.weight.requires_grad


def test_weights_go_from_a_frozen_network_to_a_thawed_one_and_back():
    frozen, thawed = tiny(), tiny()
    freeze(frozen, BACKBONE)
    train(thawed)
    frozen.load_state_dict(thawed.state_dict())
    assert not moved(frozen, thawed.state_dict())
    assert not frozen.train().bn1.training
    thawed.load_state_dict(frozen.state_dict())


def test_thawing_follows_the_mode_of_the_model():
    model = tiny().eval()
    freeze(model, "bn1")
    unfreeze(model, "bn1")
    assert not model.bn1.training
    freeze(model.train(), "bn1")
    unfreeze(model, "bn1")
    assert model.bn1.training


@pytest.mark.parametrize(
    ("layer", "shape"),
    [(nn.BatchNorm1d, (6, 4)), (nn.BatchNorm2d, (6, 4, 3, 3)), (nn.BatchNorm3d, (6, 4, 2, 2, 2))],
)
def test_batch_norm_of_every_dimension_stands_still_when_frozen(layer, shape):
    torch.manual_seed(0)
    model = nn.Sequential(layer(4))
    train_input = torch.randn(shape) * 3 + 2
    model.train()(train_input)
    freeze(model, "0")
    before = state(model)
    assert torch.equal(model.train()(train_input), copy.deepcopy(model).eval()(train_input))
    assert not moved(model, before)
    unfreeze(model, "0")
    model.train()(train_input)
    assert moved(model, before) == {"0.running_mean", "0.running_var", "0.num_batches_tracked"}


def test_synchronised_batch_norm_stands_still_when_frozen():
    model = nn.SyncBatchNorm.convert_sync_batchnorm(tiny())
    assert isinstance(model.bn1, nn.SyncBatchNorm)
    freeze(model, "")
    before = state(model)
    model.train()(torch.randn(4, 3, 32, 32))  # not frozen, it would ask for a GPU
    assert not moved(model, before)
    unfreeze(model)
    assert model.bn1.training and type(model.bn1) is nn.SyncBatchNorm


class OwnBatchNorm(nn.BatchNorm2d):
    """As model collections have them: a subclass."""


@pytest.mark.parametrize("layer", [OwnBatchNorm(4), nn.InstanceNorm2d(4, track_running_stats=True)])
def test_every_layer_with_running_statistics_stands_still_when_frozen(layer):
    model = nn.Sequential(nn.Conv2d(3, 4, 1), layer)
    freeze(model, "")
    before = state(model)
    copied = copy.deepcopy(through_a_file(model))
    for frozen in (model, copied):
        frozen.train()(torch.randn(2, 3, 4, 4) + 3)
        assert not moved(frozen, before)
    unfreeze(copied)
    copied.train()(torch.randn(2, 3, 4, 4) + 3)
    assert moved(copied, before) and not model.train()[1].training


def test_tied_weights_are_frozen_by_each_of_their_names():
    model = nn.ModuleDict({"embed": nn.Embedding(5, 4), "decoder": nn.Linear(4, 5, bias=False)})
    model["decoder"].weight = model["embed"].weight
    for name in ("embed", "decoder", "decoder.weight"):
        freeze(model, name)
        assert not model["embed"].weight.requires_grad
        unfreeze(model, name)
        assert model["embed"].weight.requires_grad


OPTIMISERS = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.1),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
}


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_neither_momentum_nor_weight_decay_moves_a_part_frozen_in_mid_training(optimiser):
    model = tiny()
    optimizer = OPTIMISERS[optimiser](model.parameters())
    train(model, optimizer=optimizer)
    assert any(state_of for state_of in optimizer.state.values()), "there is momentum"
    freeze(model, ["conv1", "bn1", "layer1"])
    before = state(model)
    train(model, optimizer=optimizer, epochs=2)
    still = names_in(model, "conv1", "bn1", "layer1")
    assert moved(model, before) == set(before) - still
    unfreeze(model)
    train(model, optimizer=optimizer)
    assert moved(model, before) == set(before)


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("set_to_none", [True, False])
def test_an_old_gradient_does_not_move_a_part_frozen_between_two_steps(optimiser, set_to_none):
    """A loop written by hand, frozen just before the optimiser's step, where the gradients stand already."""
    model = tiny().train()
    optimizer = OPTIMISERS[optimiser](model.parameters())
    inputs, labels = torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 0])
    for step in range(4):
        optimizer.zero_grad(set_to_none=set_to_none)
        nn.functional.cross_entropy(model(inputs), labels).backward()
        if step == 1:
            freeze(model, BACKBONE)
            before = state(model)
        optimizer.step()
    assert moved(model, before) == {"fc.weight", "fc.bias"}


@pytest.mark.parametrize("change", [freeze, unfreeze])
@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("layer5", "layer"),
        ("conv1.wieght", "conv1.weight"),
        ("layer", "layer4, layer3"),
        ("layer1.", "layer1"),
        ("features.0", "conv1, bn1"),
    ],
)
def test_an_unknown_part_names_the_near_ones_and_nothing_is_frozen(change, name, near):
    model = tiny()
    with pytest.raises(ValueError, match=re.escape(f"no part {name!r}. Did you mean one of ") + f".*{near}"):
        change(model, ["conv1", name])
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_what_is_frozen_can_be_asked_and_frozen_again():
    model = tiny()
    freeze(model, ["bn1", "layer2.0.conv1"])
    frozen = frozen_names(model)
    assert frozen == {"parameters": ["bn1.weight", "bn1.bias", "layer2.0.conv1.weight"], "batch_norms": ["bn1"]}
    other = tiny()
    freeze(other, frozen["parameters"] + frozen["batch_norms"])
    assert frozen_names(other) == frozen


# --- groups and description -----------------------------------------------------------------------------------------


def rates(model, groups):
    """{parameter's name: learning rate}; fails where a parameter is in two groups or in none."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = [(names[id(parameter)], group["lr"]) for group in groups for parameter in group["params"]]
    assert len(found) == len(names) == len(dict(found))
    return dict(found)


def test_the_longest_name_decides_on_a_parameters_rate():
    model = tiny()
    groups = parameter_groups(
        model, {"layer4": 1e-3, "layer4.0.bn2": 5e-3, "fc.bias": 0.5, "fc": 1e-2}, default_lr=1e-4
    )
    found = rates(model, groups)
    assert found["layer4.0.conv1.weight"] == 1e-3
    assert found["layer4.0.bn2.weight"] == found["layer4.0.bn2.bias"] == 5e-3
    assert found["fc.weight"] == 1e-2 and found["fc.bias"] == 0.5
    assert found["conv1.weight"] == found["layer3.0.conv1.weight"] == 1e-4
    assert [group["name"] for group in groups] == ["layer4", "layer4.0.bn2", "fc.bias", "fc", "rest"]


def test_a_groups_name_ends_at_a_border():
    model = Borders()
    found = rates(model, parameter_groups(model, {"layer1": 1.0}, default_lr=0.1))
    assert {name for name, rate in found.items() if rate == 1.0} == names_in(model, "layer1") & set(found)


def test_groups_may_name_every_part_and_need_no_rest():
    model = tiny()
    found = rates(model, parameter_groups(model, {**dict.fromkeys(BACKBONE, 1e-3), "fc": 1e-2}))
    assert set(found.values()) == {1e-3, 1e-2}
    assert rates(model, parameter_groups(model, {"": 1e-3, "fc": 1e-2})) == found


@pytest.mark.parametrize(
    ("rates", "default", "message"),
    [
        ({"fc": 1e-2}, None, "No learning rate is given for conv1.weight: name its part, or set default_lr"),
        ({"fv": 1e-2}, 1e-3, "No parameter is left for 'fv'. Parts: conv1, bn1, .*fc"),
        ({"relu": 1e-2}, 1e-3, "No parameter is left for 'relu'"),
        ({"fc": 0.0}, 1e-3, "'fc' must be positive, not 0.0"),
        ({"fc": -1e-3}, 1e-3, "must be positive, not -0.001"),
        ({"fc": float("nan")}, 1e-3, "must be positive, not nan"),
        ({"fc": 1e-2}, 0.0, "must be positive, not 0.0"),
    ],
)
def test_groups_that_cannot_be_meant_are_refused(rates, default, message):
    with pytest.raises(ValueError, match=message):
        parameter_groups(tiny(), rates, default_lr=default)


def test_frozen_parameters_are_in_their_group_and_train_once_thawed():
    model = tiny()
    freeze(model, BACKBONE)
    optimizer = torch.optim.SGD(parameter_groups(model, {"fc": 1e-2}, default_lr=1e-2), lr=1e-2)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))
    before = state(model)
    train(model, optimizer=optimizer)
    assert moved(model, before) == {"fc.weight", "fc.bias"}
    unfreeze(model, "layer4")
    train(model, optimizer=optimizer)
    assert moved(model, before) == names_in(model, "fc", "layer4")


def test_each_group_learns_at_its_own_rate():
    model = tiny()
    torch.manual_seed(0)
    inputs, labels = next(iter(batches()))
    optimizer = torch.optim.SGD(parameter_groups(model, {"fc": 0.5}, default_lr=0.01), lr=1.0)
    nn.functional.cross_entropy(model(inputs), labels).backward()
    before = copy.deepcopy(model)
    optimizer.step()
    for (name, old), new in zip(before.named_parameters(), model.parameters(), strict=True):
        rate = 0.5 if name.startswith("fc.") else 0.01
        assert torch.allclose(old - new, rate * new.grad, atol=1e-6), name


def table(model):
    """The description's rows: {part: (parameters, trainable)}."""
    rows = [line.split() for line in describe(model).splitlines()]
    assert rows[0] == ["part", "parameters", "trainable"]
    return {part: (int(all_.replace(",", "")), int(train_.replace(",", ""))) for part, all_, train_ in rows[1:]}


def test_a_description_counts_what_is_there_and_what_trains():
    model = TinyResNet(10)
    freeze(model, ["conv1", "bn1", "layer1", "layer2", "layer4.0.conv1"])
    rows = table(model)
    assert list(rows) == ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc", "total"]
    for part, (count, trainable) in rows.items():
        parameters = list((model if part == "total" else model.get_submodule(part)).parameters())
        assert count == sum(parameter.numel() for parameter in parameters)
        assert trainable == sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    assert rows["total"][0] == 308_826, "what the course quotes"
    assert rows["layer2"][1] == 0 and 0 < rows["layer4"][1] < rows["layer4"][0]
    for column in (0, 1):
        assert rows["total"][column] == sum(row[column] for part, row in rows.items() if part != "total")


def test_a_description_counts_parameters_that_lie_in_no_part():
    rows = table(Borders())
    assert rows["(itself)"] == (4, 4)
    assert rows["total"] == (sum(parameter.numel() for parameter in Borders().parameters()),) * 2
    lines = describe(Borders()).splitlines()
    assert len({len(line) for line in lines}) == 1, "the columns stand under each other"


def test_squeezenet_s_new_head_gives_logits_of_both_signs():
    """torchvision's own ends in a ReLU, under which a class whose logit is negative would never learn again."""
    torch.manual_seed(0)
    logits = build_classifier("squeezenet1_1", 10).eval()(torch.randn(4, 3, 64, 64))
    assert logits.min() < 0 < logits.max()
