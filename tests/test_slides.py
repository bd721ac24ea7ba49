"""The rules that make slides of a notebook; what a browser makes of them is tested in tests/browser."""

import base64
import io
import re
import tarfile

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from classroom import condense, slides

NOTEBOOKS = sorted((slides.ROOT / "notebooks").glob("*.ipynb"))
# The smallest PNG file there is: one pixel.
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def shown(*cells, out=None):
    """The slides of a notebook with these cells, without the speaker's notes: {heading: text}."""
    parts = slides.parts_of(new_notebook(cells=list(cells)), out, out)
    return {condense.plain(part.heading): text_of("".join(part.groups)) for part in parts}


def text_of(html):
    soup = BeautifulSoup(html, "html.parser")
    for aside in soup.find_all("aside"):
        aside.decompose()
    return soup.get_text()


def notes_of(*cells):
    parts = slides.parts_of(new_notebook(cells=list(cells)), None, None)
    soup = BeautifulSoup("".join(group for part in parts for group in part.groups), "html.parser")
    return " ".join(aside.get_text() for aside in soup.find_all("aside"))


LONG = "This is what counts for all. It is explained" + " at length" * 60 + ". Then it ends."


# What is kept of a paragraph, and what is left out of it.
@pytest.mark.parametrize(
    ("kept", "left_out"),
    [
        ("The first sentence says it. ", "The second adds to it."),
        ("No. That is too short to stand alone. ", "More."),
        ("Call <code>a.b. C</code> before anything else. ", "Then go on."),
        ("It grows like $a. B$ in the number of rows. ", "And on."),
        ("Take a recipe, e.g. Adam, and train with it. ", "Then look."),
        ("It comes from Hu et al. 2021, who measured it. ", "Then look."),
        ("<strong>Once and for all.</strong> The title says little. ", "More."),
        ("What comes first is kept here. So is <strong>this</strong>. ", "Not this."),
    ],
)
def test_key_sentences(kept, left_out):
    assert condense.key_sentences(kept + left_out) == kept


def test_long_prose_is_cut_on_the_slide_and_whole_in_the_notes():
    cell = new_markdown_cell(f"# Title\n\n## Section\n\n{LONG}")
    assert shown(cell)["Section"].strip() == "This is what counts for all."
    assert notes_of(cell).count("at length") == 60


def test_short_prose_stays_whole():
    cell = new_markdown_cell("# Title\n\n## Section\n\nOne sentence that is short. And another one.")
    assert "another" in shown(cell)["Section"]


def test_the_title_shows_the_promise():
    source = (
        "# Title\n\nYou can do it.\n\n**You will**\n- read;\n- write.\n\n**Time**: an hour.\n\n**Before**: nothing."
    )
    text = shown(new_markdown_cell(source))["Title"]
    assert "You can do it." in text and "read" in text
    assert "hour" not in text and "Before" not in text


def test_a_question_ends_its_page():
    source = "# T\n\n## S\n\nWhat comes before.\n\n**Predict:** which one? Or none?\n\nThe answer."
    before, question, after = slides.parts_of(new_notebook(cells=[new_markdown_cell(source)]), None, None)[1].groups
    assert "Or none?" in question and 'data-last="true"' in question
    assert "answer" in after and "before" in before


def test_an_answer_comes_after_its_question():
    source = "# T\n\n## S\n\n**Check yourself**\n\n<details><summary>Why so?</summary>\n\nBecause.\n\n</details>"
    group = slides.parts_of(new_notebook(cells=[new_markdown_cell(source)]), None, None)[1].groups[0]
    soup = BeautifulSoup(group, "html.parser")
    assert soup.select_one(".question").get_text() == "Why so?"
    assert soup.select_one(".fragment").get_text().strip() == "Because."
    assert soup.div["data-title"] == "Check yourself"


@pytest.mark.parametrize(
    ("kind", "on_slide", "in_notes"),
    [("skip", 0, 0), ("notes", 0, 60), ("slide", 60, 60), ("subslide", 60, 60), ("fragment", 60, 60)],
)
def test_metadata_overrides_the_rule(kind, on_slide, in_notes):
    cell = new_markdown_cell(LONG, metadata={"slideshow": {"slide_type": kind}})
    cells = new_markdown_cell("# Title"), cell
    assert shown(*cells)["Title"].count("at length") == on_slide
    assert notes_of(*cells).count("at length") == in_notes


def test_metadata_shows_code_in_full():
    code = "import this\n" + "\n".join(f"x{i} = {i}" for i in range(30))
    title = new_markdown_cell("# Title")
    assert "x3" not in shown(title, new_code_cell(code))["Title"]
    text = shown(title, new_code_cell(code, metadata={"slideshow": {"slide_type": "slide"}}))["Title"]
    assert "x29" in text and "import" in text


def test_code_loses_imports_then_drawing_then_prints():
    lines = [f"a{i} = {i}" for i in range(12)]
    code = "\n".join(["import this", *lines, 'ax.set(title="t")', "print(1)", "print(2)", "assert a1"])
    assert condense.essential(code) == "\n".join([*lines, "print(1)", "print(2)"])
    assert condense.essential(code + "\nprint(3)") == "\n".join(lines)
    assert condense.essential("\n".join(lines * 2)) == ""
    assert condense.essential("%matplotlib inline") == "%matplotlib inline"


def test_an_exercise_shows_what_is_to_be_filled_in():
    title = new_markdown_cell("# T\n\n## Exercises\n\n### Exercise 1: Count\n\nHow many?")
    code = new_code_cell("count = ...\nexercises.loss.q1.check(count)\n# exercises.loss.q1.solution()")
    code.outputs = [new_output("stream", text="NO ANSWER YET")]
    text = shown(title, code)["Exercise 1: Count"]
    assert "count = ..." in text
    assert "check" not in text and "ANSWER" not in text


@pytest.mark.parametrize(
    "data, metadata",
    [
        ({"text/html": f'<img alt="A falling line" src="data:image/png;base64,{PIXEL}">', "text/plain": "x"}, {}),
        ({"image/png": PIXEL, "text/plain": "<Figure>"}, {"image/png": {"alt": "A falling line"}}),
    ],
)
def test_a_figure_stands_for_its_code_and_keeps_its_text(data, metadata):
    code = new_code_cell("figure = plot()\nshow(figure)")
    code.outputs = [new_output("display_data", data=data, metadata=metadata)]
    part = slides.parts_of(new_notebook(cells=[new_markdown_cell("# T"), code]), None, None)[0]
    assert len(part.groups) == 1
    image = BeautifulSoup(part.groups[0], "html.parser").img
    assert image["alt"] == "A falling line" and image["width"] == image["height"] == "1"


def test_printed_text_is_squeezed_and_cut():
    wide = "\n".join(f"{name:60}{1:40}{2:40}" for name in ("one", "two"))
    assert max(map(len, condense.squeezed(wide).splitlines())) <= condense.LINE
    assert [line.split() for line in condense.squeezed(wide).splitlines()] == [
        line.split() for line in wide.splitlines()
    ]
    assert condense.shortened("x\n" * 50, 14).splitlines()[13:] == ["x", "… the rest is in the notebook"]
    assert condense.shortened("x" * 1000, 14) == "x" * 1000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_each_notebook_makes_a_deck(path, tmp_path):
    parts = slides.parts_of(nbformat.read(path, as_version=4), path.parent, tmp_path)
    levels = [part.level for part in parts]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:], strict=False))
    html = "".join(group for part in parts for group in part.groups)
    soup = BeautifulSoup(html, "html.parser")
    for image in soup.find_all("img"):
        assert len(image["alt"]) > 15
        assert image["src"].startswith("data:") or (tmp_path / image["src"]).is_file()
    assert not re.findall(r'(?:src|href)="(?!data:|https?://|images/|[\w-]+\.html")[^"]*"', html)
    assert not soup.select("script, iframe, audio, .jp-Mermaid")
    assert len(soup.select(".question")) >= 3
    words = [len(text_of(group).split()) for part in parts for group in part.groups]
    assert max(words) < 300, "too much for a slide or two"


def archive(folder, package, members):
    """A stand-in for a package, with a file that nobody asked for beside the others. Returns what names it."""
    with tarfile.open(folder / package.name, "w:gz") as tar:
        for name in (*(f"package/{member}" for member in members), "../outside"):
            info = tarfile.TarInfo(name)
            info.size = 4
            tar.addfile(info, io.BytesIO(b"text"))
    with (folder / package.name).open("rb") as file:
        checksum = "sha256:" + package._replace(checksum="sha256:").digest(file).hexdigest()
    return package._replace(checksum=checksum, size=(folder / package.name).stat().st_size, sources=())


@pytest.fixture
def stick(tmp_path, monkeypatch):
    """A folder with stand-ins for both packages, as a teacher may carry them."""
    folder = tmp_path / "on a stick"
    folder.mkdir()
    packages = {archive(folder, package, members): members for package, members in slides.PACKAGES.items()}
    monkeypatch.setattr(slides, "PACKAGES", packages)
    return folder


def test_packages_come_from_a_folder_and_are_kept(stick, tmp_path):
    out, cache = tmp_path / "my slides", tmp_path / "cache"
    out.mkdir()
    (out / "timetable.html").write_text("<p>a page of somebody's own</p>", encoding="utf-8")
    slides.make(NOTEBOOKS[:1], out, stick, cache)
    slides.make(NOTEBOOKS[1:2], out, cache=cache)  # there is no source now, and none is needed
    there = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert {"vendor/reveal.js/LICENSE", "vendor/mathjax/LICENSE", "deck.css", "deck.js", "index.html"} <= there
    assert not list(tmp_path.rglob("outside"))
    page = (out / f"{NOTEBOOKS[0].stem}.html").read_text(encoding="utf-8")
    for kind, target in re.findall(r'<(script|link)[^>]*(?:src|href)="([^"]+)"', page):
        assert target in there, f"{kind} {target}"
    assert '<html lang="en">' in page
    index = (out / "index.html").read_text(encoding="utf-8")
    assert re.findall(r'href="([^"]+)\.html"', index) == [path.stem for path in NOTEBOOKS[:2]]


def test_without_packages_it_says_what_to_do(stick, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(slides.make, "__defaults__", (None, tmp_path / "cache"))
    (stick / slides.MATHJAX.name).unlink()
    assert slides.main([str(NOTEBOOKS[0]), "--out", str(tmp_path / "out"), "--from", str(stick)]) == 1
    message = capsys.readouterr().err
    assert slides.MATHJAX.name in message and "--from DIR" in message


def test_a_file_that_is_no_notebook_is_refused(tmp_path, capsys):
    path = tmp_path / "notes.txt"
    for content in (b"no notebook", b"", b"\xff\xfe", b"{}", b"[1]", b'{"nbformat": 4, "cells": 3}'):
        path.write_bytes(content)
        assert slides.main([str(path), "--out", str(tmp_path / "out")]) == 1
        assert "notes.txt is no notebook" in capsys.readouterr().err
    assert slides.main([str(tmp_path / "none.ipynb")]) == 1
    assert "There is no notebook" in capsys.readouterr().err


def test_a_notebook_of_a_teacher_s_own_may_hold_what_those_of_the_course_do_not(tmp_path):
    (tmp_path / "my picture.png").write_bytes(base64.b64decode(PIXEL))
    told = "# T\n\n<details><summary>Answer</summary>\n\nSo.\n\n</details>\n\n<details>\n\nFolded.\n\n</details>"
    table, web = new_code_cell("1"), new_code_cell("2")
    table.outputs = [new_output("display_data", data={"text/markdown": "![A picture](my%20picture.png)"})]
    web.outputs = [new_output("display_data", data={"text/html": '<img src="https://example.org/a.png">'})]
    cells = [new_markdown_cell(told), table, web]
    (part,) = slides.parts_of(new_notebook(cells=cells), tmp_path, tmp_path / "out")
    (image,) = BeautifulSoup("".join(part.groups), "html.parser").find_all("img")
    assert (tmp_path / "out" / image["src"]).is_file()
    assert "So." in text_of("".join(part.groups))
