"""A real browser for the tests of pages: Chromium, which sees nothing of the network but this machine.

@pytest.mark.browser
def test_it(browser: "sync_api.Browser") -> None:      # the fixture is known to all tests of this folder
    browser.new_page().goto(url)
"""

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from needed import missing, needed

if TYPE_CHECKING:
    from playwright import sync_api

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_COMMANDS = ("chromium", "chromium-browser", "google-chrome")


def chromium() -> str:
    """The browser's command; without it the test is given up."""
    found = next((path for name in _COMMANDS if (path := shutil.which(name))), None)
    return found or str(missing("needs a browser: install the system package `chromium`"))


@pytest.fixture(scope="module")
def browser() -> Iterator["sync_api.Browser"]:
    """One for all tests of a file."""
    playwright = needed("playwright.sync_api", "needs the Python package `playwright`, of the extra `dev`")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield browser
        browser.close()
