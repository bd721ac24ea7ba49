"""One's own pictures: a folder with one sub-folder a class, read into memory and split without leaks."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import torch
from PIL import Image, ImageOps
from tqdm import tqdm

from course_utils.data import LabelledImages
from course_utils.pocket import InputSpec

PICTURES = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
NO_PICTURE = "no picture by its name; save photographs as JPEG"
LEFT_BY_SYSTEMS = {"thumbs.db", "desktop.ini", "__macosx"}  # beside what begins with a dot
TRAIN, VAL, TEST = 0, 1, 2  # the groups of `load_cifar10` too
PARTS = {"train": TRAIN, "val": VAL, "valid": VAL, "validation": VAL, "test": TEST}
SHARE = 0.15  # of a class, for each part that is drawn and not given


class Pictures(NamedTuple):
    """A folder in memory. `data.groups` is 0 for training, 1 for validation, 2 for the test, as in `load_cifar10`."""

    data: LabelledImages  # uint8, (N, 3, size, size)
    names: tuple[str, ...]  # N of them, within the folder, with forward slashes
    skipped: tuple[tuple[str, str], ...]  # (name, why) of every file that is not in `data`


def read_picture(path: Path | str, spec: InputSpec) -> torch.Tensor:
    """One picture as uint8, (3, size, size), squeezed into a square as `InputSpec` does it.

    EXIF rotation is applied, transparency laid on white, 16-bit grey scaled to 8 bits, grey repeated to three channels;
    of a moving picture the first frame is taken. Raises ValueError where the file cannot be read.
    """
    size = (spec.size, spec.size)
    try:
        with Image.open(path) as picture:
            picture.draft(None, (2 * spec.size, 2 * spec.size))  # a large JPEG is decoded smaller, but large enough
            picture = _eight_bits(ImageOps.exif_transpose(picture))
            if picture.has_transparency_data:
                picture = picture.convert("RGBA")
                picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
            picture = picture.convert("RGB").resize(size, Image.Resampling[spec.interpolation.upper()])
    except Exception as error:  # Pillow's readers raise anything from OSError to SyntaxError for a damaged file
        raise ValueError(_reason(Path(path), error)) from error
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Pillow's own conversion would cut 16-bit values at 255."""
    if picture.mode[0] not in "IF":
        return picture
    values = np.asarray(picture)
    if picture.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise ValueError("its pixels have 32 bits, and no range that is agreed on: save it with 8 or 16 bits")
    return Image.fromarray((values / 257).round().astype(np.uint8))


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if path.is_file() and not path.stat().st_size:
        return "the file is empty"
    if isinstance(error, Image.UnidentifiedImageError):
        return "no picture that Pillow can read, or a damaged one"
    return f"cannot be read: {error}".splitlines()[0]


def is_hidden(path: Path) -> bool:
    """Is it hidden, or one of the files that file managers leave behind?"""
    return path.name.startswith(".") or path.name.lower() in LEFT_BY_SYSTEMS


def files_below(folder: Path) -> Iterator[Path]:
    """All files in a folder and below it, in the order of their names; without hidden ones and hidden folders."""
    for path in sorted(folder.iterdir()):
        if not is_hidden(path):
            yield from files_below(path) if path.is_dir() else [path]


def read_folder(folder: Path | str, spec: InputSpec, *, seed: int = 0, progress: bool = False) -> Pictures:
    """Read FOLDER/CLASS/…/PICTURE, or FOLDER/train/CLASS/…/PICTURE with `val` or `test` or both beside `train`.

    A class is the name of a sub-folder. Parts that are not given are drawn at random from the training part: 15 % of
    each class (one picture at least). Pictures with the same pixels stay on one side: those of a drawn part together,
    and what stands in a given validation or test part is left out of the training. What cannot be used is
    in `skipped` with the reason: no picture, unreadable, the same picture in two classes.

    Raises FileNotFoundError where there is no such folder; ValueError where there are fewer than two classes, a class
    has too few different pictures to be split (three, where both parts are drawn), a given part has a class that the
    training part lacks or nothing that can be used, `val` or `test` stand without `train` or with other folders beside
    them, or the pictures do not fit into memory.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}.")
    parts = _given_parts(folder)
    skipped = [(path.name, "stands in no class folder") for path in _loose_files(folder)]
    found: list[tuple[Path, str, int]] = []  # path, class, part
    classes = set()
    for part_folder, part in parts:
        if part_folder != folder:
            skipped += [(_name(path, folder), "stands in no class folder") for path in _loose_files(part_folder)]
        for class_folder in _sub_folders(part_folder):
            classes.add(class_folder.name)
            for path in files_below(class_folder):
                if path.suffix.lower() in PICTURES:
                    found.append((path, class_folder.name, part))
                else:
                    skipped.append((_name(path, folder), NO_PICTURE))
    class_names = tuple(sorted(classes))
    if len(class_names) < 2:
        raise ValueError(
            f"{folder.name} has {len(class_names)} class folders: it takes two at least, {folder.name}/cats/… and "
            f"{folder.name}/dogs/…, say. (A class is a sub-folder with its pictures in it.)"
        )
    images, kept = _read_all(found, folder, spec, skipped, progress)
    labels = torch.tensor([class_names.index(found[i][1]) for i in kept], dtype=torch.int64)
    groups = torch.tensor([found[i][2] for i in kept], dtype=torch.int64)
    names = [_name(found[i][0], folder) for i in kept]
    usable = _without_contradictions(images, labels, groups, names, skipped)
    images, labels, groups, names = images[usable], labels[usable], groups[usable], [names[i] for i in usable.tolist()]
    for path, part in parts:
        if part != TRAIN and not (groups == part).any():
            raise ValueError(
                f"{path.name} has no picture that can be used: it is empty, they cannot be read, or all of them stand "
                "in another class or in test too. Put some in."
            )
    to_draw = [part for part in (VAL, TEST) if part not in {part for _, part in parts}]
    groups = _draw(_twins(images), labels, groups, to_draw, class_names, seed)
    return Pictures(LabelledImages(images, labels, groups, class_names), tuple(names), tuple(sorted(skipped)))


def _given_parts(folder: Path) -> list[tuple[Path, int]]:
    """The user's own parts; or the folder itself, as training, where its sub-folders are classes."""
    inside = _sub_folders(folder)
    given = [(path, PARTS[path.name.lower()]) for path in inside if _is_part(path)]
    numbers = [part for _, part in given]
    if len(set(numbers)) < 2:  # a class may be called train
        return [(folder, TRAIN)]
    named, beside = ", ".join(path.name for path, _ in given), [path.name for path in inside if not _is_part(path)]
    if beside or TRAIN not in numbers:  # taken for classes, they would teach the network to tell train from test
        what = f"and {', '.join(beside)} beside them: move that elsewhere" if beside else "and no train: add it"
        raise ValueError(f"{folder.name} holds {named}, the parts of a split, {what}. (Are they classes? Rename them.)")
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"{folder.name} has two validation folders, under two names: keep one of them.")
    trained = {path.name for path in _sub_folders(given[numbers.index(TRAIN)][0])}
    for path, _ in given:
        if unknown := {sub.name for sub in _sub_folders(path)} - trained:
            raise ValueError(f"{path.name} has classes that train lacks: {', '.join(sorted(unknown))}.")
    return given


def _is_part(path: Path) -> bool:
    return path.name.lower() in PARTS


def _sub_folders(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.is_dir() and not is_hidden(path)]


def _loose_files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.is_file() and not is_hidden(path)]


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _read_all(found, folder, spec, skipped, progress) -> tuple[torch.Tensor, list[int]]:
    """The pictures that can be read, uint8 (M, 3, size, size), and their M places in `found`."""
    needed = 2 * len(found) * 3 * spec.size**2  # twice: what is left of them after the sorting out is a copy
    if needed > 0.8 * psutil.virtual_memory().available:
        raise ValueError(
            f"{len(found):,} pictures at {spec.size} pixels take {needed / 2**30:.1f} GiB, more than is free. Take a "
            "smaller --image-size or fewer pictures."
        )
    images, kept = torch.empty(len(found), 3, spec.size, spec.size, dtype=torch.uint8), []
    pool = ThreadPoolExecutor()  # Pillow decodes outside Python's lock
    try:
        futures = [pool.submit(read_picture, path, spec) for path, _, _ in found]
        for i, future in enumerate(tqdm(futures, desc="reading", unit="picture", disable=not progress)):
            try:
                images[len(kept)] = future.result()
                kept.append(i)
            except ValueError as error:
                skipped.append((_name(found[i][0], folder), str(error)))
    finally:
        pool.shutdown(cancel_futures=True)
    return images[: len(kept)], kept


def _twins(images: torch.Tensor) -> list[list[int]]:
    """The places of the pictures, those with the same pixels together, in the order of their first."""
    places = defaultdict(list)
    for i, image in enumerate(images):
        places[hashlib.sha256(image.numpy()).digest()].append(i)
    return list(places.values())


def _without_contradictions(images, labels, groups, names, skipped) -> torch.Tensor:
    """The places of what can be used; what is left out for its twin's sake goes to `skipped`."""
    usable = torch.ones(len(names), dtype=torch.bool)
    for twins in _twins(images):
        contradict = len(set(labels[twins].tolist())) > 1
        last_part = max(groups[twins].tolist())
        for i in twins:
            if contradict:
                other = next(names[j] for j in twins if labels[j] != labels[i])
                skipped.append((names[i], f"the same picture as {other}, of another class"))
            elif groups[i] < last_part:
                other = next(names[j] for j in twins if groups[j] == last_part)
                skipped.append((names[i], f"the same picture as {other}, and would give it away"))
            usable[i] = not contradict and groups[i] == last_part
    return usable.nonzero().flatten()


def _draw(twins, labels, groups, to_draw, class_names, seed) -> torch.Tensor:
    """`groups` with the missing parts drawn from the training part, class by class, twins together."""
    groups, generator = groups.clone(), torch.Generator().manual_seed(seed)
    few = []
    for label, class_name in enumerate(class_names):
        own = [group for group in twins if labels[group[0]] == label and groups[group[0]] == TRAIN]
        if len(own) < 1 + len(to_draw):
            few.append(f"{class_name} ({len(own)})")
            continue
        own = [own[i] for i in torch.randperm(len(own), generator=generator).tolist()]
        wanted = max(1, round(SHARE * sum(map(len, own))))
        own.sort(key=len, reverse=True)  # stable: the order stays random but for copies, which go to the training
        left = own[1:]
        for still_to_come, part in zip(reversed(range(len(to_draw))), to_draw, strict=True):
            taken = 0
            while taken < wanted and len(left) > still_to_come:
                group = left.pop()
                groups[group] = part
                taken += len(group)
    if few:
        raise ValueError(
            f"Too few different pictures that can be read, in {', '.join(few)}: a class takes {1 + len(to_draw)} at "
            "least, one for each part of the split. Add pictures, or remove the class's folder."
        )
    return groups
