"""The project installed as a package, outside of a checkout."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fmnist.runs.run_directory import RunDirectory
from tests.helpers import ROOT, TINY

Fmnist = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's content, beside the locked packages."""
    directory = tmp_path_factory.mktemp("wheel")
    for command in (
        f"hatchling build --target wheel --directory {directory}",
        f"pip install --no-deps --no-index --find-links={directory} --target={directory} fmnist",
    ):
        subprocess.run([sys.executable, "-m", *command.split()], cwd=ROOT, check=True, capture_output=True)
    return directory


@pytest.fixture
def fmnist(installed: Path, official: Path, tmp_path: Path) -> Fmnist:
    """Runs the console script in an empty directory."""

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(installed), "FMNIST_DATA": str(official.parents[1])}
        command = [sys.executable, str(installed / "bin/fmnist"), *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    return call


@pytest.mark.slow
@pytest.mark.real_data
def test_installed_package_trains_evaluates_and_predicts(fmnist: Fmnist, tmp_path: Path) -> None:
    own = tmp_path / "conf/experiment/mine.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("# @package _global_\nseed: 7\n")
    trained = fmnist("train", *TINY, "experiment=mine")
    assert (trained.returncode, trained.stderr) == (0, "")
    (path,) = (tmp_path / "runs/train").glob("*/*")
    assert RunDirectory(path).read_configuration().seed == 7
    for arguments in (["evaluate", str(path)], ["predict", str(path), "index=0"], ["train", f"resume={path}"]):
        outcome = fmnist(*arguments)
        assert outcome.returncode == 0, outcome.stderr
    assert "fmnist train resume=" in outcome.stdout
