"""The pretraining command, its letters, and the pocket weights that it made."""

import hashlib
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from course_utils.__main__ import COMMANDS, main, one_line_help
from course_utils.commands import pretrain
from course_utils.letters import (
    LETTERS,
    TRAINING_FONTS,
    UNSEEN_FONTS,
    LetterBank,
    font_path,
    render_letter,
)
from course_utils.pocket import POCKET_SHA256, POCKET_WEIGHTS, TinyResNet, load_pocket_checkpoint

ROOT = Path(__file__).resolve().parents[1]
DIGITS = set("0123456789")


def terminal(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """Run `python <arguments>` in the repository as a user does, and give what it printed."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"} | environment,
        capture_output=True,
        check=False,
        timeout=300,
    )


def load_network(path: Path, sha256: str | None) -> TinyResNet:
    checkpoint = load_pocket_checkpoint(path, sha256=sha256)
    model = TinyResNet(len(checkpoint["classes"]))
    model.load_state_dict(checkpoint["state_dict"])
    return model


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def short_look(tmp_path_factory):
    """A pretraining of 40 batches, as typed in a terminal: its exit status, its file and what its batches gave."""
    target = tmp_path_factory.mktemp("short") / "new_folder" / "short.pt"
    histories = []

    def remember(*arguments):
        model, history = original(*arguments)
        histories.append(history)
        return model, history

    original = pretrain.pretrain
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrain, "pretrain", remember)
        status = main(["pretrain", "--steps", "40", "--threads", "1", "--out", str(target)])
    return status, target, histories[0]


# The letters


def test_there_are_37_letters_and_no_digit():
    assert len(LETTERS) == len(set(LETTERS)) == 37
    assert not DIGITS & set(LETTERS)
    assert set(TRAINING_FONTS).isdisjoint(UNSEEN_FONTS)


@pytest.mark.parametrize("letters", ["0", "AB7", "A\u0663", "A ", "\u0416", ""])
def test_a_bank_refuses_all_that_is_no_latin_letter(letters):
    with pytest.raises(ValueError, match="Latin letters only"):
        LetterBank(["DejaVuSans"], letters)


def test_pretraining_renders_letters_only(monkeypatch):
    """What the fonts are really asked to draw, in the training fonts and in those to measure with."""
    rendered = set()

    def render_and_remember(letter, path):
        rendered.add((letter, path.stem))
        return render_letter(letter, path)

    monkeypatch.setattr("course_utils.letters.render_letter", render_and_remember)
    monkeypatch.setattr(pretrain, "BATCH_SIZE", 8)
    model, _ = pretrain.pretrain(steps=10, seed=0)
    pretrain.letter_accuracy(model, UNSEEN_FONTS, count=1)
    assert rendered == {(letter, font) for letter in LETTERS for font in TRAINING_FONTS + UNSEEN_FONTS}


def test_every_letter_has_a_shape_of_its_own_in_every_font():
    for font in TRAINING_FONTS + UNSEEN_FONTS:
        shapes = [render_letter(letter, font_path(font)) for letter in LETTERS]
        assert all(shape.shape == (48, 48) and shape.max() > 200 for shape in shapes), font
        assert len({shape.tobytes() for shape in shapes}) == len(LETTERS), font


def test_a_font_that_is_missing_or_lacks_a_letter_is_named():
    with pytest.raises(FileNotFoundError, match="NoSuchFont"):
        LetterBank(["NoSuchFont"])
    with pytest.raises(ValueError, match=r"cmex10 has no letter"):  # a font of mathematical signs
        render_letter("\u00fe", font_path("cmex10"))


def test_drawn_pictures_are_fresh_in_range_and_repeatable():
    bank = LetterBank(["DejaVuSans", "cmr10"], "ABe")
    generator = torch.Generator().manual_seed(1)
    images, labels = bank.draw(200, generator)
    more, _ = bank.draw(200, generator)
    again, labels_again = bank.draw(200, torch.Generator().manual_seed(1))
    assert images.shape == (200, 3, 32, 32) and images.dtype == torch.float32
    assert images.min() >= 0 and images.max() <= 1 and images.std() > 0.2
    assert labels.unique().tolist() == [0, 1, 2]
    assert torch.equal(images, again) and torch.equal(labels, labels_again)
    assert len(torch.cat([images, more]).flatten(1).unique(dim=0)) == 400


def test_a_drawn_picture_shows_the_letter_of_its_label():
    """An L has less ink in its upper right corner than an O has there."""
    images, labels = LetterBank(["DejaVuSans-Bold"], "LO").draw(800, torch.Generator().manual_seed(0))
    contrast = (images - images[:, :, :1, :1]).abs().mean(1)  # against the corner's colour: paper
    corner = contrast[:, 6:14, 18:26].mean((1, 2)) / contrast.mean((1, 2))
    assert corner[labels == 0].mean() < 0.7 * corner[labels == 1].mean()


def test_strokes_grow_from_thinner_to_much_thicker():
    ink = LetterBank(TRAINING_FONTS).masks.sum((-2, -1))  # (4, letters, fonts)
    assert (ink[0] <= ink[1]).all() and (ink[1] < ink[2]).all() and (ink[2] < ink[3]).all()
    assert (ink[0] > 0.4 * ink[1]).all()


# A short pretraining


def test_a_short_pretraining_learns(short_look):
    _, target, history = short_look
    losses = [loss for loss, _ in history]
    assert len(history) == 40
    assert losses[0] == pytest.approx(math.log(37), abs=0.6)  # a new network guesses
    assert sum(losses[-5:]) / 5 < math.log(37) - 0.5
    assert sum(accuracy for _, accuracy in history[:5]) / 5 < 3 / 37
    assert sum(accuracy for _, accuracy in history[-5:]) / 5 > 4 / 37
    assert pretrain.letter_accuracy(load_network(target, sha256=None), UNSEEN_FONTS, count=512) > 4 / 37


def test_the_command_writes_a_checkpoint_that_loads(short_look):
    status, target, _ = short_look
    assert status == 0
    checkpoint = torch.load(target, weights_only=True)
    assert set(checkpoint) == {"state_dict", "classes", "mean", "std", "size", "recipe"}
    assert checkpoint["classes"] == list(LETTERS)
    assert (checkpoint["mean"], checkpoint["std"], checkpoint["size"]) == ([0.35] * 3, [0.35] * 3, 32)
    assert checkpoint["recipe"]["steps"] == 40 and checkpoint["recipe"]["seed"] == 0
    assert {tensor.dtype for tensor in checkpoint["state_dict"].values()} == {torch.float16, torch.int64}
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_the_same_command_gives_the_same_bytes(short_look):
    """In another process, under another name: nothing of the place or the time is in the file."""
    _, target, _ = short_look
    second = target.parent.parent / "second.pt"
    done = terminal(
        *("-m", "course_utils", "pretrain", "--steps", "40", "--threads", "1", "--out", str(second)),
        PYTHONIOENCODING="cp1252",  # a Windows console
    )
    printed = done.stdout.decode("ascii")
    assert done.returncode == 0, done.stderr.decode()
    bar = done.stderr.decode("ascii")
    assert "accuracy=" in bar and "#" in bar and "\\u" not in bar  # no character that cp1252 lacks
    sha256 = hashlib.sha256(second.read_bytes()).hexdigest()
    assert sha256 == hashlib.sha256(target.read_bytes()).hexdigest()
    assert sha256 in printed and f"{second.stat().st_size:,} bytes" in printed
    assert re.search(r"as the course ships no", printed)
    assert len(re.findall(r"\d+\.\d% on fresh letters", printed)) == 2


def test_another_seed_gives_other_weights(monkeypatch):
    monkeypatch.setattr(pretrain, "BATCH_SIZE", 8)
    monkeypatch.setattr(pretrain, "TRAINING_FONTS", ("cmr10",))
    first, second = (pretrain.pretrain(steps=10, seed=seed)[0].fc.weight for seed in (0, 1))
    assert not torch.equal(first, second)


def test_an_existing_file_is_kept_unless_forced(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(pretrain, "pretrain", lambda steps, seed: (TinyResNet(37), []))
    monkeypatch.setattr(pretrain, "letter_accuracy", lambda model, fonts: 0.5)
    target = tmp_path / "weights.pt"
    target.write_bytes(b"mine")
    assert main(["pretrain", "--out", str(target)]) == 1
    assert target.read_bytes() == b"mine"
    error = capsys.readouterr().err
    assert "--force" in error and error.count("\n") == 1
    assert main(["pretrain", "--out", str(target), "--force"]) == 0
    assert load_network(target, sha256=None)


@pytest.mark.parametrize("option", [("--steps", "9"), ("--threads", "0"), ("--seed", "-1")])
def test_impossible_options_are_told_before_any_work(option, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pretrain, "pretrain", lambda *_: pytest.fail("it trained"))
    assert main(["pretrain", *option, "--out", str(tmp_path / "weights.pt")]) == 1
    assert option[0] in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_as_target_is_refused_even_with_force(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pretrain, "pretrain", lambda *_: pytest.fail("it trained"))
    assert main(["pretrain", "--force", "--out", str(tmp_path)]) == 1
    assert "is a folder" in capsys.readouterr().err


def test_contact_sheet_is_a_picture_and_trains_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain, "pretrain", lambda *_: pytest.fail("it trained"))
    target = tmp_path / "letters.png"
    arguments = ["pretrain", "--contact-sheet", str(target), "--threads", "1"]
    assert main(arguments) == 0
    first = target.read_bytes()
    assert first.startswith(b"\x89PNG")
    assert main(arguments) == 1  # it is there
    assert main([*arguments, "--force"]) == 0
    assert target.read_bytes() == first


# The weights that ship with the course


def test_the_shipped_file_is_the_one_that_the_code_and_the_card_name():
    content = POCKET_WEIGHTS.read_bytes()
    assert hashlib.sha256(content).hexdigest() == POCKET_SHA256
    assert len(content) <= 2_000_000
    card = (POCKET_WEIGHTS.parent / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert POCKET_SHA256 in card and f"{len(content):,} bytes" in card


def test_the_shipped_network_knows_letters_and_no_digit():
    checkpoint = load_pocket_checkpoint()
    assert len(checkpoint["classes"]) == 37 and not DIGITS & set(checkpoint["classes"])
    assert checkpoint["state_dict"]["fc.weight"].shape == (37, 128)
    assert all(tensor.isfinite().all() for tensor in checkpoint["state_dict"].values())


def test_the_shipped_recipe_is_what_the_command_does_by_default():
    recipe = load_pocket_checkpoint()["recipe"]
    command = pretrain.argparse.ArgumentParser()
    pretrain.add_arguments(command)
    defaults = command.parse_args([])
    assert recipe["steps"] == defaults.steps
    assert recipe["seed"] == defaults.seed
    assert recipe["threads"] == defaults.threads
    assert recipe["learning_rate"] == pretrain.LEARNING_RATE
    assert recipe["weight_decay"] == pretrain.WEIGHT_DECAY
    assert recipe["batch_size"] == pretrain.BATCH_SIZE


@pytest.mark.parametrize("fonts", [TRAINING_FONTS, UNSEEN_FONTS], ids=["training fonts", "unseen fonts"])
def test_the_shipped_network_reads_fresh_letters(fonts):
    model = load_network(POCKET_WEIGHTS, POCKET_SHA256)
    assert pretrain.letter_accuracy(model, fonts, count=1024, seed=7) >= 0.85


# Files that are not what they should be


def test_a_damaged_file_is_refused(tmp_path):
    content = bytearray(POCKET_WEIGHTS.read_bytes())
    content[len(content) // 2] ^= 1  # a single bit
    damaged = tmp_path / "damaged.pt"
    damaged.write_bytes(content)
    with pytest.raises(ValueError, match="damaged"):
        load_pocket_checkpoint(damaged)


def test_a_file_cut_short_is_refused_with_and_without_its_checksum(tmp_path):
    short = tmp_path / "short.pt"
    short.write_bytes(POCKET_WEIGHTS.read_bytes()[:-1000])
    with pytest.raises(ValueError, match="damaged"):
        load_pocket_checkpoint(short)
    with pytest.raises(ValueError, match=r"short\.pt holds no weights"):
        load_pocket_checkpoint(short, sha256=None)


def test_the_weights_of_another_network_are_refused(tmp_path):
    other = tmp_path / "other.pt"
    torch.save(torch.nn.Linear(4, 2).state_dict(), other)
    with pytest.raises(ValueError, match="damaged or not the file that the course ships"):
        load_pocket_checkpoint(other)
    with pytest.raises(ValueError, match="holds no weights of the pocket network"):
        load_pocket_checkpoint(other, sha256=None)


def test_a_checkpoint_of_another_shape_is_refused(tmp_path):
    """The right keys around a wider network."""
    checkpoint = load_pocket_checkpoint()
    checkpoint["state_dict"] = TinyResNet(37, widths=(16, 32, 64, 160)).state_dict()
    wider = tmp_path / "wider.pt"
    torch.save(checkpoint, wider)
    with pytest.raises(ValueError, match="holds no weights of the pocket network"):
        load_pocket_checkpoint(wider, sha256=None)


class RunsCode:
    """Pickled, it makes a folder on the machine of whoever unpickles it."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_a_file_that_would_run_code_is_refused_before_it_does(tmp_path):
    harmful, folder = tmp_path / "harmful.pt", tmp_path / "made by the file"
    checkpoint = load_pocket_checkpoint()
    torch.save({**checkpoint, "recipe": RunsCode(str(folder))}, harmful)
    with pytest.raises(ValueError, match="holds no weights"):
        load_pocket_checkpoint(harmful, sha256=None)
    assert not folder.exists()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.pt"):
        load_pocket_checkpoint(tmp_path / "nothing.pt")


# python -m course_utils


def test_help_lists_every_command_without_importing_torch():
    program = (
        "import os, sys; sys.argv = ['course_utils', '--help']; import runpy\n"
        "try: runpy.run_module('course_utils', run_name='__main__', alter_sys=True)\n"
        "except SystemExit as done: status = done.code\n"
        "assert status == 0, status\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
        "assert os.environ['OMP_WAIT_POLICY'] == 'PASSIVE', 'threads would spin while they wait'"
    )
    done = terminal("-c", program, PYTHONIOENCODING="ascii", COLUMNS="200")
    assert done.returncode == 0, done.stderr.decode()
    for command in COMMANDS:
        assert re.search(rf"^    {command}\s", done.stdout.decode(), re.MULTILINE), command
        assert one_line_help(command) in done.stdout.decode()


@pytest.mark.parametrize("typed", ["pretrian", "xyzzy"])
def test_an_unknown_command_names_those_that_exist(typed, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([typed])
    error = capsys.readouterr().err
    assert stopped.value.code == 2
    assert f"there is no command '{typed}'" in error and "pretrain" in error.split("Did you mean")[1]


def test_no_command_at_all_is_wrong_usage(capsys):
    with pytest.raises(SystemExit) as stopped:
        main([])
    assert stopped.value.code == 2 and "<command>" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("raised", "status"),
    [
        (ValueError("too few"), 1),
        (FileNotFoundError("no such file"), 1),
        (FileExistsError("is there"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_an_expected_error_is_one_sentence_and_a_status(raised, status, monkeypatch, capsys):
    def fail(args):
        raise raised

    monkeypatch.setattr(pretrain, "run", fail)
    assert main(["pretrain"]) == status
    error = capsys.readouterr().err.strip()
    assert (str(raised) or "Ctrl+C") in error and len(error.splitlines()) == 1


def test_a_bug_keeps_its_traceback(monkeypatch):
    def fail(args):
        raise TypeError("a bug")

    monkeypatch.setattr(pretrain, "run", fail)
    with pytest.raises(TypeError, match="a bug"):
        main(["pretrain"])


def test_a_console_without_the_character_still_prints():
    program = "import sys; from course_utils.__main__ import main; main(['pretrian'])"
    assert terminal("-c", program, PYTHONIOENCODING="cp1252").returncode == 2
    program = (
        "import types, sys, importlib; from course_utils.__main__ import main;"
        "fake = types.SimpleNamespace(add_arguments=lambda p: None, run=lambda a: print('\\u4e2d') or 0);"
        "importlib.import_module = lambda name: fake;"
        "sys.exit(main(['pretrain']))"
    )
    done = terminal("-c", program, PYTHONIOENCODING="cp1252")
    assert (done.returncode, done.stdout.strip()) == (0, b"\\u4e2d")
