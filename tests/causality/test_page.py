"""Every line of code on the page for engineers runs, and says what the page says."""

import re
from pathlib import Path

import torch
from torch import nn

from causal_lab import causality
from causal_lab.models import GPT
from causal_lab.models.generation import cached_step

PAGE = Path(__file__).resolve().parents[2] / "docs" / "causality.md"


class MyModel(GPT):
    def __init__(self):
        super().__init__(100, 32, d_model=8, num_heads=2)


class Images(nn.Module):
    """Two rows of four patches; each row sees itself and the one above."""

    def forward(self, x):
        row = torch.arange(8) // 4
        return (row[:, None] >= row).to(x) @ x


def test_the_code_on_the_page_runs():
    code = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    assert len(code) >= 4
    model, x = MyModel().eval(), torch.randn(8, 2, 8)
    ids = torch.randint(1, 100, (2, 8), generator=torch.Generator().manual_seed(0))
    known = {"torch": torch, "nn": nn, "MyModel": MyModel, "model": model, "x": x}
    known |= {"inputs": ids, "ids": ids, "step": cached_step(model), "image_model": Images()}
    known |= {"patches": x.transpose(0, 1), "place": torch.arange(8) // 4}
    for block in code:
        exec(block, known)
        for name in [name for name in known if name.startswith("test_")]:
            test = known.pop(name)
            if not test.__code__.co_argcount:  # else it asks for fixtures
                test()


def test_every_check_is_on_the_page():
    page = PAGE.read_text(encoding="utf-8")
    for name in causality.__all__:
        if name.startswith("check_"):
            assert f"{name}(" in page, name
    for fixture in ("assert_causal", "assert_cached", "assert_padding", "assert_batch"):
        assert fixture in page
