"""A machine shaped like Colab's: what is installed there, without causal_lab.

One environment is built and kept in ``build/colab-venv``. Each notebook gets a *thin* one of its
own that looks into it, so that what a notebook installs is installed for real and seen by no other.
"""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import nbformat
from filelock import FileLock
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
SHARED = ROOT / "build" / "colab-venv"
LIST_INSTALLED = """
import json
from importlib.metadata import distributions
print(json.dumps(sorted([d.metadata["Name"], d.version] for d in distributions())))
"""


STUB = {
    "__init__": '''"""A stub: this is no Colab, it is only shaped like it."""
from google.colab import output
''',
    # What anywidget asks for there, so that Colab loads widgets that are not its own.
    "output": """from types import SimpleNamespace
_widgets = SimpleNamespace(_installed_url=None)
def enable_custom_widget_manager():
    _widgets._installed_url = "https://colab.example/manager.js"
""",
}


class NoNetwork(Exception):
    """Pip cannot fetch even its build backend."""


def clean_environment(**more: str) -> dict[str, str]:
    """Copy the environment without what would let this checkout, or a user's packages, in."""
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "MPLBACKEND", "CAUSAL_LAB_DEVICE")
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    quiet = {"PYTHONNOUSERSITE": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "OMP_NUM_THREADS": "1"}
    return kept | quiet | more


def run(*command: str | Path, **more) -> str:
    """Run a command in a clean environment; what it printed is in the error if it fails."""
    done = subprocess.run(
        [str(part) for part in command],
        env=clean_environment(),
        text=True,
        capture_output=True,
        **more,
    )
    if done.returncode:
        raise RuntimeError(f"{command} failed:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def python_of(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def packages_of(python: Path) -> Path:
    answer = run(python, "-I", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))")
    return Path(answer.strip())


def name_in(line: str) -> str:
    """Read the package's name from a line of requirements, as package indexes compare names."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]*", line)[0]).lower()


def constraints() -> str:
    """Take the project's pins, except where Colab has another version."""
    wanted = (Path(__file__).parent / "requirements.txt").read_text(encoding="utf-8")
    decided = {name_in(line) for line in wanted.splitlines() if re.search("[=<]", line)}
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    free = {"jupyterlab-widgets"}  # whichever ipywidgets 7 takes
    return "".join(f"{line}\n" for line in pins if name_in(line) not in decided | free)


def build_shared() -> Path:
    """Build the environment that all share, once; again when what it is made of changes."""
    requirements = Path(__file__).parent / "requirements.txt"
    recipe = "\n".join(
        [
            sys.base_prefix,
            platform.python_version(),
            *STUB.values(),
            requirements.read_text(encoding="utf-8"),
            constraints(),
        ]
    )
    done = SHARED / "recipe.txt"
    SHARED.parent.mkdir(exist_ok=True)
    with FileLock(f"{SHARED}.lock"):
        if not done.exists() or done.read_text(encoding="utf-8") != recipe:
            shutil.rmtree(SHARED, ignore_errors=True)
            venv.create(SHARED, with_pip=True)
            pins = SHARED / "constraints.txt"
            pins.write_text(constraints(), encoding="utf-8")
            install = ("-m", "pip", "install", "--quiet", "-r", requirements, "-c", pins)
            run(python_of(SHARED), *install)
            add_colab_stub(packages_of(python_of(SHARED)))
            done.write_text(recipe, encoding="utf-8")  # last: a half-built one is built again
    return SHARED


def add_colab_stub(packages: Path) -> None:
    """Let ``google.colab`` be there and loaded, as it is in Colab's kernel."""
    folder = packages / "google" / "colab"
    folder.mkdir(parents=True)
    for name, text in STUB.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    (packages / "google_colab_stub.pth").write_text("import google.colab\n", encoding="utf-8")


def check_network(folder: Path) -> None:
    """See whether pip can fetch what it needs to build a package."""
    fetch = ("-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, "setuptools>=77")
    try:
        run(sys.executable, *fetch)
    except RuntimeError as error:
        raise NoNetwork(f"pip cannot fetch setuptools: {error}") from error


def snapshot(folder: Path) -> str:
    """Commit the working tree as it is, unsaved changes too, to a repository of its own.

    Returns its address.
    """
    git = ("git", "-c", "user.name=test", "-c", "user.email=test@localhost")
    repository = folder / "causal-lab"
    run(*git, "init", "--quiet", "--bare", repository)
    here = (f"--git-dir={repository}", f"--work-tree={ROOT}")
    run(*git, *here, "add", "--all", cwd=ROOT)
    run(*git, *here, "commit", "--quiet", "--message", "as it is now", cwd=ROOT)
    return repository.as_uri()


class Machine:
    """A thin environment over the shared one, and an empty folder for a notebook.

    Args:
        folder: where both are made.
    """

    def __init__(self, folder: Path):
        self.shared = build_shared()
        self.folder = folder / "content"
        self.folder.mkdir()
        home = folder / "thin"
        run(python_of(self.shared), "-m", "venv", "--without-pip", home)
        self.python = python_of(home)
        below = packages_of(python_of(self.shared))
        link = packages_of(self.python) / "shared.pth"
        link.write_text(f"import site; site.addsitedir({str(below)!r})\n", encoding="utf-8")
        kernel = home / "kernels" / "colab" / "kernel.json"
        kernel.parent.mkdir(parents=True)
        launch = [str(self.python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        kernel.write_text(
            json.dumps({"argv": launch, "display_name": "Colab", "language": "python"})
        )
        self._kernels = [str(home / "kernels")]
        self._settings = str(home / "ipython")

    def installed(self) -> list[tuple[str, str]]:
        """List name and version of every distribution; one that hides another counts as well."""
        return [tuple(pair) for pair in json.loads(run(self.python, "-I", "-c", LIST_INSTALLED))]

    def pip_install(self, *arguments: str) -> None:
        run(self.python, "-m", "pip", "install", "--quiet", *arguments, cwd=self.folder)

    def execute(self, notebook: nbformat.NotebookNode, **more: str) -> nbformat.NotebookNode:
        """Run a notebook alone in its folder; an error in a cell is raised.

        Args:
            more: for its environment.
        """
        manager = AsyncKernelManager(
            kernel_name="colab",
            kernel_spec_manager=KernelSpecManager(
                kernel_dirs=self._kernels, ensure_native_kernel=False
            ),
        )
        client = NotebookClient(
            notebook, km=manager, timeout=300, resources={"metadata": {"path": str(self.folder)}}
        )
        # Who brings a manager must say that its kernel may be shut down in the end.
        environment = clean_environment(IPYTHONDIR=self._settings, **more)
        return client.execute(cleanup_kc=True, env=environment)
