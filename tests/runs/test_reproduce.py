"""``python -m fmnist.reproduce``: equal metrics, or what differs."""

import subprocess
from pathlib import Path
from unittest.mock import Mock

import pytest

from fmnist import reproduce, results
from fmnist.config.errors import UserError
from fmnist.runs.run_directory import RunDirectory
from fmnist.sweeps.measurement import summaries
from tests.helpers import ROOT, TINY, one_line, run_command

pytestmark = pytest.mark.real_data


def test_repetition_has_equal_metrics(tmp_path: Path) -> None:
    run, repetition = RunDirectory(tmp_path / "my run"), RunDirectory(tmp_path / "to, again")
    overrides = [*TINY, "augmentation=flip_shift", f'hydra.run.dir="{run.path}"']
    assert run_command(ROOT / "train.py", *overrides).code == 0
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    outcome = run_command("-m", "fmnist.reproduce", f"run={run.path}", f"to={repetition.path}")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.splitlines()[-1] == "equal: all 8 metrics, to the last digit"
    assert repetition.metrics.read_bytes() == run.metrics.read_bytes()
    (summary,) = summaries(results.read(tmp_path))
    assert (len(summary.runs), summary.uncounted) == (1, [])
    assert {path: path.read_bytes() for path in before} == before


def test_different_metrics_and_their_possible_causes_are_printed(
    run_copy: RunDirectory, trained_run: RunDirectory, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics, manifest = run_copy.read_metrics(), run_copy.read_manifest()
    assert manifest is not None
    run_copy.write_metrics(metrics | {"test/acc": 0.99})
    monkeypatch.setattr(reproduce, "repeat", Mock())
    options = reproduce.Options(run=run_copy.path, to=trained_run.path)

    def printed() -> list[str]:
        with caplog.at_level("INFO"), pytest.raises(SystemExit) as stop:
            reproduce.main(options)
        assert stop.value.code == 1
        heading, _, row, *lines = caplog.messages[-1].strip().splitlines()
        assert heading == "not equal: 1 of 8 metrics"
        assert row.split() == ["test/acc", "0.99", str(metrics["test/acc"])]
        return lines

    assert printed() == ["the manifests show no other difference"]
    changed = manifest | {"threads": 7}
    run_copy.write_manifest(changed)
    assert printed() == ["threads was 7 and is now 1"]
    changed["sessions"][0]["differs"] = {"torch": {"was": "1", "is": "2"}}
    run_copy.write_manifest(changed)
    assert printed()[1] == "the run was resumed under other conditions: torch"
    run_copy.manifest.unlink()
    assert printed() == ["other differences are unknown: the run has no manifest.json"]


def test_repetition_below_runs_is_the_default(
    trained_run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subprocess, "run", Mock(return_value=Mock(returncode=3)))
    with pytest.raises(UserError, match=r"repetition in runs/reproductions/.* failed \(exit code 3\)"):
        reproduce.main(reproduce.Options(run=trained_run.path))
    (copy,) = tmp_path.glob("runs/reproductions/*/*")
    assert RunDirectory(copy).read_configuration() == trained_run.read_configuration()


def test_mistake_ends_with_one_line(run_copy: RunDirectory, trained_run: RunDirectory) -> None:
    run_copy.metrics.unlink()
    outcome = run_command("-m", "fmnist.reproduce", f"run={run_copy.path}")
    assert "is not finished, so it has no metrics yet; to resume:  python train.py resume=" in one_line(outcome)
    with pytest.raises(UserError, match="already holds a finished run"):
        reproduce.repeat(trained_run, trained_run, ())
