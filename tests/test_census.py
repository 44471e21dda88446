"""The census: a class is built, judged, confirmed by hand, and written down."""

import re
import sys
from dataclasses import replace
from pathlib import Path

import census
import census_libraries as libraries
import pytest
import torch
from torch import nn

PAGE = Path(__file__).resolve().parents[1] / "docs" / "census.md"


class Sums(nn.Module):
    def __init__(self, ahead):
        super().__init__()
        self.embedding, self.ahead = nn.Embedding(census.VOCABULARY, 4), ahead

    def forward(self, ids):
        return self.embedding(ids).cumsum(1).roll(-self.ahead, 1)


def case(ahead=0, **options) -> census.Case:
    return census.Case("Sums", "ours", lambda: Sums(ahead), lambda: census.IDS, options)


@pytest.fixture(scope="module")
def cases() -> dict[str, census.Case]:
    return {case.name: case for case in census.transformers_cases()}


@pytest.mark.parametrize("name", ["GPT2LMHeadModel", "LlamaForCausalLM", "RoFormerForCausalLM"])
def test_a_causal_class_is_found_so(cases, name):
    row = census.judge(cases[name])
    assert (row.verdict, row.reason, row.leak) == (census.GREEN, "", "")


def test_a_class_that_looks_ahead_is_confirmed_and_can_be_run_again(cases):
    row = census.judge(cases["XLNetLMHeadModel"])
    assert row.verdict == census.RED
    assert row.confirmed.startswith("yes, ")
    assert "XLNetRelativeAttention" in row.blame
    printed = []
    exec(row.code, {"print": printed.append})
    assert float(printed[0]) > 0


@pytest.mark.parametrize(("ahead", "verdict"), [(0, census.GREEN), (1, census.RED)])
def test_any_case_is_judged(ahead, verdict):
    row = census.judge(case(ahead))
    assert row.verdict == verdict
    assert row.confirmed.startswith("yes, ") if ahead else row.confirmed == ""
    assert census.judge(case(ahead, lookahead=ahead)).verdict == census.GREEN


def test_what_is_not_what_it_seems_is_not_confirmed():
    row = census.judge(case(1))
    assert census.confirm(case(0), 1) == "no"
    assert census.confirm(case(1), 1) == row.confirmed


def test_what_cannot_be_built_or_decided_says_why():
    def fails():
        raise KeyError("no such weight")

    row = census.judge(replace(case(), make=fails))
    assert row.verdict == census.NOT_RUN
    assert row.reason.startswith("KeyError: 'no such weight'")
    row = census.judge(replace(case(), make=lambda: nn.Embedding(census.VOCABULARY, 4)))
    assert row.verdict == census.OPEN
    assert "any input but its own" in row.reason


def test_the_page_tells_each_row_once():
    rows = [census.judge(case(0)), census.judge(case(1)), census.Row("a|b", "x", "not run", 0, "y")]
    page = census.write(rows, {"torch": torch.__version__, "ours": "1.0"}, "2026-01-01")
    assert "| ours | 1.0 | 1 | 1 | 0 | 0 |" in page
    assert "| `Sums` | ours | NOT causal | output 0 depends on input 1 (" in page
    assert r"| `a\|b` | x | y |" in page
    assert page.count("<details>") == 2
    assert "model.double()" in page


def test_the_page_that_is_there_was_made_by_this_tool():
    page = PAGE.read_text(encoding="utf-8")
    assert page.startswith(census.INTRODUCTION.strip())
    assert re.search(r"^\d{4}-\d\d-\d\d: torch 2\.\d+.*transformers 5\.", page, re.M)
    counts = re.search(
        r"^\| transformers \| 5\.\S+ \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", page, re.M
    )
    assert int(counts[1]) > 150
    assert sum(map(int, counts.groups())) > 175
    assert not re.search(r"\| no \|", page), "a red row that was not confirmed by hand"


def test_libraries_are_pinned_and_what_is_not_installed_is_said(monkeypatch):
    assert len(libraries.LIBRARIES) >= 15
    for name, pin in (libraries.LIBRARIES | libraries.NEEDS).items():
        assert re.fullmatch(r"\d[\w.]*", pin), name
    assert {one.library for one in libraries.CASES} == set(libraries.LIBRARIES)
    monkeypatch.setattr("sys.path", [place for place in sys.path if "census" not in place])
    (first, *_) = [one for one in libraries.CASES if one.library == "minGRU-pytorch"]
    row = census.judge(first)
    assert row.verdict == census.NOT_RUN
    assert "ModuleNotFoundError" in row.reason


def test_the_page_has_libraries_and_the_leaks_that_are_known():
    page = PAGE.read_text(encoding="utf-8")
    table = re.findall(r"^\| ([\w-]+) \| [\d.]+ \| \d+ \| \d+ \| \d+ \| \d+ \|$", page, re.M)
    assert len(table) > 15
    assert "`TransformerWrapper, attn_orthog_projected_values=True` | x-transformers | NOT" in page
    assert "`ProphetNetForCausalLM` | transformers | NOT causal" in page
