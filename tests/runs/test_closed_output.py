"""Closed pipes and terminals, and characters that a stream cannot encode, stop nothing."""

import os
import pty
from collections.abc import Callable
from io import StringIO, TextIOWrapper
from pathlib import Path

import pytest

from fmnist.runs.output import robust
from fmnist.runs.run_directory import RunDirectory
from tests import fork_server
from tests.helpers import TINY, run_command


@pytest.mark.parametrize("open_terminal", [os.pipe, pty.openpty], ids=["pipe", "terminal"])
def test_output_goes_on_in_silence_when_its_reader_is_gone(open_terminal: Callable[[], tuple[int, int]]) -> None:
    reader, writer = open_terminal()
    with open(writer, "w") as stream:  # noqa: PTH123
        output = robust(stream)
        print("seen", file=output, flush=True)
        assert os.read(reader, 100).split() == [b"seen"]
        os.close(reader)
        for _ in range(3):
            print("unseen", file=output, flush=True)


def test_other_errors_of_a_stream_are_raised() -> None:
    with open("/dev/full", "w") as stream:  # noqa: PTH123
        output = robust(stream)
        with pytest.raises(OSError, match="No space left"):
            output.buffer.raw.write(b"text")


def test_characters_that_cannot_be_encoded_are_replaced(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w", encoding="ascii") as stream:
        print("0.9 ± 0.1", file=robust(stream), flush=True)
    assert (tmp_path / "file").read_text() == "0.9 ? 0.1\n"


@pytest.mark.parametrize("stream", [None, StringIO()])
def test_streams_that_are_no_files_stay_as_they_are(stream: TextIOWrapper | None) -> None:
    assert robust(stream) is stream


@pytest.mark.real_data
def test_training_goes_on_when_its_output_is_closed(start: Callable[..., fork_server.Popen], tmp_path: Path) -> None:
    process = start(*TINY, "hydra.run.dir=run")
    assert process.stdout is not None
    first = process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=120) == 0
    with process.stderr as errors:
        assert errors.read() == ""
    log = (tmp_path / "run/train.log").read_text()
    assert first.strip() in log
    assert "test accuracy" in log
    assert RunDirectory(tmp_path / "run").finished


def test_a_table_can_be_printed_in_ascii() -> None:
    outcome = run_command("-m", "fmnist.results", "runs=benchmarks/results/runs", PYTHONIOENCODING="ascii")
    assert (outcome.code, outcome.err) == (0, "")
    assert " ? 0." in outcome.out  # plus-minus
