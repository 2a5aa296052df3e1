"""The chain of sources, and a fetch that is killed, runs twice or finds rubbish. All files are small stand-ins."""

import hashlib
import logging
import multiprocessing
import os
import shutil
import signal
import socket
import urllib.request
from http.client import BadStatusLine
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
from filelock import FileLock

from fmnist.config.errors import UserError
from fmnist.data import download, files

CONTENT = {name: name.encode() for name in files.SHA256}
SMALL = "t10k-labels-idx1-ubyte"


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's directory: four small files, which count as the official ones."""
    (tmp_path / "source").mkdir()
    for name, content in CONTENT.items():
        (tmp_path / "source" / name).write_bytes(content)
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENT.items()}
    monkeypatch.setattr(files, "SHA256", hashes)
    monkeypatch.setattr(download, "SYSTEM", tmp_path / "source")
    return tmp_path / "source"


@pytest.fixture
def cache(source: Path) -> Path:
    return source.parent / "data/FashionMNIST/raw"


def content(cache: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in cache.iterdir() if path.name != ".lock"}


def fails(_workspace: Path) -> Path:
    raise UserError("out of reach")


def test_empty_cache_is_filled_and_a_full_one_asks_no_source(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert download.fetch(cache) == cache
    assert content(cache) == CONTENT
    monkeypatch.setattr(download, "_fill", lambda *_: pytest.fail("asked"))
    assert download.fetch(cache) == cache


def test_damaged_file_in_the_cache_is_replaced_with_a_warning(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    download.fetch(cache)
    (cache / SMALL).write_bytes(b"half a file")
    download.fetch(cache)
    assert content(cache) == CONTENT
    assert f"{SMALL} is not the official file" in caplog.text
    assert ": it will be replaced" in caplog.text


def test_source_without_good_files_is_passed_over_and_the_log_says_why(
    cache: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    damaged = shutil.copytree(source, tmp_path / "damaged")
    (damaged / SMALL).write_bytes(b"rubbish")
    monkeypatch.setattr(download, "SYSTEM", damaged)
    monkeypatch.setattr(download, "_torchvision", fails)
    monkeypatch.setattr(download, "_debian_package", lambda _workspace: source)
    download.fetch(cache)
    assert content(cache) == CONTENT
    assert f"none from system directory {damaged}: {damaged / SMALL} is not the official file" in caplog.text
    assert "none from torchvision's download: out of reach" in caplog.text
    assert "fetched from Debian package dataset-fashion-mnist" in caplog.text


def test_without_any_source_the_error_has_all_reasons_and_the_way_out(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for source in ("_system", "_torchvision", "_debian_package"):
        monkeypatch.setattr(download, source, fails)
    with pytest.raises(UserError, match=r"system.*out of reach; torchvision.*; Debian.*data\.data_dir=") as error:
        download.fetch(cache)
    assert "\n" not in str(error.value)
    assert content(cache) == {}


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (URLError("Name or service not known"), "Name or service not known"),  # torchvision catches this
        (BadStatusLine("GARBAGE\r\n"), r"failed \(GARBAGE\)"),  # and not this
        (TimeoutError(), r"failed \(TimeoutError\)"),
    ],
)
def test_failed_download_is_a_reason(
    error: Exception, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        assert socket.getdefaulttimeout() == 20
        raise error

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    with pytest.raises(UserError, match=reason):
        download._torchvision(tmp_path)
    assert socket.getdefaulttimeout() is None


def stand_in(patch: pytest.MonkeyPatch, directory: Path, **scripts: str) -> None:
    """Puts shell scripts for apt-get and dpkg-deb first in the PATH."""
    for name, script in scripts.items():
        path = directory / name.replace("_", "-")
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    patch.setenv("PATH", f"{directory}:{os.environ['PATH']}")


def test_package_lists_are_renewed_in_private_when_apt_does_not_know_the_package(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(download, "SYSTEM", Path("/usr/share/dataset"))
    (workspace := tmp_path / "workspace").mkdir()
    log = tmp_path / "calls"
    answers = "*update) ;; *Lists*download*) touch dataset-fashion-mnist_0_all.deb ;; *) exit 100 ;;"
    apt = f'echo "$@" >> {log}\ncase "$*" in {answers} esac'
    unpack = f'mkdir -p "$3/usr/share"\nln -s {source} "$3/usr/share/dataset"'
    stand_in(monkeypatch, tmp_path, apt_get=apt, dpkg_deb=unpack)
    assert files.find(download._debian_package(workspace))
    plain, update, private = log.read_text().splitlines()
    assert plain.endswith("Retries=0 download dataset-fashion-mnist")  # fails, as with the empty lists of a new machine
    assert update.endswith("update")
    for command in (update, private):  # the system's own lists stay as they are
        assert f"Dir::State::Lists={workspace}" in command
        assert "APT::Sandbox::User=root" in command


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo one >&2; echo E: no network >&2; exit 100", r"apt-get failed \(E: no network\)"),
        ("exit 1", r"apt-get failed \(no message\)"),
        ("exec sleep 300", "apt-get gave no answer within 0.2 s"),
    ],
)
def test_failure_of_apt_is_a_reason(script: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, tmp_path, apt_get=script, dpkg_deb="")
    monkeypatch.setattr(download, "PACKAGE_TIMEOUT", 0.2)
    with pytest.raises(UserError, match=reason):
        download._debian_package(tmp_path)
    (tmp_path / "dpkg-deb").unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="no apt-get on this machine"):
        download._debian_package(tmp_path)


def test_cache_that_cannot_be_written_is_named_with_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "data").touch()  # a file where a directory must be: root, too, fails
    with pytest.raises(UserError, match=r"cannot write the data cache .*data\.data_dir="):
        download.fetch(tmp_path / "data/FashionMNIST/raw")


def test_leftovers_of_a_killed_fetch_are_removed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = multiprocessing.get_context("fork")
    reached = context.Event()

    def stuck(workspace: Path) -> None:
        (workspace / "half").write_bytes(b"half a download")
        reached.set()
        signal.pause()

    with monkeypatch.context() as patch:
        patch.setattr(download, "_system", stuck)
        process = context.Process(target=download.fetch, args=(cache,))
        process.start()
    assert reached.wait(60)
    process.kill()
    process.join()
    assert list(cache.glob(".fetch-*/half"))
    (cache / ".train-images-idx3-ubyte.abc.tmp").write_bytes(b"a write that was killed")
    download.fetch(cache)
    assert content(cache) == CONTENT


def test_one_of_several_processes_fetches_while_the_others_wait(
    cache: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(3)

    def lock(path: Path) -> FileLock:
        barrier.wait(60)  # all of them have seen the empty cache
        return FileLock(path)

    def noting_source(workspace: Path) -> Path:
        (tmp_path / f"fetched in {workspace.name}").touch()
        return source

    monkeypatch.setattr(download, "FileLock", lock)
    monkeypatch.setattr(download, "_system", noting_source)
    processes = [context.Process(target=download.fetch, args=(cache,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 3
    assert content(cache) == CONTENT
    assert len(list(tmp_path.glob("fetched in *"))) == 1
