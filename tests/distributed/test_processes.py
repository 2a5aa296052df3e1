"""One run in several processes: same metrics as one process, one directory, and a clear end if a process dies."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig

from fmnist import build
from fmnist.config.errors import UserError
from fmnist.distributed import process_info, workers
from fmnist.distributed.cluster_environment import RunEnvironment
from fmnist.distributed.process_info import ProcessInfo
from fmnist.inference import trained
from fmnist.runs import checkpoint_io
from fmnist.runs.run_directory import RunDirectory
from tests import fork_server
from tests.conftest import ROOT, Outcome, free_port, one_line, run_command
from tests.torture import different, outcome

Composed = Callable[..., DictConfig]
TWO = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "threads=1", "dashboard=none"]
SHORT = ["experiment=smoke", *TWO]


def test_rank_is_read_from_the_launchers_variables() -> None:
    assert ProcessInfo.from_environment({}) == ProcessInfo()
    torchrun = {
        "RANK": "5",
        "WORLD_SIZE": "8",
        "LOCAL_RANK": "1",
        "GROUP_RANK": "2",
        "MASTER_ADDR": "node0",
        "MASTER_PORT": "29500",
        "TORCHELASTIC_RUN_ID": "none",
    }
    assert ProcessInfo.from_environment(torchrun) == ProcessInfo(5, 8, 1, 2, "node0", 29500, "torchrun")
    slurm = {
        "SLURM_JOB_ID": "12",
        "SLURM_STEP_ID": "3",
        "SLURM_STEP_NUM_TASKS": "4",
        "SLURM_PROCID": "3",
        "SLURM_LOCALID": "1",
        "SLURM_NODEID": "1",
        "SLURM_STEP_NODELIST": "gpu[07-08]",
    }
    assert ProcessInfo.from_environment(slurm) == ProcessInfo(3, 4, 1, 1, "gpu07", 15195, "srun")
    # A container with a single process.
    assert ProcessInfo.from_environment({"RANK": "0", "WORLD_SIZE": "1"}) == ProcessInfo()
    # The script of an sbatch: one process, which starts its own workers.
    assert ProcessInfo.from_environment({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}) == ProcessInfo()


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("node3", "node3"), ("node[3-5,7],other", "node3"), ("a,b", "a"), ("rack1-[01,04]", "rack1-01")],
)
def test_rank_0_is_on_slurms_first_host(nodes: str, first: str) -> None:
    assert process_info._first_host(nodes) == first


@pytest.mark.parametrize(
    "environ",
    [{"RANK": "0", "WORLD_SIZE": "2"}, {"RANK": "x", "WORLD_SIZE": "2"}, {"RANK": "0", "WORLD_SIZE": "two"}],
)
def test_invalid_launcher_variables_are_rejected(environ: dict[str, str]) -> None:
    with pytest.raises(UserError, match="environment variable"):
        ProcessInfo.from_environment(environ)


def test_lightning_reads_rank_and_world_size() -> None:
    process = ProcessInfo(rank=3, world_size=4, local_rank=1, node_rank=1, address="node0", port=7, launcher="srun")
    environment = RunEnvironment(process)
    assert (environment.global_rank(), environment.world_size(), environment.local_rank(), environment.node_rank()) == (
        3,
        4,
        1,
        1,
    )
    assert (environment.main_address, environment.main_port, environment.creates_processes_externally) == (
        "node0",
        7,
        True,
    )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.batch_size=101"], r"data\.batch_size=101 must be a multiple of 2, the number of processes"),
        (["data.batch_size=4", "ensemble=3"], r"ensemble=3 must not exceed the 2 images of a batch"),
        (["data.val_size=1"], r"data\.val_size=1 must be 0, or at least 1 for each of 2 processes"),
        (["trainer.devices=1000"], r"trainer\.devices=1000 is more than the \d+ cores that this run may use"),
        (["trainer.sync_batchnorm=true"], r"trainer\.sync_batchnorm=true"),
        (["trainer.num_nodes=2"], r"trainer\.num_nodes=2: to train on several machines, .* torchrun or srun"),
        (["trainer.strategy=ddp_spawn"], r"trainer\.strategy=ddp_spawn: several processes need ddp"),
        (["trainer.strategy=fsdp"], r"trainer"),
        (["trainer.limit_val_batches=0.5"], r"trainer\.limit_val_batches=0\.5: with 2 processes, give a whole number"),
    ],
)
def test_options_that_do_not_fit_several_processes_are_rejected(
    overrides: list[str], message: str, composed: Composed, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message) as error:
        build.check(composed(*TWO, *overrides), RunDirectory(tmp_path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("allowed", "cores"), [({0}, "2"), ({0, 1}, "1")], ids=["affinity", "Slurm"])
def test_more_processes_than_cores_are_rejected(
    allowed: set[int], cores: str, composed: Composed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: allowed, raising=False)
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", cores)
    with pytest.raises(UserError, match=r"trainer\.devices=2 is more than the 1 cores that this run may use"):
        build.check(composed(*TWO), RunDirectory(tmp_path))
    process = ProcessInfo(rank=0, world_size=2, port=1, launcher="srun")  # srun gives each process its own cores
    build.trainer(composed(*TWO), RunDirectory(tmp_path), process)


def test_launcher_and_configuration_must_agree(composed: Composed, tmp_path: Path) -> None:
    process = ProcessInfo(rank=0, world_size=4, port=1, launcher="torchrun")
    with pytest.raises(UserError, match=r"torchrun started 4 processes, but trainer\.devices=2 .* asks for 2"):
        build.trainer(composed(*TWO), RunDirectory(tmp_path), process)


def test_sweep_under_a_launcher_is_rejected() -> None:
    refused = run_command(
        ROOT / "train.py", "-m", "seed=0,1", *SHORT, RANK="0", WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT="1"
    )
    assert "started several processes, and each would start the sweep" in one_line(refused)


@pytest.mark.parametrize(("name", "word"), [("torch", "has torch"), ("commit", "has commit"), (None, "cannot find")])
def test_worker_with_other_versions_or_files_is_rejected(
    name: str | None, word: str, composed: Composed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDirectory(tmp_path / "run")
    if name:
        run.hydra.mkdir(parents=True)
    trainer = build.trainer(composed(*TWO), run)
    code = (
        "from fmnist.cli import program, worker\n"
        "from fmnist.runs import provenance\n"
        f"versions = provenance.versions_to_match() | { ({name: 'another'} if name else {})!r}\n"
        "provenance.versions_to_match = lambda: versions\n"
        "with program.report_user_errors():\n"
        "    worker.main()\n"
    )
    popen = subprocess.Popen
    worker_command = [sys.executable, "-P", "-m", "fmnist.cli.worker"]

    def start(command: list[str], **rest: Any) -> Any:
        return popen([sys.executable, "-c", code] if command == worker_command else command, **rest)

    monkeypatch.setattr(subprocess, "Popen", start)
    refusal = pytest.raises(UserError, match=f"rank 1 of 2 {word}")
    with refusal, workers.launch_workers(run, composed(*TWO), trainer):
        pytest.fail("training would have started")


def test_worker_without_rank_0_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "TIMEOUT", timedelta(seconds=1))
    with socket.socket() as probe:  # bound, but not answering
        probe.bind(("127.0.0.1", 0))
        process = ProcessInfo(rank=1, world_size=2, port=probe.getsockname()[1], launcher="torchrun")
        silence = pytest.raises(UserError, match=r"rank 1 of 2: rank 0 at 127\.0\.0\.1:\d+ does not answer")
        with silence, workers.join_rank_zero(process):
            pytest.fail("there is no rank 0")


def train(path: Path, *overrides: str, timeout: float = 300) -> Outcome:
    ended = run_command(ROOT / "train.py", *overrides, f"hydra.run.dir={path}", timeout=timeout)
    assert (ended.code, ended.err) == (0, ""), ended
    return ended


@pytest.fixture(scope="module")
def by_two(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDirectory, Outcome]:
    """A run in two processes, on sets that do not divide by two."""
    path = tmp_path_factory.mktemp("ddp") / "run"
    all_of_it = ["trainer.limit_val_batches=null", "trainer.limit_test_batches=null", "data.val_size=501"]
    panels = ["dashboard=default", "trainer.limit_train_batches=20", "data.eval_batch_size=130"]
    ended = train(path, *SHORT, *all_of_it, *panels)
    return RunDirectory(path), ended


@pytest.mark.real_data
def test_evaluation_with_two_processes_matches_one_process(by_two: tuple[RunDirectory, Outcome]) -> None:
    run, ended = by_two
    assert "each epoch leaves out 1 images" in ended.out
    theirs = run.read_metrics()
    for split in ("val", "test"):
        evaluated = run_command("-m", "fmnist.evaluate", f"run={run.path}", f"split={split}")
        assert evaluated.code == 0, evaluated
        one = outcome_of_evaluation(run, split)
        assert one[f"{split}/acc"] == theirs[f"{split}/acc"]
        assert one[f"{split}/loss"] == pytest.approx(theirs[f"{split}/loss"], abs=1e-6)


@pytest.mark.real_data
def test_logits_of_two_processes_are_gathered_in_order(
    by_two: tuple[RunDirectory, Outcome],
) -> None:
    """The dashboard computes all its figures from them."""
    run, _ = by_two
    logits = checkpoint_io.read(run.last_checkpoint)["last_validation"]["logits"]
    classifier = trained.load_classifier(run, "last")
    images, indices = trained.data(run.read_configuration(), "val").part("val")
    with torch.no_grad():
        expected = classifier(images.images[indices])
    assert len(logits) == 501
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.real_data
def test_ensemble_trains_in_two_processes_on_a_small_last_batch(tmp_path: Path) -> None:
    # Each process gets one image of the last batch, for three networks.
    batches = ["data.val_size=4998", "data.batch_size=5000", "trainer.limit_train_batches=null"]
    train(tmp_path / "run", *SHORT, "ensemble=3", *batches, "test=false")


@pytest.mark.real_data
def test_error_in_the_network_is_not_reported_as_a_dead_process(tmp_path: Path) -> None:
    # Batch normalisation of a single pixel of a single image.
    recipe = ["model=residual", "model.widths=[8,8,8,8]", "data.batch_size=2", f"hydra.run.dir={tmp_path / 'run'}"]
    ended = run_command(ROOT / "train.py", *SHORT, *recipe)
    assert ended.code == 1
    assert "Expected more than 1 value per channel" in ended.err
    assert "rank 1 of 2" not in ended.err


@pytest.mark.real_data
def test_evaluation_of_a_part_with_two_processes_matches_one_process(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    train(run.path, *SHORT, "trainer.limit_val_batches=3", "data.eval_batch_size=101", "trainer.max_epochs=1")
    theirs = run.read_metrics()
    for split in ("val", "test"):
        assert run_command("-m", "fmnist.evaluate", f"run={run.path}", f"split={split}").code == 0
        one = outcome_of_evaluation(run, split)
        assert one[f"{split}/acc"] == theirs[f"{split}/acc"]
        assert one[f"{split}/loss"] == pytest.approx(theirs[f"{split}/loss"], abs=1e-6)


def outcome_of_evaluation(run: RunDirectory, split: str) -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads((run.evaluation("best", split) / "metrics.json").read_text())
    return metrics


@pytest.mark.real_data
def test_two_processes_write_the_files_of_one(by_two: tuple[RunDirectory, Outcome], tmp_path: Path) -> None:
    run, _ = by_two
    train(tmp_path / "one", "experiment=smoke", "threads=1", "trainer.limit_train_batches=20")  # as many steps

    def names(path: Path) -> list[str]:
        files = (file.relative_to(path) for file in path.rglob("*") if file.is_file())
        return sorted(re.sub(r"tfevents.*", "tfevents", str(file)) for file in files if file.parts[0] != "evaluation")

    assert names(run.path) == names(tmp_path / "one")
    manifest = run.read_manifest()
    assert manifest is not None
    assert [session["state"] for session in manifest["sessions"]] == ["finished"]


@pytest.mark.real_data
def test_two_processes_take_the_same_steps_as_one(tmp_path: Path) -> None:
    recipe = ["optimizer=sgd", "optimizer.lr=0.05", "augmentation=flip_shift", "trainer.limit_train_batches=5"]
    common = ["experiment=smoke", "dashboard=none", "threads=1", "test=false", "trainer.max_epochs=1", *recipe]
    train(tmp_path / "one", *common)
    train(tmp_path / "two", *common, *TWO)
    one, two = (checkpoint_io.read(tmp_path / name / "checkpoints/last.ckpt") for name in ("one", "two"))
    assert one["state_dict"].keys() == two["state_dict"].keys()
    for name, weight in one["state_dict"].items():
        torch.testing.assert_close(two["state_dict"][name], weight, rtol=1e-4, atol=1e-6)
    assert two["metrics"]["train/loss"] == pytest.approx(one["metrics"]["train/loss"], abs=1e-5)


@pytest.mark.real_data
def test_resumed_run_in_two_processes_equals_uninterrupted_run(tmp_path: Path) -> None:
    recipe = [*SHORT, "model=residual", "callbacks=ema", "augmentation=flip_shift", "trainer.limit_train_batches=3"]
    train(tmp_path / "whole", *recipe)
    train(tmp_path / "parts", *recipe, "trainer.max_epochs=1")
    resumed = run_command(ROOT / "train.py", f"resume={tmp_path / 'parts'}", "trainer.max_epochs=2")
    assert (resumed.code, resumed.err) == (0, ""), resumed
    assert not different(outcome(RunDirectory(tmp_path / "whole")), outcome(RunDirectory(tmp_path / "parts")))


@pytest.mark.real_data
def test_each_job_of_a_sweep_starts_its_own_processes(tmp_path: Path) -> None:
    jobs = ["trainer.devices=1,2", "trainer.max_epochs=1", f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    ended = run_command(ROOT / "train.py", "-m", *(word for word in SHORT if word != "trainer.devices=2"), *jobs)
    assert ended.code == 0, ended
    assert len(list((tmp_path / "sweep").glob("*/metrics.json"))) == 2


def workers_of(pid: int) -> list[int]:
    """Process ids of the workers that rank 0 started."""
    found = subprocess.run(
        ["pgrep", "-P", str(pid), "-f", "fmnist.cli.worker"], capture_output=True, text=True, check=False
    )
    return [int(line) for line in found.stdout.split()]


def wait_for(true: Callable[[], object], seconds: float = 60) -> Any:
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
    return found


LONG = [*TWO, "trainer.max_epochs=1000", "trainer.limit_train_batches=20", "trainer.limit_val_batches=1", "test=false"]


@pytest.mark.real_data
@pytest.mark.parametrize("victim", ["worker", "rank 0", "Ctrl-C"])
def test_all_processes_end_if_one_dies(victim: str, start: Callable[..., fork_server.Popen], tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    process = start(*LONG, f"hydra.run.dir={run.path}")
    wait_for(run.last_checkpoint.is_file)
    (worker,) = workers_of(process.pid)
    if victim == "worker":
        os.kill(worker, signal.SIGKILL)
    else:
        process.send_signal(signal.SIGKILL if victim == "rank 0" else signal.SIGINT)
    _, err = process.communicate(timeout=60)
    wait_for(lambda: not Path(f"/proc/{worker}").exists(), seconds=20)
    if victim == "worker":
        assert err.splitlines()[-1].startswith("error: rank 1 of 2 ended with exit code -9; to resume: "), err
        assert "Traceback" not in err
    assert process.returncode == {"worker": 1, "rank 0": -signal.SIGKILL, "Ctrl-C": 130}[victim], err
    assert not run.finished
    assert not run.running


@pytest.mark.real_data
def test_infinite_loss_in_two_processes_ends_the_run_in_one_line(tmp_path: Path) -> None:
    ended = run_command(
        ROOT / "train.py", *SHORT, "optimizer=sgd", "optimizer.lr=1e30", f"hydra.run.dir={tmp_path / 'run'}"
    )
    assert "the loss is" in one_line(ended)


@pytest.mark.real_data
def test_torchrun_gives_the_same_run(tmp_path: Path) -> None:
    recipe = [*SHORT, "trainer.limit_train_batches=10"]
    train(tmp_path / "alone", *recipe)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(ROOT / "train.py")]
    ended = run_command(*torchrun, *recipe, f"hydra.run.dir={tmp_path / 'torchrun'}", OMP_NUM_THREADS="1")
    assert ended.code == 0, ended
    assert not different(outcome(RunDirectory(tmp_path / "alone")), outcome(RunDirectory(tmp_path / "torchrun")))
    assert ended.out.count("epoch 1/2") == 1
    assert ended.out.count("test accuracy") == 1

    finished = run_command(*torchrun, f"resume={tmp_path / 'torchrun'}")
    assert finished.code == 0, finished
    assert finished.out.count("is finished, after 2 epochs, and stays unchanged") == 1
    refused = run_command(*torchrun, *recipe, f"hydra.run.dir={tmp_path / 'torchrun'}")
    assert refused.code == 1
    assert refused.err.count("already holds a finished run") == 1
    assert "does not answer" not in finished.err + refused.err


def test_port_in_use_is_reported_in_one_line(composed: Composed, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        process = ProcessInfo(rank=0, world_size=2, port=other.getsockname()[1], launcher="srun")
        run = RunDirectory(tmp_path)
        trainer = build.trainer(composed(*TWO), run, process)
        taken = pytest.raises(UserError, match=r"rank 0 cannot listen at .*:\d+; .* set MASTER_PORT to another")
        with taken, workers.launch_workers(run, composed(*TWO), trainer):
            pytest.fail("training would have started")


@pytest.mark.real_data
def test_dead_process_of_a_launcher_ends_the_run_in_one_line(
    start: Callable[..., fork_server.Popen], tmp_path: Path
) -> None:
    run = RunDirectory(tmp_path / "run")
    port = str(free_port())
    both = [
        start(*LONG, f"hydra.run.dir={run.path}", RANK=rank, WORLD_SIZE="2", LOCAL_RANK=rank, MASTER_PORT=port)
        for rank in "01"
    ]
    wait_for(run.last_checkpoint.is_file)
    both[1].kill()
    _, err = both[0].communicate(timeout=60)
    assert both[0].returncode == 1
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("error: another of the 2 processes has ended; to resume: python train.py"), (
        err
    )
    both[1].communicate()
