"""The chain of sources, and what happens when a fetch is killed, doubled or finds rubbish."""

import contextlib
import logging
import multiprocessing
import os
import shutil
import signal
import socket
import threading
import time
from pathlib import Path

import pytest
from torchvision.datasets import FashionMNIST

from fmnist.config.errors import UserError
from fmnist.data import download, files

pytestmark = pytest.mark.real_data


def is_complete(cache: Path) -> bool:
    return all((cache / name).is_file() and files.read(cache / name).size for name in files.SHA256)


def visible(cache: Path) -> set[str]:
    return {path.name for path in cache.iterdir() if path.name != ".lock"}


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "data/FashionMNIST/raw"


@pytest.fixture
def only_system(official: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's data set directory holds the files; no other source is asked."""
    monkeypatch.setattr(download, "SYSTEM", official)
    monkeypatch.setattr(download, "_torchvision", forbidden)
    monkeypatch.setattr(download, "_debian_package", forbidden)


def forbidden(_workspace: Path) -> Path:
    raise AssertionError("this source must not be asked")


def fails(_workspace: Path) -> Path:
    raise UserError("out of reach")


@pytest.mark.usefixtures("only_system")
def test_an_empty_cache_is_filled_from_the_system_directory(cache: Path) -> None:
    assert download.fetch(cache) == cache
    assert is_complete(cache)
    assert visible(cache) == set(files.SHA256)  # nothing temporary is left


def test_a_full_cache_asks_nobody(official: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for source in ("_system", "_torchvision", "_debian_package"):
        monkeypatch.setattr(download, source, forbidden)
    download.fetch(official)


@pytest.mark.usefixtures("only_system")
@pytest.mark.parametrize("content", [b"", b"half a file"])
def test_a_damaged_file_in_the_cache_is_replaced_with_a_warning(
    cache: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    download.fetch(cache)
    (cache / "t10k-labels-idx1-ubyte").write_bytes(content)
    download.fetch(cache)
    assert is_complete(cache)
    assert "t10k-labels-idx1-ubyte is not the official file" in caplog.text


def test_the_log_says_which_source_was_used_and_why_not_the_ones_before(
    cache: Path, official: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(download, "SYSTEM", Path("/nowhere"))
    monkeypatch.setattr(download, "_torchvision", fails)
    monkeypatch.setattr(download, "_debian_package", lambda _workspace: official)
    download.fetch(cache)
    assert "none from system directory /nowhere: /nowhere does not exist" in caplog.text
    assert "none from torchvision's download: out of reach" in caplog.text
    assert "fetched from Debian package dataset-fashion-mnist" in caplog.text


def test_a_source_with_a_wrong_file_is_passed_over(
    cache: Path, official: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(official, tmp_path / "bad")
    (tmp_path / "bad/t10k-labels-idx1-ubyte").write_bytes(b"rubbish")
    monkeypatch.setattr(download, "SYSTEM", tmp_path / "bad")
    monkeypatch.setattr(download, "_torchvision", lambda _workspace: official)
    download.fetch(cache)
    assert is_complete(cache)


def test_when_no_source_has_the_files_all_reasons_and_the_way_out_are_told(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "SYSTEM", Path("/nowhere"))
    monkeypatch.setattr(download, "_torchvision", fails)
    monkeypatch.setattr(download, "_debian_package", fails)
    with pytest.raises(UserError, match=r"/nowhere.*torchvision.*Debian.*data\.data_dir=") as error:
        download.fetch(cache)
    assert "\n" not in str(error.value)
    assert visible(cache) == set()


def test_an_unreachable_download_host_is_a_reason_and_no_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(UserError, match="Name or service not known"):
        download._torchvision(tmp_path)
    assert socket.getdefaulttimeout() is None


def test_rubbish_from_the_download_host_is_a_reason_and_no_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
        with pytest.raises(UserError, match=r"failed \("):
            download._torchvision(tmp_path)
        server.shutdown(socket.SHUT_RDWR)  # ends accept


def test_without_apt_the_package_is_a_reason_and_no_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="no apt-get"):
        download._debian_package(tmp_path)


def test_the_package_lists_are_renewed_in_private_when_apt_does_not_know_the_package(
    official: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stand-ins for apt-get and dpkg-deb: the first download fails, as with the empty lists of a new machine."""
    programs = tmp_path / "programs"
    programs.mkdir()
    calls = tmp_path / "calls"
    apt = programs / "apt-get"
    apt.write_text(
        "#!/bin/sh\n"
        f'echo "$@" >> {calls}\n'
        'case "$*" in *update) ;; *Lists*download*) touch dataset-fashion-mnist_0_all.deb ;;\n'
        '*) echo "E: Unable to locate package" >&2; exit 100 ;; esac\n'
    )
    unpack = programs / "dpkg-deb"
    unpack.write_text(f'#!/bin/sh\nmkdir -p "$3/usr/share/datasets"\nln -s {official} "$3{download.SYSTEM}"\n')
    for program in (apt, unpack):
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    workspace = tmp_path / "workspace"
    workspace.mkdir()

    assert files.find(download._debian_package(workspace))
    plain, update, private = calls.read_text().splitlines()
    assert plain == "download dataset-fashion-mnist"
    assert update.endswith("update")
    assert f"Dir::State::Lists={workspace}" in update  # the system's own lists stay as they are
    assert f"Dir::State::Lists={workspace}" in private


def test_a_cache_that_cannot_be_written_is_named_with_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "data").touch()  # a file where a directory must be: root, too, fails
    with pytest.raises(UserError, match=r"cannot write the data cache .*data\.data_dir="):
        download.fetch(tmp_path / "data/FashionMNIST/raw")


def slow_source(workspace: Path) -> Path:
    (workspace / "half").write_bytes(b"half a download")
    time.sleep(60)
    raise AssertionError("killed before")


def fetch_slowly(cache: Path) -> None:
    download._system = slow_source  # type: ignore[assignment]
    download.fetch(cache)


def test_a_killed_fetch_leaves_nothing_that_a_later_one_takes_for_good(
    cache: Path, official: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = multiprocessing.get_context("fork").Process(target=fetch_slowly, args=(cache,))
    process.start()
    while not list(cache.glob(".fetch-*/half")):
        time.sleep(0.01)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    (cache / ".train-images-idx3-ubyte.abc.tmp").write_bytes(b"a write that was killed")

    monkeypatch.setattr(download, "SYSTEM", official)
    download.fetch(cache)
    assert is_complete(cache)
    assert visible(cache) == set(files.SHA256)  # the leftovers are gone


def count_and_copy(official: Path, cache: Path) -> None:
    def source(_workspace: Path) -> Path:
        with (cache.parent / "fetches").open("a") as log:
            log.write("x")
        time.sleep(0.5)
        return official

    download._system = source
    download.fetch(cache)


def test_of_several_processes_one_fetches_and_the_others_find_the_files(cache: Path, official: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=count_and_copy, args=(official, cache)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert is_complete(cache)
    assert (cache.parent / "fetches").read_text() == "x"
