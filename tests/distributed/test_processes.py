"""One run in several processes: same metrics as one process, one directory, and a clear end if a process dies."""

import dataclasses
import os
import re
import signal
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from fmnist import build, evaluate
from fmnist.config.errors import UserError
from fmnist.distributed import workers
from fmnist.distributed.process_info import ProcessInfo
from fmnist.inference import trained
from fmnist.runs import checkpoint_file, provenance
from fmnist.runs.run_directory import RunDirectory
from tests import fork_server
from tests.helpers import ROOT, TINY, Outcome, Start, children, free_port, one_line, run_command, wait_until
from tests.torture import different, outcome

Composed = Callable[..., DictConfig]
StartTwo = Callable[..., list[fork_server.Popen]]
Odd = tuple[RunDirectory, Outcome]
TWO = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]


def environ(text: str) -> dict[str, str]:
    """Environment variables of ``NAME=value`` separated by spaces."""
    return dict(pair.split("=") for pair in text.split())


TORCHRUN = environ(
    "RANK=5 WORLD_SIZE=8 LOCAL_RANK=1 GROUP_RANK=2 MASTER_ADDR=node0 MASTER_PORT=29500 TORCHELASTIC_RUN_ID=none"
)
SRUN = environ(
    "SLURM_JOB_ID=12 SLURM_STEP_ID=3 SLURM_STEP_NUM_TASKS=4 SLURM_PROCID=3 SLURM_LOCALID=1 SLURM_NODEID=1 "
    "SLURM_STEP_NODELIST=gpu[07-08]"
)


@pytest.mark.parametrize(
    ("given", "process"),
    [
        ({}, ProcessInfo()),
        (TORCHRUN, ProcessInfo(5, 8, 1, 2, "node0", 29500, "torchrun")),
        (environ("RANK=1 WORLD_SIZE=2 MASTER_PORT=7"), ProcessInfo(1, 2, 0, 0, "127.0.0.1", 7, "the launcher")),
        (SRUN, ProcessInfo(3, 4, 1, 1, "gpu07", 15195, "srun")),
        (SRUN | environ("MASTER_ADDR=x MASTER_PORT=7"), ProcessInfo(3, 4, 1, 1, "x", 7, "srun")),
        (environ("RANK=0 WORLD_SIZE=1"), ProcessInfo()),  # a container with a single process
        (environ("SLURM_NTASKS=4 SLURM_PROCID=0"), ProcessInfo()),  # an sbatch script, which starts its workers
    ],
)
def test_rank_is_read_from_the_launchers_variables(given: dict[str, str], process: ProcessInfo) -> None:
    assert ProcessInfo.from_environment(given) == process


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("node3", "node3"), ("node[3-5,7],other", "node3"), ("a,b", "a"), ("rack1-[01,04]", "rack1-01")],
)
def test_rank_0_is_on_slurms_first_host(nodes: str, first: str) -> None:
    assert ProcessInfo.from_environment(SRUN | {"SLURM_STEP_NODELIST": nodes}).address == first


def test_invalid_launcher_variables_are_rejected() -> None:
    with pytest.raises(UserError, match="the environment variable MASTER_PORT is missing in one of several processes"):
        ProcessInfo.from_environment(environ("RANK=0 WORLD_SIZE=2"))
    with pytest.raises(UserError, match=r"an environment variable of the launcher is not a number: .*'two'"):
        ProcessInfo.from_environment(environ("RANK=0 WORLD_SIZE=two"))


def test_sweep_under_a_launcher_is_rejected(
    train_here: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    assert "torchrun started several processes, and each would start" in one_line(train_here("-m", "seed=0,1", *TWO))


@pytest.mark.parametrize(("name", "problem"), [("torch", r"has torch other, rank 0 has \d"), (None, "cannot find")])
def test_worker_with_other_versions_or_files_is_rejected(
    name: str | None, problem: str, composed: Composed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, config = RunDirectory(tmp_path), composed(*TWO)
    me = ProcessInfo(world_size=2, port=free_port(), launcher="srun")
    versions = provenance.versions_to_match()
    if name:
        run.hydra.mkdir()
    rank_0 = threading.current_thread()

    def versions_here() -> dict[str, str]:
        return versions if threading.current_thread() == rank_0 or not name else versions | {name: "other"}

    def join() -> None:
        with pytest.raises(SystemExit, match="1"), workers.join_rank_zero(dataclasses.replace(me, rank=1)):
            pytest.fail("training would have started")

    monkeypatch.setattr(provenance, "versions_to_match", versions_here)
    with ThreadPoolExecutor(1) as pool:
        worker = pool.submit(join)
        rejected = pytest.raises(UserError, match=f"rank 1 of 2 {problem}")
        with rejected, workers.launch_workers(run, config, build.trainer(config, run, me)):
            pytest.fail("training would have started")
        worker.result()


def test_worker_without_rank_0_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "TIMEOUT", timedelta(seconds=1))
    process = ProcessInfo(rank=1, world_size=2, port=free_port(), launcher="torchrun")
    silence = pytest.raises(UserError, match=r"rank 1 of 2: rank 0 at 127\.0\.0\.1:\d+ does not answer")
    with silence, workers.join_rank_zero(process):
        pytest.fail("there is no rank 0")


def test_rank_0_without_port_or_worker_says_so(
    composed: Composed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, run = composed(*TWO), RunDirectory(tmp_path)
    monkeypatch.setattr(workers, "TIMEOUT", timedelta(seconds=1))
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        process = ProcessInfo(world_size=2, port=other.getsockname()[1], launcher="srun")
        trainer = build.trainer(config, run, process)
        other.listen()
        taken = pytest.raises(UserError, match=r"rank 0 cannot listen at .*:\d+; .* set MASTER_PORT to another")
        with taken, workers.launch_workers(run, config, trainer):
            pytest.fail("training would have started")
    silence = pytest.raises(UserError, match="rank 1 of 2 did not start within 1 s")
    with silence, workers.launch_workers(run, config, trainer):
        pytest.fail("there is no worker")


@pytest.fixture
def start_two(start: Start) -> StartTwo:
    """Starts ``python train.py <overrides>`` as a launcher of two processes does: seconds faster than by rank 0."""

    def call(*overrides: str) -> list[fork_server.Popen]:
        shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        return [start(*overrides, RANK=rank, LOCAL_RANK=rank, **shared) for rank in "01"]

    return call


def by_two(start_two: StartTwo, *overrides: str) -> Outcome:
    """Trains in two processes and returns how rank 0 ended. Rank 1 prints nothing."""
    rank_0, rank_1 = start_two(*overrides)
    out, err = rank_0.communicate(timeout=120)
    assert rank_1.communicate(timeout=60) == ("", "")
    return Outcome(rank_0.returncode, out, err)


# On sets that do not divide by two; all of the validation set, a part of the test set.
ODD = [*TINY, *TWO, "dashboard=default", "data.val_size=501", "data.eval_batch_size=130"]
ODD += ["trainer.limit_val_batches=null", "trainer.limit_test_batches=3", "trainer.log_every_n_steps=2"]


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Odd:
    """A run whose rank 0 started the other process."""
    run = RunDirectory(tmp_path_factory.mktemp("odd") / "run")
    ended = run_command(ROOT / "train.py", *ODD, f"hydra.run.dir={run.path}")
    assert (ended.code, ended.err) == (0, ""), ended
    return run, ended


@pytest.mark.real_data
def test_evaluation_with_two_processes_matches_one_process(odd: Odd) -> None:
    run, ended = odd
    assert "each epoch leaves out 1 images" in ended.out
    for split in ("val", "test"):
        one = RunDirectory(evaluate.evaluate(evaluate.Options(run=run.path, split=split))).read_metrics()
        assert {name: run.read_metrics()[name] for name in one} == pytest.approx(one, abs=1e-6)


@pytest.mark.real_data
def test_logits_of_two_processes_are_gathered_in_order(odd: Odd) -> None:
    """The dashboard computes all its figures from them."""
    run, _ = odd
    logits = checkpoint_file.read(run.last_checkpoint)["last_validation"]["logits"]
    images, indices = trained.data(run.read_configuration(), "val").part("val")
    with torch.no_grad():
        expected = trained.load(run.path, "last")(images.images[indices])
    assert len(logits) == 501
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.real_data
def test_two_processes_write_the_files_of_one(odd: Odd, trained_run: RunDirectory) -> None:
    run, _ = odd

    def names(path: Path) -> list[str]:
        files = (file.relative_to(path) for file in path.rglob("*") if file.is_file())
        steps_and_hosts = r"^\d+|(?<=tfevents).*"
        return sorted(re.sub(steps_and_hosts, "", str(file)) for file in files if file.parts[0] != "evaluation")

    assert names(run.path) == names(trained_run.path)
    manifest = run.read_manifest()
    assert manifest is not None
    assert [session["state"] for session in manifest["sessions"]] == ["finished"]


@pytest.mark.slow
@pytest.mark.real_data
def test_torchrun_gives_the_same_run(odd: Odd, tmp_path: Path) -> None:
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(ROOT / "train.py")]
    ended = run_command(*torchrun, *ODD, f"hydra.run.dir={tmp_path}", OMP_NUM_THREADS="1")
    assert ended.code == 0, ended
    assert not different(outcome(odd[0]), outcome(RunDirectory(tmp_path)))
    assert ended.out.count("epoch 1/1") == ended.out.count("test accuracy") == 1


@pytest.mark.real_data
def test_run_that_never_trains_releases_the_workers_of_a_launcher(start_two: StartTwo, odd: Odd) -> None:
    finished = by_two(start_two, f"resume={odd[0].path}")
    assert (finished.code, finished.err) == (0, "")
    assert finished.out.count("is finished, after 1 epochs, and stays unchanged") == 1
    assert "already holds a finished run" in one_line(by_two(start_two, *TINY, *TWO, f"hydra.run.dir={odd[0].path}"))


@pytest.mark.real_data
def test_jobs_of_a_sweep_in_two_processes_and_in_one_take_the_same_steps(tmp_path: Path) -> None:
    recipe = ["optimizer=sgd", "optimizer.lr=0.05", "augmentation=flip_shift", "test=false", *TWO]
    ended = run_command(ROOT / "train.py", "-m", *TINY, *recipe, "trainer.devices=2,1", f"hydra.sweep.dir={tmp_path}")
    assert ended.code == 0, ended
    two, one = (
        checkpoint_file.read(next(tmp_path.glob(f"*devices-{devices}*")) / "checkpoints/last.ckpt") for devices in "21"
    )
    torch.testing.assert_close(two["state_dict"], one["state_dict"], rtol=1e-4, atol=1e-6)
    assert two["metrics"]["train/loss"] == pytest.approx(one["metrics"]["train/loss"], abs=1e-5)


@pytest.mark.real_data
def test_resumed_run_in_two_processes_equals_uninterrupted_run(start_two: StartTwo, tmp_path: Path) -> None:
    recipe = [*TINY, *TWO, "model=residual_small", "callbacks=ema", "augmentation=flip_shift"]
    assert by_two(start_two, *recipe, "hydra.run.dir=whole", "trainer.max_epochs=2").code == 0
    assert by_two(start_two, *recipe, "hydra.run.dir=parts").code == 0
    resumed = by_two(start_two, "resume=parts", "trainer.max_epochs=2")
    assert (resumed.code, resumed.err) == (0, ""), resumed
    assert not different(outcome(RunDirectory(tmp_path / "whole")), outcome(RunDirectory(tmp_path / "parts")))


@pytest.mark.real_data
def test_ensemble_trains_in_two_processes_on_a_small_last_batch(start_two: StartTwo) -> None:
    # Each process gets one image of the last batch, for three networks.
    batches = ["data.val_size=59498", "data.batch_size=500", "trainer.limit_train_batches=null"]
    ended = by_two(start_two, *TINY, *TWO, "ensemble=3", *batches, "test=false")
    assert (ended.code, ended.err) == (0, ""), ended


@pytest.mark.real_data
def test_infinite_loss_in_two_processes_ends_the_run_in_one_line(start_two: StartTwo) -> None:
    assert "the loss is" in one_line(by_two(start_two, *TINY, *TWO, "optimizer=sgd", "optimizer.lr=1e30"))


@pytest.mark.real_data
def test_error_in_the_network_is_not_reported_as_a_dead_process(
    start_two: StartTwo,
) -> None:
    # Batch normalisation of a single pixel of a single image.
    ranks = start_two(*TINY, *TWO, "model=residual", "model.widths=[8,8,8,8]", "data.batch_size=2")
    for process in ranks:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "Expected more than 1 value per channel" in err
        assert "rank 1 of 2" not in err


LONG = [*TINY, *TWO, "trainer.max_epochs=1000", "test=false", "hydra.run.dir=run"]


@pytest.mark.real_data
@pytest.mark.parametrize("victim", ["worker", "Ctrl-C"])
def test_rank_0_and_its_worker_end_if_one_dies(victim: str, start: Start, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    process = start(*LONG)
    wait_until(lambda: run.last_checkpoint.is_file() or process.poll(), "a checkpoint")
    (worker,) = (
        pid for pid in children(process.pid) if b"fmnist.cli.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    )
    if victim == "worker":
        os.kill(worker, signal.SIGKILL)
    else:
        process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    wait_until(lambda: not Path(f"/proc/{worker}").exists(), "the worker to end", seconds=20)
    assert "Traceback" not in err
    if victim == "worker":
        assert err.splitlines()[-1].startswith("error: rank 1 of 2 ended with exit code -9; to resume: "), err
    assert process.returncode == {"worker": 1, "Ctrl-C": 130}[victim], err
    assert not run.finished
    assert not run.running


@pytest.mark.real_data
@pytest.mark.parametrize("victim", [0, 1])
def test_processes_of_a_launcher_end_if_one_dies(victim: int, start_two: StartTwo, tmp_path: Path) -> None:
    ranks = start_two(*LONG)
    wait_until(RunDirectory(tmp_path / "run").last_checkpoint.is_file, "a checkpoint")
    ranks[victim].kill()
    _, err = ranks[1 - victim].communicate(timeout=60)
    assert ranks[1 - victim].returncode == 1
    if victim == 1:
        assert "Traceback" not in err
        assert "error: another of the 2 processes has ended; to resume: python train.py" in err.splitlines()[-1]
