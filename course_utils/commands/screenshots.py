"""Take the screenshots of TensorBoard again, from runs that the notebooks make, in a browser without a window."""

from __future__ import annotations

import argparse
import io
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from course_utils.board import serve
from course_utils.browser import browser
from course_utils.files import write_atomically

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
# Whose runs the pictures show: the first folder of `View.runs` -> the notebook that makes it.
NOTEBOOKS = {"04_tensorboardx": "04_tensorboardx_visualization", "04b_logging_traps": "04b_logging_traps"}
WIDTH = 1100  # of the window, in CSS pixels: just enough for TensorBoard's side panel and two charts
SCALE = 1.5  # pixels of the picture for each of them: sharp on a projector too
LARGEST = 150_000  # bytes of a picture
LEAST_INK = 0.005  # the share of a picture that is drawn, below which it is blank
PATIENCE = 20_000  # milliseconds for a page to show what it is to show; it is loaded three times


class View(NamedTuple):
    """One picture: a page of TensorBoard on a folder of runs."""

    runs: str  # the folder, below notebooks/runs
    page: str  # what follows TensorBoard's address
    shows: str  # selects what must be visible, wherever it is in the page
    height: int  # of the window, in CSS pixels: what lies further down is cut off, and so is empty space
    arrange: Callable[[Page], None] | None = None  # what a reader would click first


def enlarge(page: Page) -> None:
    """Give the first chart the whole width."""
    page.locator("paper-icon-button[icon=fullscreen]").first.click()


def smooth(page: Page) -> None:
    """Smooth a chart whose axis was chosen for the curve as it is, so that this stays in sight."""
    page.locator("paper-checkbox", has_text="Ignore outliers").click()
    enlarge(page)
    page.wait_for_timeout(1500)  # until the axis is chosen
    page.locator("tf-smoothing-input input").last.fill("0.99")
    page.keyboard.press("Enter")


def actual_size(page: Page) -> None:
    """Show the first image as large as it is, not as wide as a card."""
    page.locator("tf-image-loader img").first.click()


def open_network(page: Page) -> None:
    """Open the box of the network, and fit what is in it to the window."""
    page.locator("g.node.meta", has_text="ResNet").locator("rect").first.dispatch_event("dblclick")
    page.wait_for_timeout(1500)  # until it has grown
    page.get_by_text("Fit to screen").click()


def come_closer(page: Page) -> None:
    """Turn the mouse wheel above the first node of a graph: what is small there becomes large."""
    page.wait_for_timeout(1500)  # until the graph has come to rest
    place = page.locator("g.node").first.bounding_box()
    page.mouse.move(place["x"], 130)
    for _ in range(3):
        page.mouse.wheel(0, -200)
        page.wait_for_timeout(300)


def open_loss(page: Page) -> None:
    """Of the groups of charts, close that of the learning rate and open that of the losses."""
    for group in ("learning_rate", "loss"):
        page.locator("tf-category-paginated-view").locator("button.heading", has_text=group).click()


def scroll_to_both(page: Page) -> None:
    """Scroll to where two drawings can be seen, the first in full and the second in part."""
    page.locator("tf-mesh-loader canvas").first.evaluate("drawing => drawing.scrollIntoView()")


def colour_by_label(page: Page) -> None:
    """In the projector, wait for the principal components and give each class a colour."""
    projector = page.frame_locator("iframe").frame_locator("iframe")
    projector.get_by_text("Total variance described: ").wait_for(timeout=3 * PATIENCE)
    projector.locator("#colorby").click()
    projector.locator("paper-item:visible", has_text="colors").click()


TOUR, TRAPS = "04_tensorboardx/tour", "04b_logging_traps"
VIEWS = {
    "scalars": View(
        f"{TOUR}/training", "#scalars&regexInput=pretrained&_smoothingWeight=0", "vz-line-chart2 path", 1150, open_loss
    ),
    "time_series": View(f"{TOUR}/training/pretrained", "#timeseries", "scalar-card line-chart", 700),
    "scalars_runs": View(f"{TOUR}/training", "#scalars&_smoothingWeight=0", "vz-line-chart2 path", 1150, open_loss),
    "custom_scalars": View(f"{TOUR}/custom_scalars", "#custom_scalars", "vz-line-chart2 path", 800),
    "margin_chart": View(f"{TOUR}/margin_chart", "#custom_scalars", "vz-line-chart2 path", 760, enlarge),
    "images": View(f"{TOUR}/images", "#images", "tf-image-loader img", 700),
    "boxes": View(f"{TOUR}/boxes", "#images", "tf-image-loader img", 700),
    "figure": View(f"{TOUR}/figure", "#images", "tf-image-loader img", 800, actual_size),
    "distributions": View(f"{TOUR}/histograms", "#distributions", "vz-distribution-chart path", 700),
    "histograms": View(f"{TOUR}/histograms", "#histograms", "vz-histogram-timeseries path", 700),
    "graph": View(f"{TOUR}/graph", "#graphs", "g.node.meta", 800, open_network),
    "onnx_graph": View(f"{TOUR}/onnx_graph", "#graphs", "g.node", 700, come_closer),
    "projector": View(f"{TOUR}/projector", "#projector", "iframe", 760, colour_by_label),
    "pr_curves": View(f"{TOUR}/pr_curves", "#pr_curves", "vz-line-chart2 path", 620),
    "text": View(f"{TOUR}/text", "#text", "tf-text-loader td", 900),
    "hparams": View(f"{TOUR}/search", "#hparams", "vaadin-grid-cell-content", 560),
    "mesh": View(f"{TOUR}/mesh", "#mesh", "tf-mesh-loader canvas", 1250, scroll_to_both),
    "audio": View(f"{TOUR}/audio", "#audio", "tf-audio-loader audio", 480),
    "video": View(f"{TOUR}/video", "#images", "tf-image-loader img", 700),
    "empty": View(f"{TRAPS}/killed", "", "text=No dashboards are active", 700),
    "smoothing": View(
        f"{TRAPS}/smoothing", "#scalars&tagFilter=loss/val&_smoothingWeight=0", "vz-line-chart2 path", 684, smooth
    ),
    "outliers": View(
        f"{TRAPS}/outliers", "#scalars&tagFilter=loss/step&_smoothingWeight=0", "vz-line-chart2 path", 684, enlarge
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m course_utils screenshots`."""
    parser.add_argument("--only", choices=VIEWS, help="take this one alone (default: all)")
    parser.add_argument(
        "--runs", type=Path, metavar="FOLDER", help="show what lies in this folder, and run no notebook first"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("images") / "tensorboard",
        metavar="FOLDER",
        help="where they go (default: images/tensorboard)",
    )


def run(args: argparse.Namespace) -> int:
    """Take the pictures into the folder, over what is there. 1 where one of them failed; its old file then stays."""
    views = {name: view for name, view in VIEWS.items() if args.only in (None, name)}
    failed = []
    with browser() as chromium, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        from playwright.sync_api import Error  # it is there: browser() would have said so

        runs = args.runs or run_notebooks(Path(folder), {Path(view.runs).parts[0] for view in views.values()})
        for name, view in views.items():
            target = args.out / f"{name}.png"
            try:
                write_atomically(target, small(take(chromium, view, runs)))
            except (Error, OSError, RuntimeError, ValueError) as fault:
                failed.append(name)
                print(f"No {target}: {fault}", file=sys.stderr, flush=True)
            else:
                print(f"Took {target}.", flush=True)
    return 1 if failed else 0


def run_notebooks(folder: Path, wanted: set[str]) -> Path:
    """Run copies of the notebooks that make the wanted folders of runs. Returns where those are.

    Raises RuntimeError, with what it says, where a notebook does not run through.
    """
    (folder / "notebooks").mkdir()
    for notebook in (NOTEBOOKS[name] for name in sorted(wanted)):
        print(f"Running {notebook}.", flush=True)
        copy = shutil.copy(FOLDER / f"{notebook}.ipynb", folder / "notebooks")
        command = [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", "--inplace", copy]
        # What a notebook says of exercises is nobody's progress.
        variables = {**os.environ, "COURSE_PROGRESS": str(folder / "progress.json"), "PYTHONIOENCODING": "utf-8"}
        done = subprocess.run(command, env=variables, capture_output=True, text=True, encoding="utf-8")
        if done.returncode:
            raise RuntimeError(f"{notebook} did not run through:\n{done.stderr[-2000:]}")
    return folder / "notebooks" / "runs"


def take(chromium: Browser, view: View, runs: Path) -> bytes:
    """The page as a PNG file.

    Raises FileNotFoundError where there are no such runs, playwright's Error or ValueError where the page does not show
    what it is to show.
    """
    if not (runs / view.runs).is_dir():
        raise FileNotFoundError(f"there is no run {view.runs} (that of the video needs python -m pip install moviepy)")
    page = chromium.new_page(
        viewport={"width": WIDTH, "height": view.height}, device_scale_factor=SCALE, reduced_motion="reduce"
    )
    try:
        with serve(runs / view.runs) as board:
            page.route("**/data/environment", lambda route: name_runs(route, f"runs/{view.runs}"))
            open_page(page, board.url + view.page, view.shows)
            if view.arrange:
                view.arrange(page)
            return still(page)
    finally:
        page.close()


def name_runs(route: Route, name: str) -> None:
    """Let TensorBoard name the folder of runs as a reader would, not by its place on this machine."""
    answer = route.fetch()
    route.fulfill(response=answer, json={**answer.json(), "data_location": name})


def open_page(page: Page, address: str, shows: str) -> None:
    """Load the page until it shows what it is to show, and once more then: it may have come before all was read."""
    from playwright.sync_api import TimeoutError

    seen = 0
    for attempt in range(3):
        page.goto("about:blank")  # else an address that differs after its # alone would load nothing
        page.goto(address)
        try:
            page.locator(shows).first.wait_for(timeout=PATIENCE)
        except TimeoutError:
            if attempt == 2:
                raise
            continue
        seen += 1
        if seen == 2:
            break
        page.wait_for_timeout(1000)
    page.wait_for_load_state("networkidle")


# TensorBoard says when a value was logged and when it looked last. Here that would only differ from time to time.
WITHOUT_TIMES = """function blank(root) {
    for (const node of root.childNodes) {
        if (node.nodeType === Node.TEXT_NODE && / GMT[+-]|Last reload:/.test(node.data)) node.data = '';
        blank(node);
        if (node.shadowRoot) blank(node.shadowRoot);
    }
}"""


def still(page: Page) -> bytes:
    """A picture of the page as soon as two in a row are the same, or after ten seconds: a video never rests.

    Raises ValueError where it is blank.
    """
    page.evaluate("document.fonts.ready")
    before = b""
    for _ in range(20):
        page.wait_for_timeout(500)
        page.evaluate(f"({WITHOUT_TIMES})(document)")
        now = page.screenshot()
        if now == before:
            break
        before = now
    if ink(now) < LEAST_INK:
        raise ValueError("The page is blank.")
    return now


def ink(picture: bytes) -> float:
    """The share of the pixels that differ from the commonest colour, from 0 to 1, beside TensorBoard's own panels."""
    grey = np.asarray(Image.open(io.BytesIO(picture)).convert("L"))
    panel, bars = round(300 * SCALE), round(120 * SCALE)
    content = grey[bars:, panel:].astype(int)
    paper = np.bincount(content.ravel()).argmax()
    return float((np.abs(content - paper) > 24).mean())


def small(picture: bytes) -> bytes:
    """The same picture without empty space at its end, in as many colours as fit into LARGEST bytes.

    Raises ValueError where 32 are too many.
    """
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    rows = np.asarray(image)
    drawn = np.flatnonzero((rows != rows[-1]).any(axis=(1, 2)))  # every row that is not as the last one is
    image = image.crop((0, 0, image.width, min(image.height, int(drawn.max(initial=0)) + 30)))
    for colours in (256, 128, 64, 32):
        buffer = io.BytesIO()
        image.quantize(colours, dither=Image.Dither.NONE).save(buffer, format="png", optimize=True)
        if buffer.tell() <= LARGEST:
            return buffer.getvalue()
    raise ValueError(f"The picture takes {buffer.tell()} bytes, more than {LARGEST}.")
