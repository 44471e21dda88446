"""A JupyterLab and a Chromium for all tests of this folder, one of each per worker."""

import os

import pytest
from playwright.sync_api import sync_playwright

from tools.browser.page import find_chromium, open_browser
from tools.browser.server import running_lab


@pytest.fixture(scope="session")
def browser():
    if find_chromium() is None:
        missing = "no Chromium on PATH (on Debian: apt-get install chromium)"
        if os.environ.get("CI"):
            pytest.fail(f"{missing}; CI must not go on without it")
        pytest.skip(missing)
    with sync_playwright() as playwright, open_browser(playwright) as browser:
        yield browser


@pytest.fixture(scope="session")
def lab(browser):  # after the browser, so that nothing is started in vain
    with running_lab() as lab:
        yield lab
