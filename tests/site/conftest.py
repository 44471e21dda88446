"""The site, built once for all workers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def build():
    """Build the site of a copy of the repository, in a process of its own."""

    def build(root, site):
        command = [sys.executable, ROOT / "tools" / "build_site.py", site, "--root", root]
        return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", cwd=ROOT)

    return build


@pytest.fixture(scope="session")
def site(tmp_path_factory, build):
    """Give the folder of the site; the first worker that asks builds it, the others wait."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    done = shared / "site.done"
    with FileLock(shared / "site.lock"):
        if not done.exists():
            run = build(ROOT, shared / "site")
            assert run.returncode == 0, run.stdout + run.stderr
            done.touch()
    return shared / "site"
