"""Data sets as tensors, split without leaks, and the loaders that deal them out in batches."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler, TensorDataset
from torchvision.datasets import CIFAR10

from course_utils.checks import check_examples
from course_utils.pocket import pocket_input_spec

# Where each of the 14 filled-in forms begins in scikit-learn's digits, and where the last one ends. The list is not
# shuffled: it runs through the same 130 digits 14 times (23 are missing), so the labels themselves give the borders.
FORM_STARTS = (0, 130, 256, 386, 516, 646, 776, 906, 1029, 1157, 1287, 1415, 1545, 1667, 1797)


class LabelledImages(NamedTuple):
    """A data set in memory: four fields, whole and in order."""

    images: torch.Tensor  # (N, 3, H, W), uint8 or float
    labels: torch.Tensor  # (N,), int64, 0 to K - 1
    groups: torch.Tensor  # (N,), int64: what must stay together in a split (the form, the patient, the page)
    class_names: tuple[str, ...]  # K of them

    def to(self, device: torch.device | str) -> "LabelledImages":
        return self._replace(images=self.images.to(device), labels=self.labels.to(device))


class Split(NamedTuple):
    """Three index tensors that share no example."""

    train: torch.Tensor
    val: torch.Tensor
    test: torch.Tensor


def load_digits_rgb() -> LabelledImages:
    """Real handwritten digits: 1,797 images (3, 32, 32), ten classes, normalised for the pocket weights.

    The 8x8 scans (0 to 16) are scaled to 0 to 1, enlarged to 32x32 (bilinear), and repeated to three channels.
    `groups` is the form, 0 to 13. The documentation speaks of 13 writers and the labels show 14 forms, so at most one
    writer filled in two: a split by form is a split by writer, as far as the label sequence shows.
    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI 1998 (CC BY 4.0), the test part,
    shipped with scikit-learn.
    """
    digits = load_digits()
    small = torch.from_numpy(digits.images).float()[:, None] / 16
    images = F.interpolate(small, (32, 32), mode="bilinear", align_corners=False).expand(-1, 3, -1, -1)
    lengths = torch.tensor(FORM_STARTS).diff()
    return LabelledImages(
        images=pocket_input_spec()(images).contiguous(memory_format=torch.channels_last),
        labels=torch.from_numpy(digits.target).long(),
        groups=torch.repeat_interleave(torch.arange(len(lengths)), lengths),
        class_names=tuple("0123456789"),
    )


def load_cifar10(root: str | Path) -> LabelledImages:
    """CIFAR-10 from a folder: 60,000 images (3, 32, 32) as uint8, to be normalised by a model's `input_spec`.

    `groups` is 0 for training, 1 for validation (a tenth of the data set's own training part, drawn at random with
    seed 0), 2 for the data set's test part. Nothing is downloaded here.
    Raises FileNotFoundError where the folder does not hold the intact python version of the data set.
    Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
    """
    try:
        train, test = (CIFAR10(str(root), train=part, download=False) for part in (True, False))
    except RuntimeError as error:
        raise FileNotFoundError(
            f"No intact CIFAR-10 in {Path(root).name}/: cifar-10-batches-py is missing or damaged there. "
            "Fetch it with: python -m course_utils prepare --only cifar10 (--data DIR for another folder)."
        ) from error
    groups = torch.cat([torch.zeros(len(train), dtype=torch.int64), torch.full((len(test),), 2)])
    groups[torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[: len(train) // 10]] = 1
    return LabelledImages(
        images=torch.from_numpy(np.concatenate([train.data, test.data])).permute(0, 3, 1, 2).contiguous(),
        labels=torch.tensor(train.targets + test.targets),
        groups=groups,
        class_names=tuple(train.classes),
    )


def split_by_group(groups: torch.Tensor, *, val: Sequence[int], test: Sequence[int]) -> Split:
    """Whole groups to validation and test, all others to training, so that no group is on two sides.

    Raises ValueError where a group is unknown or named twice, or a part would be empty.
    """
    groups = torch.as_tensor(groups)
    val, test = ([int(group) for group in part] for part in (val, test))
    known, named = set(groups.tolist()), [*val, *test]
    if unknown := set(named) - known:
        raise ValueError(f"There are no groups {sorted(unknown)}: the groups are {sorted(known)}.")
    if len(set(named)) < len(named):
        raise ValueError(f"A group is named twice, in val {list(val)} and test {list(test)}: that would be a leak.")
    in_val, in_test = (torch.isin(groups, torch.tensor(part, dtype=groups.dtype)) for part in (val, test))
    return _checked(Split(*(part.nonzero().flatten() for part in (~(in_val | in_test), in_val, in_test))))


def split_at_random(count: int, *, val: int, test: int, seed: int) -> Split:
    """Deal `count` examples out at random: `val` and `test` of them, the rest to training.

    Right only where the examples have nothing to do with each other; see `split_by_group`.
    """
    if not isinstance(val, int) or not isinstance(test, int):
        raise ValueError(f"val and test are numbers of examples, not shares: whole numbers, not {val!r} and {test!r}.")
    if val < 0 or test < 0 or val + test >= count:
        raise ValueError(f"{val} for validation and {test} for testing leave nothing to train on, out of {count}.")
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return _checked(Split(train=order[val + test :], val=order[:val], test=order[val : val + test]))


def _checked(split: Split) -> Split:
    for part, indices in split._asdict().items():
        if not len(indices):
            raise ValueError(f"The {part} part of the split is empty.")
    return split


def few_labels(labels: torch.Tensor, among: torch.Tensor, *, per_class: int, seed: int) -> torch.Tensor:
    """`per_class` examples of every class, drawn at random among the given indices; indices, (K * per_class,).

    Raises ValueError where a class has too few.
    """
    if per_class < 1:
        raise ValueError(f"per_class must be 1 or more, not {per_class}.")
    generator = torch.Generator().manual_seed(seed)
    chosen = []
    for class_index in labels.unique().tolist():
        candidates = among[labels[among] == class_index]
        if len(candidates) < per_class:
            raise ValueError(f"Class {class_index} has {len(candidates)} examples here, fewer than {per_class}.")
        chosen.append(candidates[torch.randperm(len(candidates), generator=generator)[:per_class]])
    return torch.cat(chosen)


def make_loader(
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    batch_size: int,
    shuffle: bool = False,
    drop_last: bool = False,
    seed: int = 0,
    augment: Callable[[torch.Tensor, torch.Generator], torch.Tensor] | None = None,
    prepare: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> DataLoader:
    """Batches (images, labels) from tensors in memory, a whole batch at a time and in this process.

    shuffle: another order each epoch, from a generator of this loader's own, seeded with `seed`: what else draws random
        numbers does not change the batches. drop_last: leave out a last batch that is not full.
    augment: (images, generator) -> images, changed at random. prepare: images -> inputs, a model's `input_spec`, say.
    Raises ValueError for no examples, unequal lengths, labels that are not whole numbers from 0, or NaN.
    """
    check_examples(images, labels)
    if drop_last and len(images) < batch_size:
        raise ValueError(f"{len(images)} examples make no full batch of {batch_size}: lower batch_size.")
    generator = torch.Generator().manual_seed(seed)

    def finish(batch):
        inputs, targets = batch
        if augment is not None:
            inputs = augment(inputs, generator)
        return (inputs if prepare is None else prepare(inputs)), targets

    dataset = TensorDataset(images, labels)
    order = RandomSampler(dataset, generator=generator) if shuffle else SequentialSampler(dataset)
    batches = BatchSampler(order, batch_size, drop_last)
    # batch_size=None: the sampler already deals out whole batches, so the tensors are indexed once a batch
    return DataLoader(dataset, sampler=batches, batch_size=None, collate_fn=finish, generator=generator)


def random_affine(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Rotate by up to 10 degrees, shift by 4 %, scale by 12 %, shear by 0.15, each image on its own; (B, C, H, W).

    For handwriting, where a mirror image is another sign. What comes in from outside repeats the border.
    """
    angle, scale_x, scale_y, shear, shift_x, shift_y = torch.empty(6, len(images)).uniform_(
        -1, 1, generator=generator
    ).to(images.device) * torch.tensor(
        [[torch.pi / 18], [0.12], [0.12], [0.15], [0.08], [0.08]], device=images.device
    )  # shifts are in half-widths: affine_grid counts from -1 to 1
    cos, sin = angle.cos(), angle.sin()
    row_x = torch.stack([(1 + scale_x) * cos, (1 + scale_x) * (shear * cos - sin), shift_x], dim=1)
    row_y = torch.stack([(1 + scale_y) * sin, (1 + scale_y) * (shear * sin + cos), shift_y], dim=1)
    grid = F.affine_grid(torch.stack([row_x, row_y], dim=1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def random_flip_and_crop(images: torch.Tensor, generator: torch.Generator, padding: int = 4) -> torch.Tensor:
    """Mirror half of the images, then cut each out of a frame `padding` pixels wider; (B, C, H, W), any dtype.

    The usual augmentation for CIFAR-10. Source: He et al. 2015, arXiv:1512.03385, section 4.2.
    """
    count, _, height, width = images.shape
    flip = torch.rand(count, generator=generator).to(images.device) < 0.5
    images = torch.where(flip[:, None, None, None], images.flip(3), images)
    framed = F.pad(images, [padding] * 4)
    top, left = torch.randint(0, 2 * padding + 1, (2, count), generator=generator).to(images.device)
    rows = top[:, None] + torch.arange(height, device=images.device)
    columns = left[:, None] + torch.arange(width, device=images.device)
    batch = torch.arange(count, device=images.device)
    return framed.permute(0, 2, 3, 1)[batch[:, None, None], rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
