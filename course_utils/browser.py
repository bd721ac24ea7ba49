"""A browser without a window, for the screenshots and for the test that opens every notebook.

It is the Chromium or Chrome of this machine, driven by the Python package playwright; nothing is downloaded.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
# Where their installers put them without adding them to PATH: macOS, then Windows.
PLACES = (
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    *(
        str(Path(os.environ.get(folder, "C:/")) / program)
        for folder in ("PROGRAMFILES", "PROGRAMFILES(X86)", "LOCALAPPDATA")
        for program in ("Google/Chrome/Application/chrome.exe", "Microsoft/Edge/Application/msedge.exe")
    ),
)
# WebGL, which the projector draws with, is computed by the processor. --no-sandbox: root, in a container, has none.
ARGUMENTS = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--hide-scrollbars")
NO_BROWSER = (
    "There is no Chromium or Chrome on this machine. Install one (Debian and Ubuntu: apt install chromium), or name "
    "its program in the variable COURSE_BROWSER."
)
NO_PLAYWRIGHT = "The package playwright drives the browser, and it is not installed: pip install -e .[browser]"


def find_browser() -> str:
    """The program of a Chromium-like browser. Raises FileNotFoundError that says how to get one."""
    chosen = os.environ.get("COURSE_BROWSER")
    if chosen:
        found = shutil.which(chosen)
        if not found:
            raise FileNotFoundError(f"COURSE_BROWSER names {chosen}, and there is no such program.")
        return found
    for name in (*NAMES, *PLACES):
        if found := shutil.which(name):
            return found
    raise FileNotFoundError(NO_BROWSER)


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """`with browser() as chromium: page = chromium.new_page()`; every page is closed at the end of the block.

    Raises FileNotFoundError, which says what to install, where there is no browser or no playwright.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        raise FileNotFoundError(NO_PLAYWRIGHT) from None
    program = find_browser()
    root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=[*ARGUMENTS, *root])
        try:
            yield chromium
        finally:
            chromium.close()
