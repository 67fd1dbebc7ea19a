"""The system's Chromium, started once for each module."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import page_lab
import pytest
from playwright.sync_api import Browser, sync_playwright

sys.path[:0] = [str(Path(__file__).parents[1] / room) for room in ("cli", "service")]


@pytest.fixture(scope="module")
def chromium() -> str:
    """The path of the browser."""
    found = shutil.which("chromium")
    if found is None:
        reason = "no chromium on the PATH: install Debian's package of that name"
        if os.environ.get("CHROMIUM_REQUIRED"):  # .ci/run sets it: there, nothing is passed over
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=page_lab.FLAGS)
        yield browser
        browser.close()
