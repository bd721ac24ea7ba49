"""Without a mouse, and without eyes: JupyterLab by its keys alone, and what it tells a screen reader of a figure.

Started with the other tests of this folder by `make test-browser`; about two minutes each.
"""

import re
import time

import nbformat
import pytest
from test_lab import ROOT, RUN, SCROLL, START, code_cells, lab, open_notebook, page, save, wait_for_calm

__all__ = ["lab", "page"]  # pytest finds its fixtures by name

FIRST = "00_start_here.ipynb"
ACTIVE = ".jp-Notebook .jp-Cell.jp-mod-active"
in_a_plain_folder = pytest.mark.parametrize("lab", ["plain"], indirect=True)


def status(page, what: str) -> str:
    """What the status bar says: `Mode` or `Cell`, the last one with its number and how many there are."""
    return re.search(rf"{what}:? (\S+)", page.locator("#jp-main-statusbar").inner_text())[1]


def press(page, keys: str) -> None:
    page.keyboard.press(keys)
    page.wait_for_timeout(60)


def go_to(page, text: str) -> None:
    """Walk down from cell to cell, in command mode, until the chosen one holds the text."""
    place, cells = (int(number) for number in status(page, "Cell").split("/"))
    for _ in range(place, cells + 1):
        if text in page.locator(ACTIVE).inner_text():
            return
        press(page, "ArrowDown")
    raise AssertionError(f"no cell below the chosen one holds: {text}")


def tab_to(page, tag: str) -> None:
    """Press Tab until the focus is on an element of this tag, within the chosen cell."""
    inside = f"document.activeElement.closest({ACTIVE!r}) && document.activeElement.tagName === {tag.upper()!r}"
    for _ in range(10):
        press(page, "Tab")
        if page.evaluate(inside):
            return
    raise AssertionError(f"ten times Tab, and no <{tag}> in the chosen cell has the focus")


def not_heard(page, texts: set[str]) -> set[str]:
    """Which of the texts name no picture in Chromium's accessibility tree, which a screen reader reads.

    It scrolls down the notebook, again and again: the tree grows with what has been on the screen, and a bit later.
    """
    chromium, end, top = page.context.new_cdp_session(page), time.monotonic() + START, 0
    while texts and time.monotonic() < end:
        page.evaluate("([panel, top]) => document.querySelector(panel).scrollTop = top", [SCROLL, top])
        page.wait_for_timeout(500)
        for node in chromium.send("Accessibility.getFullAXTree")["nodes"]:
            if node.get("role", {}).get("value") in ("img", "image"):
                texts = texts - {node.get("name", {}).get("value")}
        panel = f"document.querySelector('{SCROLL}')"
        height, shown, reached = page.evaluate(f"[{panel}.scrollHeight, {panel}.clientHeight, {panel}.scrollTop]")
        top = 0 if reached + shown >= height - 5 else reached + shown - 200
    return texts


@in_a_plain_folder
def test_the_first_notebook_by_the_keyboard_alone(lab, page):
    folder, address = lab
    page.mouse.click = page.mouse.move = None  # nothing below may use them
    page.goto(address)  # the address that is printed: it opens the first notebook and puts the focus on it
    wait_for_calm(page, START)
    press(page, "Escape")
    assert status(page, "Mode") == "Command" and status(page, "Cell").startswith("1/")

    cells = int(status(page, "Cell").split("/")[1])
    for _ in range(cells):  # runs the chosen cell and goes on to the next one
        press(page, "Shift+Enter")
    press(page, "Escape")
    end = time.monotonic() + RUN
    while True:
        wait_for_calm(page, end - time.monotonic())
        notebook = save(page, folder / "notebooks" / FIRST)
        if all(cell.execution_count for cell in code_cells(notebook)):
            break
        assert time.monotonic() < end, "Shift+Enter has not run every cell"
    errors = [output for cell in code_cells(notebook) for output in cell.outputs if output.output_type == "error"]
    assert not errors

    # Back to the top, and down to the exercise. Enter opens it; a wrong answer, and then the right one.
    for _ in range(cells):
        press(page, "ArrowUp")
    assert status(page, "Cell").startswith("1/")
    go_to(page, ".q1.check(")
    assert "NO ANSWER YET" in page.locator(ACTIVE).inner_text()
    for old, answer, verdict in (("...", "36", "NOT YET"), ("36", "48", "RIGHT")):
        press(page, "Enter")
        assert status(page, "Mode") == "Edit"
        for keys in ("Control+Home", "End", *["Backspace"] * len(old)):
            press(page, keys)
        page.keyboard.type(answer)
        press(page, "Control+Enter")
        wait_for_calm(page, START)
        assert status(page, "Mode") == "Command"
        assert f"{verdict}:" in page.locator(ACTIVE).inner_text()

    # The answer to a question is folded away: Tab reaches it, and Space opens it.
    go_to(page, "What you can do now")
    tab_to(page, "summary")
    opened = "document.activeElement.parentElement.open"
    assert not page.evaluate(opened)
    press(page, "Space")
    assert page.evaluate(opened)
    press(page, "Enter")
    assert not page.evaluate(opened), "Enter folds it away again"
    assert status(page, "Mode") == "Command"


@in_a_plain_folder
def test_a_figure_of_a_notebook_that_nobody_trusts_yet_has_its_text(lab, page):
    """As freshly cloned: JupyterLab has not run it, so it cleans the HTML of its outputs before it shows them."""
    folder, address = lab
    name = "as_cloned.ipynb"
    notebook = nbformat.read(ROOT / "notebooks" / FIRST, as_version=4)
    stored = [output.data for cell in code_cells(notebook) for output in cell.outputs if "data" in output]
    shown = [data for data in stored if "<img" in data.get("text/html", "")]
    assert len(shown) >= 5
    for data in shown:
        data["text/html"] = data["text/html"].replace("<img", '<img onload="window.trusted = true"')
    nbformat.write(notebook, folder / "notebooks" / name)
    open_notebook(page, address, name)
    missing = not_heard(page, {data["text/plain"] for data in shown})
    assert not missing, "a screen reader is not told of these"
    assert page.evaluate("window.trusted === undefined"), "it was trusted: this tests nothing"
