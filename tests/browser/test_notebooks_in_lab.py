"""Every explorer of every notebook in a real JupyterLab: all that can be moved moves a picture.

The cells that no explorer needs are left out: nbval runs them all.
"""

import io
from pathlib import Path

import nbformat
import numpy as np
import pytest
from matplotlib.image import imread

from tests.builders import train_briefly, with_explorers_alone
from tools.browser.examine import examine

# The long ones first, so that no worker is left with one at the end.
PATHS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"), reverse=True)


def with_little_else(path, folder):
    """Copy what its explorers need; if that trains, it trains briefly."""
    copy = folder / path.name
    notebook = with_explorers_alone(nbformat.read(path, as_version=4))
    nbformat.write(train_briefly(notebook), copy)
    return copy


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_learner_can_use(path, browser, lab, tmp_path):
    """Run them; point at every picture, move every control, play it, pull every slider fast."""
    seen = examine(with_little_else(path, tmp_path), browser, lab)
    assert seen.complaints == {}
    assert len(seen.controls) >= 2
    for png in seen.screenshots.values():
        picture = imread(io.BytesIO(png))[..., :3].mean(2)
        assert min(picture.shape) > 200
        assert len(np.unique(picture.round(2))) > 40


def test_all_notebooks_are_here():
    assert len(PATHS) >= 11
