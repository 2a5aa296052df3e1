"""Checks of ``fmnist.doctor``: Python, the packages, and what torch finds to compute with.

Each imports what it needs itself: in a broken environment that raises, and is what there is to tell.
"""

import os
import platform
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from fmnist.finding import REINSTALL, Finding
from fmnist.runs.provenance import ROOT

LOCK, PROJECT = ROOT / "requirements.lock", ROOT / "pyproject.toml"
OLDEST, NEWEST = (3, 11), (3, 13)  # the Pythons that the locked packages have wheels for
CUDA_PACKAGES = ("nvidia-", "cuda-", "triton")  # which a CPU build of torch does without
CPU_MAX = Path("/sys/fs/cgroup/cpu.max")  # a container's limit: so many microseconds of so many, or 'max'
NVIDIA = Path("/proc/driver/nvidia/version")  # there if the driver is loaded
NAMED = 3  # packages that are named before they are only counted


def python() -> Iterator[Finding]:
    found = f"{platform.python_version()} ({sys.executable})"
    if OLDEST <= sys.version_info[:2] <= NEWEST:
        yield Finding("ok", "python", found)
    else:
        oldest, newest = (".".join(map(str, version)) for version in (OLDEST, NEWEST))
        yield Finding("bad", "python", found, f"get a Python from {oldest} to {newest}: {REINSTALL} PYTHON=<its path>")


def packages() -> Iterator[Finding]:
    """Whether what is installed is what is locked. Training needs what pyproject.toml names; tests may be left out."""
    import tomllib

    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet
    from packaging.utils import canonicalize_name

    from fmnist.advisories import locked
    from fmnist.runs import provenance

    installed = {str(canonicalize_name(name)): version for name, version in provenance.versions().items()}
    cpu_build = "+" in installed.get("torch", "")
    wanted = {
        str(canonicalize_name(package.name)): package.version
        for package in locked(LOCK)
        if package.needed_here and not (cpu_build and package.name.startswith(CUDA_PACKAGES))
    }
    missing = [name for name in wanted if name not in installed]
    different = [
        f"{name} {installed[name]} instead of {version}"
        for name, version in wanted.items()
        if name in installed and not SpecifierSet(f"=={version}").contains(installed[name], prereleases=True)
    ]
    dependencies = tomllib.loads(PROJECT.read_text())["project"]["dependencies"]
    needed = {str(canonicalize_name(Requirement(line).name)) for line in dependencies}
    missing.sort(key=lambda name: name not in needed)
    if missing:
        mark: Literal["bad", "warn"] = "bad" if missing[0] in needed else "warn"
        yield Finding(mark, "packages", f"{len(missing)} missing: {_some(missing)}", REINSTALL)
    if different:
        yield Finding("warn", "packages", f"{len(different)} not as locked: {_some(different)}", REINSTALL)
    if not missing and not different:
        yield Finding("ok", "packages", f"{len(wanted)} as locked")


def advisories() -> Iterator[Finding]:
    """Malicious and broken versions are bad; with a vulnerable one training works."""
    from fmnist.advisories import find
    from fmnist.dependencies import installed

    matches = find(installed())
    for match in matches:
        kind = match.advisory.kind
        remedy = f"{REINSTALL}, and change all passwords and keys on this machine" if kind == "malicious" else REINSTALL
        yield Finding("warn" if kind == "vulnerable" else "bad", "advisories", str(match), remedy)
    if not matches:
        yield Finding("ok", "advisories", "nothing that is installed is known as malicious, vulnerable or broken")


def torch() -> Iterator[Finding]:
    try:
        import torch
    except Exception as error:  # libraries that are lacking or do not fit raise anything
        yield Finding("bad", "torch", f"cannot be imported: {type(error).__name__}: {error}", REINSTALL)
        return
    yield Finding("ok", "torch", torch.__version__)
    yield threads(torch.get_num_threads())
    yield gpu()


def threads(number: int) -> Finding:
    """Whether torch's number of threads is the number of cores that this process may use."""
    cores = usable_cores()
    found = f"{number} for {cores} usable cores" if cores > 1 else f"{number} for 1 usable core"
    if number > cores:
        return Finding("warn", "threads", f"{found}: they get in each other's way", f"train with threads={cores}")
    limits = [f"{name}={os.environ[name]}" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS") if name in os.environ]
    if number < cores and limits:
        return Finding(
            "warn", "threads", f"{found}, since {' and '.join(limits)}", f"unset that, or train with threads={cores}"
        )
    return Finding("ok", "threads", found)  # on processors that run two threads a core, torch takes one a core


def usable_cores() -> int:
    """Cores that this process is let run on, by its affinity and by the limit of its container."""
    # Not everywhere can it be asked for.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = CPU_MAX.read_text().split()
        return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):  # no container, or one of another kind
        return cores


def gpu() -> Finding:
    """Which GPUs torch sees; one of NVIDIA's that it does not see is lost time."""
    import torch

    with warnings.catch_warnings(record=True) as told:  # torch says so if the driver is too old
        warnings.simplefilter("always")
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        torch.cuda.is_available()
    if names:
        return Finding("ok", "gpu", ", ".join(names))
    if torch.backends.mps.is_available():
        return Finding("ok", "gpu", "Apple's")
    if not (NVIDIA.exists() or shutil.which("nvidia-smi")):
        return Finding("ok", "gpu", "none here, so the processor computes")
    found = "there is an NVIDIA driver, but torch sees no GPU"
    if torch.version.cuda is None:
        return Finding("warn", "gpu", f"{found}: it is a build for processors alone", REINSTALL)
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return Finding(
            "warn", "gpu", f"{found}, with CUDA_VISIBLE_DEVICES={os.environ['CUDA_VISIBLE_DEVICES']}", "unset that"
        )
    said = f": {told[0].message}" if told else ""
    return Finding(
        "warn", "gpu", f"{found}{said}", f"nvidia-smi must work, with a driver for CUDA {torch.version.cuda}"
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
