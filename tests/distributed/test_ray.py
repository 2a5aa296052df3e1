"""Sweeps on a real Ray cluster of two nodes, each with one processor core, on this machine."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fmnist.sweeps import sweep_directory
from tests import fork_server
from tests.conftest import ROOT, Outcome, free_port, one_line, run_command, wait_until
from tests.sweeps.test_sweep import jobs, metrics, wait_for_checkpoints

pytest.importorskip("hydra_plugins.hydra_ray_launcher", reason="needs make setup-extras")
pytestmark = [pytest.mark.real_data, pytest.mark.slow]

RAY = str(Path(sys.executable).with_name("ray"))
Start = Callable[..., fork_server.Popen]
SWEEP = ["-m", "experiment=smoke", "dashboard=none", "threads=1", "seed=1,2,3,4", "hydra.sweep.dir=sweep"]


class Cluster:
    """Ray nodes on this machine, each a group of processes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.address = f"127.0.0.1:{free_port()}"
        self.nodes: list[subprocess.Popen[bytes]] = []

    @property
    def options(self) -> tuple[str, ...]:
        here = "+hydra.launcher.ray.init._node_ip_address=127.0.0.1"  # the command is on the first node's machine
        return "hydra/launcher=ray", f"hydra.launcher.ray.init.address={self.address}", here

    def start_node(self, *, without: Path | None = None) -> None:
        """Starts one more node, on which the directory ``without`` is empty."""
        own = ["--head", f"--port={self.address.partition(':')[2]}", "--include-dashboard=false"]
        other = [f"--address={self.address}"]
        command = [RAY, "start", "--block", "--num-cpus=1", "--disable-usage-stats"]
        if without:
            hide = f"mount -t tmpfs none '{without}' && exec \"$@\""
            command = ["unshare", "--mount", "sh", "-c", hide, "sh", *command]
        if not self.nodes:
            own.append(f"--temp-dir={self.directory}")
        node = subprocess.Popen(
            [
                *command,
                *(other if self.nodes else own),
                "--object-store-memory=100000000",
                f"--node-ip-address=127.0.0.{1 + len(self.nodes)}",
            ],
            cwd=self.directory,  # not where the sweep is started
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.nodes.append(node)

    def size(self) -> int:
        """Number of nodes that Ray knows."""
        command = [RAY, "status", f"--address={self.address}"]
        status = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        return status.count("1 node_")

    def kill_node(self) -> None:
        """Kills the newest node, as a power cut would."""
        node = self.nodes.pop()
        for process in [*descendants(node.pid), node.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        node.wait()


def descendants(pid: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False).stdout.split()
    children = [int(line) for line in found]
    return [*children, *(process for child in children for process in descendants(child))]


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    directory = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # the path of a socket must be short
    cluster = Cluster(directory)
    try:
        cluster.start_node()
        wait_until(lambda: cluster.size() == 1, "the first node")
        cluster.start_node()
        wait_until(lambda: cluster.size() == 2, "the second node")
        yield cluster
    finally:
        while cluster.nodes:
            cluster.kill_node()
        shutil.rmtree(directory, ignore_errors=True)


def train(cluster: Cluster, path: Path, *overrides: str) -> Outcome:
    return run_command(ROOT / "train.py", *SWEEP, *cluster.options, *overrides, cwd=path)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Metrics of the jobs run one after the other."""
    path = tmp_path_factory.mktemp("alone")
    assert run_command(ROOT / "train.py", *SWEEP, "trainer.max_epochs=6", cwd=path).code == 0
    return metrics(path / "sweep")


def test_jobs_on_two_nodes_have_the_same_metrics_as_local_jobs(
    cluster: Cluster, alone: dict[str, bytes], tmp_path: Path
) -> None:
    ended = train(cluster, tmp_path, "trainer.max_epochs=6")
    assert ended.code == 0, ended
    assert metrics(tmp_path / "sweep") == alone
    assert "4 of 4 runs finished" in ended.out
    sessions = [(job.read_manifest() or {})["sessions"] for job in jobs(tmp_path / "sweep").values()]
    assert all(len(each) == 1 for each in sessions)


def test_job_of_a_dead_node_continues_on_another(
    cluster: Cluster, alone: dict[str, bytes], start: Start, tmp_path: Path
) -> None:
    process = start(*SWEEP, *cluster.options, "trainer.max_epochs=6")
    wait_for_checkpoints(tmp_path / "sweep", 2)
    cluster.kill_node()
    told = process.communicate(timeout=300)
    assert process.returncode == 0, told
    assert metrics(tmp_path / "sweep") == alone


def test_sweep_that_lost_a_node_says_so_and_resumes(
    cluster: Cluster, alone: dict[str, bytes], start: Start, tmp_path: Path
) -> None:
    command = [*SWEEP, *cluster.options, "trainer.max_epochs=6", "+hydra.launcher.ray.remote.max_retries=0"]
    process = start(*command)
    wait_for_checkpoints(tmp_path / "sweep", 2)
    cluster.kill_node()
    out, err = process.communicate(timeout=300)
    assert process.returncode == 1, (out, err)
    assert "Traceback" not in err
    assert "error: Ray lost a job" in err
    assert "to resume            python train.py -m experiment=smoke" in out
    states = [job.state for job in sweep_directory.read(tmp_path / "sweep").jobs]
    assert "interrupted" in states or "killed" in states
    ended = run_command(ROOT / "train.py", *command, cwd=tmp_path)
    assert ended.code == 0, ended
    assert metrics(tmp_path / "sweep") == alone


def test_jobs_end_with_the_sweep_and_resume_with_it(
    cluster: Cluster, alone: dict[str, bytes], start: Start, tmp_path: Path
) -> None:
    command = [*SWEEP, *cluster.options, "trainer.max_epochs=6"]
    process = start(*command)
    wait_for_checkpoints(tmp_path / "sweep", 2)
    process.kill()
    process.communicate(timeout=60)
    wait_until(lambda: not any(job.running for job in jobs(tmp_path / "sweep").values()), "the jobs to end")
    ended = run_command(ROOT / "train.py", *command, cwd=tmp_path)
    assert ended.code == 0, ended
    assert metrics(tmp_path / "sweep") == alone


def test_failed_job_is_reported_and_the_others_finish(cluster: Cluster, tmp_path: Path) -> None:
    ended = train(cluster, tmp_path, "optimizer=sgd", "optimizer.lr=0.01,1e30", "seed=1", "trainer.max_epochs=1")
    assert ended.code == 1, ended
    assert "1 of 2 runs finished" in ended.out
    assert "the loss is" in ended.out
    assert "Traceback" not in ended.out + ended.err


def test_machine_without_the_project_is_reported(cluster: Cluster, tmp_path: Path) -> None:
    if subprocess.run(["unshare", "--mount", "true"], stderr=subprocess.DEVNULL, check=False).returncode:
        pytest.skip("needs the permission to mount")
    cluster.start_node(without=ROOT / "fmnist")
    wait_until(lambda: cluster.size() == 3, "the third node")
    ended = train(cluster, tmp_path, "trainer.max_epochs=6", "+hydra.launcher.ray.remote.max_retries=0")
    assert ended.code == 1, ended
    assert "No module named 'fmnist" in ended.out + ended.err
    assert "the machine does not see the project's directory" in ended.err
    assert "to resume            python train.py -m experiment=smoke" in ended.out


def test_unreachable_cluster_is_reported_in_one_line(tmp_path: Path) -> None:
    options = ["hydra/launcher=ray", f"hydra.launcher.ray.init.address=127.0.0.1:{free_port()}"]
    ended = run_command(ROOT / "train.py", *SWEEP, *options, cwd=tmp_path)
    assert "no Ray cluster answers at 127.0.0.1:" in one_line(ended)
    assert not (tmp_path / "sweep").exists()
