"""``python -m fmnist.reproduce``: equal metrics, or what differs."""

import json
import shutil
from pathlib import Path

import pytest

from fmnist import results
from fmnist.runs.run_directory import RunDirectory
from fmnist.sweeps.measurement import summaries
from tests.conftest import ROOT, one_line, run_command

pytestmark = pytest.mark.real_data


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    path = tmp_path_factory.mktemp("reproduce") / "my run"
    overrides = ["experiment=smoke", "dashboard=none", "threads=1", "augmentation=flip_shift"]
    assert run_command(ROOT / "train.py", *overrides, f'hydra.run.dir="{path}"').code == 0
    return RunDirectory(path)


def test_repetition_has_equal_metrics(run: RunDirectory, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    outcome = run_command("-m", "fmnist.reproduce", f"run={run.path}", f"to={tmp_path / 'to, again'}")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.splitlines()[-1] == "equal: all 8 metrics, to the last digit"
    assert RunDirectory(tmp_path / "to, again").metrics.read_bytes() == run.metrics.read_bytes()
    (summary,) = summaries([*results.read(tmp_path), *results.read(run.path)])
    assert (len(summary.runs), summary.uncounted) == (1, [])
    assert {path: path.read_bytes() for path in before} == before


def test_different_metrics_and_their_possible_causes_are_printed(run: RunDirectory, tmp_path: Path) -> None:
    other = RunDirectory(tmp_path / "other")
    shutil.copytree(run.path, other.path)
    metrics = run.read_metrics()
    other.write_metrics(metrics | {"test/acc": 0.99})
    manifest = json.loads(other.manifest.read_text())
    other.write_manifest(manifest | {"threads": 7, "packages": manifest["packages"] | {"torch": "1.0"}})
    outcome = run_command("-m", "fmnist.reproduce", f"run={other.path}", cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert (outcome.code, outcome.err) == (1, "")
    lines = outcome.out.partition("not equal: 1 of 8 metrics")[2].splitlines()
    assert lines[2].split() == ["test/acc", "0.99", str(metrics["test/acc"])]
    assert lines[3].startswith("torch was 1.0 and is now ")
    assert lines[4] == "threads was 7 and is now 1"
    assert len(list((tmp_path / "runs/reproductions").glob("*/*/metrics.json"))) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run=none"], "no directory none"),
        (["run={unfinished}"], "is not finished, so it has no metrics yet"),
        (["run={run}", "to={run}"], "already holds a finished run"),
        ([], "run=<...> is missing"),
    ],
)
def test_mistake_ends_with_one_line(arguments: list[str], message: str, run: RunDirectory, tmp_path: Path) -> None:
    shutil.copytree(run.path, tmp_path / "unfinished")
    (tmp_path / "unfinished/metrics.json").unlink()
    filled = [argument.format(run=run.path, unfinished=tmp_path / "unfinished") for argument in arguments]
    assert message in one_line(run_command("-m", "fmnist.reproduce", *filled))
