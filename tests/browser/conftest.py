"""A JupyterLab and a Chromium for all tests of this folder, one of each per worker."""

import pytest

from tests.chromium import chromium
from tools.browser.server import running_lab


@pytest.fixture(scope="session")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def lab(browser):  # after the browser, so that nothing is started in vain
    with running_lab() as lab:
        yield lab
