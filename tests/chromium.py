"""The system's Chromium, for all tests that need one."""

import os
from contextlib import contextmanager

import pytest
from playwright.sync_api import sync_playwright

from tools.browser.page import find_chromium, open_browser


@contextmanager
def chromium():
    """Start it; without one, skip the test, but never in CI."""
    if find_chromium() is None:
        missing = "no Chromium on PATH (on Debian: apt-get install chromium)"
        if os.environ.get("CI"):
            pytest.fail(f"{missing}; CI must not go on without it")
        pytest.skip(missing)
    with sync_playwright() as playwright, open_browser(playwright) as browser:
        yield browser
