"""What figures depend on beside the configuration: the source, the versions, the machine."""

import hashlib
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def source() -> dict[str, Any]:
    """Commit of the project, and how its files differ from it; ``commit`` is None where there is no git checkout."""
    commit = _git("rev-parse", "HEAD")
    if commit is None or _git("rev-parse", "--show-toplevel") != str(ROOT):
        return {"commit": None, "dirty": None, "diff": None}
    untracked = _git("ls-files", "--others", "--exclude-standard")
    diff = _git("diff", "HEAD") or ""
    return {
        "commit": commit,
        "dirty": bool(diff or untracked),
        "diff": diff,
        "untracked": (untracked or "").splitlines(),
    }


def environment() -> dict[str, Any]:
    """Versions and machine.

    ``threads`` is torch's number of threads now, ``gpu`` the names of the GPUs that torch sees.
    """
    import torch  # takes seconds, and not everybody who imports this module asks

    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": versions(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
    }


def versions() -> dict[str, str]:
    """Version of each installed package; of several with one name, of that which is imported."""
    installed: dict[str, str] = {}
    for distribution in metadata.distributions():  # in the order in which an import looks for them
        if distribution.metadata["Name"]:  # an installation that was interrupted leaves a directory that says nothing
            installed.setdefault(distribution.name, distribution.version)
    return dict(sorted(installed.items(), key=lambda item: item[0].lower()))


def decisive_versions() -> dict[str, str]:
    """What must be the same on all machines that compute parts of one result: the source, and some versions."""
    known, code = versions(), source()
    return {
        "Python": platform.python_version(),
        "commit": str(code["commit"]),
        "uncommitted changes": hashlib.sha256(code["diff"].encode()).hexdigest()[:8] if code["diff"] else "none",
        **{package: str(known.get(package)) for package in ("torch", "lightning", "torchmetrics", "numpy")},
    }


def import_path() -> str:
    """PYTHONPATH for another process that is to find this project, wherever it is started."""
    return os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))


def processor() -> str:
    """The processor's name, as its maker writes it where that can be found out."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _git(*arguments: str) -> str | None:
    try:
        result = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None  # no git, or no checkout
    return result.stdout.rstrip("\n")
