"""What the doctor says of a healthy machine, and of each thing that can be wrong with one."""

import gzip
import os
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from fmnist import dependencies, fetch, installation_checks, place_checks
from fmnist.advisories import Package
from fmnist.data import files
from fmnist.doctor import Options, examine
from fmnist.finding import Finding
from fmnist.runs import provenance
from fmnist.runs.run_directory import RunDirectory
from tests.conftest import ROOT, one_line, run_command


def only(findings: Iterator[Finding]) -> Finding:
    (finding,) = findings
    return finding


def marks(output: str) -> dict[str, str]:
    """The mark of each subject's last line."""
    lines = output.partition("\n\n")[0].splitlines()
    return {line.split()[1]: line.split()[0] for line in lines}


# Python and the packages


def test_the_pythons_that_pass_are_those_that_the_project_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 'requires-python = ">=3.11,<3.14"' in (ROOT / "pyproject.toml").read_text()
    for minor, mark in [(9, "bad"), (10, "bad"), (11, "ok"), (13, "ok"), (14, "bad")]:
        monkeypatch.setattr(sys, "version_info", (3, minor, 1, "final", 0))
        finding = only(installation_checks.python())
        assert finding.mark == mark, minor
        assert bool(finding.remedy) == (mark == "bad")


@pytest.fixture(autouse=True)
def torchs_own_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Makes this machine one with some packages and a lock file."""

    def call(lock: str, **versions: str) -> None:
        (tmp_path / "a.lock").write_text("".join(f"{line} \\\n    --hash=sha256:00\n" for line in lock.split(", ")))
        monkeypatch.setattr(installation_checks, "LOCK", tmp_path / "a.lock")
        monkeypatch.setattr(provenance, "versions", lambda: versions)

    return call


def test_packages_as_locked_are_well(install: Callable[..., None]) -> None:
    install("numpy==2.4.6, win==1 ; sys_platform == 'nowhere'", NumPy="2.4.6", another="1.0")
    assert only(installation_checks.packages()) == ("ok", "packages", "1 as locked", "")


def test_other_versions_and_missing_packages_are_named_with_the_remedy(install: Callable[..., None]) -> None:
    install("pytest==9.2.0, numpy==2.4.6, ruff==0.17.6", numpy="2.4.5", ruff="0.17.6")
    missing, different = installation_checks.packages()
    assert missing == ("warn", "packages", "1 missing: pytest", "make clean setup")
    assert different == ("warn", "packages", "1 not as locked: numpy 2.4.5 instead of 2.4.6", "make clean setup")


def test_a_missing_package_that_training_needs_is_bad_and_named_first(install: Callable[..., None]) -> None:
    install("a==1, b==1, c==1, d==1, lightning==2.6.6")
    assert only(installation_checks.packages())[:3] == ("bad", "packages", "5 missing: lightning, a, b and 2 more")


def test_a_cpu_build_of_torch_needs_no_cuda_packages(install: Callable[..., None]) -> None:
    lock = "torch==2.14.1, nvidia-cublas==13.1, cuda-toolkit==13.0, triton==3.8"
    install(lock, torch="2.14.1+cpu")
    assert only(installation_checks.packages()).mark == "ok"
    install(lock, torch="2.14.1")
    assert "3 missing" in only(installation_checks.packages()).found


@pytest.mark.parametrize(
    ("packages", "mark", "remedy"),
    [
        ([("lightning", "2.6.6")], "ok", ""),
        ([("pillow", "12.3.0")], "warn", "make clean setup"),
        ([("hydra-core", "1.3.8"), ("python", "3.14.0")], "bad", "make clean setup"),
    ],
)
def test_known_versions_are_told(
    monkeypatch: pytest.MonkeyPatch, packages: list[tuple[str, str]], mark: str, remedy: str
) -> None:
    monkeypatch.setattr(dependencies, "installed", lambda: [Package(*package) for package in packages])
    finding = only(installation_checks.advisories())
    assert (finding.mark, finding.remedy) == (mark, remedy)


def test_a_malicious_version_is_bad_and_costs_more_than_an_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dependencies, "installed", lambda: [Package("lightning", "2.6.3")])
    malicious, *_ = installation_checks.advisories()
    assert malicious.mark == "bad"
    assert "change all passwords and keys" in malicious.remedy


def test_the_version_that_is_imported_counts_and_what_pip_left_behind_does_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "torch-1.0.dist-info").mkdir()
    (tmp_path / "torch-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 1.0\n")
    (tmp_path / "interrupted-1.0.dist-info").mkdir()
    before = provenance.versions()
    monkeypatch.syspath_prepend(tmp_path)
    assert provenance.versions() == {**before, "torch": "1.0"}


# What torch computes with


def test_threads_are_held_against_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation_checks, "usable_cores", lambda: 4)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    assert installation_checks.threads(4) == ("ok", "threads", "4 for 4 usable cores", "")
    assert installation_checks.threads(2).mark == "ok"  # a core may run two threads
    assert installation_checks.threads(64)[::3] == ("warn", "train with threads=4")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    limited = installation_checks.threads(1)
    assert limited.mark == "warn"
    assert "since OMP_NUM_THREADS=1" in limited.found


@pytest.mark.parametrize(("text", "cores"), [("max 100000", 8), ("250000 100000", 2), ("5000 100000", 1), ("?", 8)])
def test_the_limit_of_a_container_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, cores: int
) -> None:
    (tmp_path / "cpu.max").write_text(f"{text}\n")
    monkeypatch.setattr(installation_checks, "CPU_MAX", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert installation_checks.usable_cores() == cores
    (tmp_path / "cpu.max").unlink()
    assert installation_checks.usable_cores() == 8


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without any; returns the file that an NVIDIA driver would make."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(installation_checks, "NVIDIA", tmp_path / "version")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path / "version"


@pytest.mark.usefixtures("no_gpu")
def test_a_machine_without_gpu_is_well() -> None:
    assert installation_checks.gpu() == ("ok", "gpu", "none here, so the processor computes", "")


@pytest.mark.usefixtures("no_gpu")
def test_gpus_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"GPU {index}")
    assert installation_checks.gpu() == ("ok", "gpu", "GPU 0, GPU 1", "")


def test_a_gpu_that_torch_does_not_see_is_told_with_the_cause(no_gpu: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = no_gpu.parent / "nvidia-smi"
    program.touch(mode=0o755)
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "a build for processors alone" in installation_checks.gpu().found
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert installation_checks.gpu().mark == "warn"
    program.unlink()
    assert installation_checks.gpu().mark == "ok"
    no_gpu.touch()
    assert installation_checks.gpu().remedy == "nvidia-smi must work, with a driver for CUDA 13.0"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "CUDA_VISIBLE_DEVICES=" in installation_checks.gpu().found


def test_what_torch_says_of_the_driver_is_told(no_gpu: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_gpu.touch()
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: warnings.warn("The driver is too old", stacklevel=1))
    assert "torch sees no GPU: The driver is too old" in installation_checks.gpu().found


# Data, disk, and the place for runs


@pytest.mark.real_data
def test_the_official_data_are_well(official: Path) -> None:
    assert only(place_checks.data(None)).mark == "ok"
    assert only(place_checks.data(official)).mark == "ok"


@pytest.mark.real_data
def test_damaged_data_are_told_and_left_alone(official: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in files.SHA256:
        shutil.copy(official / name, tmp_path / name)
    damaged = tmp_path / "t10k-labels-idx1-ubyte"
    damaged.write_bytes(b"x")
    own = only(place_checks.data(tmp_path))
    assert own.mark == "bad"
    assert "is not the official file" in own.found
    monkeypatch.setattr(fetch, "CACHE", tmp_path)
    cache = only(place_checks.data(None))
    assert (cache.mark, cache.remedy) == ("warn", "make data")  # training fetches it anew
    assert damaged.read_bytes() == b"x"


def test_missing_data_are_told_and_not_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(fetch, "CACHE", tmp_path / "raw")
    assert only(place_checks.data(None))[::3] == ("warn", "make data")
    assert not (tmp_path / "raw").exists()
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(b""))
    finding = only(place_checks.data(tmp_path))
    assert finding.mark == "bad"
    assert "holds no train-labels-idx1-ubyte" in finding.found


@pytest.mark.parametrize(("free", "mark"), [(80e9, "ok"), (200e6, "warn"), (4e6, "bad")])
def test_room_on_the_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free: float, mark: str) -> None:
    usage = type(shutil.disk_usage(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(int(1e12), int(1e12 - free), int(free)))
    finding = only(place_checks.disk(tmp_path / "not/there/yet", tmp_path))
    assert finding.mark == mark
    assert f"{free / 1e9:.1f} GB free" in finding.found
    assert bool(finding.remedy) == (mark != "ok")


def test_room_for_the_data_counts_while_they_are_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    usage = type(shutil.disk_usage(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(int(1e9), int(970e6), int(30e6)))
    monkeypatch.setattr(fetch, "CACHE", tmp_path / "raw")
    assert [finding.mark for finding in place_checks.disk(tmp_path, None)] == ["warn", "bad"]
    (tmp_path / "raw").mkdir()
    assert [finding.mark for finding in place_checks.disk(tmp_path, None)] == ["warn"]


def test_a_place_that_can_be_written_stays_as_it_was(tmp_path: Path) -> None:
    assert only(place_checks.writable(tmp_path)).mark == "ok"
    assert only(place_checks.writable(tmp_path / "not/there/yet")).mark == "ok"
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_bad(tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    for place in (tmp_path / "runs", tmp_path / "runs/train", Path("/proc")):
        finding = only(place_checks.writable(place))
        assert finding.mark == "bad", place
        assert "hydra.run.dir" in finding.remedy


# Runs


@pytest.fixture
def make_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., RunDirectory]:
    """Makes run directories, each newer than the one before, in the working directory's runs/."""
    monkeypatch.chdir(tmp_path)
    count = 0

    def call(name: str, state: str | None = None, **more: Any) -> RunDirectory:
        nonlocal count
        count += 1
        run = RunDirectory(Path("runs") / name)
        run.hydra.mkdir(parents=True)
        os.utime(run.hydra, (count, count))
        if state == "finished":
            run.write_metrics({})
        if state:
            run.write_manifest({"state": state, **more})
        return run

    return call


def test_no_runs_and_finished_runs_are_well(make_run: Callable[..., RunDirectory]) -> None:
    assert only(place_checks.runs(Path("runs")))[:2] == ("ok", "runs")
    make_run("train/a/1", "finished")
    make_run("sweeps/a/1/lr-0.1", "finished")
    finding = only(place_checks.runs(Path("runs")))
    assert finding == ("ok", "runs", "2 finished, 0 running, 0 unfinished under runs", "")


@pytest.mark.parametrize(
    ("state", "more", "said"),
    [
        ("running", {}, "was killed"),
        ("killed", {}, "was killed"),
        (None, {}, "was killed"),
        ("interrupted", {}, "was interrupted"),
        ("failed", {"error": "OSError: no space left"}, "failed: OSError: no space left"),
    ],
)
def test_an_unfinished_run_is_told_with_the_command_that_continues_it(
    make_run: Callable[..., RunDirectory], state: str | None, more: dict[str, str], said: str
) -> None:
    make_run("train/a/1", state, **more)
    counts, run = place_checks.runs(Path("runs"))
    assert (counts.mark, counts.found) == ("warn", "0 finished, 0 running, 1 unfinished under runs:")
    assert run == ("warn", "runs", f"runs/train/a/1 {said}", "delete it, or: python train.py resume=runs/train/a/1")


def test_a_damaged_manifest_is_told(make_run: Callable[..., RunDirectory]) -> None:
    make_run("train/a/1").manifest.write_text("{")
    _, run = place_checks.runs(Path("runs"))
    assert "is damaged: cannot read" in run.found


def test_a_run_that_is_running_is_well(make_run: Callable[..., RunDirectory]) -> None:
    with make_run("train/a/1", "running").locked():
        finding = only(place_checks.runs(Path("runs")))
    assert (finding.mark, finding.found) == ("ok", "0 finished, 1 running, 0 unfinished under runs")


def test_of_many_unfinished_runs_the_newest_are_named(make_run: Callable[..., RunDirectory]) -> None:
    for number in range(20):
        make_run(f"sweeps/a/1/seed-{number}", "killed")
    counts, *named = place_checks.runs(Path("runs"))
    assert "20 unfinished under runs, the newest 3 of them:" in counts.found
    assert [line.found.split()[0] for line in named] == [f"runs/sweeps/a/1/seed-{number}" for number in (19, 18, 17)]


# All together


def test_a_check_that_breaks_does_not_keep_the_others_from_being_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(provenance, "versions", lambda: 1 / 0)
    with pytest.raises(SystemExit) as end:
        examine(Options(runs=tmp_path))
    assert end.value.code == 1
    output = capsys.readouterr().out
    assert "bad   packages    cannot be checked: ZeroDivisionError: division by zero\n" in output
    assert marks(output)["torch"] == "ok"
    assert output.endswith("2 bad, 0 to be warned of\n")


def test_warnings_alone_are_no_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(installation_checks, "packages", lambda: iter([Finding("warn", "packages", "1 missing")]))
    monkeypatch.setattr(installation_checks, "advisories", lambda: iter([]))
    monkeypatch.setattr(fetch, "CACHE", tmp_path)
    examine(Options(runs=tmp_path))
    assert capsys.readouterr().out.endswith("\n0 bad, 2 to be warned of\n")


def test_the_doctor_answers_within_seconds_on_every_subject(tmp_path: Path) -> None:
    start = time.monotonic()
    outcome = run_command("-m", "fmnist.doctor", f"runs={tmp_path}")
    assert time.monotonic() - start < 20  # 2 s on a machine that does nothing else
    assert outcome.err == ""
    subjects = marks(outcome.out)
    assert " ".join(subjects) == "python packages advisories data disk writable runs torch threads gpu"
    assert subjects["torch"] == subjects["writable"] == "ok"
    assert outcome.code == ("bad" in subjects.values())


def test_a_broken_torch_is_told_and_everything_else_checked(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise OSError('libcudart.so.13: cannot open shared object file')")
    outcome = run_command("-m", "fmnist.doctor", f"runs={tmp_path}", PYTHONPATH=str(tmp_path))
    assert outcome.code == 1
    assert "Traceback" not in outcome.err
    assert "\nbad   torch       cannot be imported: OSError: libcudart.so.13: cannot open shared object" in outcome.out
    assert marks(outcome.out)["runs"] == "ok"


def test_a_bare_python_is_told_what_is_missing() -> None:
    outcome = run_command("-S", "-m", "fmnist.doctor")  # -S: without what is installed
    assert outcome.code == 1
    assert outcome.err == ""
    assert "cannot be checked: No module named 'packaging'  ->  make clean setup" in outcome.out
    assert marks(outcome.out)["writable"] == "ok"
    assert marks(outcome.out)["torch"] == "bad"


def test_a_run_of_any_name_can_be_printed(make_run: Callable[..., RunDirectory]) -> None:
    make_run(os.fsdecode(b"train/a/\xff \x1b[31m"), "killed")
    outcome = run_command("-m", "fmnist.doctor", cwd=Path.cwd(), PYTHONPATH=str(ROOT), PYTHONIOENCODING="ascii")
    assert "Traceback" not in outcome.err
    assert "resume=" in outcome.out


def test_a_mistyped_argument_is_refused_with_one_line() -> None:
    assert "did you mean 'runs'?" in one_line(run_command("-m", "fmnist.doctor", "run=x"))
    assert "where the run directories are (default: runs)" in run_command("-m", "fmnist.doctor", "--help").out
