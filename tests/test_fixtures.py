"""The fixtures, in a small project, where torch, numpy and pytest alone are installed."""

import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# What torch, numpy and pytest need themselves.
ALLOWED = """torch torchgen functorch numpy numpy.libs pytest _pytest py.py pluggy iniconfig
packaging filelock typing_extensions.py sympy mpmath isympy.py networkx jinja2 markupsafe fsspec
setuptools pkg_resources _distutils_hack pygments exceptiongroup"""
PROJECT = """
import sys
import pytest

before = sorted({"torch", "causal_lab.causality", "matplotlib"} & set(sys.modules))


def test_nothing_heavy_was_imported_before_a_fixture():
    assert before == []


def gru(**options):
    from torch import nn

    class First(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru = nn.GRU(4, 2, batch_first=True, **options)

        def forward(self, x):
            return self.gru(x)[0]

    return First()


def x():
    import torch

    return torch.randn(2, 8, 4)


def test_good(assert_causal, assert_batch):
    assert_causal(gru(), x())
    assert_batch(gru(), x())


def test_leaks(assert_causal):
    assert_causal(gru(bidirectional=True), x())


def test_in_vain(assert_causal):
    from torch import nn

    assert_causal(nn.Linear(4, 4), x())


def test_in_vain_and_known(assert_causal):
    from torch import nn

    assert assert_causal(nn.Linear(4, 4), x(), allow="pointwise").causal


def test_cache(assert_cached):
    layer = gru().gru
    assert_cached(lambda chunk, state: (layer(chunk)[0], None), x(), layer)


def test_padding(assert_padding):
    import torch
    from torch import nn

    class Means(nn.Module):
        def forward(self, x):
            return x - x.mean(1, keepdim=True)

    model = nn.Sequential(nn.Embedding(9, 2), Means())
    assert_padding(model, torch.randint(1, 9, (2, 5)), 0)


def test_documents(assert_documents):
    import torch
    from torch import nn

    layer = gru()
    assert_documents(layer, x(), torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1]] * 2))
"""


@pytest.fixture(scope="module")
def answer(tmp_path_factory):
    """Run pytest on the project, with a path on which nothing else can be found."""
    folder = tmp_path_factory.mktemp("engineer")
    site, packages = folder / "site", Path(sysconfig.get_path("purelib"))
    site.mkdir()
    for name in ALLOWED.split():
        if (packages / name).exists():
            (site / name).symlink_to(packages / name)
    for info in packages.glob("*.dist-info"):
        if re.match(r"(torch|numpy|pytest|pluggy|iniconfig|packaging)-\d", info.name):
            (site / info.name).symlink_to(info)
    (site / "causal_lab").symlink_to(ROOT / "causal_lab")
    info = site / "causal_lab-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: causal-lab\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text(entry_points())
    (folder / "test_engineer.py").write_text(PROJECT)
    code = (
        f"import sys; sys.path.insert(0, {str(site)!r}); import pytest;"
        "raise SystemExit(pytest.main(['-q', '-p', 'no:cacheprovider', 'test_engineer.py']))"
    )
    # Isolated: no folder of packages but the one above.
    command = [sys.executable, "-I", "-S", "-c", code]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    return ran.stdout + ran.stderr


def entry_points() -> str:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (section,) = re.findall(
        r'^\[project\.entry-points\.pytest11\]\n((?:\w+ = ".+"\n)+)', project, re.M
    )
    return "[pytest11]\n" + section.replace('"', "")


def test_the_fixtures_are_found_and_fail_where_they_must(answer):
    failed = set(re.findall(r"^FAILED test_engineer\.py::(\w+)", answer, re.M))
    wanted = "test_leaks test_in_vain test_cache test_padding test_documents"
    assert failed == set(wanted.split()), answer
    assert "5 failed, 3 passed" in answer


def test_a_failure_shows_the_report_and_no_internals(answer):
    assert re.search(r"NOT causal: output 0 depends on input \d", answer)
    assert "it enters at gru (GRU" in answer
    assert "before, after = model(inputs), model(changed)" in answer
    assert 'allow="pointwise"' in answer
    assert "it enters at 1 (Means, " in answer
    assert "packed: rows 3 to 7 differ" in answer
    assert "everything from the second chunk on" in answer
    assert "fixtures.py" not in answer
    assert "def check_causality" not in answer
