"""Whole runs on the real data: their files, output and metrics."""

import math
import re
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import sklearn.metrics
import torch
from omegaconf import OmegaConf
from torch import Tensor

from fmnist.data.dataset import ImageDataset
from fmnist.data.fashion_mnist import FashionMNIST
from fmnist.networks.cnn import CNN
from fmnist.runs.run_directory import RunDirectory
from tests.helpers import ROOT, TINY, Outcome, Start, TrainHere, one_line, run_command, wait_until

pytestmark = pytest.mark.real_data

NAMES = {f"{split}/{name}" for split in ("train", "val", "test") for name in ("loss", "acc")}


@pytest.fixture
def train_tiny(train_here: TrainHere) -> Callable[..., RunDirectory]:
    """Trains the smallest run with some overrides."""

    def train(*overrides: str, name: str = "run") -> RunDirectory:
        outcome = train_here(*TINY, f"hydra.run.dir={name}", *overrides)
        assert (outcome.code, outcome.err) == (0, "")
        return RunDirectory(name)

    return train


TrainTiny = Callable[..., RunDirectory]


def weights(checkpoint: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(checkpoint, weights_only=True)["state_dict"]
    return {name.removeprefix("network."): tensor for name, tensor in state.items()}


def evaluated(checkpoint: Path, images: Tensor, labels: Tensor) -> tuple[float, float]:
    """Loss and accuracy of a checkpoint, computed by scikit-learn."""
    network = CNN()
    network.load_state_dict(weights(checkpoint))
    with torch.inference_mode():
        probabilities = network(images).double().softmax(dim=1)
    loss = sklearn.metrics.log_loss(labels, probabilities, labels=range(10))
    return loss, sklearn.metrics.accuracy_score(labels, probabilities.argmax(dim=1))


def test_run_directory_holds_the_documented_files(trained_run: RunDirectory) -> None:
    files = {".hydra", ".lock", "manifest.json", "train.log", "checkpoints", "metrics.json"}
    tensorboard = {"events.out.tfevents", "hparams.yaml", "projector_config.pbtxt", "00100"}
    assert {re.sub(r"(?<=tfevents).*", "", path.name) for path in trained_run.path.iterdir()} == files | tensorboard
    assert {path.name for path in trained_run.checkpoints.iterdir()} == {"best.ckpt", "last.ckpt"}
    assert {path.name for path in trained_run.hydra.iterdir()} == {"config.yaml", "hydra.yaml", "overrides.yaml"}
    metrics = trained_run.read_metrics()
    assert set(metrics) == NAMES | {"epochs", "best_epoch"}
    assert metrics["epochs"] == 2


def test_output_is_one_line_per_epoch_and_a_summary(train_here: TrainHere) -> None:
    outcome = train_here(*TINY, "trainer.max_epochs=2", "name=wider")
    assert (outcome.code, outcome.err) == (0, "")
    (path,) = Path("runs/train").glob("*/*-wider")
    lines = outcome.out.splitlines()
    assert re.match(r"data: 55000 training and 5000 validation images from ", lines[0])
    part = r"loss \d\.\d{4} acc 0\.\d{4} \(\d+\.\d s\)"
    for epoch in (1, 2):
        assert re.fullmatch(rf"epoch {epoch}/2  train {part}  val {part}", lines[epoch])
    assert "\r" not in outcome.out  # no progress bar where there is no terminal
    assert f"test accuracy        {RunDirectory(path).read_metrics()['test/acc']:.4f}" in outcome.out
    assert lines[-2:] == [
        f"run directory        {path}",
        f"dashboard            {sys.executable} -m tensorboard.main --logdir runs",
    ]
    log = (path / "train.log").read_text()
    assert all(line in log for line in lines)
    assert OmegaConf.load(path / ".hydra/overrides.yaml") == [*TINY, "trainer.max_epochs=2", "name=wider"]


def test_metrics_are_those_of_the_best_checkpoint(
    trained_run: RunDirectory, official: Path, train_set: ImageDataset, test_set: ImageDataset
) -> None:
    data = FashionMNIST(data_dir=str(official))
    data.setup("fit")
    validated = train_set[data.val_indices[:500]]  # two batches
    metrics = trained_run.read_metrics()
    for split, images in (("val", validated), ("test", (test_set.images, test_set.labels))):
        loss, accuracy = evaluated(trained_run.best_checkpoint, *images)
        assert metrics[f"{split}/acc"] == pytest.approx(accuracy, abs=1e-7)
        assert metrics[f"{split}/loss"] == pytest.approx(loss, rel=1e-5)


def test_last_checkpoint_is_written_after_the_best_epoch(train_tiny: TrainTiny) -> None:
    # The loss falls, so the first epoch has the highest.
    run = train_tiny("trainer.max_epochs=2", "monitor.metric=train/loss", "monitor.mode=max")
    metrics = run.read_metrics()
    best, last = (torch.load(path, weights_only=True) for path in (run.best_checkpoint, run.last_checkpoint))
    assert (metrics["epochs"], metrics["best_epoch"]) == (2, 1)
    assert (best["epoch"], best["global_step"], last["epoch"], last["global_step"]) == (0, 4, 1, 8)
    assert metrics["val/acc"] == best["metrics"]["val/acc"]
    assert metrics["train/loss"] == last["metrics"]["train/loss"]


def test_training_equals_a_plain_pytorch_loop(train_tiny: TrainTiny, official: Path) -> None:
    """20 steps of a plain PyTorch loop from the same weights and batches give the same weights, to the last bit."""
    run = train_tiny("trainer.limit_train_batches=20", "seed=3", "optimizer.fused=false")

    torch.manual_seed(3)
    network = CNN().to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    data = FashionMNIST(data_dir=str(official), seed=3)
    data.setup("fit")
    for _, (images, labels) in zip(range(20), data.train_dataloader(), strict=False):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()

    torch.testing.assert_close(weights(run.last_checkpoint), dict(network.state_dict()), rtol=0, atol=0)


def test_same_command_gives_the_same_metrics(train_tiny: TrainTiny) -> None:
    seeds = {"first": 7, "second": 7, "third": 8}
    first, second, third = (train_tiny(f"seed={seed}", name=name).read_metrics() for name, seed in seeds.items())
    assert first == second
    assert first != third


def test_without_validation_best_is_last(train_here: TrainHere) -> None:
    outcome = train_here(*TINY, "trainer.max_epochs=2", "data.val_size=0", "hydra.run.dir=run")
    assert "val" not in outcome.out.partition("epoch 1")[2]
    run = RunDirectory("run")
    metrics = run.read_metrics()
    assert set(metrics) == {"train/loss", "train/acc", "test/loss", "test/acc", "epochs", "best_epoch"}
    assert metrics["best_epoch"] == metrics["epochs"] == 2
    best, last = weights(run.best_checkpoint), weights(run.last_checkpoint)
    torch.testing.assert_close(best, last, rtol=0, atol=0)


def test_test_set_is_not_read_with_test_false(train_tiny: TrainTiny, official: Path, tmp_path: Path) -> None:
    for path in official.glob("*ubyte"):
        if path.name.startswith("train"):
            (tmp_path / path.name).symlink_to(path)
        else:
            (tmp_path / path.name).touch()  # would be rejected if it were read
    metrics = train_tiny("test=false", f"data.data_dir={tmp_path}").read_metrics()
    assert set(metrics) == {name for name in NAMES if not name.startswith("test/")} | {"epochs", "best_epoch"}


@pytest.mark.parametrize(
    "overrides",
    [
        ["optimizer=adamw", "scheduler=cosine", "augmentation=cutmix", "trainer.accumulate_grad_batches=4"],
        ["optimizer=sgd", "scheduler=onecycle", "augmentation=flip_shift", "augmentation.shift.reflect=true"],
        ["callbacks=early_stopping", "logger=csv", "monitor.metric=val/loss", "monitor.mode=min"],
        ["augmentation=mixup", "trainer.precision=64-true", "trainer.gradient_clip_val=1.0"],
        ["data.batch_size=64", "data.val_size=7", "data.eval_batch_size=5", "trainer.enable_progress_bar=false"],
        ["~callbacks.best", "~callbacks.progress_bar", "~callbacks.epoch_report", "trainer.log_every_n_steps=0"],
        ["trainer.max_epochs=-1", "trainer.max_time=00:00:00:01"],
        ["dashboard=default", "trainer.fast_dev_run=true"],
        ["dashboard=default", "trainer.max_steps=2"],  # ends before the first validation
        ["dashboard=default", "trainer.limit_val_batches=0", "~dashboard.confusion_matrix"],
        ["dashboard=default", "trainer.val_check_interval=0.5"],
        ["dashboard=default", "trainer.max_epochs=3", "trainer.check_val_every_n_epoch=2"],
    ],
    ids=" ".join,
)
def test_common_overrides_work(overrides: list[str], train_tiny: TrainTiny) -> None:
    assert "test/acc" in train_tiny(*overrides).read_metrics()


@pytest.mark.parametrize("overrides", [["~callbacks.best", "~callbacks.last"], ["trainer.enable_checkpointing=false"]])
def test_run_without_checkpoints_tests_its_last_weights(overrides: list[str], train_tiny: TrainTiny) -> None:
    run, saved = train_tiny(*overrides), train_tiny(name="saved")
    assert not list(run.path.rglob("*.ckpt"))
    assert run.read_metrics() == saved.read_metrics()


def test_run_whose_directory_disappears_ends_in_one_line(start: Start, tmp_path: Path) -> None:
    process = start(*TINY, "trainer.max_epochs=1000", "hydra.run.dir=run")
    wait_until((tmp_path / "run/checkpoints/last.ckpt").is_file, "a checkpoint")
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    outcome = Outcome(*(process.wait(60), *process.communicate()))
    assert f"the run directory {tmp_path / 'run'} has disappeared: deleted, or its drive is gone" in one_line(outcome)


def test_runs_that_start_at_once_get_directories_of_their_own(start: Start, tmp_path: Path) -> None:
    processes = [start(*TINY), start(*TINY), *(start(*TINY, "hydra.run.dir=same") for _ in range(2))]
    ends = [(process.communicate(timeout=120)[1], process.returncode) for process in processes]
    assert [code for _, code in ends[:2]] == [0, 0]
    assert len(list(tmp_path.glob("runs/train/*/*/metrics.json"))) == 2
    winner, (refusal, code) = sorted(ends[2:])
    assert (winner, code) == (("", 0), 1)
    assert re.search("(another run has just taken same|same already holds)", refusal)
    assert (tmp_path / "same/metrics.json").is_file()


@pytest.mark.slow(minutes=3)
def test_notebook_experiment_reaches_the_lessons_accuracy(tmp_path: Path, train_set: ImageDataset) -> None:
    """The lesson: 0.883 counted while training in epoch 5, 0.891 evaluated on the training set, one seed.

    The mean of five seeds varies between processors, so two standard errors are added before it is compared.
    """

    def reached(figures: list[float]) -> float:
        return statistics.mean(figures) + 2 * statistics.stdev(figures) / math.sqrt(len(figures))

    outcome = run_command(
        *(ROOT / "train.py", "-m", "seed=range(0,5)", "experiment=notebook", "threads=1", "dashboard=none"),
        f"hydra.sweep.dir={tmp_path / 'sweep'}",
        timeout=1200,
    )
    assert outcome.code == 0, outcome.err
    runs = [RunDirectory(path.parent) for path in (tmp_path / "sweep").glob("*/metrics.json")]
    assert len(runs) == 5
    metrics = [run.read_metrics() for run in runs]
    on_training_set = [evaluated(run.last_checkpoint, train_set.images, train_set.labels)[1] for run in runs]
    assert reached([one["train/acc"] for one in metrics]) >= 0.875
    assert reached(on_training_set) >= 0.875
    assert reached([one["test/acc"] for one in metrics]) >= 0.86
