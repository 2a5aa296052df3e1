"""Check the installation and this machine for problems.

Prints one line per finding: ok, warn or bad, what was found and, after '->', how to fix it. Downloads, installs and
changes nothing. Exits with code 1 if anything is bad, which means that training cannot work.
"""

# This module must start in a broken environment and under a Python that is too old: no third-party import up here.
from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
LOCK, PROJECT = ROOT / "requirements.lock", ROOT / "pyproject.toml"
OLDEST, NEWEST = (3, 11), (3, 14)  # Python versions that the locked packages support
NVIDIA = Path("/proc/driver/nvidia/version")  # exists if the driver is loaded
RUN_SIZE, LOW_SPACE = 5e6, 500e6  # bytes: one run, the limit for a warning
SHOWN = 3  # packages or runs to list; the others are only counted
REINSTALL = "make clean setup"


class Finding(NamedTuple):
    mark: str  # ok; warn: training works; bad: it does not
    found: str
    remedy: str = ""


@dataclass(frozen=True)
class Options:  # written without fmnist.cli.options.option, which needs third-party packages
    runs: Path = field(default=Path("runs"), metadata={"help": "directory that contains the run directories"})
    data_dir: Path | None = field(default=None, metadata={"help": "directory of the data set, if not the cache"})


def main(options: Options) -> None:
    marks = []
    # torch is last: it takes seconds, and a broken torch may crash the process.
    for check in (python, packages, data, disk, runs, torch):
        for mark, found, remedy in _findings(check, options):
            marks.append(mark)
            line = f"{mark:<5} {check.__name__:<9} {' '.join(found.split())}"
            print(f"{line}  ->  {remedy}" if remedy else line, flush=True)
    bad, warned = marks.count("bad"), marks.count("warn")
    print(f"\nbad: {bad}, warnings: {warned}" if bad or warned else "\nno problems found")
    if bad:
        sys.exit(1)


def _findings(check: Callable[[Options], Iterator[Finding]], options: Options) -> Iterator[Finding]:
    try:
        yield from check(options)
    except Exception as error:  # mismatched packages raise anything; the remaining checks must still run
        remedy = REINSTALL if check is torch or isinstance(error, ImportError) else ""
        yield Finding("bad", f"check failed: {type(error).__name__}: {error}", remedy)


def python(_: Options) -> Iterator[Finding]:
    found = f"{platform.python_version()} ({sys.executable})"
    if OLDEST <= sys.version_info[:2] <= NEWEST:
        yield Finding("ok", found)
    else:
        oldest, newest = (".".join(map(str, version)) for version in (OLDEST, NEWEST))
        yield Finding("bad", found, f"install a Python from {oldest} to {newest}, then: {REINSTALL} PYTHON=<its path>")


def packages(_: Options) -> Iterator[Finding]:
    """Compares installed packages with pyproject.toml (missing) and with the lock file (different version)."""
    import tomllib

    from fmnist.runs.provenance import versions

    if not LOCK.exists():
        yield Finding("ok", "installed as a package, without a lock file to compare with")
        return
    installed = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in versions().items()}
    required = tomllib.loads(PROJECT.read_text())["project"]["dependencies"]
    missing = [name for name in (re.split(r"[^\w-]", line)[0] for line in required) if name not in installed]
    locked: dict[str, list[str]] = {}  # a package is locked twice if its version depends on that of Python
    for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", LOCK.read_text(), re.MULTILINE):
        locked.setdefault(name, []).append(version)
    different = [
        f"{name} {installed[name]} instead of {' or '.join(versions)}"
        for name, versions in locked.items()
        if name in installed and installed[name].partition("+")[0] not in versions  # torch's CPU build ends in +cpu
    ]
    if missing:
        yield Finding("bad", f"{len(missing)} missing: {_first(missing)}", REINSTALL)
    if different:
        yield Finding("warn", f"{len(different)} not as locked: {_first(different)}", REINSTALL)
    if not missing and not different:
        yield Finding("ok", "as locked")


def _first(items: list[str]) -> str:
    return ", ".join(items[:SHOWN]) + (f" and {len(items) - SHOWN} more" if len(items) > SHOWN else "")


def data(options: Options) -> Iterator[Finding]:
    from fmnist.config.errors import UserError
    from fmnist.data import download, files

    directory = options.data_dir or download.CACHE
    try:
        for path in files.find(directory).values():
            files.read(path)
        yield Finding("ok", f"the four official files are in {directory}")
    except UserError as error:
        found = str(error).partition("; ")[0]
        if options.data_dir:
            yield Finding("bad", found, "use another directory, or omit data.data_dir and run: make data")
        else:
            yield Finding("warn", found, "make data")  # training downloads it


def disk(options: Options) -> Iterator[Finding]:
    path = options.runs.absolute()
    path = next(directory for directory in (path, *path.parents) if directory.exists())
    free = shutil.disk_usage(path).free
    mark = "ok" if free >= LOW_SPACE else "warn" if free >= RUN_SIZE else "bad"
    found = f"{free / 1e9:,.1f} GB free for runs ({RUN_SIZE / 1e6:.0f} MB each)"
    yield Finding(mark, found, "" if mark == "ok" else f"free space on the disk of {path}")
    try:
        with tempfile.TemporaryFile(dir=path, buffering=0) as file:
            file.write(b"x" * 4096)
        yield Finding("ok", f"{path} is writable")
    except OSError as error:
        found = f"cannot write to {path}: {error.strerror or error}"
        yield Finding("bad", found, "make it writable, or choose another directory with hydra.run.dir=<directory>")


def runs(options: Options) -> Iterator[Finding]:
    """Counts runs, and lists the newest unfinished ones with the command that resumes each."""
    from fmnist.config.errors import UserError
    from fmnist.runs.run_directory import RunDirectory

    created = [*options.runs.glob("train/*/*/.hydra"), *options.runs.glob("sweeps/*/*/*/.hydra")]
    created.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    not_finished = [run for run in (RunDirectory(path.parent) for path in created) if not run.finished]
    unfinished = [run for run in not_finished if not run.running]
    finished, running = len(created) - len(not_finished), len(not_finished) - len(unfinished)
    counts = f"{finished} finished, {running} running, {len(unfinished)} unfinished in {options.runs}"
    newest = f", the newest {SHOWN}:" if len(unfinished) > SHOWN else ""
    yield Finding("warn" if unfinished else "ok", counts + newest)
    for run in unfinished[:SHOWN]:
        try:
            record = run.read_manifest() or {}
        except UserError as error:
            record = {"state": "damaged", "error": error}
        state = record.get("state", "running").replace("running", "killed")  # a killed process leaves 'running' behind
        reason = f": {record['error']}" if record.get("error") else ""
        yield Finding("warn", f"{run.shown} ({state}{reason})", f"delete it, or: {run.resume_command}")


def torch(_: Options) -> Iterator[Finding]:
    import torch

    yield Finding("ok", torch.__version__)
    yield threads(torch.get_num_threads())
    yield gpu()


def threads(number: int) -> Finding:
    """Compares the number of threads that training takes by default with the cores that it may use."""
    from fmnist.config.cores import usable_cores

    cores = usable_cores()
    number = min(number, cores)
    found = f"{number} threads, usable cores: {cores}"
    limits = [name for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS") if name in os.environ]
    if number < cores and limits:
        return Finding("warn", found, f"unset {' and '.join(limits)}, or train with threads={cores}")
    return Finding("ok", found)  # fewer is fine: torch starts one thread per physical core


def gpu() -> Finding:
    """Names the GPUs that torch sees, and warns if there is an NVIDIA driver but torch sees none."""
    import torch

    cuda = torch.cuda.is_available()  # prints a warning if the driver is too old
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())] if cuda else []
    if torch.backends.mps.is_available():
        names = ["Apple GPU"]
    if names or not (NVIDIA.exists() or shutil.which("nvidia-smi")):
        return Finding("ok", ", ".join(names) or "no GPU, training uses the CPU")
    found = "there is an NVIDIA driver, but torch sees no GPU"
    if torch.version.cuda is None:
        return Finding("warn", f"{found}: this torch is a CPU build", REINSTALL)
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return Finding("warn", f"{found}: CUDA_VISIBLE_DEVICES is set", "unset CUDA_VISIBLE_DEVICES")
    return Finding("warn", found, f"make nvidia-smi work, with a driver for CUDA {torch.version.cuda}")


if __name__ == "__main__":
    try:
        from fmnist.cli import options
    except Exception:  # without its packages the project cannot parse options, but doctor can still run the checks
        from fmnist.runs.output import robust_output

        with robust_output():
            main(Options())
    else:
        options.run(main, Options)
