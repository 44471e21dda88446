"""On what was this run, and would it run so again? (B.11)."""

import json
import os
import platform
import random
import shutil
import subprocess
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path

import numpy as np
import torch

import causal_lab

MASK_IMPLEMENTATION = "boolean, True = blocked; −∞ in the softmax; dead rows give zeros"


def seed_everything(seed: int = 42) -> torch.Generator:
    """Seed PyTorch (the paper, B.11), Python and NumPy, and return a generator to draw from.

    Draw with it, on the CPU, and move the result: then a notebook prints the same numbers on CPU
    and GPU.

    >>> generator = seed_everything(0)
    >>> torch.equal(torch.randn(2, generator=generator), torch.randn(2))
    True
    """
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**32:
        raise ValueError(f"seed must be an integer from 0 to 2**32 - 1, got {seed!r}")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)  # all devices, CUDA included
    return torch.Generator().manual_seed(seed)


def default_device() -> torch.device:
    """Choose where to compute: a CUDA device if there is one, else the CPU.

    ``CAUSAL_LAB_DEVICE=cpu`` (or ``cuda:1``, ``mps``) in the environment overrules.

    >>> default_device().type in ("cpu", "cuda", "mps")
    True
    """
    wanted = os.environ.get("CAUSAL_LAB_DEVICE")
    if wanted:
        return _device("CAUSAL_LAB_DEVICE", wanted)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True)
class ReproducibilityReport:
    """What must be known to run something again: prints as a table, saves as JSON.

    >>> reproducibility_report(seed=42).configuration
    {'seed': 42}
    """

    mask_implementation: str
    versions: dict[str, str]  # of Python and the packages the series stands on
    device: str
    driver: str  # the GPU driver's version and the CUDA that PyTorch was built for, or "none"
    platform: str  # operating system and processor
    threads: int
    configuration: dict = field(default_factory=dict)  # seeds, sizes, learning rates

    def rows(self) -> list[tuple[str, str]]:
        """List the report as pairs of a name and its value, for a table."""
        return [
            ("mask", self.mask_implementation),
            *self.versions.items(),
            ("device", self.device),
            ("driver", self.driver),
            ("platform", self.platform),
            ("threads", str(self.threads)),
            *((name, str(value)) for name, value in self.configuration.items()),
        ]

    def __str__(self) -> str:
        rows = self.rows()
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)

    def save(self, path: str | Path) -> Path:
        """Write the report as JSON, over a file that may be there."""
        try:
            text = json.dumps(asdict(self), indent=2, ensure_ascii=False)
        except (TypeError, RuntimeError) as error:  # a tensor with a gradient cannot be copied
            raise ValueError(
                f"the configuration must hold numbers, strings, lists and dicts only: {error}"
            ) from error
        path = Path(path)
        path.write_text(text + "\n", encoding="utf-8")
        return path


def reproducibility_report(
    *, device: torch.device | str | None = None, **configuration
) -> ReproducibilityReport:
    """Collect what B.11 asks to keep: mask implementation, versions, driver, configuration.

    Args:
        device: the one in use; :func:`default_device` if not given.
        **configuration: whatever the experiment calls its own.

    >>> print(reproducibility_report(seed=42, T=8))  # doctest: +ELLIPSIS
    mask ...
    """
    device = default_device() if device is None else _device("device", device)
    packages = ("torch", "numpy", "matplotlib", "ipywidgets")
    return ReproducibilityReport(
        mask_implementation=MASK_IMPLEMENTATION,
        versions={
            "causal_lab": causal_lab.__version__,
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in packages},
        },
        device=_name_of(device),
        driver=_driver(device),
        platform=f"{platform.system()} {platform.machine()}",
        threads=torch.get_num_threads(),
        configuration=configuration,
    )


def _device(name: str, wanted: torch.device | str) -> torch.device:
    try:
        return torch.device(wanted)
    except RuntimeError as error:
        raise ValueError(f"{name}={wanted!r} names no device; try cpu, cuda or cuda:0") from error


def _name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def _driver(device: torch.device) -> str:
    """Ask nvidia-smi, since PyTorch does not know the driver's version."""
    if device.type != "cuda":
        return "none"
    if shutil.which("nvidia-smi") is None:
        return "unknown (no nvidia-smi)"
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    version = answer.stdout.split("\n")[0].strip() or "unknown"
    return f"{version}, CUDA {torch.version.cuda}"
