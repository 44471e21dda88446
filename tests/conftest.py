"""What holds for all tests; what they build is in builders.py."""

import gc

import pytest


def pytest_collection_finish():
    """Leave what is loaded by now alone: looking for garbage in it took a tenth of the time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module")
def one_thread():
    """Let small matrices not wait for each other on a busy machine."""
    import torch  # the tests in a browser need none

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
