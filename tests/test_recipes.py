"""The recipes: each trains what it says and nothing else, from the weights that it says, at the rates that it says."""

import pytest
import torch
import torch.nn as nn

from course_utils import recipes
from course_utils.data import load_digits_rgb, make_loader
from course_utils.models import build_classifier, freeze, unfreeze
from course_utils.recipes import RATES, fine_tune

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def digits():
    data = load_digits_rgb()
    return data.images[:20], data.labels[:20]


@pytest.fixture
def watch(monkeypatch):
    """What `fit` is given: the model as it is before training, the optimiser, and what trains in each epoch."""
    seen = {"trains": []}
    original = recipes.fit

    def fit(model, loader, val_loader, *, optimizer, before_epoch, **options):
        seen.update(start={name: value.clone() for name, value in model.state_dict().items()}, optimizer=optimizer)
        seen.update(options=options, val_loader=val_loader, rates=[group["max_lr"] for group in optimizer.param_groups])

        def before(epoch):
            before_epoch(epoch)
            seen["trains"].append({name for name, parameter in model.named_parameters() if parameter.requires_grad})

        return original(model, loader, val_loader, optimizer=optimizer, before_epoch=before, **options)

    monkeypatch.setattr(recipes, "fit", fit)
    return seen


def run(recipe, digits, *, steps=4, seed=0, **options):
    """Each of the 20 digits in each step, so that a step is an epoch."""
    return fine_tune(recipe, *digits, num_classes=10, seed=seed, device=CPU, steps=steps, **options)


def moved(model, start):
    return {name for name, value in model.state_dict().items() if not torch.equal(value, start[name])}


HEAD = {"fc.weight", "fc.bias"}


@pytest.mark.parametrize("recipe", RATES)
def test_every_recipe_starts_from_the_weights_that_it_names(recipe, digits, watch):
    model, history = run(recipe, digits, steps=1)
    pretrained = build_classifier("tiny_resnet", 10, weights="DEFAULT").state_dict()
    same = {name for name, value in watch["start"].items() if torch.equal(value, pretrained[name])}
    if recipe == "scratch":
        weights = {name for name, parameter in model.named_parameters() if parameter.ndim > 1}
        assert not same & weights and "layer1.0.conv1.weight" in weights
    else:
        assert same == set(pretrained) - HEAD
    assert len(history.step_loss) == 1


@pytest.mark.parametrize("recipe", ["scratch", "full", "discriminative"])
def test_where_everything_trains_everything_moves(recipe, digits, watch):
    model, _ = run(recipe, digits)
    assert moved(model, watch["start"]) == set(model.state_dict())
    assert watch["trains"] == [{name for name, _ in model.named_parameters()}] * 4


def test_a_probe_leaves_the_backbone_bit_identical(digits, watch):
    model, _ = run("probe", digits)
    assert moved(model, watch["start"]) == HEAD
    assert watch["trains"] == [HEAD] * 4


def test_gradual_unfreezing_goes_from_the_head_down_to_everything(digits, watch):
    model, _ = run("gradual", digits, steps=20)
    parts = [sorted({name.split(".")[0] for name in trains}) for trains in watch["trains"]]
    everything = ["bn1", "conv1", "fc", "layer1", "layer2", "layer3", "layer4"]
    assert parts == [
        *[["fc"]] * 4,
        *[["fc", "layer4"]] * 4,
        *[["fc", "layer3", "layer4"]] * 4,
        *[["fc", "layer2", "layer3", "layer4"]] * 2,
        *[["fc", "layer1", "layer2", "layer3", "layer4"]] * 2,
        *[everything] * 4,
    ]
    assert moved(model, watch["start"]) == set(model.state_dict())
    assert watch["trains"][-1] == {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize("recipe", RATES)
def test_head_and_backbone_learn_at_the_recipes_rates(recipe, digits, watch):
    model, history = run(recipe, digits, steps=20)
    groups = {group["name"]: group for group in watch["optimizer"].param_groups}
    assert set(groups) == {"fc", "rest"}
    assert (groups["fc"]["max_lr"], groups["rest"]["max_lr"]) == RATES[recipe]
    assert {id(parameter) for parameter in groups["fc"]["params"]} == {
        id(parameter) for parameter in model.fc.parameters()
    }
    assert sum(len(group["params"]) for group in groups.values()) == len(list(model.parameters()))
    assert all(group["weight_decay"] == 0.01 for group in groups.values())

    rates = history.step_lr
    assert len(rates) == 20
    assert max(rates) == pytest.approx(RATES[recipe][0]) and rates.index(max(rates)) == 1, "a tenth of warm-up"
    assert rates[1:] == sorted(rates[1:], reverse=True) and rates[-1] < 0.02 * rates[1]


def test_other_rates_can_be_given(digits, watch):
    run("full", digits, rates=(0.5, 0.25))
    assert watch["rates"] == [0.5, 0.25]


def test_leaky_freezing_moves_the_statistics_but_not_the_weights(digits, watch):
    model, _ = run("probe", digits, steps=2, batch_norm="moving")
    statistics = {name for name in model.state_dict() if "running_" in name or "num_batches" in name}
    assert len(statistics) == 36
    assert moved(model, watch["start"]) == HEAD | statistics
    assert watch["trains"] == [HEAD] * 2


def test_leaky_gradual_unfreezing_thaws_at_the_same_steps(digits, watch):
    run("gradual", digits, steps=11)
    tight = list(watch["trains"])
    watch["trains"].clear()
    run("gradual", digits, steps=11, batch_norm="moving")
    assert watch["trains"] == tight and tight[0] == HEAD


def test_the_same_seed_gives_the_same_numbers(digits):
    model, history = run("full", digits, seed=1)
    torch.randn(3)
    again, same = run("full", digits, seed=1)
    assert same == history and not moved(again, model.state_dict())
    other, another = run("full", digits, seed=2)
    assert another.step_loss[0] != history.step_loss[0]


def test_a_recipe_learns_the_digits_it_is_shown(digits):
    loader = make_loader(*digits, batch_size=20)
    _, history = run("full", digits, steps=15, augment=None, val_loader=loader)
    assert history["val_accuracy"][0] < 0.5 and history["val_accuracy"][-1] > 0.9


def test_options_reach_fit_and_steps_are_rounded_to_whole_epochs(digits, watch, tmp_path):
    model, history = run("probe", digits, steps=7, batch_size=8, checkpoint=tmp_path / "c.pt")
    assert len(history.step_loss) == 8 and len(history.epochs) == 4, "two full batches of eight an epoch"
    assert (tmp_path / "c.pt").exists()
    assert watch["val_loader"] is None
    assert isinstance(watch["options"]["loss_fn"], nn.CrossEntropyLoss)


def test_an_unknown_recipe_names_those_that_there_are(digits):
    with pytest.raises(
        ValueError, match="Unknown recipe 'prob'. There are: scratch, probe, full, discriminative, gradual"
    ):
        run("prob", digits)


def test_a_probe_is_the_two_calls_that_a_lesson_makes(digits, watch):
    """The recipe against freezing by hand: the same parts train."""
    by_hand = build_classifier("tiny_resnet", 10, weights="DEFAULT")
    freeze(by_hand, "")
    unfreeze(by_hand, by_hand.head_name)
    model, _ = run("probe", digits, steps=1)
    for one, other in zip(model.modules(), by_hand.modules(), strict=True):
        assert type(one) is type(other)
    assert [p.requires_grad for p in model.parameters()] == [p.requires_grad for p in by_hand.parameters()]


@pytest.mark.parametrize("steps", [1, 2, 4, 10])
def test_a_short_gradual_unfreezing_ends_with_everything_too(digits, watch, steps):
    model, history = run("gradual", digits, steps=steps)
    assert len(history.step_loss) == steps
    assert watch["trains"][-1] == {name for name, _ in model.named_parameters()}


def test_gradual_unfreezing_of_a_network_without_stages_is_refused_before_it_trains(digits, monkeypatch):
    monkeypatch.setattr(recipes, "build_classifier", lambda name, classes, weights: build_classifier(name, classes))
    with pytest.raises(ValueError, match="parts of a ResNet; squeezenet1_1 has others"):
        run("gradual", digits, name="squeezenet1_1")


def test_batch_norm_can_be_held_still_while_all_else_trains(digits):
    before = build_classifier("tiny_resnet", 10, weights="DEFAULT").state_dict()
    model, _ = run("full", digits, steps=4, batch_norm="frozen")
    held = [name for name in before if "bn" in name or "downsample.1" in name]
    assert len(held) == 60
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) == (name in held), name


def test_an_unknown_way_with_batch_norm_is_refused(digits):
    with pytest.raises(ValueError, match="with its layers, moving, frozen"):
        run("full", digits, batch_norm="off")
