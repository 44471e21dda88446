"""A JupyterLab of its own: a free port, a token, no settings of the user, gone afterwards."""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# A notebook must not be saved behind our back, and all of its cells must be in the page.
SETTINGS = {
    "docmanager-extension/plugin": {"autosave": False},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none"},
}


@dataclass(frozen=True)
class Lab:
    """Where a running JupyterLab is, and the folder that it shows."""

    port: int
    token: str
    root: Path

    def url(self, path: str) -> str:
        """Give the address of a path, with the token."""
        return f"http://127.0.0.1:{self.port}/{path}?token={self.token}"

    def ask(self, path: str, method: str = "GET"):
        """Call the server's API."""
        headers = {"Authorization": f"token {self.token}"}
        request = urllib.request.Request(self.url(path), headers=headers, method=method)
        # A proxy of the machine has no business on 127.0.0.1.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=60) as reply:
            body = reply.read()
        return json.loads(body) if body else None

    def stop_kernels(self) -> None:
        """End all sessions, so that the next notebook has the machine for itself."""
        for session in self.ask("api/sessions"):
            self.ask(f"api/sessions/{session['id']}", "DELETE")


@contextmanager
def running_lab(python: str = sys.executable) -> Iterator[Lab]:
    """Start JupyterLab in an empty folder, and end it and all of its kernels afterwards."""
    home = Path(tempfile.mkdtemp(prefix="causal_lab_browser_"))
    root = home / "notebooks"
    root.mkdir()
    for name, values in SETTINGS.items():
        path = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values), encoding="utf-8")
    lab = Lab(free_port(), secrets.token_hex(16), root)
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            command(python, lab, home),
            cwd=root,
            env=environment(home),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a group of its own, to end it with its kernels
        )
        try:
            wait_until_it_answers(lab, process, home / "log")
            yield lab
            lab.stop_kernels()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
            shutil.rmtree(home, ignore_errors=True)


def command(python: str, lab: Lab, home: Path) -> list[str]:
    """Say how to start it."""
    return [
        *(python, "-m", "jupyterlab", "--no-browser", "--allow-root"),
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={lab.port}",
        "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={lab.token}",
        f"--ServerApp.root_dir={lab.root}",
        "--LabApp.expose_app_in_browser=True",  # to run all cells and to hear the kernel
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--LabApp.news_url=",
        f"--LabApp.user_settings_dir={home / 'settings'}",
        f"--LabApp.workspaces_dir={home / 'workspaces'}",
        f"--FileCheckpoints.checkpoint_dir={home / 'checkpoints'}",
    ]


def environment(home: Path) -> dict[str, str]:
    """Take the present environment, without the user's Jupyter."""
    own = {
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "IPYTHONDIR": str(home / "ipython"),
        "JUPYTER_PREFER_ENV_PATH": "1",
        "OMP_NUM_THREADS": "1",
    }
    return {**os.environ, **own}


def free_port() -> int:
    """Ask the system for a port that nobody uses."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_until_it_answers(lab: Lab, process: subprocess.Popen, log: Path) -> None:
    """Return as soon as the server speaks; raise if it ends or is silent for two minutes."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        try:
            lab.ask("api/status")
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
        else:
            return
    said = log.read_text(encoding="utf-8", errors="replace")[-2000:]
    raise RuntimeError(f"JupyterLab did not start; it said:\n{said}")
