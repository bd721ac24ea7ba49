"""The pictures in images/: they are there, they show something, they are told in words, and a command redraws them."""

import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
from matplotlib.image import imread

from course_utils.__main__ import main
from course_utils.commands import pictures

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def prose():
    """The markdown of the README and of every notebook."""
    cells = [cell for path in NOTEBOOKS for cell in nbformat.read(path, as_version=4).cells]
    return "\n".join([(ROOT / "README.md").read_text(encoding="utf-8"), *(c.source for c in cells)])


@pytest.mark.parametrize("name", pictures.PICTURES)
def test_a_picture_is_there_and_not_blank(name):
    image = imread(ROOT / "images" / f"{name}.png")[..., :3]
    assert min(image.shape[:2]) > 300
    dark = (image.min(axis=2) < 0.7).mean()
    assert 0.01 < dark < 0.9, f"{dark:.0%} of the picture is not paper"


@pytest.mark.parametrize("name", pictures.PICTURES)
def test_a_picture_is_shown_somewhere_and_told_in_words(name):
    alts = re.findall(rf"!\[([^\]]*)\]\((?:\.\./)?images/{name}\.png\)", prose())
    assert alts, f"neither the README nor a notebook shows {name}.png"
    assert all(len(alt) > 60 for alt in alts)


def test_the_command_draws_the_journey_again(tmp_path, capsys):
    assert main(["pictures", "--only", "journey", "--out", str(tmp_path)]) == 0
    assert "journey.png" in capsys.readouterr().out
    drawn, kept = imread(tmp_path / "journey.png"), imread(ROOT / "images" / "journey.png")
    assert drawn.shape == kept.shape
    assert np.abs(drawn - kept).mean() < 0.02, "another matplotlib may shift a letter, no more"
    assert [path.name for path in tmp_path.iterdir()] == ["journey.png"]


def test_a_file_in_the_place_of_the_folder_is_an_error(tmp_path, capsys):
    (tmp_path / "images").write_text("")
    assert main(["pictures", "--out", str(tmp_path / "images")]) == 1
    assert "is a file" in capsys.readouterr().err


def test_a_training_as_it_is_drawn_learns(monkeypatch):
    monkeypatch.setitem(pictures.SETTINGS, "epochs", 2)
    pretrained, scratch = pictures.train(weights="DEFAULT", seed=0), pictures.train(weights=None, seed=0)
    assert pretrained["val_accuracy"][-1] > scratch["val_accuracy"][-1] > 0.15
    assert pictures.png(pictures.draw_runs({"a": [pretrained], "b": [scratch]})).startswith(b"\x89PNG")


def test_the_settings_are_those_of_the_notebook():
    notebook = nbformat.read(ROOT / "notebooks" / "00_start_here.ipynb", as_version=4)
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    found = re.search(r"LEARNING_RATE, BATCH_SIZE, EPOCHS = ([\d.e-]+), (\d+), (\d+)", code)
    settings = pictures.SETTINGS
    assert [float(number) for number in found.groups()] == [
        settings["learning_rate"],
        settings["batch_size"],
        settings["epochs"],
    ]
    assert set(re.findall(r"per_class=(\d+)", code)) == {str(settings["per_class"])}
    assert set(re.findall(r"val=\(([\d, ]+)\)", code)) == {"7, 8"}
    assert f"for seed in {pictures.SEEDS}" in code
