"""FGSM and PGD stay within epsilon and in range, raise the loss, and leave the model alone."""

import functools

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

from course_utils.beyond.attacks import (
    Attacked,
    OnPixels,
    fgsm,
    input_gradient,
    pgd,
    robust_accuracy,
    train_against_attacks,
)
from course_utils.data import load_digits_rgb, make_loader
from course_utils.models import build_classifier
from course_utils.training import accuracy, evaluate

EPSILON = 16 / 255
ATTACKS = {
    "fgsm": fgsm,
    "pgd": functools.partial(pgd, steps=4),
    "pgd, huge steps": functools.partial(pgd, steps=3, step_size=1.0),
}
each_attack = pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)


@pytest.fixture(scope="module")
def case():
    """A model on pixels that reads digits a little, images between 0 and 1, labels. It is the same for every test."""
    torch.manual_seed(0)
    data, pocket = load_digits_rgb(), build_classifier("tiny_resnet", 10, weights="DEFAULT")
    images, labels = data.images[:60], data.labels[:60]
    optimizer = torch.optim.AdamW(pocket.parameters(), lr=3e-3)
    for _ in range(8):
        optimizer.zero_grad()
        F.cross_entropy(pocket(images), labels).backward()
        optimizer.step()
    optimizer.zero_grad()
    return OnPixels(pocket).eval(), pocket.input_spec.undo(images), labels


def test_on_pixels_is_the_model_on_normalised_images(case):
    model, images, _ = case
    spec = model.model.input_spec
    assert torch.equal(model(images), model.model(spec(images)))


@each_attack
@pytest.mark.parametrize("epsilon", [0, 1 / 255, EPSILON, 1])
def test_the_change_is_within_epsilon_and_the_result_a_picture(case, attack, epsilon):
    model, images, labels = case
    attacked = attack(model, images, labels, epsilon=epsilon)
    assert attacked.shape == images.shape and attacked.dtype == images.dtype and not attacked.requires_grad
    assert (attacked - images).abs().max() <= epsilon + 1e-6
    assert attacked.min() >= 0 and attacked.max() <= 1
    assert torch.equal(attacked, images) == (epsilon == 0)


def test_a_random_start_stays_within_epsilon_and_follows_its_generator(case):
    one, same, other = (
        pgd(*case, epsilon=EPSILON, steps=1, step_size=1e-4, generator=torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1)
    )
    assert torch.equal(one, same) and not torch.equal(one, other)
    for attacked in (one, other):
        assert EPSILON / 2 < (attacked - case[1]).abs().max() <= EPSILON + 1e-6
        assert attacked.min() >= 0 and attacked.max() <= 1


def test_one_full_step_of_pgd_is_fgsm(case):
    for epsilon in (2 / 255, EPSILON):
        torch.testing.assert_close(
            pgd(*case, epsilon=epsilon, steps=1, step_size=epsilon), fgsm(*case, epsilon=epsilon), rtol=0, atol=1e-6
        )


@each_attack
def test_the_loss_rises_and_more_with_a_larger_epsilon(case, attack):
    model, images, labels = case
    with torch.no_grad():
        losses = [
            F.cross_entropy(model(attack(model, images, labels, epsilon=step / 255)), labels) for step in (0, 4, 8, 16)
        ]
    assert losses[0] == F.cross_entropy(model(images), labels)
    if attack is not ATTACKS["pgd, huge steps"]:  # which jumps from corner to corner
        assert all(before < after for before, after in zip(losses, losses[1:], strict=False))
    assert all(loss > losses[0] for loss in losses[1:])


def test_more_steps_find_more(case):
    model, images, labels = case
    one, ten = (pgd(model, images, labels, epsilon=EPSILON, steps=steps) for steps in (1, 10))
    assert F.cross_entropy(model(ten), labels) > F.cross_entropy(model(one), labels)


@pytest.mark.parametrize("training", [True, False])
@each_attack
def test_the_model_is_left_as_it_was(case, attack, training):
    """Weights, statistics, modes, and the gradients that a training step has just computed."""
    model, images, labels = case
    model.train(training)
    model.model.bn1.eval()  # one layer is held in another mode than the rest
    F.cross_entropy(model(images), labels).backward()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    modes = [module.training for module in model.modules()]
    attack(model, images, labels, epsilon=EPSILON)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(torch.equal(parameter.grad, gradients[name]) for name, parameter in model.named_parameters())
    assert [module.training for module in model.modules()] == modes
    assert all(parameter.requires_grad for parameter in model.parameters())
    model.zero_grad()
    model.eval()


@each_attack
def test_the_mode_that_the_model_is_in_changes_nothing(case, attack):
    model, images, labels = case
    wanted = attack(model, images, labels, epsilon=EPSILON)
    attacked = attack(model.train(), images, labels, epsilon=EPSILON)
    model.eval()
    assert torch.equal(attacked, wanted)


def test_an_image_is_attacked_alike_whatever_stands_beside_it(case):
    """The loss is summed and not averaged, so the gradient of one image does not depend on the size of the batch."""
    model, images, labels = case
    together, alone = input_gradient(*case)[:2], input_gradient(model, images[:2], labels[:2])
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-5)


@each_attack
def test_normalised_images_and_epsilon_in_255ths_are_refused(case, attack):
    model, images, labels = case
    with pytest.raises(ValueError, match="OnPixels"):
        attack(model, model.model.input_spec(images), labels, epsilon=EPSILON)
    with pytest.raises(ValueError, match="OnPixels"):
        attack(model, images * torch.nan, labels, epsilon=EPSILON)
    for epsilon in (8, -0.1, float("nan")):
        with pytest.raises(ValueError, match="8 / 255"):
            attack(model, images, labels, epsilon=epsilon)


def test_no_step_is_refused(case):
    with pytest.raises(ValueError, match="1 step or more"):
        pgd(*case, epsilon=EPSILON, steps=0)


def test_an_attacked_loader_keeps_labels_and_length_and_lowers_the_accuracy(case):
    model, images, labels = case
    loader = make_loader(images, labels, batch_size=25)
    attacked = Attacked(loader, model, functools.partial(pgd, epsilon=EPSILON, steps=5))
    assert len(attacked) == len(loader) == 3
    assert torch.equal(torch.cat([batch_labels for _, batch_labels in attacked]), labels)
    options = dict(loss_fn=nn.CrossEntropyLoss(), device="cpu", metrics={"accuracy": accuracy})
    assert evaluate(model, attacked, **options)["accuracy"] < evaluate(model, loader, **options)["accuracy"] - 0.3


def test_robust_accuracy_without_an_attack_is_accuracy(case):
    model, images, labels = case
    right = (model(images).argmax(dim=1) == labels).float().mean()
    assert robust_accuracy(model, images, labels, lambda model, images, labels: images) == pytest.approx(right.item())
    attack = functools.partial(fgsm, epsilon=EPSILON)
    assert robust_accuracy(model, images, labels, attack, batch_size=7) < right - 0.2


def test_a_short_adversarial_training_can_be_repeated_and_is_one(case):
    """Trained against attacks, the loss under attack is lower than after as many steps on clean images."""
    _, images, labels = case
    options = dict(num_classes=10, seed=0, device="cpu", attack_steps=1, steps=12)
    one, same, clean = (
        train_against_attacks("pretrained", images, labels, epsilon=epsilon, **options).eval()
        for epsilon in (EPSILON, EPSILON, 0)
    )
    assert torch.equal(one(images), same(images))
    assert clean.head_name == "model.fc"
    losses = [F.cross_entropy(m(fgsm(m, images, labels, epsilon=EPSILON)), labels) for m in (one, clean)]
    assert losses[0] < losses[1]


def test_another_start_is_refused(case):
    with pytest.raises(ValueError, match="There are: scratch"):
        train_against_attacks("imagenet", *case[1:], epsilon=0, num_classes=10, seed=0, device="cpu")
