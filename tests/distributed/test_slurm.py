"""Sweeps and runs on a real Slurm: its controller and its daemon, on this machine."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import fork_server
from tests.conftest import ROOT, Outcome, free_port, one_line, run_command, wait_until
from tests.sweeps.test_sweep import jobs, metrics, wait_for_checkpoints

pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="needs make setup-extras")
pytestmark = [pytest.mark.real_data, pytest.mark.slow]

Start = Callable[..., fork_server.Popen]
SWEEP = ["-m", "experiment=smoke", "dashboard=none", "seed=1,2", "hydra.sweep.dir=sweep"]
SLURM = ["hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=1"]

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
    programs = [
        shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") for name in ("munged", "slurmctld", "slurmd")
    ]
    if None in programs or os.geteuid():
        pytest.skip("needs Debian's packages slurm-wlm and munge, and root")
    munged, slurmctld, slurmd = map(str, programs)
    directory = Path(tempfile.mkdtemp(prefix="slurm", dir="/tmp"))  # the path of a socket must be short
    directory.chmod(0o755)
    (directory / "state").mkdir()
    (directory / "spool").mkdir()
    (directory / "munge.key").write_bytes(os.urandom(128))
    (directory / "munge.key").chmod(0o400)
    configuration = directory / "slurm.conf"
    configuration.write_text(
        CONFIGURATION.format(
            host=socket.gethostname().partition(".")[0],
            directory=directory,
            controller_port=free_port(),
            daemon_port=free_port(),
            cores=os.cpu_count(),
        )
    )
    environment = {"SLURM_CONF": str(configuration)}
    munge = [f"--{name}={directory}/munge.{name.partition('-')[0]}" for name in ("key-file", "pid-file", "seed-file")]
    munge += [f"--socket={directory}/munge.socket", f"--log-file={directory}/munge.log", "--foreground", "--force"]
    daemons = []
    for command in ([munged, *munge], [slurmctld, "-D"], [slurmd, "-D"]):
        with (directory / f"{Path(command[0]).name}.log").open("wb") as log:
            daemons.append(
                subprocess.Popen(command, env=os.environ | environment, stdout=log, stderr=log, start_new_session=True)
            )
        time.sleep(1)
    try:
        wait_until(lambda: "idle" in ask("sinfo", "--noheader", environment=environment), "Slurm's machine to be idle")
        yield environment
    finally:
        ask("scancel", "--user=root", environment=environment)
        time.sleep(1)
        for daemon in reversed(daemons):
            daemon.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(10)
            daemon.kill()
        shutil.rmtree(directory, ignore_errors=True)


def ask(*command: str, environment: dict[str, str]) -> str:
    return subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=False, timeout=60
    ).stdout


def found(sweep: Path) -> list[bytes]:
    return list(metrics(sweep).values())


def alone(path: Path, *overrides: str) -> list[bytes]:
    ended = run_command(ROOT / "train.py", *SWEEP, "threads=1", "hydra.sweep.dir=alone", *overrides, cwd=path)
    assert ended.code == 0, ended
    return found(path / "alone")


def test_jobs_have_the_same_metrics_as_local_jobs(slurm: dict[str, str], tmp_path: Path) -> None:
    ended = run_command(ROOT / "train.py", *SWEEP, *SLURM, cwd=tmp_path, timeout=300, cold=False, **slurm)
    assert ended.code == 0, ended
    assert "2 of 2 runs finished" in ended.out
    assert found(tmp_path / "sweep") == alone(tmp_path)
    assert {(job.read_manifest() or {})["threads"] for job in jobs(tmp_path / "sweep").values()} == {1}


def test_requeued_job_resumes(slurm: dict[str, str], start: Start, tmp_path: Path) -> None:
    command = [*SWEEP, "seed=1", "trainer.max_epochs=30"]
    process = start(*command, *SLURM, **slurm)
    wait_for_checkpoints(tmp_path / "sweep", 1)
    ask("scancel", "--signal=USR2", "--user=root", environment=slurm)  # submitit's warning before the time limit
    told = process.communicate(timeout=240)
    assert process.returncode == 0, told
    (job,) = jobs(tmp_path / "sweep").values()
    assert len((job.read_manifest() or {})["sessions"]) == 2
    assert found(tmp_path / "sweep") == alone(tmp_path, *command[-2:])


@pytest.mark.parametrize(
    "processes",
    [[], ["trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu", "hydra.launcher.cpus_per_task=2"]],
    ids=["one process", "two processes"],
)
def test_job_ignores_sigterm(processes: list[str], slurm: dict[str, str], start: Start, tmp_path: Path) -> None:
    process = start(*SWEEP, "seed=1", "trainer.max_epochs=30", *SLURM, *processes, **slurm)
    wait_for_checkpoints(tmp_path / "sweep", 1)
    ask("scancel", "--signal=TERM", "--user=root", environment=slurm)  # as before it takes the machine away
    told = process.communicate(timeout=240)
    assert process.returncode == 0, told
    (job,) = jobs(tmp_path / "sweep").values()
    assert [session["state"] for session in (job.read_manifest() or {})["sessions"]] == ["finished"]


def test_interrupted_sweep_is_finished_by_the_same_command(slurm: dict[str, str], start: Start, tmp_path: Path) -> None:
    command = [*SWEEP, *SLURM, "trainer.max_epochs=30"]
    process = start(*command, **slurm)
    wait_for_checkpoints(tmp_path / "sweep", 1)
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    ask("scancel", "--user=root", environment=slurm)
    wait_until(lambda: not ask("squeue", "--noheader", environment=slurm), "the jobs to end")
    ended = run_command(ROOT / "train.py", *command, cwd=tmp_path, timeout=300, cold=False, **slurm)
    assert ended.code == 0, ended
    assert found(tmp_path / "sweep") == alone(tmp_path, "trainer.max_epochs=30")


def test_failed_job_of_two_processes_is_reported_and_the_others_finish(slurm: dict[str, str], tmp_path: Path) -> None:
    several = ["trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu", "hydra.launcher.cpus_per_task=2"]
    failing = ["optimizer=sgd", "optimizer.lr=0.01,1e30", "seed=1"]
    ended = run_command(
        ROOT / "train.py", *SWEEP, *SLURM, *several, *failing, cwd=tmp_path, timeout=300, cold=False, **slurm
    )
    assert ended.code == 1, ended
    assert "1 of 2 runs finished" in ended.out
    assert "the loss is" in ended.out
    assert "Traceback" not in ended.out + ended.err


def test_srun_starts_the_processes_of_a_run(slurm: dict[str, str], tmp_path: Path) -> None:
    recipe = ["experiment=smoke", "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "dashboard=none"]

    def train(name: str, *before: str) -> Outcome:
        command = [*before, sys.executable, str(ROOT / "train.py"), *recipe, "threads=1"]
        ended = subprocess.run(
            [*command, f"hydra.run.dir={tmp_path / name}"],
            env=os.environ | slurm,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
        return Outcome(ended.returncode, ended.stdout, ended.stderr)

    assert train("alone").code == 0
    ended = train("srun", "srun", "--ntasks=2")
    assert ended.code == 0, ended
    assert (tmp_path / "srun/metrics.json").read_bytes() == (tmp_path / "alone/metrics.json").read_bytes()


def test_missing_slurm_is_reported_in_one_line(tmp_path: Path) -> None:
    ended = run_command(ROOT / "train.py", *SWEEP, *SLURM, cwd=tmp_path, PATH="/nowhere", SLURM_CONF="/nowhere")
    assert "Slurm is not available" in one_line(ended)
