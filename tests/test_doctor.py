"""What doctor reports on a healthy machine, and for each problem that it looks for."""

import ast
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fmnist import doctor
from fmnist.data import download
from fmnist.doctor import Options
from fmnist.runs import provenance
from fmnist.runs.run_directory import RunDirectory
from tests.helpers import ROOT, outcome_of, run_command

SUBJECTS = ["python", "packages", "data", "disk", "runs", "torch"]


def marks(output: str) -> dict[str, str]:
    """The mark of the last line about each subject."""
    return {line.split()[1]: line.split()[0] for line in output.partition("\n\n")[0].splitlines()}


@pytest.fixture(autouse=True)
def no_thread_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)


def test_accepted_python_versions_match_pyproject(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 'requires-python = ">=3.11,<3.15"' in (ROOT / "pyproject.toml").read_text()
    ast.parse((ROOT / "fmnist/doctor.py").read_text(), feature_version=(3, 7))  # an old Python can run doctor
    for minor, mark in [(10, "bad"), (11, "ok"), (14, "ok"), (15, "bad")]:
        monkeypatch.setattr(sys, "version_info", (3, minor, 1, "final", 0))
        (finding,) = doctor.python(Options())
        assert finding.mark == mark, minor
        assert ("from 3.11 to 3.14" in finding.remedy) == (mark == "bad")


@pytest.mark.parametrize(
    ("installed", "expected"),
    [
        ({"torch": "2.14.1+cpu", "Hydra_Core": "1.3.8", "numpy": "2.4", "other": "1"}, [("ok", "as locked")]),
        (
            {"torch": "2.14.1", "hydra-core": "1.3.8", "numpy": "2.3", "pytest": "9"},
            [("warn", "2 not as locked: numpy 2.3 instead of 2.4 or 2.5, pytest 9 instead of 9.2")],
        ),
        ({"hydra-core": "1.4"}, [("bad", "1 missing: torch"), ("warn", "1 not as locked: hydra-core 1.4 instead of")]),
    ],
)
def test_missing_and_drifted_packages_are_named(
    installed: dict[str, str], expected: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    locked = ["torch==2.14.1", "hydra-core==1.3.8", "numpy==2.4 ; a", "numpy==2.5 ; b", "pytest==9.2", "absent==1"]
    (tmp_path / "lock").write_text("".join(f"{line} \\\n    --hash=sha256:00\n" for line in locked))
    (tmp_path / "toml").write_text('[project]\ndependencies = ["torch>=2.14,<3", "hydra-core[all]>=1"]\n')
    monkeypatch.setattr(doctor, "LOCK", tmp_path / "lock")
    monkeypatch.setattr(doctor, "PROJECT", tmp_path / "toml")
    monkeypatch.setattr(provenance, "versions", lambda: installed)
    for finding, (mark, text) in zip(doctor.packages(Options()), expected, strict=True):
        assert finding.found.startswith(text)
        assert finding[::2] == (mark, "" if mark == "ok" else "make clean setup")


def test_imported_version_of_a_package_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, metadata in [("torch", "Metadata-Version: 2.1\nName: torch\nVersion: 1.0\n"), ("interrupted", "")]:
        (tmp_path / f"{name}-1.0.dist-info").mkdir()
        (tmp_path / f"{name}-1.0.dist-info/METADATA").write_text(metadata)
    before = provenance.versions.__wrapped__()
    monkeypatch.syspath_prepend(tmp_path)
    assert provenance.versions.__wrapped__() == {**before, "torch": "1.0"}


def test_threads_are_compared_with_usable_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fmnist.config.cores.usable_cores", lambda: 8)
    assert doctor.threads(1) == ("ok", "1 threads, usable cores: 8", "")  # torch's own choice
    assert doctor.threads(64) == ("ok", "8 threads, usable cores: 8", "")  # as training limits them
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert doctor.threads(1)[::2] == ("warn", "unset OMP_NUM_THREADS, or train with threads=8")
    assert doctor.threads(8).mark == "ok"


def test_gpu_that_torch_does_not_see_is_a_warning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    driver = tmp_path / "version"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(doctor, "NVIDIA", driver)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert doctor.gpu() == ("ok", "no GPU, training uses the CPU", "")

    driver.touch()
    monkeypatch.setattr(torch.version, "cuda", None)
    assert doctor.gpu().found.endswith("torch sees no GPU: this torch is a CPU build")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert doctor.gpu()[::2] == ("warn", "make nvidia-smi work, with a driver for CUDA 13.0")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert doctor.gpu().remedy == "unset CUDA_VISIBLE_DEVICES"

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"GPU {index}")
    assert doctor.gpu() == ("ok", "GPU 0, GPU 1", "")


@pytest.mark.real_data
def test_damaged_or_missing_data_is_reported_and_left_alone(
    official: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert [finding.mark for finding in doctor.data(Options(data_dir=official))] == ["ok"]
    monkeypatch.setattr(download, "CACHE", tmp_path)
    for content in (None, b"x"):
        if content is not None:
            for path in official.glob("*ubyte"):
                (tmp_path / path.name).write_bytes(content)
        before = {path: path.read_bytes() for path in tmp_path.iterdir()}
        (given,), (cached,) = doctor.data(Options(data_dir=tmp_path)), doctor.data(Options())
        assert given.mark == "bad"
        assert ("is not the official file" if content else "holds no train-images") in given.found
        assert cached[::2] == ("warn", "make data")  # training downloads it
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_little_disk_space_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    usage = type(shutil.disk_usage(tmp_path))
    for free, mark in ((500e6, "ok"), (499e6, "warn"), (5e6, "warn"), (4e6, "bad")):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=int(free): usage(10**12, 10**12 - free, free))
        space, _ = doctor.disk(Options(runs=tmp_path / "not/there/yet"))
        assert space.mark == mark
        assert f"{free / 1e9:.1f} GB free for runs (5 MB each)" in space.found
        assert bool(space.remedy) == (mark != "ok")


def test_writing_is_tried_and_leaves_nothing_behind(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "not/there/yet"):
        assert [finding.mark for finding in doctor.disk(Options(runs=directory))] == ["ok", "ok"]
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "runs").touch()
    for directory in (tmp_path / "runs/train", Path("/proc")):
        *_, finding = doctor.disk(Options(runs=directory))
        assert finding.mark == "bad", directory
        assert "hydra.run.dir" in finding.remedy


@pytest.fixture
def make_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., RunDirectory]:
    """Creates run directories below runs/, each newer than the one before."""
    monkeypatch.chdir(tmp_path)
    times = iter(range(100))

    def call(name: str, **manifest: Any) -> RunDirectory:
        run = RunDirectory(Path("runs") / name)
        run.hydra.mkdir(parents=True)
        os.utime(run.hydra, 2 * (next(times),))
        if manifest:
            run.write_manifest(manifest)
        return run

    return call


def test_finished_and_running_runs_are_fine(make_run: Callable[..., RunDirectory]) -> None:
    make_run("train/a/1").write_metrics({})
    make_run("sweeps/a/1/lr-0.1").write_metrics({})
    with make_run("train/a/2", state="running").locked():
        assert list(doctor.runs(Options())) == [("ok", "2 finished, 1 running, 0 unfinished in runs", "")]


def test_unfinished_runs_are_listed_with_their_resume_commands(make_run: Callable[..., RunDirectory]) -> None:
    make_run("train/a/1", state="failed", error="OSError: no space left")
    make_run("train/a/2", state="interrupted", error=None)
    make_run("train/a/3", state="running")
    counts, *runs = doctor.runs(Options())
    assert counts == ("warn", "0 finished, 0 running, 3 unfinished in runs", "")
    ends = ("3 (killed)", "2 (interrupted)", "1 (failed: OSError: no space left)")
    assert [run.found for run in runs] == [f"runs/train/a/{end}" for end in ends]
    assert runs[0].remedy == "delete it, or: python train.py resume=runs/train/a/3"


def test_newest_unfinished_runs_are_listed_even_if_damaged(make_run: Callable[..., RunDirectory]) -> None:
    for number in range(9):
        make_run(f"sweeps/a/1/seed-{number}")
    make_run("sweeps/a/1/seed-9").manifest.write_text("{")
    counts, damaged, *killed = doctor.runs(Options())
    assert counts.found == "0 finished, 0 running, 10 unfinished in runs, the newest 3:"
    assert damaged.found.startswith("runs/sweeps/a/1/seed-9 (damaged: cannot read")
    assert [run.found for run in killed] == [f"runs/sweeps/a/1/seed-{number} (killed)" for number in (8, 7)]


def test_failing_check_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(provenance, "versions", lambda: 1 / 0)
    outcome = outcome_of(lambda: doctor.main(Options(runs=tmp_path)), capsys)
    assert outcome.code == 1
    assert "bad   packages  check failed: ZeroDivisionError: division by zero\n" in outcome.out
    assert marks(outcome.out)["torch"] == "ok"

    monkeypatch.setattr(provenance, "versions", dict)
    (tmp_path / "toml").write_text("[project]\ndependencies = []")
    monkeypatch.setattr(doctor, "PROJECT", tmp_path / "toml")
    monkeypatch.setattr(download, "CACHE", tmp_path)
    outcome = outcome_of(lambda: doctor.main(Options(runs=tmp_path)), capsys)
    assert outcome.code == 0  # a warning, such as missing data, is no failure
    assert outcome.out.endswith("\nbad: 0, warnings: 1\n")


def test_broken_torch_is_reported(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise OSError('libcudart.so.13: cannot open shared object file')")
    outcome = run_command("-m", "fmnist.doctor", f"runs={tmp_path}", cold=True, PYTHONPATH=str(tmp_path))
    assert (outcome.code, outcome.err) == (1, "")
    assert list(marks(outcome.out)) == SUBJECTS
    assert "check failed: OSError: libcudart.so.13: cannot open shared object file  ->  make clean" in outcome.out


def test_it_runs_without_any_installed_package() -> None:
    outcome = run_command("-S", "-m", "fmnist.doctor", cold=True)
    assert (outcome.code, outcome.err) == (1, "")
    assert list(marks(outcome.out)) == SUBJECTS
    assert "missing: torch, torchvision, lightning and" in outcome.out
    assert marks(outcome.out)["disk"] == "ok"


def test_run_names_that_cannot_be_encoded_are_printed(make_run: Callable[..., RunDirectory]) -> None:
    make_run(os.fsdecode(b"train/a/\xff \x1b[31m"))
    outcome = run_command("-m", "fmnist.doctor", cwd=Path.cwd(), PYTHONPATH=str(ROOT), PYTHONIOENCODING="ascii")
    assert outcome.err == ""
    assert "resume=" in outcome.out
