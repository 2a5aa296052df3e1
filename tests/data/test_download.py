"""The chain of sources, and a fetch that is killed, runs twice or finds rubbish. All files are small stand-ins."""

import contextlib
import hashlib
import logging
import multiprocessing
import os
import signal
import socket
import threading
from pathlib import Path

import pytest
from filelock import FileLock
from torchvision.datasets import FashionMNIST

from fmnist.config.errors import UserError
from fmnist.data import download, files

CONTENT = {name: name.encode() for name in files.SHA256}
SMALL = "t10k-labels-idx1-ubyte"


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with four small files, which count as the official ones."""
    (tmp_path / "source").mkdir()
    for name, content in CONTENT.items():
        (tmp_path / "source" / name).write_bytes(content)
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENT.items()}
    monkeypatch.setattr(files, "SHA256", hashes)
    return tmp_path / "source"


@pytest.fixture
def cache(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache. The system's data set directory holds the files; other sources must not be asked."""
    monkeypatch.setattr(download, "SYSTEM", source)
    monkeypatch.setattr(download, "_torchvision", forbidden)
    monkeypatch.setattr(download, "_debian_package", forbidden)
    return tmp_path / "data/FashionMNIST/raw"


def content(cache: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in cache.iterdir() if path.name != ".lock"}


def forbidden(_workspace: Path) -> Path:
    raise AssertionError("this source must not be asked")


def fails(_workspace: Path) -> Path:
    raise UserError("out of reach")


def test_empty_cache_is_filled_from_the_system_directory(cache: Path) -> None:
    assert download.fetch(cache) == cache
    assert content(cache) == CONTENT


def test_full_cache_asks_no_source(source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_system", forbidden)
    assert download.fetch(source) == source


def test_damaged_file_in_the_cache_is_replaced_with_a_warning(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    download.fetch(cache)
    (cache / SMALL).write_bytes(b"half a file")
    download.fetch(cache)
    assert content(cache) == CONTENT
    assert f"{SMALL} is not the official file" in caplog.text
    assert caplog.text.rstrip().endswith(": it will be replaced")


def test_source_without_good_files_is_passed_over_and_the_log_says_why(
    cache: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for name in CONTENT:
        (damaged / name).write_bytes(CONTENT[name] if name != SMALL else b"rubbish")
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
    monkeypatch.setattr(download, "SYSTEM", Path("/nowhere"))
    monkeypatch.setattr(download, "_torchvision", fails)
    monkeypatch.setattr(download, "_debian_package", fails)
    with pytest.raises(UserError, match=r"/nowhere does not exist.*torchvision.*Debian.*data\.data_dir=") as error:
        download.fetch(cache)
    assert "\n" not in str(error.value)
    assert content(cache) == {}


def test_unreachable_download_host_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timeouts = set()

    def refuse(*_args: object, **_kwargs: object) -> None:
        timeouts.add(socket.getdefaulttimeout())
        raise OSError("Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(UserError, match="Name or service not known"):
        download._torchvision(tmp_path)
    assert timeouts == {20}
    assert socket.getdefaulttimeout() is None


def test_rubbish_from_the_download_host_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(server: socket.socket) -> None:
        with contextlib.suppress(OSError):  # until the test closes the server
            while True:
                connection, _ = server.accept()
                connection.recv(1000)
                connection.sendall(b"GARBAGE\r\n\r\n")
                connection.close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=answer, args=(server,), daemon=True).start()
        monkeypatch.setattr(FashionMNIST, "mirrors", [f"http://127.0.0.1:{server.getsockname()[1]}/"])
        with pytest.raises(UserError, match=r"failed \(GARBAGE\)"):
            download._torchvision(tmp_path)
        server.shutdown(socket.SHUT_RDWR)  # ends accept


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory for stand-ins of apt-get and dpkg-deb, first in the PATH."""
    (tmp_path / "programs").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'programs'}:{os.environ['PATH']}")
    return tmp_path / "programs"


def write_program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_package_lists_are_renewed_in_private_when_apt_does_not_know_the_package(
    source: Path, programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first download fails, as with the empty lists of a new machine."""
    calls = tmp_path / "calls"
    write_program(
        programs / "apt-get",
        f'echo "$@" >> {calls}\n'
        'case "$*" in *update) ;; *Lists*download*) touch dataset-fashion-mnist_0_all.deb ;; *) exit 100 ;; esac',
    )
    write_program(
        programs / "dpkg-deb", f'mkdir -p "$3/usr/share/datasets"\nln -s {source} "$3/usr/share/datasets/fashion-mnist"'
    )
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    assert files.find(download._debian_package(workspace))
    plain, update, private = calls.read_text().splitlines()
    assert plain == "download dataset-fashion-mnist"
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
def test_failure_of_apt_is_a_reason(
    script: str, reason: str, programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("apt-get", "dpkg-deb"):
        write_program(programs / name, script)
    monkeypatch.setattr(download, "PACKAGE_TIMEOUT", 0.2)
    with pytest.raises(UserError, match=reason):
        download._debian_package(tmp_path)


def test_machine_without_apt_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    write_program(tmp_path / "apt-get", "exit 0")
    with pytest.raises(UserError, match="no apt-get"):  # dpkg-deb is missing
        download._debian_package(tmp_path)


def test_cache_that_cannot_be_written_is_named_with_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "data").touch()  # a file where a directory must be: root, too, fails
    with pytest.raises(UserError, match=r"cannot write the data cache .*data\.data_dir="):
        download.fetch(tmp_path / "data/FashionMNIST/raw")


def test_leftovers_of_a_killed_fetch_are_removed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = multiprocessing.get_context("fork")
    reached = context.Event()

    def stuck(workspace: Path) -> Path:
        (workspace / "half").write_bytes(b"half a download")
        reached.set()
        signal.pause()
        return workspace

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

    def noting_source(_workspace: Path) -> Path:
        with (tmp_path / "fetches").open("a") as log:
            log.write("x")
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
    assert (tmp_path / "fetches").read_text() == "x"
