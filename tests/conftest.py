"""What holds for all tests; what they build is in builders.py."""

import gc

import pytest

LONG = ("test_live.py", "test_broken.py", "test_same_picture.py", "07_", "13_", "15_")


def pytest_collection_modifyitems(items):
    """Begin with what takes longest, so that no worker is left alone with it at the end.

    Colab's machine is built by the first test that needs it: the others come when it stands. And
    the site's pages are looked at when the site is built.
    """

    def turn(item):
        name, is_colab = item.nodeid, "tests/colab/test_colab.py" in item.nodeid
        if "shaped_like_colabs" in name:
            return 0
        is_long = any(part in name for part in LONG) and "test_site.py" not in name
        return 2 * is_colab + (1 if is_long else 2)

    items.sort(key=turn)


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
