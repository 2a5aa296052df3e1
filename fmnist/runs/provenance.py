"""Source, versions and machine: what metrics depend on besides the configuration."""

import functools
import hashlib
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from fmnist.config.cores import usable_cores
from fmnist.config.paths import ROOT


def source() -> dict[str, Any]:
    """Commit and uncommitted changes of the project; ``commit`` is None outside of a git checkout."""
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
    """Versions and machine. ``cores`` counts what this process may use, ``threads`` what torch uses now."""
    import torch  # takes seconds, and not every importer of this module needs it

    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": versions(),
        "processor": processor(),
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "gpu": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
    }


@functools.cache  # the jobs of a sweep in one process ask one after the other
def versions() -> dict[str, str]:
    """Version of each installed package; if a name is installed twice, of the one that Python imports."""
    installed: dict[str, str] = {}
    for distribution in metadata.distributions():  # in import order
        fields = distribution.metadata  # parsed at each access
        if "Name" in fields:  # an interrupted installation leaves a directory without metadata
            installed.setdefault(fields["Name"], fields["Version"])
    return dict(sorted(installed.items(), key=lambda item: item[0].lower()))


def versions_to_match() -> dict[str, str]:
    """Source and versions that must be the same on all machines that work on one run or sweep."""
    installed, code = versions(), source()
    return {
        "Python": platform.python_version(),
        "commit": str(code["commit"]),
        "uncommitted changes": hashlib.sha256(code["diff"].encode()).hexdigest()[:8] if code["diff"] else "none",
        **{package: str(installed.get(package)) for package in ("torch", "lightning", "torchmetrics", "numpy")},
    }


def python_path() -> str:
    """PYTHONPATH with which another process finds this project, whatever its working directory."""
    return os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))


def processor() -> str:
    """Model name of the processor, on Linux; else what Python knows."""
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
        return None  # git is not installed, or this is not a checkout
    return result.stdout.rstrip("\n")
