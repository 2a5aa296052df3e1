"""Sweeps on a real Ray cluster of two nodes, each with one processor core, on this machine."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fmnist.sweeps import sweep_directory
from tests import fork_server
from tests.helpers import ROOT, TINY, Outcome, Start, children, free_port, run_command, wait_until
from tests.sweeps.test_sweep import jobs, metrics

pytest.importorskip("hydra_plugins.hydra_ray_launcher", reason="needs make setup-extras")
pytestmark = [pytest.mark.real_data, pytest.mark.slow]

RAY = str(Path(sys.executable).with_name("ray"))
SWEEP = ["-m", *TINY, "trainer.max_epochs=40", "seed=1,2,3,4", "hydra.sweep.dir=sweep"]


def output_of(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def descendants(pid: int) -> list[int]:
    found = children(pid)
    return [*found, *(process for child in found for process in descendants(child))]


class Cluster:
    """Ray nodes on this machine, each a group of processes, and a sweep on them."""

    path: Path  # where the sweep is started
    start: Start

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        here = "+hydra.launcher.ray.init._node_ip_address=127.0.0.1"  # the command is on the first node's machine
        self.command = [*SWEEP, "hydra/launcher=ray", f"hydra.launcher.ray.init.address=127.0.0.1:{self.port}", here]
        self.nodes: list[subprocess.Popen[bytes]] = []

    def start_node(self, *prefix: str) -> None:
        """Starts one more node, by a command that may have a prefix, and waits for it."""
        address = f"--address=127.0.0.1:{self.port}"
        head = f"--head --port={self.port} --include-dashboard=false --temp-dir={self.directory}"
        command = f"{RAY} start --block --num-cpus=1 --disable-usage-stats --object-store-memory=100000000"
        command += f" --node-ip-address=127.0.0.{1 + len(self.nodes)} {address if self.nodes else head}"
        node = subprocess.Popen(
            [*prefix, *command.split()],
            cwd=self.directory,  # not where the sweep is started
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.nodes.append(node)
        wait_until(lambda: output_of(RAY, "status", address).count("1 node_") == len(self.nodes), "another node")

    def kill_node(self) -> None:
        """Kills the newest node, as a power cut would."""
        node = self.nodes.pop()
        for process in [*descendants(node.pid), node.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        node.wait()

    @property
    def sweep(self) -> Path:
        return self.path / "sweep"

    def start_sweep(self, *overrides: str) -> fork_server.Popen:
        """Starts the sweep and waits until both nodes train."""
        process = self.start(*self.command, *overrides)
        wait_until(lambda: len(list(self.sweep.glob("*/checkpoints/last.ckpt"))) >= 2, "two checkpoints")
        return process

    def run_sweep(self, *overrides: str) -> Outcome:
        return run_command(ROOT / "train.py", *self.command, *overrides, cwd=self.path)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Cluster]:
    directory = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # the path of a socket must be short
    cluster = Cluster(directory)
    try:
        yield cluster
    finally:
        while cluster.nodes:
            cluster.kill_node()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def cluster(nodes: Cluster, start: Start, tmp_path: Path) -> Cluster:
    """Two nodes; those that the test before has killed start again."""
    nodes.path, nodes.start = tmp_path, start
    while len(nodes.nodes) < 2:
        nodes.start_node()
    return nodes


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Metrics of the jobs run one after the other."""
    path = tmp_path_factory.mktemp("alone")
    assert run_command(ROOT / "train.py", *SWEEP, cwd=path).code == 0
    return metrics(path / "sweep")


def test_jobs_on_two_nodes_have_the_same_metrics_as_local_jobs(cluster: Cluster, alone: dict[str, bytes]) -> None:
    ended = cluster.run_sweep()
    assert ended.code == 0, ended
    assert metrics(cluster.sweep) == alone
    assert "4 of 4 runs finished" in ended.out
    assert [len((job.read_manifest() or {})["sessions"]) for job in jobs(cluster.sweep).values()] == [1] * 4


def test_search_runs_a_trial_on_each_node(cluster: Cluster) -> None:
    pytest.importorskip("optuna", reason="needs make setup-extras")
    search = "sweep=search", "model=cnn", "hydra.sweeper.n_trials=4", "hydra.sweeper.n_jobs=2"
    seedless = [override for override in cluster.command if override not in ("-m", "seed=1,2,3,4")]
    ended = run_command(ROOT / "train.py", *seedless, *search, "trainer.max_epochs=2", cwd=cluster.path)
    assert ended.code == 0, ended
    done = [job for job in sweep_directory.read(cluster.sweep).jobs if job.state in ("finished", "pruned")]
    assert len(done) == 4


def test_job_of_a_dead_node_continues_on_another(cluster: Cluster, alone: dict[str, bytes]) -> None:
    process = cluster.start_sweep()
    cluster.kill_node()
    told = process.communicate(timeout=300)
    assert process.returncode == 0, told
    assert metrics(cluster.sweep) == alone


def test_sweep_that_lost_a_node_says_so_and_resumes(cluster: Cluster, alone: dict[str, bytes]) -> None:
    no_retries = "+hydra.launcher.ray.remote.max_retries=0"
    process = cluster.start_sweep(no_retries)
    cluster.kill_node()
    out, err = process.communicate(timeout=300)
    assert process.returncode == 1, (out, err)
    assert "Traceback" not in err
    assert "error: Ray lost a job" in err
    assert "to resume            python train.py -m experiment=smoke" in out
    assert {"interrupted", "killed"} & {job.state for job in sweep_directory.read(cluster.sweep).jobs}
    ended = cluster.run_sweep(no_retries)
    assert ended.code == 0, ended
    assert metrics(cluster.sweep) == alone


def test_jobs_end_with_the_sweep_and_resume_with_it(cluster: Cluster, alone: dict[str, bytes]) -> None:
    process = cluster.start_sweep()
    process.kill()
    process.communicate(timeout=60)
    wait_until(lambda: not any(job.running for job in jobs(cluster.sweep).values()), "the jobs to end")
    ended = cluster.run_sweep()
    assert ended.code == 0, ended
    assert metrics(cluster.sweep) == alone


def test_failed_job_and_machine_without_the_project_are_reported(cluster: Cluster) -> None:
    ended = cluster.run_sweep("optimizer=sgd", "optimizer.lr=0.01,1e30", "seed=1", "trainer.max_epochs=1")
    assert ended.code == 1, ended
    assert "1 of 2 runs finished" in ended.out
    assert "the loss is" in ended.out
    assert "Traceback" not in ended.out + ended.err

    if subprocess.run(["unshare", "--mount", "true"], stderr=subprocess.DEVNULL, check=False).returncode:
        pytest.skip("needs the permission to mount")
    hide = f"mount -t tmpfs none '{ROOT / 'fmnist'}' && exec \"$@\""
    cluster.start_node("unshare", "--mount", "sh", "-c", hide, "sh")
    ended = cluster.run_sweep("+hydra.launcher.ray.remote.max_retries=0", "hydra.sweep.dir=other")
    assert ended.code == 1, ended
    assert "No module named 'fmnist" in ended.out + ended.err
    assert "the machine does not see the project's directory" in ended.err
    assert "to resume            python train.py -m experiment=smoke" in ended.out
