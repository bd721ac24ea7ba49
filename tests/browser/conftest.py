"""The browser of these tests."""

import pytest

from course_utils.browser import browser, find_browser


@pytest.fixture(scope="module")
def chromium():
    """A Chromium without a window. Where there is none on this machine, or no playwright, the tests are skipped."""
    pytest.importorskip("playwright", reason="needs the packages of .[browser]")
    try:
        find_browser()
    except FileNotFoundError as missing:
        pytest.skip(str(missing))
    with browser() as running:
        yield running
