"""What holds for all tests; what they build is in builders.py."""

import gc
import re

import pytest

LONG = re.compile(
    r"test_live\.py|test_broken\.py|test_same_picture\.py|_(use|moves)\[(05|06|07|08|13|17|18)_"
)


def pytest_collection_modifyitems(items):
    """Begin with what takes longest, so that no worker is left alone with it at the end.

    Colab's machine is built by the first test that needs it: the others come when it stands. And
    the site is built for the first file that needs it: the others of its folder come much later.
    """

    def turn(item):
        name, is_colab = item.nodeid, "tests/colab/test_colab.py" in item.nodeid
        if "shaped_like_colabs" in name:
            return 0
        return 2 * is_colab + (1 if LONG.search(name) else 2)

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
