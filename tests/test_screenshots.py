"""The screenshots of TensorBoard: they are there, they show something, each stands in a notebook, and told in words.

No browser is needed here. That TensorBoard still looks as they say is seen by taking them again: make screenshots.
"""

import contextlib
import functools
import re
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image

from course_utils import browser
from course_utils.__main__ import main
from course_utils.commands import screenshots

ROOT = Path(__file__).parent.parent
PICTURES = ROOT / "images" / "tensorboard"


@functools.cache
def shown_in_notebooks() -> dict[str, list[str]]:
    """{name of a screenshot: the alt texts under which notebooks show it}."""
    found = {}
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "markdown":
                for alt, name in re.findall(r"!\[([^\]]*)\]\(\.\./images/tensorboard/([^)]+)\.png\)", cell.source):
                    found.setdefault(name, []).append(alt)
    return found


def test_the_command_takes_what_is_there_and_notebooks_show_it():
    names = {path.name for path in PICTURES.iterdir()}
    assert names == {f"{name}.png" for name in screenshots.VIEWS}
    assert set(shown_in_notebooks()) == set(screenshots.VIEWS)


@pytest.mark.parametrize("name", screenshots.VIEWS)
def test_a_screenshot_shows_something_and_is_small(name):
    content = (PICTURES / f"{name}.png").read_bytes()
    assert len(content) <= screenshots.LARGEST
    assert screenshots.ink(content) > screenshots.LEAST_INK
    image = Image.open(PICTURES / f"{name}.png")
    assert image.width == round(screenshots.WIDTH * screenshots.SCALE)
    assert len(image.getcolors()) > 20
    red, green, blue = image.convert("RGB").getpixel((5, 5))
    assert red > 200 > green > blue, "TensorBoard's bar is orange"


@pytest.mark.parametrize("name", screenshots.VIEWS)
def test_a_screenshot_is_told_in_words(name):
    assert all(len(alt) > 40 for alt in shown_in_notebooks()[name])


@pytest.mark.parametrize("view", screenshots.VIEWS.values(), ids=screenshots.VIEWS)
def test_a_view_is_of_a_run_that_its_notebook_makes(view):
    folder, *below = view.runs.split("/")
    notebook = (ROOT / "notebooks" / f"{screenshots.NOTEBOOKS[folder]}.ipynb").read_text(encoding="utf-8")
    assert folder in notebook
    assert below[-1] in notebook


def page(*, drawn: bool) -> Image.Image:
    """What a screenshot of a window of 1100 by 600 may look like: bars, and a chart or none."""
    pixels = np.full((900, 1650, 3), 255, dtype=np.uint8)
    pixels[:90] = (245, 124, 0)
    pixels[90:, :400] = 240
    if drawn:
        pixels[200:500, 500:520] = np.random.default_rng(0).integers(0, 255, (300, 20, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def as_png(image: Image.Image, path: Path) -> bytes:
    image.save(path)
    return path.read_bytes()


def test_a_blank_page_is_told_from_a_chart(tmp_path):
    assert screenshots.ink(as_png(page(drawn=False), tmp_path / "a.png")) == 0
    assert screenshots.ink(as_png(page(drawn=True), tmp_path / "b.png")) == pytest.approx(0.0063, abs=0.002)


def test_a_picture_loses_its_empty_end_and_fits(tmp_path, monkeypatch):
    picture = as_png(page(drawn=True), tmp_path / "a.png")
    monkeypatch.setattr(screenshots, "LARGEST", 8_000)
    small = screenshots.small(picture)
    assert len(small) <= 8_000
    (tmp_path / "b.png").write_bytes(small)
    assert Image.open(tmp_path / "b.png").size == (1650, 529)
    monkeypatch.setattr(screenshots, "LARGEST", 100)
    with pytest.raises(ValueError, match="more than 100"):
        screenshots.small(picture)


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    """The command with a browser that is none: each picture is a made-up one, that of the text fails."""
    pytest.importorskip("playwright")
    picture = as_png(page(drawn=True), tmp_path / "picture.png")

    def take(chromium, view, runs):
        if view.page == "#text":
            raise ValueError("The page is blank.")
        return picture

    monkeypatch.setattr(screenshots, "browser", contextlib.nullcontext)
    monkeypatch.setattr(screenshots, "take", take)


def test_a_picture_that_fails_leaves_the_old_one_and_status_1(stand_in, tmp_path, capsys):
    old = tmp_path / "out" / "text.png"
    old.parent.mkdir()
    old.write_bytes(b"old")
    assert main(["screenshots", "--runs", str(tmp_path), "--out", str(old.parent)]) == 1
    assert old.read_bytes() == b"old"
    assert "text.png: The page is blank." in capsys.readouterr().err
    assert {path.stem for path in old.parent.iterdir()} == set(screenshots.VIEWS)


def test_one_alone_can_be_taken(stand_in, tmp_path, capsys):
    assert main(["screenshots", "--runs", str(tmp_path), "--out", str(tmp_path / "out"), "--only", "graph"]) == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["graph.png"]


def test_a_view_without_its_run_is_told_and_what_the_video_needs(tmp_path):
    with pytest.raises(FileNotFoundError, match="no run 04_tensorboardx/tour/video .*pip install moviepy"):
        screenshots.take(None, screenshots.VIEWS["video"], tmp_path)


def test_a_notebook_that_does_not_run_through_is_told(tmp_path, monkeypatch):
    cell = nbformat.v4.new_code_cell("raise RuntimeError('the run is broken')")
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "broken.ipynb")
    monkeypatch.setattr(screenshots, "FOLDER", tmp_path)
    monkeypatch.setattr(screenshots, "NOTEBOOKS", {"broken_runs": "broken"})
    (tmp_path / "there").mkdir()
    with pytest.raises(RuntimeError, match="the run is broken"):
        screenshots.run_notebooks(tmp_path / "there", {"broken_runs"})


def test_no_browser_is_an_error_that_says_what_to_install(monkeypatch, capsys):
    pytest.importorskip("playwright")
    monkeypatch.delenv("COURSE_BROWSER", raising=False)
    monkeypatch.setattr(browser.shutil, "which", lambda name: None)
    assert main(["screenshots"]) == 1
    assert "apt install chromium" in capsys.readouterr().err


def test_a_browser_of_ones_own_choice(monkeypatch):
    monkeypatch.setenv("COURSE_BROWSER", sys.executable)
    assert Path(browser.find_browser()) == Path(sys.executable)
    monkeypatch.setenv("COURSE_BROWSER", "no-such-browser")
    with pytest.raises(FileNotFoundError, match="COURSE_BROWSER names no-such-browser"):
        browser.find_browser()


def test_no_playwright_is_an_error_that_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "playwright.sync_api", None)
    assert main(["screenshots"]) == 1
    assert "pip install -e .[browser]" in capsys.readouterr().err
