"""Every notebook in a real JupyterLab: it runs, and all that can be moved moves a picture."""

import io
from pathlib import Path

import nbformat
import numpy as np
import pytest
from matplotlib.image import imread

from tests.builders import train_briefly
from tools.browser.examine import examine

# The long ones first, so that no worker is left with one at the end.
PATHS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"), reverse=True)


def with_few_steps(path, folder):
    """Copy a notebook; if it trains, it trains briefly."""
    copy = folder / path.name
    nbformat.write(train_briefly(nbformat.read(path, as_version=4)), copy)
    return copy


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_learner_can_use(path, browser, lab, tmp_path):
    """Run it; point at every picture, move every control, play it, pull every slider fast."""
    seen = examine(with_few_steps(path, tmp_path), browser, lab)
    assert seen.complaints == {}
    assert len(seen.controls) >= 2
    for png in seen.screenshots.values():
        picture = imread(io.BytesIO(png))[..., :3].mean(2)
        assert min(picture.shape) > 200
        assert len(np.unique(picture.round(2))) > 40


def test_all_notebooks_are_here():
    assert len(PATHS) >= 11
