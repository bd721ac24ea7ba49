"""The data: the digits and their forms, splits without leaks, loaders, augmentation, CIFAR-10 from its own files."""

import hashlib
import math
import pickle
import random
from collections import Counter

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from tiny_cifar10 import NAMES, write_tiny_cifar10
from torch.utils.data import DataLoader
from torchvision.datasets import CIFAR10

from course_utils.data import (
    FORM_STARTS,
    few_labels,
    load_cifar10,
    load_digits_rgb,
    make_loader,
    random_affine,
    random_flip_and_crop,
    split_at_random,
    split_by_group,
)
from course_utils.models import build_classifier
from course_utils.pocket import load_pocket_checkpoint


@pytest.fixture(scope="module")
def digits():
    return load_digits_rgb()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# --- the digits -----------------------------------------------------------------------------------------------------


def test_the_digits_have_the_shapes_that_the_pocket_network_takes(digits):
    assert digits.images.shape == (1797, 3, 32, 32) and digits.images.dtype == torch.float32
    assert digits.labels.shape == digits.groups.shape == (1797,)
    assert digits.labels.dtype == digits.groups.dtype == torch.int64
    assert digits.class_names == tuple("0123456789")
    assert torch.equal(digits.labels, torch.from_numpy(load_digits().target).long())
    assert build_classifier("tiny_resnet", 10).eval()(digits.images[:2]).shape == (2, 10)


def enlarged(small: np.ndarray) -> np.ndarray:
    """Bilinear, 8x8 -> 32x32, from the definition: pixel i's centre lies at (i + 0.5) / 4 - 0.5 of the small image."""
    place = np.clip((np.arange(32) + 0.5) / 4 - 0.5, 0, 7)
    low = np.floor(place).astype(int)
    high, share = np.minimum(low + 1, 7), place - low
    rows = small[low] * (1 - share)[:, None] + small[high] * share[:, None]
    return rows[:, low] * (1 - share) + rows[:, high] * share


def test_the_digits_are_the_scans_enlarged_and_normalised_with_the_checkpoints_numbers(digits):
    checkpoint = load_pocket_checkpoint()
    for index in (0, 901, 1796):
        image = enlarged(load_digits().images[index] / 16)
        for channel, (mean, std) in enumerate(zip(checkpoint["mean"], checkpoint["std"], strict=True)):
            expected = torch.from_numpy((image - mean) / std).float()
            assert torch.allclose(digits.images[index, channel], expected, atol=1e-5)


def test_loading_the_digits_twice_gives_the_same(digits):
    again = load_digits_rgb()
    assert all(torch.equal(a, b) for a, b in zip(digits[:3], again[:3], strict=True))


def mistakes(labels: list[int], template: list[int]) -> int:
    """The fewest changed or added labels that turn the template into `labels`, where leaving out labels is free."""
    costs = [0] * (len(template) + 1)
    for label in labels:
        row = [costs[0] + 1]
        for place, wanted in enumerate(template):
            row.append(min(costs[place] + (label != wanted), row[place], costs[place + 1] + 1))
        costs = row
    return costs[-1]


def forms_of(labels: list[int]) -> list[list[int]]:
    return [labels[start:end] for start, end in zip(FORM_STARTS, FORM_STARTS[1:], strict=False)]


def template_of(forms: list[list[int]]) -> list[int]:
    return list(Counter(tuple(form) for form in forms).most_common(1)[0][0])


def test_the_forms_follow_one_template_of_130_digits():
    labels = load_digits().target.tolist()
    forms = forms_of(labels)
    template = template_of(forms)
    assert FORM_STARTS[0] == 0 and FORM_STARTS[-1] == len(labels) and len(forms) == 14
    assert len(template) == 130 and Counter(template) == dict.fromkeys(range(10), 13)

    assert sum(form == template for form in forms) == 8
    assert sorted(130 - len(form) for form in forms) == [0] * 9 + [2, 2, 4, 7, 8]  # 23 are missing
    assert sorted(mistakes(form, template) for form in forms) == [0] * 13 + [1]  # a subsequence, but for one label
    changed = next(form for form in forms if mistakes(form, template) == 1)
    assert sum(a != b for a, b in zip(changed, template, strict=True)) == 1


def test_no_border_between_two_forms_can_be_moved():
    """A border one label further left or right fits the template worse, whichever border it is, with one tie."""
    labels = load_digits().target.tolist()
    template = template_of(forms_of(labels))
    ties = []
    for before, border, after in zip(FORM_STARTS, FORM_STARTS[1:], FORM_STARTS[2:], strict=False):

        def fit(at, before=before, after=after):
            return mistakes(labels[before:at], template) + mistakes(labels[at:after], template)

        here = fit(border)
        for moved in (border - 9, border - 1, border + 1, border + 9):
            assert fit(moved) >= here
            if fit(moved) == here:
                ties.append((moved, border))
    # The last label of the third form is the changed one; that form has all its 130 digits only if it belongs to it.
    assert ties == [(385, 386)]


def test_groups_are_the_forms(digits):
    assert torch.bincount(digits.groups).tolist() == [len(form) for form in forms_of(digits.labels.tolist())]
    assert (digits.groups.diff() >= 0).all()


# --- splits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_a_split_by_group_uses_every_example_once_and_no_group_twice(seed):
    chance = random.Random(seed)
    names = chance.sample(range(-5, 1000), chance.randint(3, 12))
    groups = torch.tensor([*names, *chance.choices(names, k=chance.randint(0, 300))])
    cut = sorted(chance.sample(range(1, len(names)), 2))
    split = split_by_group(groups, val=names[: cut[0]], test=names[cut[0] : cut[1]])

    assert sorted(torch.cat(split).tolist()) == list(range(len(groups)))
    sides = [set(groups[part].tolist()) for part in split]
    assert sides == [set(names[cut[1] :]), set(names[: cut[0]]), set(names[cut[0] : cut[1]])]
    assert not sides[0] & sides[1] and not sides[0] & sides[2] and not sides[1] & sides[2]


def test_the_split_of_the_course_has_the_counts_that_it_quotes(digits):
    split = split_by_group(digits.groups, val=(7, 8), test=range(9, 14))
    assert [len(part) for part in split] == [906, 251, 640]
    assert split.train.tolist() == list(range(906))


@pytest.mark.parametrize(
    ("val", "test", "message"),
    [
        ([1, 9], [2], r"no groups \[9\]: the groups are \[0, 1, 2\]"),
        ([1], [1], "named twice"),
        ([1, 1], [2], "named twice"),
        ([], [2], "val part"),
        ([1], [], "test part"),
        ([0, 1], [2], "train part"),
    ],
)
def test_a_split_by_group_that_would_leak_or_be_empty_is_refused(val, test, message):
    with pytest.raises(ValueError, match=message):
        split_by_group(torch.tensor([0, 0, 1, 2, 2]), val=val, test=test)


def test_a_random_split_uses_every_example_once_and_follows_its_seed():
    split = split_at_random(100, val=20, test=30, seed=1)
    assert [len(part) for part in split] == [50, 20, 30]
    assert sorted(torch.cat(split).tolist()) == list(range(100))
    torch.manual_seed(5)
    assert all(torch.equal(a, b) for a, b in zip(split, split_at_random(100, val=20, test=30, seed=1), strict=True))
    assert not torch.equal(split.val, split_at_random(100, val=20, test=30, seed=2).val)


@pytest.mark.parametrize(
    ("val", "test", "message"), [(50, 50, "nothing to train on"), (-1, 5, "train on"), (0, 5, "val"), (5, 0, "test")]
)
def test_a_random_split_with_an_empty_part_is_refused(val, test, message):
    with pytest.raises(ValueError, match=message):
        split_at_random(100, val=val, test=test, seed=0)


def test_shares_instead_of_numbers_are_refused():
    with pytest.raises(ValueError, match="numbers of examples, not shares"):
        split_at_random(100, val=0.1, test=0.2, seed=0)


def test_groups_may_be_named_by_tensors_and_arrays():
    split = split_by_group(torch.tensor([0, 0, 1, 2, 2]), val=torch.tensor([1]), test=np.array([2]))
    assert [part.tolist() for part in split] == [[0, 1], [2], [3, 4]]


@pytest.mark.parametrize("part", ["Images", "Labels"])
def test_what_is_no_tensor_is_refused(part):
    images, labels = numbered(8)
    arrays = {"Images": (images.numpy(), labels), "Labels": (images, labels.numpy())}[part]
    with pytest.raises(ValueError, match=f"{part} must be a tensor, not ndarray"):
        make_loader(*arrays, batch_size=4)


# --- few labels -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("per_class", [1, 5, 20])
def test_few_labels_takes_as_many_of_each_class_from_the_given_part_alone(digits, per_class):
    among = split_by_group(digits.groups, val=(7, 8), test=range(9, 14)).train
    chosen = few_labels(digits.labels, among, per_class=per_class, seed=3)
    assert torch.bincount(digits.labels[chosen]).tolist() == [per_class] * 10
    assert len(set(chosen.tolist())) == len(chosen)
    assert set(chosen.tolist()) <= set(among.tolist())


def test_few_labels_follows_its_seed(digits):
    among = torch.arange(600, 900)

    def draw(seed):
        return few_labels(digits.labels, among, per_class=5, seed=seed)

    first = draw(3)
    torch.manual_seed(9)
    assert torch.equal(first, draw(3))
    assert not torch.equal(first, draw(4))


def test_few_labels_says_which_class_is_short(digits):
    among = torch.arange(130)
    among = among[digits.labels[among] != 4]
    with pytest.raises(ValueError, match="Class 4 has 0 examples here, fewer than 1"):
        few_labels(digits.labels, among, per_class=1, seed=0)
    with pytest.raises(ValueError, match="Class 0 has 13 examples here, fewer than 14"):
        few_labels(digits.labels, among, per_class=14, seed=0)
    with pytest.raises(ValueError, match="1 or more"):
        few_labels(digits.labels, among, per_class=0, seed=0)


# --- loaders --------------------------------------------------------------------------------------------------------


def numbered(count=50):
    """Images that can be told apart: image i holds the number i / 10, and its label is i."""
    labels = torch.arange(count)
    return (labels / 10).view(-1, 1, 1, 1).expand(-1, 3, 4, 4).clone(), labels


def order_of(loader, epochs=1):
    return [label for _ in range(epochs) for _, targets in loader for label in targets.tolist()]


def test_a_loader_deals_out_every_example_once_an_epoch():
    images, labels = numbered(50)
    assert order_of(make_loader(images, labels, batch_size=16)) == list(range(50))
    loader = make_loader(images, labels, batch_size=16, shuffle=True)
    assert [len(targets) for _, targets in loader] == [16, 16, 16, 2] and len(loader) == 4
    first, second = order_of(loader), order_of(loader)
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != list(range(50)) and first != second, "another order each epoch"
    for inputs, targets in loader:
        assert torch.equal(inputs, images[targets])


def test_a_loader_leaves_out_a_batch_that_is_not_full_when_asked():
    loader = make_loader(*numbered(50), batch_size=16, shuffle=True, drop_last=True)
    assert [len(targets) for _, targets in loader] == [16, 16, 16] and len(loader) == 3


def test_a_loaders_order_is_its_own():
    """Only its seed decides: nothing else that draws random numbers, and not the order in which loaders are made."""
    expected = order_of(make_loader(*numbered(), batch_size=16, shuffle=True, seed=7), epochs=3)
    torch.manual_seed(123)
    other, loader = (make_loader(*numbered(), batch_size=16, shuffle=True, seed=seed) for seed in (8, 7))
    order = []
    for _ in range(3):
        torch.rand(11)
        order_of(other)
        order += order_of(loader)
    assert order == expected
    assert order_of(make_loader(*numbered(), batch_size=16, shuffle=True, seed=8)) != expected[:50]


def test_a_loader_leaves_the_global_random_numbers_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    order_of(make_loader(*numbered(), batch_size=16, shuffle=True, augment=random_affine), epochs=2)
    assert torch.equal(torch.rand(3), expected)


def test_augmentation_and_preparation_come_in_this_order_and_repeat_with_the_seed():
    seen = []

    def augment(images, from_loader):
        assert isinstance(from_loader, torch.Generator)
        return images + torch.rand(len(images), 1, 1, 1, generator=from_loader)

    def prepare(images):
        seen.append(images)
        return images * 2

    def run(seed):
        loader = make_loader(*numbered(), batch_size=16, shuffle=True, seed=seed, augment=augment, prepare=prepare)
        return torch.cat([inputs for inputs, _ in loader])

    images, labels = numbered()
    before = images.clone()
    loader = make_loader(images, labels, batch_size=16, augment=augment, prepare=prepare)
    inputs = [inputs for inputs, _ in loader]
    offsets = torch.cat(seen) - images
    assert len(offsets.mean((1, 2, 3)).unique()) == 50 and offsets.flatten(1).std(1).max() < 1e-6, (
        "another change for each image, in every batch"
    )
    assert all(torch.equal(batch, 2 * given) for batch, given in zip(inputs, seen, strict=True))
    assert torch.equal(images, before), "the data set itself is not changed"
    assert not torch.equal(torch.cat([inputs for inputs, _ in loader]), torch.cat(inputs)), "and in every epoch"
    assert torch.equal(run(1), run(1)) and not torch.equal(run(1), run(2))


def test_a_models_input_spec_is_a_preparation():
    model = build_classifier("tiny_resnet", 3).eval()
    images = torch.randint(0, 256, (5, 3, 20, 24), dtype=torch.uint8)
    inputs, _ = next(iter(make_loader(images, torch.arange(5) % 3, batch_size=5, prepare=model.input_spec)))
    assert torch.equal(inputs, model.input_spec(images)) and inputs.shape == (5, 3, 32, 32)
    assert model(inputs).shape == (5, 3)


def test_a_loader_works_in_this_process_and_keeps_the_memory_format(digits):
    loader = make_loader(digits.images, digits.labels, batch_size=64, shuffle=True)
    assert isinstance(loader, DataLoader) and loader.num_workers == 0
    inputs, _ = next(iter(loader))
    assert inputs.is_contiguous(memory_format=torch.channels_last), "as the data set has it"
    inputs, _ = next(iter(make_loader(*numbered(), batch_size=16, shuffle=True)))
    assert inputs.is_contiguous()


GOOD = numbered(8)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (GOOD[0], GOOD[1][:7], "8 images and 7 labels"),
        (GOOD[0][:0], GOOD[1][:0], "no examples"),
        (GOOD[0], GOOD[1].float(), r"int64 of shape \(N,\), not torch.float32"),
        (GOOD[0], GOOD[1].int(), r"not torch.int32"),
        (GOOD[0], GOOD[1][:, None], r"of shape \(8, 1\)"),
        (GOOD[0], GOOD[1] - 1, "count from 0; the smallest here is -1"),
        (GOOD[0][:, 0], GOOD[1], r"not \(8, 4, 4\)"),
        (GOOD[0].permute(0, 2, 3, 1), GOOD[1], r"not \(8, 4, 4, 3\).*permute"),
        (GOOD[0].index_fill(0, torch.tensor([5]), math.nan), GOOD[1], "Image 5 holds NaN or infinity"),
        (GOOD[0].index_fill(0, torch.tensor([2]), -math.inf), GOOD[1], "Image 2 holds NaN or infinity"),
        (GOOD[0] * 255, GOOD[1], r"reach 178; normalised.*uint8"),
    ],
)
def test_bad_data_are_refused_before_a_training_starts(images, labels, message):
    with pytest.raises(ValueError, match=message):
        make_loader(images, labels, batch_size=4)


def test_images_of_any_number_of_channels_are_dealt_out():
    """Which number is right, the model knows: fit says so."""
    for channels in (1, 2, 13):
        inputs, _ = next(iter(make_loader(torch.rand(8, channels, 4, 4), GOOD[1], batch_size=4)))
        assert inputs.shape == (4, channels, 4, 4)


def test_a_batch_that_cannot_be_filled_is_refused():
    with pytest.raises(ValueError, match="8 examples make no full batch of 16"):
        make_loader(*GOOD, batch_size=16, drop_last=True)
    assert len(make_loader(*GOOD, batch_size=16)) == 1
    with pytest.raises(ValueError, match="batch_size"):
        make_loader(*GOOD, batch_size=0)


# --- augmentation ---------------------------------------------------------------------------------------------------


def blobs(count, size=32):
    """Smooth images, all the same: a bright spot right of and above the middle."""
    place = torch.linspace(-1, 1, size)
    spot = torch.exp(-((place[None] - 0.3) ** 2 + (place[:, None] + 0.2) ** 2) / 0.05)
    return spot.expand(count, 3, size, size).clone()


def centres(images):
    """Where each image's brightness lies on average, in half-widths: (N, 2), x and y."""
    place = torch.linspace(-1, 1, images.shape[-1])
    weight = images[:, 0] / images[:, 0].sum((1, 2), keepdim=True)
    return torch.stack([(weight.sum(1) * place).sum(1), (weight.sum(2) * place).sum(1)], dim=1)


def constant(value):
    """A stand-in for `uniform_`: every draw comes out as `value`."""
    return lambda tensor, low, high, generator: tensor.fill_(value)


def test_the_affine_change_that_changes_nothing_gives_the_image_back(monkeypatch):
    images = torch.rand(3, 3, 20, 20)
    monkeypatch.setattr(torch.Tensor, "uniform_", constant(0.0))
    assert torch.allclose(random_affine(images, generator()), images, atol=1e-5)


def test_the_affine_change_shifts_by_4_percent_at_most(monkeypatch):
    def shifts_only(tensor, low, high, generator):
        return tensor.zero_().index_fill_(0, torch.tensor([4, 5]), 1.0)

    images = torch.rand(2, 3, 50, 50)
    monkeypatch.setattr(torch.Tensor, "uniform_", shifts_only)
    moved = random_affine(images, generator())
    assert torch.allclose(moved[:, :, :48, :48], images[:, :, 2:, 2:], atol=1e-4)  # 2 of 50 pixels
    assert torch.allclose(moved[:, :, 49, 49], images[:, :, 49, 49], atol=1e-4), "the border repeats"


def test_the_affine_change_is_another_for_each_image_and_within_its_limits():
    images = blobs(500)
    changed = random_affine(images, generator(1))
    assert changed.shape == images.shape and changed.dtype == images.dtype
    assert changed.min() >= 0 and changed.max() <= 1
    moved = centres(changed) - centres(images)
    assert moved.std(0).min() > 0.02, "each image on its own"
    assert moved.abs().max() < 0.3
    assert moved.mean(0).abs().max() < 0.03, "to no side more than to the other"
    pixels = (changed - images).abs().amax((1, 2, 3))
    assert (pixels > 0.01).all()


@pytest.mark.parametrize("augment", [random_affine, random_flip_and_crop])
def test_augmentation_follows_the_generator_alone(augment):
    images = torch.rand(16, 3, 12, 12)
    before = images.clone()
    torch.manual_seed(0)
    first = augment(images, generator(1))
    torch.manual_seed(1)
    assert torch.equal(first, augment(images, generator(1)))
    assert not torch.equal(first, augment(images, generator(2)))
    assert torch.equal(images, before)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("padding", [0, 1, 4])
def test_each_flipped_and_cropped_image_is_a_window_of_its_framed_original_or_mirror(dtype, padding):
    images = (torch.rand(200, 3, 6, 8) * 255).to(dtype)
    changed = random_flip_and_crop(images, generator(3), padding=padding)
    assert changed.shape == images.shape and changed.dtype == dtype

    found = Counter()
    for image, result in zip(images.numpy(), changed.numpy(), strict=True):
        hits = []
        for mirrored in (False, True):
            source = image[:, :, ::-1] if mirrored else image
            frame = np.pad(source, ((0, 0), (padding, padding), (padding, padding)))
            for top in range(2 * padding + 1):
                for left in range(2 * padding + 1):
                    if np.array_equal(result, frame[:, top : top + 6, left : left + 8]):
                        hits.append((mirrored, top, left))
        assert len(hits) == 1
        found.update(hits)
    mirrored = sum(count for (flipped, *_), count in found.items() if flipped)
    assert 70 < mirrored < 130, "half of them, within four standard deviations"
    for axis in (1, 2):
        assert {hit[axis] for hit in found} == set(range(2 * padding + 1)), "every place occurs"


# --- CIFAR-10 -------------------------------------------------------------------------------------------------------


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    """A folder in CIFAR-10's own format, 20 images in each of its parts, and all pixels in the files' own order."""
    write_tiny_cifar10(tmp_path / "data", monkeypatch, per_batch=20, test=20)
    folder = tmp_path / "data" / CIFAR10.base_folder
    sums = {file.name: hashlib.md5(file.read_bytes()).hexdigest() for file in folder.iterdir()}
    for parts in ("train_list", "test_list"):
        monkeypatch.setattr(CIFAR10, parts, [[name, sums[name]] for name, _ in getattr(CIFAR10, parts)])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": sums["batches.meta"]})
    names = [name for name, _ in CIFAR10.train_list + CIFAR10.test_list]
    return tmp_path / "data", np.concatenate([pickle.loads((folder / name).read_bytes())["data"] for name in names])


def test_cifar10_is_read_from_its_own_files(cifar):
    folder, pixels = cifar
    data = load_cifar10(folder)
    assert data.images.dtype == torch.uint8 and data.images.is_contiguous()
    assert torch.equal(data.images, torch.from_numpy(pixels).view(120, 3, 32, 32))  # red, green, blue, row by row
    assert data.labels.tolist() == list(range(10)) * 12 and data.labels.dtype == torch.int64
    assert data.groups[100:].tolist() == [2] * 20, "its test part"
    assert torch.bincount(data.groups[:100]).tolist() == [90, 10], "training and validation"
    assert torch.equal(data.groups, load_cifar10(folder).groups)
    assert [len(part) for part in split_by_group(data.groups, val=[1], test=[2])] == [90, 10, 20]
    assert data.class_names == tuple(NAMES)
    assert load_cifar10(str(folder)).images.shape == (120, 3, 32, 32)


def test_cifar10_that_is_missing_or_damaged_says_what_to_do(cifar, tmp_path):
    folder, _ = cifar
    remedy = "No intact CIFAR-10 in {}/.*prepare --only cifar10"
    with pytest.raises(FileNotFoundError, match=remedy.format("elsewhere")) as error:
        load_cifar10(tmp_path / "elsewhere")
    assert str(tmp_path) not in str(error.value)
    batch = folder / CIFAR10.base_folder / "data_batch_3"
    batch.write_bytes(batch.read_bytes()[:-1])
    with pytest.raises(FileNotFoundError, match=remedy.format("data")):
        load_cifar10(folder)
