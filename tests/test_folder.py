"""A folder of pictures: what people's folders really hold is read, named or refused, and the split does not leak."""

import shutil
import sys
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from course_utils.full_size.folder import NO_PICTURE, TEST, TRAIN, VAL, is_hidden, read_folder, read_picture
from course_utils.pocket import InputSpec

SPEC = InputSpec(mean=(0.5,) * 3, std=(0.5,) * 3, size=16)


def write_pictures(folder, count, seed=0):
    """So many different pictures of noise."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    for i in range(count):
        Image.fromarray(random.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(folder / f"{i:03}.png")


@pytest.fixture
def cats_and_dogs(tmp_path):
    folder = tmp_path / "my pictures"  # with a blank
    write_pictures(folder / "cats", 20, seed=1)
    write_pictures(folder / "dogs", 40, seed=2)
    return folder


# --- the split --------------------------------------------------------------------------------------------------------


def test_a_folder_is_read_and_split_class_by_class(cats_and_dogs):
    pictures = read_folder(cats_and_dogs, SPEC)
    data = pictures.data
    assert data.images.shape == (60, 3, 16, 16) and data.images.dtype == torch.uint8
    assert data.class_names == ("cats", "dogs")
    assert [name.split("/")[0] for name in pictures.names] == ["cats"] * 20 + ["dogs"] * 40
    assert data.labels.tolist() == [0] * 20 + [1] * 40
    for label, (train, val, test) in enumerate([(14, 3, 3), (28, 6, 6)]):
        assert data.groups[data.labels == label].bincount().tolist() == [train, val, test]
    assert pictures.skipped == ()


def test_the_split_depends_on_the_seed_alone(cats_and_dogs):
    first, same, other = (read_folder(cats_and_dogs, SPEC, seed=seed).data for seed in (0, 0, 1))
    assert torch.equal(first.groups, same.groups) and torch.equal(first.images, same.images)
    assert not torch.equal(first.groups, other.groups)


def test_copies_of_a_picture_stay_on_one_side(cats_and_dogs):
    for name in ("000", "001", "002"):
        for copy in range(5):
            shutil.copy(cats_and_dogs / "cats" / f"{name}.png", cats_and_dogs / "cats" / f"copy{copy} of {name}.png")
    for seed in range(10):
        pictures = read_folder(cats_and_dogs, SPEC, seed=seed)
        for name in ("000", "001", "002"):
            sides = {
                int(group)
                for path, group in zip(pictures.names, pictures.data.groups, strict=True)
                if path.startswith("cats") and path.endswith(f"{name}.png")
            }
            assert len(sides) == 1
        assert all((pictures.data.groups[pictures.data.labels == label] == part).any() for label in (0, 1) for part in
                   (TRAIN, VAL, TEST))  # fmt: skip


def test_copies_cannot_empty_a_part(tmp_path):
    for class_name in ("a", "b"):
        write_pictures(tmp_path / class_name, 3, seed=ord(class_name))
        for copy in range(20):
            shutil.copy(tmp_path / class_name / "000.png", tmp_path / class_name / f"copy{copy}.png")
    for seed in range(5):
        data = read_folder(tmp_path, SPEC, seed=seed).data
        for label in (0, 1):
            assert data.groups[data.labels == label].bincount().tolist() == [21, 1, 1]


def test_one_picture_in_two_classes_is_left_out_and_named(cats_and_dogs):
    shutil.copy(cats_and_dogs / "cats" / "000.png", cats_and_dogs / "dogs" / "lost.png")
    pictures = read_folder(cats_and_dogs, SPEC)
    assert len(pictures.names) == 59 and "cats/000.png" not in pictures.names
    assert dict(pictures.skipped) == {
        "cats/000.png": "the same picture as dogs/lost.png, of another class",
        "dogs/lost.png": "the same picture as cats/000.png, of another class",
    }


def parts_of_their_own(folder, parts):
    for number, part in enumerate(parts):
        for class_name in ("a", "b"):
            write_pictures(folder / part / class_name, 10, seed=100 * number + ord(class_name))


@pytest.mark.parametrize(
    "parts, counts",
    [
        (("train", "val", "test"), [20, 20, 20]),
        (("train", "test"), [16, 4, 20]),
        (("train", "valid"), [16, 20, 4]),
        (("Train", "Validation", "Test"), [20, 20, 20]),
    ],
)
def test_given_parts_are_kept_and_missing_ones_come_from_the_training(tmp_path, parts, counts):
    parts_of_their_own(tmp_path, parts)
    pictures = read_folder(tmp_path, SPEC)
    assert pictures.data.class_names == ("a", "b")
    assert pictures.data.groups.bincount().tolist() == counts
    if counts[2] == 20:
        tested = [name for name, group in zip(pictures.names, pictures.data.groups, strict=True) if group == TEST]
        assert all(name.lower().startswith("test/") for name in tested)


def test_what_stands_in_the_test_too_is_not_trained_on(tmp_path):
    parts_of_their_own(tmp_path, ("train", "val", "test"))
    shutil.copy(tmp_path / "test" / "a" / "000.png", tmp_path / "train" / "a" / "seen.png")
    pictures = read_folder(tmp_path, SPEC)
    assert pictures.skipped == (("train/a/seen.png", "the same picture as test/a/000.png, and would give it away"),)
    assert pictures.data.groups.bincount().tolist() == [20, 20, 20]


def test_a_class_may_be_called_train(tmp_path):
    for name in ("bus", "car", "train"):
        write_pictures(tmp_path / name, 5, seed=ord(name[0]))
    assert read_folder(tmp_path, SPEC).data.class_names == ("bus", "car", "train")


# --- what cannot work is said -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_class_with_too_few_pictures_is_an_error(cats_and_dogs, count):
    write_pictures(cats_and_dogs / "ants", count)
    with pytest.raises(ValueError, match=rf"Too few .* in ants \({count}\): a class takes 3"):
        read_folder(cats_and_dogs, SPEC)


def test_copies_do_not_make_up_for_pictures(cats_and_dogs):
    write_pictures(cats_and_dogs / "ants", 2)
    for copy in range(9):
        shutil.copy(cats_and_dogs / "ants" / "000.png", cats_and_dogs / "ants" / f"copy{copy}.png")
    with pytest.raises(ValueError, match=r"ants \(2\)"):
        read_folder(cats_and_dogs, SPEC)


def test_a_folder_without_classes_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        read_folder(tmp_path / "nothing", SPEC)
    with pytest.raises(ValueError, match="0 class folders"):
        read_folder(tmp_path, SPEC)
    write_pictures(tmp_path / "cats", 5)
    with pytest.raises(ValueError, match="1 class folders"):
        read_folder(tmp_path, SPEC)


def test_a_class_that_is_not_trained_is_an_error(tmp_path):
    parts_of_their_own(tmp_path, ("train", "test"))
    write_pictures(tmp_path / "test" / "zebras", 2)
    with pytest.raises(ValueError, match="test has classes that train lacks: zebras"):
        read_folder(tmp_path, SPEC)


def test_parts_are_not_taken_for_classes(tmp_path):
    """A network that learns to tell train from test would seem to work."""
    parts_of_their_own(tmp_path, ("train", "test", "extra"))
    with pytest.raises(ValueError, match="holds test, train, the parts of a split, and extra beside them"):
        read_folder(tmp_path, SPEC)
    shutil.rmtree(tmp_path / "extra")
    (tmp_path / "train").rename(tmp_path / "val")
    with pytest.raises(ValueError, match="holds test, val, the parts of a split, and no train: add it"):
        read_folder(tmp_path, SPEC)


def test_a_given_part_without_a_usable_picture_is_an_error(tmp_path):
    parts_of_their_own(tmp_path, ("train", "test"))
    (tmp_path / "val" / "a").mkdir(parents=True)
    with pytest.raises(ValueError, match="val has no picture that can be used"):
        read_folder(tmp_path, SPEC)
    shutil.copy(tmp_path / "test" / "a" / "000.png", tmp_path / "val" / "a" / "tested.png")
    with pytest.raises(ValueError, match="val has no picture that can be used"):
        read_folder(tmp_path, SPEC)


def test_what_does_not_fit_into_memory_is_an_error(cats_and_dogs, monkeypatch):
    with pytest.raises(ValueError, match="more than is free"):
        read_folder(cats_and_dogs, InputSpec(SPEC.mean, SPEC.std, size=200_000))
    once = 60 * 3 * SPEC.size**2
    free = SimpleNamespace(available=1.9 * once / 0.8)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    with pytest.raises(ValueError, match="more than is free"):  # they are there twice for a moment
        read_folder(cats_and_dogs, SPEC)
    free.available = 2.1 * once / 0.8
    assert len(read_folder(cats_and_dogs, SPEC).names) == 60


# --- what folders hold besides pictures -------------------------------------------------------------------------------


def test_what_is_no_picture_is_named_and_what_is_hidden_is_not(cats_and_dogs):
    (cats_and_dogs / "readme.txt").write_text("mine")
    (cats_and_dogs / "cats" / "notes.doc").write_text("cats")
    (cats_and_dogs / "cats" / "phone.HEIC").write_bytes(b"x")
    (cats_and_dogs / "cats" / "Thumbs.db").write_bytes(b"x")
    (cats_and_dogs / "cats" / ".DS_Store").write_bytes(b"x")
    (cats_and_dogs / "cats" / "._000.png").write_bytes(b"x")
    (cats_and_dogs / ".thumbnails" / "cats").mkdir(parents=True)
    (cats_and_dogs / "__MACOSX" / "cats").mkdir(parents=True)
    pictures = read_folder(cats_and_dogs, SPEC)
    assert len(pictures.names) == 60 and pictures.data.class_names == ("cats", "dogs")
    assert pictures.skipped == (
        ("cats/notes.doc", NO_PICTURE),
        ("cats/phone.HEIC", NO_PICTURE),
        ("readme.txt", "stands in no class folder"),
    )


def test_pictures_may_lie_deeper_and_have_names_in_any_script(cats_and_dogs):
    write_pictures(cats_and_dogs / "cats" / "2024" / "in the garden", 2, seed=7)
    (cats_and_dogs / "cats" / "000.png").rename(cats_and_dogs / "cats" / "猫 é.PNG")
    pictures = read_folder(cats_and_dogs, SPEC)
    assert "cats/2024/in the garden/001.png" in pictures.names and "cats/猫 é.PNG" in pictures.names


def test_unreadable_pictures_are_named_and_skipped(cats_and_dogs):
    whole = (cats_and_dogs / "cats" / "000.png").read_bytes()
    damaged = {
        "cut.png": whole[: len(whole) // 2],
        "empty.jpg": b"",
        "page.jpg": b"<html>not found</html>",
        "spoilt.png": whole[:100] + bytes(200) + whole[300:],
    }
    for name, content in damaged.items():
        (cats_and_dogs / "cats" / name).write_bytes(content)
    pictures = read_folder(cats_and_dogs, SPEC)
    reasons = dict(pictures.skipped)
    assert set(reasons) == {f"cats/{name}" for name in damaged}
    assert reasons["cats/empty.jpg"] == "the file is empty"
    assert reasons["cats/page.jpg"] == "no picture that Pillow can read, or a damaged one"
    assert len(pictures.names) == 60


def test_a_picture_that_would_fill_the_memory_is_skipped(cats_and_dogs, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    Image.new("L", (100, 100)).save(cats_and_dogs / "cats" / "bomb.png")  # ten times as many
    ((name, why),) = read_folder(cats_and_dogs, SPEC).skipped
    assert name == "cats/bomb.png" and "exceeds limit" in why


# --- kinds of pictures ------------------------------------------------------------------------------------------------

LEFT = np.zeros((16, 16), dtype=bool)
LEFT[:, :8] = True  # the left half


def read_saved(picture, tmp_path, name="picture.png", **options):
    picture.save(tmp_path / name, **options)
    return read_picture(tmp_path / name, SPEC)


def test_grey_black_and_white_palette_and_cmyk_become_rgb(tmp_path):
    grey = Image.fromarray((LEFT * 200).astype(np.uint8))
    for picture in (grey, grey.convert("RGB"), grey.convert("P"), grey.convert("RGB").quantize(4)):
        image = read_saved(picture, tmp_path)
        assert image.shape == (3, 16, 16)
        assert image[:, :, 0].float().mean() == pytest.approx(200, abs=1) and image[:, :, 15].max() <= 1
    assert read_saved(grey.convert("1", dither=Image.Dither.NONE), tmp_path)[:, :, 0].min() == 255
    assert read_saved(grey.convert("CMYK"), tmp_path, "c.tif")[:, :, 0].float().mean() == pytest.approx(200, abs=1)


@pytest.mark.parametrize("name", ["deep.png", "deep.tif"])
def test_sixteen_bits_are_scaled_and_not_cut(tmp_path, name):
    values = np.where(LEFT, 32768, 1000).astype(np.uint16)
    image = read_saved(Image.fromarray(values), tmp_path, name)
    assert image[:, :, 0].unique().tolist() == [128] and image[:, :, 15].unique().tolist() == [4]


def test_pixels_without_a_known_range_are_refused(tmp_path):
    for values in (np.ones((16, 16), np.float32), np.full((16, 16), -1, np.int32)):
        with pytest.raises(ValueError, match="no range"):
            read_saved(Image.fromarray(values), tmp_path, "odd.tif")


def test_what_is_transparent_shows_white_and_not_what_is_hidden_below(tmp_path):
    hidden = np.zeros((16, 16, 4), dtype=np.uint8)
    hidden[..., 0], hidden[..., 3] = 255, LEFT * 255  # red, and seen in the left half alone
    image = read_saved(Image.fromarray(hidden), tmp_path)
    assert image[:, 8, 0].tolist() == [255, 0, 0] and image[:, 8, 15].tolist() == [255, 255, 255]
    palette = Image.fromarray((~LEFT).astype(np.uint8)).convert("P")
    image = read_saved(palette, tmp_path, transparency=1)
    assert image[:, 8, 15].tolist() == [255, 255, 255]


@pytest.mark.parametrize("orientation, side", [(1, "left"), (2, "right"), (3, "right"), (6, "top"), (8, "bottom")])
def test_a_camera_held_sideways_is_turned_upright(tmp_path, orientation, side):
    picture = Image.fromarray((LEFT * 255).astype(np.uint8))
    exif = picture.getexif()
    exif[0x0112] = orientation
    image = read_saved(picture, tmp_path, exif=exif)[0].float()
    halves = {"left": image[:, :8], "right": image[:, 8:], "top": image[:8], "bottom": image[8:]}
    assert halves[side].mean() > 250


def test_a_large_jpeg_is_read_as_it_is_seen(tmp_path):
    ramp = np.linspace(0, 255, 640).astype(np.uint8)[None, :, None].repeat(480, 0).repeat(3, 2)
    image = read_saved(Image.fromarray(ramp), tmp_path, "ramp.jpg", quality=95).float()
    expected = torch.linspace(0, 255, 640).unflatten(0, (16, 40)).mean(1)
    assert (image - expected).abs().max() < 4


def test_the_interpolation_is_that_of_the_weights(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    bilinear = read_saved(Image.fromarray(noise), tmp_path)
    bicubic = read_picture(tmp_path / "picture.png", InputSpec(SPEC.mean, SPEC.std, 16, "bicubic"))
    assert (bilinear.int() - bicubic.int()).abs().max() > 5


def test_a_picture_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        read_picture(tmp_path / "none.png", SPEC)


def test_hidden_is_what_systems_hide(tmp_path):
    assert all(is_hidden(tmp_path / name) for name in (".DS_Store", "Thumbs.db", "desktop.ini", "__MACOSX"))
    assert not is_hidden(tmp_path / "cats")


@pytest.mark.skipif(sys.platform == "win32", reason="making a link takes rights there")
def test_a_link_to_a_picture_counts(cats_and_dogs):
    (cats_and_dogs / "cats" / "linked.png").symlink_to(cats_and_dogs / "cats" / "001.png")
    pictures = read_folder(cats_and_dogs, SPEC)
    sides = {int(pictures.data.groups[pictures.names.index(name)]) for name in ("cats/001.png", "cats/linked.png")}
    assert len(sides) == 1
