"""A path in a run directory means that run, and keys may be left out where their values are obvious."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import fmnist
from fmnist.cli import options
from fmnist.config.errors import UserError
from fmnist.runs.run_directory import RunDirectory, locate
from tests.helpers import Outcome


@dataclass(frozen=True)
class Options:
    run: Path = options.option("the run directory", positional=True)
    images: tuple[str, ...] = options.option("files", positional=True, default=())
    checkpoint: str = options.option("best or last", default="best")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("run", ("run", None)),
        ("run/checkpoints/last.ckpt", ("run", "last")),
        ("run/checkpoints/best.ckpt", ("run", "best")),
        ("run/metrics.json", ("run", None)),
        ("run/checkpoints", ("run", None)),
        ("run/checkpoints/other.ckpt", ("run/checkpoints/other.ckpt", None)),  # does not exist
        (".", (".", None)),  # no run
        ("missing", ("missing", None)),
    ],
)
def test_path_in_a_run_means_the_run(
    path: str, expected: tuple[str, str | None], untrained_run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(untrained_run.path.parent)
    run, checkpoint = locate(path)
    assert (Path(os.path.relpath(run)), checkpoint) == (Path(expected[0]), expected[1])


def test_name_of_a_checkpoint_in_the_working_directory_is_enough(
    untrained_run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(untrained_run.checkpoints)
    assert locate("last.ckpt") == (untrained_run.path, "last")


def test_path_of_a_checkpoint_chooses_the_checkpoint(untrained_run: RunDirectory) -> None:
    last = str(untrained_run.last_checkpoint)
    assert options.read(Options, [last]) == Options(untrained_run.path, (), "last")
    assert options.read(Options, [f"run={last}", "checkpoint=best"]).checkpoint == "best"
    networks = [fmnist.load(path).state_dict() for path in (last, untrained_run.path)]
    assert not torch.equal(*(network["conv1.weight"] for network in networks))
    assert torch.equal(
        networks[0]["conv1.weight"], fmnist.load(untrained_run.path, "last").state_dict()["conv1.weight"]
    )


def test_values_without_keys_fill_the_positional_options_in_order() -> None:
    expected = Options(Path("a"), ("b.png", "c.png"), "last")
    assert options.read(Options, ["a", "b.png", "checkpoint=last", "c.png"]) == expected
    assert options.read(Options, ["run=a", "b.png", "c.png", "checkpoint=last"]) == expected


def test_a_value_without_a_key_needs_a_free_option() -> None:
    @dataclass(frozen=True)
    class OnlyRun:
        run: Path = options.option("the run directory", positional=True)

    for arguments in (["a", "b"], ["run=a", "b"]):
        with pytest.raises(UserError, match="cannot read 'b': write arguments as key=value"):
            options.read(OnlyRun, arguments)


@pytest.mark.real_data
def test_resume_takes_the_path_of_a_checkpoint(run_copy: RunDirectory, train_here: Callable[..., Outcome]) -> None:
    assert "run is finished, after 2 epochs" in train_here(f"resume={run_copy.last_checkpoint}").out
