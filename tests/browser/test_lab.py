"""Every notebook in a real browser: opened in JupyterLab as the README starts it, restarted and run from top to bottom.

It works on a copy of the repository, whose outputs are cleared first, so that what it sees was computed now. Start it
with `make test-browser`; it takes about two minutes a notebook, and needs Chromium and the packages of `.[browser]`.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))
# More goes wrong in a folder with blanks and letters of another script than in any other: every notebook runs there.
FOLDERS = {"strange": "我的 课程 (fine-tuning)", "plain": "course"}
CASES = [("strange", name) for name in NOTEBOOKS] + [("plain", NOTEBOOKS[0])]

START = 120  # seconds for JupyterLab, and then for a notebook with its kernel, to be there
RUN = 300  # seconds for a notebook to run
CALM = 3  # seconds without work after which it is worth looking whether the last cell has run

# Of the notebooks that are open, the one that is shown. JupyterLab keeps in the page only what is near the screen.
SCROLL = ".jp-NotebookPanel:not(.lm-mod-hidden) .jp-WindowedPanel-outer"
# The pictures that are on the page now: {what names it: its width in pixels, 0 for a broken one}.
PICTURES = """() => Object.fromEntries([...document.querySelectorAll('.jp-Notebook img')].map(
    image => [image.src.length + image.src.slice(-300), image.complete ? image.naturalWidth : -1]))"""


@pytest.fixture(scope="module", params=FOLDERS)
def lab(request, tmp_path_factory):
    """JupyterLab on a copy of the repository: its folder and the address that it prints."""
    base = tmp_path_factory.mktemp("lab")
    folder = base / FOLDERS[request.param]
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".*", "*.egg-info", "__pycache__", "runs", "data"))
    for path in (folder / "notebooks").glob("*.ipynb"):
        clear_outputs(path)
    # A browser of somebody's own, with settings and open notebooks, is no test; the code is that of the copy.
    own = {f"JUPYTER_{name}_DIR": str(base / name) for name in ("CONFIG", "DATA", "RUNTIME")}
    own |= {f"JUPYTERLAB_{name}_DIR": str(base / name) for name in ("SETTINGS", "WORKSPACES")}
    variables = {**os.environ, **own, "PYTHONPATH": str(folder), "COURSE_PYTHON": sys.executable}
    command = [sys.executable, "start.py", "lab", "--no-browser"]
    log = base / "messages.txt"
    with log.open("wb") as file:
        server = subprocess.Popen(
            command, cwd=folder, env=variables, stdin=subprocess.DEVNULL, stdout=file, stderr=file
        )
    try:
        yield folder, printed_address(server, log)
    finally:
        server.terminate()  # start.py hands it on to JupyterLab, which ends its kernels
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(30)
        server.kill()


def clear_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbformat.write(notebook, path)


def printed_address(server: subprocess.Popen, log: Path) -> str:
    """The address with its token, which a reader would follow."""
    for _ in range(START * 5):
        messages = log.read_text(encoding="utf-8", errors="replace")
        assert server.poll() is None, messages
        if found := re.search(r"http://(?:127\.0\.0\.1|localhost):\d+/lab\S*token=\w+", messages):
            return found[0]
        time.sleep(0.2)
    raise AssertionError(f"JupyterLab printed no address:\n{messages}")


@pytest.fixture
def page(chromium):
    """A page that notes each host that it asks for something."""
    context = chromium.new_context(viewport={"width": 1250, "height": 1000})
    page = context.new_page()
    page.hosts = set()
    page.on("request", lambda request: page.hosts.add(urllib.parse.urlsplit(request.url).hostname))
    page.on("websocket", lambda socket: page.hosts.add(urllib.parse.urlsplit(socket.url).hostname))
    yield page
    context.close()


@pytest.mark.parametrize(("lab", "name"), CASES, indirect=["lab"])
def test_a_notebook_runs_from_top_to_bottom(lab, name, page):
    folder, address = lab
    open_notebook(page, address, name)
    restart_and_run_all(page)
    notebook = wait_until_it_has_run(page, folder / "notebooks" / name)
    assert [cell.execution_count for cell in code_cells(notebook)] == list(range(1, len(code_cells(notebook)) + 1))
    pictures = look_at_all_pictures(page)
    assert not [name for name, width in pictures.items() if width <= 0], "there are broken pictures"
    assert len(pictures) >= expected_pictures(notebook)
    assert page.hosts - {None} <= {"127.0.0.1", "localhost"}, "it asks another machine for something"


def open_notebook(page, address: str, name: str) -> None:
    """Open it in place of the first notebook, and wait for its kernel."""
    page.goto(re.sub(r"/lab[^?]*\?", f"/lab/tree/notebooks/{name}?", address))
    wait_for_calm(page, START)
    page.keyboard.press("Escape")  # an offer of news, if there is one


def wait_for_calm(page, seconds: float) -> None:
    """Wait until the status bar has said for some seconds on end that the kernel is idle."""
    calm = time.monotonic()
    end = calm + seconds
    while time.monotonic() - calm < CALM:
        assert time.monotonic() < end, f"the kernel is still at work after {seconds} s"
        if not re.search(r"\| Idle", page.locator("body").inner_text()):
            calm = time.monotonic()
        page.wait_for_timeout(300)


def restart_and_run_all(page) -> None:
    page.locator(".lm-MenuBar-itemLabel", has_text=re.compile("^Kernel$")).click()
    page.locator(".lm-Menu-itemLabel", has_text="Restart Kernel and Run All Cells").click()
    page.locator(".jp-Dialog .jp-mod-accept").click()


def wait_until_it_has_run(page, path: Path):
    """The notebook as JupyterLab saves it once each code cell has run. Fails at the first error in an output."""
    end = time.monotonic() + RUN
    while True:
        wait_for_calm(page, end - time.monotonic())
        notebook = save(page, path)
        for cell in code_cells(notebook):
            if "raises-exception" not in cell.metadata.get("tags", []):
                errors = [output for output in cell.outputs if output.output_type == "error"]
                assert not errors, f"{cell.source}\n\n{errors[0].ename}: {errors[0].evalue}"
        if all(cell.execution_count for cell in code_cells(notebook)):
            return notebook
        assert time.monotonic() < end, f"not every cell has run after {RUN} s"


def save(page, path: Path):
    """Save the notebook by its key, and read what then lies on the disk."""
    before = path.stat().st_mtime_ns
    page.keyboard.press("Control+s")
    for _ in range(100):
        page.wait_for_timeout(100)
        if path.stat().st_mtime_ns != before:
            with contextlib.suppress(ValueError):  # it is being written
                return nbformat.read(path, as_version=4)
    raise AssertionError(f"JupyterLab did not save {path.name}")


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def look_at_all_pictures(page) -> dict[str, int]:
    """Scroll through the notebook: {what names a picture: its width}."""
    pictures, top = {}, 0
    while True:
        page.evaluate("([panel, top]) => document.querySelector(panel).scrollTop = top", [SCROLL, top])
        page.wait_for_timeout(400)
        for _ in range(50):  # a picture may still be on its way
            now = page.evaluate(PICTURES)
            if -1 not in now.values():
                break
            page.wait_for_timeout(100)
        pictures |= now
        panel = f"document.querySelector('{SCROLL}')"
        height, shown, reached = page.evaluate(f"[{panel}.scrollHeight, {panel}.clientHeight, {panel}.scrollTop]")
        if reached + shown >= height - 5:
            return pictures
        top = reached + shown - 100


def expected_pictures(notebook) -> int:
    """How many different pictures its text and its outputs hold."""
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    shown = set(re.findall(r"!\[[^\]]*\]\(([^)\s]+)", text))
    for output in (output for cell in code_cells(notebook) for output in cell.outputs):
        data = output.get("data", {})
        shown |= set(re.findall(r'<img [^>]*src="([^"]+)', data.get("text/html", "")) or [data.get("image/png")])
    return len(shown - {None})
