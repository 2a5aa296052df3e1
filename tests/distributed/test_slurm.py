"""Sweeps and runs on a real Slurm: its controller and its daemon, on this machine."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import ROOT, TINY, Outcome, Start, free_port, one_line, run_command, wait_until
from tests.sweeps.test_sweep import jobs, metrics

pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="needs make setup-extras")
pytestmark = [pytest.mark.real_data, pytest.mark.slow]

SWEEP = ["-m", *(word for word in TINY if word != "threads=1"), "seed=1,2", "hydra.sweep.dir=sweep"]
SLURM = ["hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=1"]
TWO_PROCESSES = ["trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu", "hydra.launcher.cpus_per_task=2"]
LONG = ["seed=1", "trainer.max_epochs=100"]

CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={daemon_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={directory}/munge.socket,cred_expire=5
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/spool
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SchedulerParameters=batch_sched_delay=1,sched_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory=4000 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@pytest.fixture(scope="module")
def slurm() -> Iterator[dict[str, str]]:
    """A Slurm of one machine; yields the environment variables to reach it."""
    places = f"{os.environ['PATH']}:/usr/sbin"
    programs = [shutil.which(name, path=places) for name in ("munged", "slurmctld", "slurmd")]
    if None in programs or os.geteuid():
        pytest.skip("needs Debian's packages slurm-wlm and munge, and root")
    munged, slurmctld, slurmd = map(str, programs)
    directory = Path(tempfile.mkdtemp(prefix="slurm", dir="/tmp"))  # the path of a socket must be short
    directory.chmod(0o755)
    for name in ("state", "spool"):
        (directory / name).mkdir()
    (directory / "munge.key").write_bytes(os.urandom(128))
    (directory / "munge.key").chmod(0o400)
    values = {"host": socket.gethostname().partition(".")[0], "directory": directory, "cores": os.cpu_count()}
    configuration = directory / "slurm.conf"
    configuration.write_text(CONFIGURATION.format(controller_port=free_port(), daemon_port=free_port(), **values))
    environment = {"SLURM_CONF": str(configuration)}
    munge = [f"--{name}={directory}/munge.{name.partition('-')[0]}" for name in ("key-file", "pid-file", "seed-file")]
    munge += [f"--socket={directory}/munge.socket", f"--log-file={directory}/munge.log", "--foreground", "--force"]
    daemons = []
    for command in ([munged, *munge], [slurmctld, "-D"], [slurmd, "-D"]):
        with (directory / f"{Path(command[0]).name}.log").open("wb") as log:
            environ = os.environ | environment
            daemons.append(subprocess.Popen(command, env=environ, stdout=log, stderr=log, start_new_session=True))
        if command[0] == munged:
            wait_until((directory / "munge.socket").exists, "munge")
    try:
        wait_until(lambda: "idle" in ask("sinfo", "--noheader", environment=environment), "Slurm's machine to be idle")
        yield environment
    finally:
        ask("scancel", "--user=root", environment=environment)
        wait_until(lambda: not ask("squeue", "--noheader", environment=environment), "the jobs to end")
        for daemon in reversed(daemons):
            daemon.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(10)
            daemon.kill()
        shutil.rmtree(directory, ignore_errors=True)


def ask(*command: str, environment: dict[str, str]) -> str:
    environ = os.environ | environment
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=120).stdout


def train(path: Path, *overrides: str, **environment: Any) -> Outcome:
    return run_command(ROOT / "train.py", *SWEEP, *overrides, cwd=path, **environment)


def alone(path: Path, *overrides: str) -> list[bytes]:
    """Metrics of the jobs run one after the other on this machine."""
    ended = train(path, "threads=1", "hydra.sweep.dir=alone", *overrides)
    assert ended.code == 0, ended
    return list(metrics(path / "alone").values())


def wait_for_checkpoint(sweep: Path) -> None:
    wait_until(lambda: list(sweep.glob("*/checkpoints/last.ckpt")), "a checkpoint")


def sessions(sweep: Path) -> list[list[str]]:
    """States of each job's sessions."""
    manifests = [job.read_manifest() or {} for job in jobs(sweep).values()]
    return [[session["state"] for session in manifest["sessions"]] for manifest in manifests]


def test_jobs_have_the_same_metrics_as_local_jobs(slurm: dict[str, str], tmp_path: Path) -> None:
    ended = train(tmp_path, *SLURM, **slurm)
    assert ended.code == 0, ended
    assert "2 of 2 runs finished" in ended.out
    assert list(metrics(tmp_path / "sweep").values()) == alone(tmp_path)
    assert {(job.read_manifest() or {})["threads"] for job in jobs(tmp_path / "sweep").values()} == {1}


def test_search_runs_several_trials_at_once(slurm: dict[str, str], tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="needs make setup-extras")
    search = "sweep=search", "model=cnn", "hydra.sweeper.n_trials=4", "hydra.sweeper.n_jobs=2", "seed=1"
    ended = train(tmp_path, *SLURM, *search, "trainer.max_epochs=2", **slurm)
    assert ended.code == 0, ended
    assert len(sessions(tmp_path / "sweep")) == 4


def test_requeued_job_resumes(slurm: dict[str, str], start: Start, tmp_path: Path) -> None:
    process = start(*SWEEP, *LONG, *SLURM, **slurm)
    wait_for_checkpoint(tmp_path / "sweep")
    ask("scancel", "--signal=USR2", "--user=root", environment=slurm)  # submitit's warning before the time limit
    told = process.communicate(timeout=240)
    assert process.returncode == 0, told
    assert [len(states) for states in sessions(tmp_path / "sweep")] == [2]
    assert list(metrics(tmp_path / "sweep").values()) == alone(tmp_path, *LONG)


@pytest.mark.parametrize("processes", [[], TWO_PROCESSES], ids=["one process", "two processes"])
def test_job_ignores_sigterm(processes: list[str], slurm: dict[str, str], start: Start, tmp_path: Path) -> None:
    process = start(*SWEEP, *LONG, *SLURM, *processes, **slurm)
    wait_for_checkpoint(tmp_path / "sweep")
    ask("scancel", "--signal=TERM", "--user=root", environment=slurm)  # as before it takes the machine away
    told = process.communicate(timeout=240)
    assert process.returncode == 0, told
    assert sessions(tmp_path / "sweep") == [["finished"]]


def test_interrupted_sweep_is_finished_by_the_same_command(slurm: dict[str, str], start: Start, tmp_path: Path) -> None:
    process = start(*SWEEP, *LONG, *SLURM, **slurm)
    wait_for_checkpoint(tmp_path / "sweep")
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    ask("scancel", "--user=root", environment=slurm)
    wait_until(lambda: not ask("squeue", "--noheader", environment=slurm), "the jobs to end")
    ended = train(tmp_path, *LONG, *SLURM, **slurm)
    assert ended.code == 0, ended
    assert list(metrics(tmp_path / "sweep").values()) == alone(tmp_path, *LONG)


def test_failed_job_of_two_processes_is_reported_and_the_others_finish(slurm: dict[str, str], tmp_path: Path) -> None:
    failing = ["optimizer=sgd", "optimizer.lr=0.01,1e30", "seed=1"]
    ended = train(tmp_path, *SLURM, *TWO_PROCESSES, *failing, **slurm)
    assert ended.code == 1, ended
    assert "1 of 2 runs finished" in ended.out
    assert "the loss is" in ended.out
    assert "Traceback" not in ended.out + ended.err


def test_srun_starts_the_processes_of_a_run(slurm: dict[str, str], tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "train.py"), *TINY, *TWO_PROCESSES[:3]]
    for name, before in (("alone", []), ("srun", ["srun", "--ntasks=2"])):
        ask(*before, *command, f"hydra.run.dir={tmp_path / name}", environment=slurm)
    assert (tmp_path / "srun/metrics.json").read_bytes() == (tmp_path / "alone/metrics.json").read_bytes()


def test_missing_slurm_is_reported_in_one_line(tmp_path: Path) -> None:
    assert "Slurm is not available" in one_line(train(tmp_path, *SLURM, PATH="/nowhere", SLURM_CONF="/nowhere"))
