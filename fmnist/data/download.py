"""Finds or downloads the data set and puts it into the project's cache.

``python -m fmnist.fetch`` does the same. Every file is verified by its content before it gets its name.
"""

import logging
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

from filelock import FileLock

from fmnist.config.errors import UserError
from fmnist.config.paths import data_cache
from fmnist.data import files
from fmnist.runs import atomic

log = logging.getLogger(__name__)

CACHE = data_cache() / "FashionMNIST/raw"
SYSTEM = Path("/usr/share/datasets/fashion-mnist")  # where Debian's and Ubuntu's package puts it
PACKAGE = "dataset-fashion-mnist"
NETWORK_TIMEOUT = 20  # seconds without an answer before the download host counts as out of reach
PACKAGE_TIMEOUT = 300  # seconds for one call of apt-get
# apt-get waits 30 seconds for each answer, three times; and it asks for each of its lists, one after the other.
APT = ["apt-get", "-o", "Acquire::http::Timeout=3", "-o", "Acquire::https::Timeout=3", "-o", "Acquire::Retries=0"]


def fetch(cache: Path = CACHE) -> Path:
    """Makes sure that the cache holds the four verified files, and returns the cache.

    In this order: the cache itself, the system's data set directory, torchvision's download, the content of the Debian
    package. Files are written under a temporary name, verified, synced and renamed, so a killed fetch
    leaves no broken file behind. A second process waits for the first and finds the files there.

    Raises:
        UserError: The cache cannot be written, or no source has the files.
    """
    if not _missing(cache):
        return cache
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / ".lock"):
            _remove_leftovers(cache)
            if missing := _missing(cache):  # another process may have fetched them while this one waited
                _fill(cache, missing)
    except OSError as error:
        raise UserError(
            f"cannot write the data cache {cache}: {error.strerror or error}; make it writable, "
            "or name a directory that holds the four files with data.data_dir=<directory>"
        ) from error
    return cache


def _missing(cache: Path) -> list[str]:
    """Names of the files that the cache does not hold, or holds damaged."""
    missing = []
    for name in files.SHA256:
        if (cache / name).is_file():
            try:
                files.read(cache / name)
            except UserError as error:
                log.warning("%s: it will be replaced", str(error).partition(";")[0])
                missing.append(name)
        else:
            missing.append(name)
    return missing


def _remove_leftovers(cache: Path) -> None:
    """Deletes what a killed fetch left behind. Safe under the lock: nobody else is fetching."""
    for leftover in cache.glob(".fetch-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    for leftover in atomic.temporary_files(cache):
        leftover.unlink()


def _fill(cache: Path, missing: list[str]) -> None:
    sources: dict[str, Callable[[Path], Path]] = {
        f"system directory {SYSTEM}": _system,
        "torchvision's download": _torchvision,
        f"Debian package {PACKAGE}": _debian_package,
    }
    failures = []
    for source, get in sources.items():
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache) as directory:
            workspace = Path(directory)
            try:
                paths = files.find(get(workspace))
                for name in missing:
                    atomic.write(cache / name, files.read(paths[name]).tobytes())
            except UserError as error:
                log.info("data: none from %s: %s", source, error)
                failures.append(f"{source}: {error}")
                continue
        log.info("data: fetched from %s", source)
        return
    raise UserError(
        f"cannot get Fashion-MNIST ({'; '.join(failures)}); "
        "put the four official files into a directory and name it with data.data_dir=<directory>"
    )


def _system(_workspace: Path) -> Path:
    return SYSTEM


def _torchvision(workspace: Path) -> Path:
    from torchvision.datasets import FashionMNIST  # takes seconds to import, and is seldom needed

    with download_errors():
        FashionMNIST(workspace, download=True)
    return workspace


@contextmanager
def download_errors() -> Iterator[None]:
    """Limits how long torchvision waits for an answer, minutes otherwise, and turns its errors into a ``UserError``."""
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(NETWORK_TIMEOUT)
    try:
        yield
    except (OSError, RuntimeError, HTTPException) as error:
        raise UserError(f"failed ({_one_line(error)})") from error
    finally:
        socket.setdefaulttimeout(timeout)


def _debian_package(workspace: Path) -> Path:
    """Unpacks the package without installing it, which needs no root."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise UserError("no apt-get on this machine")
    try:
        _run([*APT, "download", PACKAGE], workspace)
    except UserError:
        # The system's package lists are empty or old. A private copy of them needs no root and changes nothing.
        state, cache = workspace / "apt-state", workspace / "apt-cache"
        (state / "lists/partial").mkdir(parents=True)
        (cache / "archives/partial").mkdir(parents=True)
        private = ["-o", f"Dir::State::Lists={state}/lists", "-o", f"Dir::Cache={cache}"]
        if os.geteuid() == 0:
            private += ["-o", "APT::Sandbox::User=root"]  # apt's own user cannot write to the workspace
        _run([*APT, *private, "update"], workspace)
        _run([*APT, *private, "download", PACKAGE], workspace)
    package = next(workspace.glob(f"{PACKAGE}_*.deb"))
    _run(["dpkg-deb", "-x", str(package), "unpacked"], workspace)
    return workspace / "unpacked" / SYSTEM.relative_to("/")


def _run(command: list[str], directory: Path) -> None:
    try:
        subprocess.run(
            command,
            cwd=directory,
            env={**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
            timeout=PACKAGE_TIMEOUT,
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(f"{command[0]} gave no answer within {PACKAGE_TIMEOUT} s") from error
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip() or error.stdout.strip() or "no message").splitlines()[-1]
        raise UserError(f"{command[0]} failed ({last})") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
