"""Checks of ``fmnist.doctor``: the data set, room on the disk, and the runs.

Each imports what it needs itself: in a broken environment that raises, and is what there is to tell.
"""

from __future__ import annotations  # see fmnist.doctor

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fmnist.finding import Finding

if TYPE_CHECKING:
    from fmnist.runs.run_directory import RunDirectory

RUN_SIZE, DATA_SIZE = 5e6, 55e6  # bytes
FEW = 100  # runs: with less room than that it is time to make some
NAMED = 3  # unfinished runs that are named before they are only counted


def data(data_dir: Path | None) -> Iterator[Finding]:
    """Whether the data set is there, and the official one. What the project's own cache lacks will be fetched."""
    from fmnist import fetch
    from fmnist.config.errors import UserError
    from fmnist.data import files

    directory = fetch.CACHE if data_dir is None else data_dir
    try:
        for path in files.find(directory).values():
            files.read(path)
    except UserError as error:
        found = str(error).partition("; ")[0]
        if data_dir is None:
            yield Finding("warn", "data", found, "make data")
        else:
            yield Finding("bad", "data", found, "name another directory, or leave data.data_dir out and: make data")
    else:
        yield Finding("ok", "data", f"the four official files are in {_shown(directory)}")


def disk(runs: Path, data_dir: Path | None) -> Iterator[Finding]:
    place = _existing(runs)
    yield _room(place, f"runs, of which one takes {RUN_SIZE / 1e6:.0f} MB", RUN_SIZE)
    if data_dir is not None:
        return
    from fmnist import fetch

    if not fetch.CACHE.is_dir():
        yield _room(_existing(fetch.CACHE), f"the data set, which takes {DATA_SIZE / 1e6:.0f} MB", DATA_SIZE)


def _room(place: Path, purpose: str, needed: float) -> Finding:
    free = shutil.disk_usage(place).free
    found = f"{free / 1e9:,.1f} GB free for {purpose}"
    if free >= FEW * RUN_SIZE:
        return Finding("ok", "disk", found)
    return Finding("bad" if free < needed else "warn", "disk", found, f"make room on the disk of {place}")


def writable(runs: Path) -> Iterator[Finding]:
    """Whether a run can write there: by writing."""
    place = _existing(runs)
    try:
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=place) as directory:
            (Path(directory) / "file").write_bytes(b"x" * 4096)
    except OSError as error:
        found = f"{_shown(place)} cannot be written: {error.strerror or error}"
        yield Finding(
            "bad", "writable", found, "make it writable, or name another place with hydra.run.dir=<directory>"
        )
    else:
        yield Finding("ok", "writable", f"{_shown(place)} can be written")


def runs(directory: Path) -> Iterator[Finding]:
    """Runs that did not finish: the newest, each with the command that continues it, and how many there are."""
    from fmnist.runs.run_directory import RunDirectory

    starts = [*directory.glob("train/*/*/.hydra"), *directory.glob("sweeps/*/*/*/.hydra")]
    newest_first = sorted(starts, key=lambda start: start.stat().st_mtime, reverse=True)
    every = [RunDirectory(start.parent) for start in newest_first]
    not_finished = [run for run in every if not run.finished]
    interrupted = [run for run in not_finished if not run.running]
    finished, running = len(every) - len(not_finished), len(not_finished) - len(interrupted)
    counts = f"{finished} finished, {running} running, {len(interrupted)} unfinished under {_shown(directory)}"
    if not interrupted:
        yield Finding("ok", "runs", counts)
        return
    yield Finding("warn", "runs", counts + (f", the newest {NAMED} of them:" if len(interrupted) > NAMED else ":"))
    for run in interrupted[:NAMED]:
        yield Finding("warn", "runs", f"{run.shown} {_end(run)}", f"delete it, or: {run.resume_command}")


def _end(run: RunDirectory) -> str:
    """How a run ended that did not finish."""
    from fmnist.config.errors import UserError
    from fmnist.runs import manifest

    try:
        record = run.read_manifest() or {}
    except UserError as error:
        return f"is damaged: {error}"
    if record.get("state") == manifest.FAILED:
        return f"failed: {record.get('error')}"
    # Nobody runs there: whoever wrote 'running' did not live to change it.
    return "was interrupted" if record.get("state") == manifest.INTERRUPTED else "was killed"


def _existing(path: Path) -> Path:
    """The path, or what is there of it."""
    path = path.absolute()
    return next(place for place in (path, *path.parents) if place.exists())


def _shown(path: Path) -> Path:
    """The path as one would type it here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
