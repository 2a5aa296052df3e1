"""One run in several processes: the same samples, the same figures, one directory, and a clear end whoever dies."""

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
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import DictConfig

from fmnist import build
from fmnist.config.errors import UserError
from fmnist.data.augmentation import Augmentation, Flip, Shift
from fmnist.data.batches import Batches, Placed, Share, portion
from fmnist.data.fashion_mnist import Augmented, ImageDataset
from fmnist.data.mixing import CutMix
from fmnist.distributed import process_info, workers
from fmnist.distributed.cluster_environment import Cluster
from fmnist.distributed.process_info import Member
from fmnist.inference import trained
from fmnist.runs import checkpoint_io
from fmnist.runs.run_directory import RunDirectory
from tests.conftest import ROOT, Outcome, free_port, one_line, run_command
from tests.torture import different, outcome

Composed = Callable[..., DictConfig]
TWO = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "threads=1", "dashboard=none"]
SHORT = ["experiment=smoke", *TWO]

sizes = st.integers(1, 300)
members = st.integers(1, 8)


@given(size=sizes, batch_size=sizes, of=members, limit=st.none() | st.integers(1, 10))
def test_an_evaluation_by_several_sees_each_sample_once_in_its_order(
    size: int, batch_size: int, of: int, limit: int | None
) -> None:
    size += of  # one sample for each process at least
    indices = torch.randperm(size)
    parts = [portion(indices, batch_size=batch_size, share=Share(rank, of), limit=limit) for rank in range(of)]
    seen = indices if limit is None else indices[: max(limit * batch_size, of)]
    assert torch.equal(torch.cat([batch for part in parts for batch in part]), seen)
    assert len({len(part) for part in parts}) == 1  # else one process would wait for another
    assert all(len(batch) for part in parts for batch in part)
    if limit is None:
        most = max(2, batch_size // of) if of > 1 else batch_size
        assert all(len(batch) <= most for part in parts for batch in part)
    elif of <= batch_size:
        assert len(parts[0]) <= limit  # else Lightning would cut off the rest


@given(size=sizes, batches=st.integers(1, 50), of=members, seed=st.integers(0, 2**32), epoch=st.integers(0, 99))
def test_training_by_several_sees_each_sample_once_but_for_less_than_one_each(
    size: int, batches: int, of: int, seed: int, epoch: int
) -> None:
    drawn = Batches(torch.arange(size), batch_size=batches * of, seed=seed, multiple_of=of)
    drawn.set_epoch(epoch)
    shares = [[Share(rank, of).of(batch).tolist() for batch in drawn] for rank in range(of)]
    seen = [index for part in shares for batch in part for index in batch]
    assert len(seen) == len(set(seen)) == drawn.samples > size - of
    assert len(drawn) == len(shares[0])
    for together in zip(*shares, strict=True):
        assert len({len(batch) for batch in together}) == 1  # so that the mean of the gradients is that of the samples


@pytest.mark.parametrize("augmentations", [[], [Flip()], [Flip(alternating=True), Shift(), CutMix()]])
def test_several_processes_train_on_what_one_would(augmentations: list[Augmentation]) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (60, 1, 28, 28), dtype=torch.uint8, generator=generator)
    dataset = ImageDataset(images, torch.randint(10, (60,), generator=generator))
    batches = Placed(Batches(torch.arange(60), batch_size=12, seed=1))
    whole = Augmented(dataset, augmentations)
    parts = [Augmented(dataset, augmentations, share=Share(rank, 3)) for rank in range(3)]
    for place in batches:
        for one, several in zip(whole[place], zip(*(part[place] for part in parts), strict=True), strict=True):
            assert torch.equal(one, torch.cat(several))


def test_a_process_is_what_its_launcher_says() -> None:
    assert process_info.this({}) == Member()
    torchrun = {
        "RANK": "5",
        "WORLD_SIZE": "8",
        "LOCAL_RANK": "1",
        "GROUP_RANK": "2",
        "MASTER_ADDR": "node0",
        "MASTER_PORT": "29500",
        "TORCHELASTIC_RUN_ID": "none",
    }
    assert process_info.this(torchrun) == Member(5, 8, 1, 2, "node0", 29500, "torchrun")
    slurm = {
        "SLURM_JOB_ID": "12",
        "SLURM_STEP_ID": "3",
        "SLURM_STEP_NUM_TASKS": "4",
        "SLURM_PROCID": "3",
        "SLURM_LOCALID": "1",
        "SLURM_NODEID": "1",
        "SLURM_STEP_NODELIST": "gpu[07-08]",
    }
    assert process_info.this(slurm) == Member(3, 4, 1, 1, "gpu07", 15195, "srun")
    # A container of its own.
    assert process_info.this({"RANK": "0", "WORLD_SIZE": "1"}) == Member()
    # The script of an sbatch: one process, which is to start its own members, if any.
    assert process_info.this({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}) == Member()


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("node3", "node3"), ("node[3-5,7],other", "node3"), ("a,b", "a"), ("rack1-[01,04]", "rack1-01")],
)
def test_process_0_is_on_the_first_of_slurms_machines(nodes: str, first: str) -> None:
    assert process_info._first_host(nodes) == first


@pytest.mark.parametrize(
    "environ",
    [{"RANK": "0", "WORLD_SIZE": "2"}, {"RANK": "x", "WORLD_SIZE": "2"}, {"RANK": "0", "WORLD_SIZE": "two"}],
)
def test_a_launcher_that_tells_rubbish_is_refused(environ: dict[str, str]) -> None:
    with pytest.raises(UserError, match="environment variable"):
        process_info.this(environ)


def test_lightning_learns_who_a_process_is() -> None:
    member = Member(rank=3, size=4, local_rank=1, node=1, address="node0", port=7, launcher="srun")
    cluster = Cluster(member)
    assert (cluster.global_rank(), cluster.world_size(), cluster.local_rank(), cluster.node_rank()) == (3, 4, 1, 1)
    assert (cluster.main_address, cluster.main_port, cluster.creates_processes_externally) == ("node0", 7, True)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.batch_size=101"], r"data\.batch_size=101 must be a multiple of 2, the number of processes"),
        (["data.batch_size=4", "ensemble=3"], r"ensemble=3: .* each of 2 processes has 2 images; use a larger"),
        (["data.val_size=1"], r"data\.val_size=1 must be 0, or at least 1 for each of 2 processes"),
        (["trainer.devices=1000"], r"trainer\.devices=1000 is more than the \d+ cores that this run may use"),
        (["trainer.sync_batchnorm=true"], r"trainer\.sync_batchnorm=true: torch can do that on GPUs alone"),
        (["trainer.num_nodes=2"], r"trainer\.num_nodes=2: to train on several machines, .* torchrun or srun"),
        (["trainer.strategy=ddp_spawn"], r"trainer\.strategy=ddp_spawn: several processes train by ddp"),
        (["trainer.strategy=fsdp"], r"trainer"),
        (["trainer.limit_val_batches=0.5"], r"trainer\.limit_val_batches=0\.5: to 2 processes give the number of"),
    ],
)
def test_what_several_processes_cannot_share_is_refused(
    overrides: list[str], message: str, composed: Composed, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message) as error:
        build.check(composed(*TWO, *overrides), RunDirectory(tmp_path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("allowed", "cores"), [({0}, "2"), ({0, 1}, "1")], ids=["affinity", "Slurm"])
def test_more_processes_than_the_cores_that_a_run_may_use_are_refused(
    allowed: set[int], cores: str, composed: Composed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: allowed, raising=False)
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", cores)
    with pytest.raises(UserError, match=r"trainer\.devices=2 is more than the 1 cores that this run may use"):
        build.check(composed(*TWO), RunDirectory(tmp_path))
    member = Member(rank=0, size=2, port=1, launcher="srun")  # which gives each process cores of its own
    build.trainer(composed(*TWO), RunDirectory(tmp_path), member)


def test_a_launcher_and_the_configuration_must_agree(composed: Composed, tmp_path: Path) -> None:
    member = Member(rank=0, size=4, port=1, launcher="torchrun")
    with pytest.raises(UserError, match=r"torchrun has started 4 processes, and trainer\.devices=2 .* is 2"):
        build.trainer(composed(*TWO), RunDirectory(tmp_path), member)


def test_a_sweep_is_not_started_by_each_of_several_processes() -> None:
    refused = run_command(
        ROOT / "train.py", "-m", "seed=0,1", *SHORT, RANK="0", WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT="1"
    )
    assert "has started several processes, each of which would start the sweep" in one_line(refused)


@pytest.mark.parametrize(("name", "word"), [("torch", "has torch"), ("commit", "has commit"), (None, "does not see")])
def test_a_member_that_cannot_work_with_process_0_is_refused_and_says_why(
    name: str | None, word: str, composed: Composed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDirectory(tmp_path / "run")
    if name:
        run.hydra.mkdir(parents=True)
    trainer = build.trainer(composed(*TWO), run)
    code = (
        "from fmnist import command_line, machine, member\n"
        f"own = machine.decisive_versions() | { ({name: 'another'} if name else {})!r}\n"
        "machine.decisive_versions = lambda: own\n"
        "with command_line.refusing():\n"
        "    member.main()\n"
    )
    popen = subprocess.Popen
    of_member = [sys.executable, "-P", "-m", "fmnist.cli.worker"]

    def start(command: list[str], **rest: Any) -> Any:
        return popen([sys.executable, "-c", code] if command == of_member else command, **rest)

    monkeypatch.setattr(subprocess, "Popen", start)
    refusal = pytest.raises(UserError, match=f"process 1 of 2 {word}")
    with refusal, workers.together(run, composed(*TWO), trainer):
        pytest.fail("training would have started")


def test_a_member_without_process_0_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "PATIENCE", timedelta(seconds=1))
    with socket.socket() as probe:  # taken, and nobody answers
        probe.bind(("127.0.0.1", 0))
        member = Member(rank=1, size=2, port=probe.getsockname()[1], launcher="torchrun")
        silence = pytest.raises(UserError, match=r"process 1 of 2: process 0 at 127\.0\.0\.1:\d+ does not answer")
        with silence, workers.joined(member):
            pytest.fail("there is nobody to join")


def train(path: Path, *overrides: str, timeout: float = 300) -> Outcome:
    ended = run_command(ROOT / "train.py", *overrides, f"hydra.run.dir={path}", timeout=timeout)
    assert (ended.code, ended.err) == (0, ""), ended
    return ended


@pytest.fixture(scope="module")
def by_two(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDirectory, Outcome]:
    """A run in two processes, on sets that they cannot share evenly."""
    path = tmp_path_factory.mktemp("ddp") / "run"
    all_of_it = ["trainer.limit_val_batches=null", "trainer.limit_test_batches=null", "data.val_size=501"]
    panels = ["dashboard=default", "trainer.limit_train_batches=20", "data.eval_batch_size=130"]
    ended = train(path, *SHORT, *all_of_it, *panels)
    return RunDirectory(path), ended


@pytest.mark.real_data
def test_two_processes_find_of_the_same_weights_what_one_finds(by_two: tuple[RunDirectory, Outcome]) -> None:
    run, ended = by_two
    assert "of each epoch 1 images are left out" in ended.out
    theirs = run.read_metrics()
    for split in ("val", "test"):
        evaluated = run_command("-m", "fmnist.evaluate", f"run={run.path}", f"split={split}")
        assert evaluated.code == 0, evaluated
        one = outcome_of_evaluation(run, split)
        assert one[f"{split}/acc"] == theirs[f"{split}/acc"]
        assert one[f"{split}/loss"] == pytest.approx(theirs[f"{split}/loss"], abs=1e-6)


@pytest.mark.real_data
def test_what_two_processes_say_of_each_image_comes_together_in_the_order_of_the_images(
    by_two: tuple[RunDirectory, Outcome],
) -> None:
    """From that the dashboard makes the confusion matrix and all its other figures."""
    run, _ = by_two
    said = checkpoint_io.read(run.last_checkpoint)["last_validation"]["logits"]
    classifier = trained.load_classifier(run, "last")
    images, indices = trained.data(run.read_configuration(), "val").part("val")
    with torch.no_grad():
        expected = classifier(images.images[indices])
    assert len(said) == 501
    torch.testing.assert_close(said, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.real_data
def test_an_ensemble_learns_in_two_processes_from_last_batches_of_any_size(tmp_path: Path) -> None:
    # Of the last batch with two images, each process has one, and three networks to train.
    batches = ["data.val_size=4998", "data.batch_size=5000", "trainer.limit_train_batches=null"]
    train(tmp_path / "run", *SHORT, "ensemble=3", *batches, "test=false")


@pytest.mark.real_data
def test_a_mistake_of_the_networks_is_told_as_such_and_not_as_a_process_that_died(tmp_path: Path) -> None:
    # Batch normalisation of a single pixel of a single image.
    recipe = ["model=residual", "model.widths=[8,8,8,8]", "data.batch_size=2", f"hydra.run.dir={tmp_path / 'run'}"]
    ended = run_command(ROOT / "train.py", *SHORT, *recipe)
    assert ended.code == 1
    assert "Expected more than 1 value per channel" in ended.err
    assert "process 1 of 2" not in ended.err


@pytest.mark.real_data
def test_two_processes_find_on_a_part_of_a_set_what_one_finds(tmp_path: Path) -> None:
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
def test_two_processes_leave_what_one_leaves(by_two: tuple[RunDirectory, Outcome], tmp_path: Path) -> None:
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
def test_two_processes_take_the_steps_that_one_takes(tmp_path: Path) -> None:
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
def test_a_run_in_two_processes_that_goes_on_ends_as_one_that_was_never_interrupted(tmp_path: Path) -> None:
    recipe = [*SHORT, "model=residual", "callbacks=ema", "augmentation=flip_shift", "trainer.limit_train_batches=3"]
    train(tmp_path / "whole", *recipe)
    train(tmp_path / "parts", *recipe, "trainer.max_epochs=1")
    resumed = run_command(ROOT / "train.py", f"resume={tmp_path / 'parts'}", "trainer.max_epochs=2")
    assert (resumed.code, resumed.err) == (0, ""), resumed
    assert not different(outcome(RunDirectory(tmp_path / "whole")), outcome(RunDirectory(tmp_path / "parts")))


@pytest.mark.real_data
def test_each_job_of_a_sweep_has_processes_of_its_own(tmp_path: Path) -> None:
    jobs = ["trainer.devices=1,2", "trainer.max_epochs=1", f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    ended = run_command(ROOT / "train.py", "-m", *(word for word in SHORT if word != "trainer.devices=2"), *jobs)
    assert ended.code == 0, ended
    assert len(list((tmp_path / "sweep").glob("*/metrics.json"))) == 2


def members_of(pid: int) -> list[int]:
    """The processes that process 0 has started to train with it."""
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
@pytest.mark.parametrize("victim", ["member", "process 0", "Ctrl-C"])
def test_if_one_dies_all_end_and_the_run_can_go_on(
    victim: str, start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    run = RunDirectory(tmp_path / "run")
    process = start(*LONG, f"hydra.run.dir={run.path}")
    wait_for(run.last_checkpoint.is_file)
    (member,) = members_of(process.pid)
    if victim == "member":
        os.kill(member, signal.SIGKILL)
    else:
        process.send_signal(signal.SIGKILL if victim == "process 0" else signal.SIGINT)
    _, err = process.communicate(timeout=60)
    wait_for(lambda: not Path(f"/proc/{member}").exists(), seconds=20)
    if victim == "member":
        assert err.splitlines()[-1].startswith("error: process 1 of 2 ended with exit code -9; to go on: "), err
        assert "Traceback" not in err
    assert process.returncode == {"member": 1, "process 0": -signal.SIGKILL, "Ctrl-C": 130}[victim], err
    assert not run.finished
    assert not run.running


@pytest.mark.real_data
def test_a_loss_that_one_process_finds_infinite_ends_the_run_in_one_line(tmp_path: Path) -> None:
    ended = run_command(
        ROOT / "train.py", *SHORT, "optimizer=sgd", "optimizer.lr=1e30", f"hydra.run.dir={tmp_path / 'run'}"
    )
    assert "the loss is" in one_line(ended)


@pytest.mark.real_data
def test_processes_that_torchrun_has_started_make_the_same_run(tmp_path: Path) -> None:
    recipe = [*SHORT, "trainer.limit_train_batches=10"]
    train(tmp_path / "own", *recipe)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(ROOT / "train.py")]
    ended = run_command(*torchrun, *recipe, f"hydra.run.dir={tmp_path / 'torchrun'}", OMP_NUM_THREADS="1")
    assert ended.code == 0, ended
    assert not different(outcome(RunDirectory(tmp_path / "own")), outcome(RunDirectory(tmp_path / "torchrun")))
    assert ended.out.count("epoch 1/2") == 1
    assert ended.out.count("test accuracy") == 1

    finished = run_command(*torchrun, f"resume={tmp_path / 'torchrun'}")
    assert finished.code == 0, finished
    assert finished.out.count("is finished, after 2 epochs, and stays as it is") == 1
    refused = run_command(*torchrun, *recipe, f"hydra.run.dir={tmp_path / 'torchrun'}")
    assert refused.code == 1
    assert refused.err.count("already holds a finished run") == 1
    assert "does not answer" not in finished.err + refused.err


def test_a_port_that_is_taken_is_told_in_one_line(composed: Composed, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        member = Member(rank=0, size=2, port=other.getsockname()[1], launcher="srun")
        run = RunDirectory(tmp_path)
        trainer = build.trainer(composed(*TWO), run, member)
        taken = pytest.raises(UserError, match=r"process 0 cannot listen at .*:\d+; .* set MASTER_PORT to another")
        with taken, workers.together(run, composed(*TWO), trainer):
            pytest.fail("training would have started")


@pytest.mark.real_data
def test_if_a_process_dies_that_something_else_has_started_the_run_ends_in_one_line(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path
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
    assert err.splitlines()[-1].startswith("error: another of the 2 processes has ended; to go on: python train.py"), (
        err
    )
    both[1].communicate()
