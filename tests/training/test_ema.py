"""The moving average of the weights: against the formula, and that it is what is validated, tested and kept."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

import fmnist
from fmnist import evaluate
from fmnist.data.batches import Batch
from fmnist.networks.residual import ResidualCNN
from fmnist.runs.run_directory import RunDirectory
from fmnist.training.callbacks.ema import EMA
from fmnist.training.classifier import Classifier
from fmnist.training.speed import has_bf16
from tests.conftest import Outcome
from tests.torture import different, outcome
from tests.training.test_classifier import classifier, loader, trainer

__all__ = ["loader"]  # a fixture

TrainHere = Callable[..., Outcome]
Weights = dict[str, Tensor]
DECAY = 0.8


def module() -> Classifier:
    """A small network with all that has a memory: batch norm and dropout."""
    torch.manual_seed(1)
    network = ResidualCNN(stem_width=2, stem_stride=2, widths=[3], dropout=0.3)
    return classifier(network=network, optimizer=partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1))


def weights(module: nn.Module) -> Weights:
    return {name: value.clone() for name, value in module.state_dict().items() if value.is_floating_point()}


class Recorder(Callback):
    """The weights after each step, and those that each validation or test begins with."""

    def __init__(self) -> None:
        self.steps: list[Weights] = []
        self.validated: list[Weights] = []
        self.tested: list[Weights] = []

    def on_train_batch_end(self, _trainer: Trainer, pl_module: Any, *_args: Any) -> None:
        self.steps.append(weights(pl_module))

    def on_validation_batch_start(self, _trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int, *_: Any) -> None:
        if batch_idx == 0:
            self.validated.append(weights(pl_module))

    def on_test_batch_start(self, _trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int, *_: Any) -> None:
        if batch_idx == 0:
            self.tested.append(weights(pl_module))


def averages(steps: list[Weights]) -> list[Weights]:
    """The average after each step, in float64: the first weights, of which each step takes its share away."""
    result = [{name: value.double() for name, value in steps[0].items()}]
    for step in steps[1:]:
        before = result[-1]
        result.append({name: DECAY * before[name] + (1 - DECAY) * value.double() for name, value in step.items()})
    return result


def assert_close(found: Weights, expected: Weights) -> None:
    for name, value in expected.items():
        torch.testing.assert_close(found[name].double(), value, rtol=1e-5, atol=1e-6, msg=name)


def test_validation_test_and_checkpoints_have_the_averages(tmp_path: Path, loader: DataLoader[Batch]) -> None:
    recorder, trained = Recorder(), module()
    fit = trainer(tmp_path, callbacks=[EMA(decay=DECAY), recorder])
    path = tmp_path / "all.ckpt"

    class Saver(Callback):
        def on_train_epoch_end(self, trainer: Trainer, *_args: Any) -> None:
            trainer.save_checkpoint(path)

    fit.callbacks.append(Saver())  # type: ignore[attr-defined]
    fit.fit(trained, loader, loader)
    fit.test(trained, loader, ckpt_path=path, weights_only=True, verbose=False)

    expected = averages(recorder.steps)
    assert len(expected) == 20
    assert_close(recorder.validated[0], expected[9])
    assert_close(recorder.validated[1], expected[19])
    checkpoint = torch.load(path, weights_only=True)
    assert_close(checkpoint["state_dict"], expected[19])
    assert_close(recorder.tested[0], expected[19])
    assert_close(weights(trained), expected[19])
    for name, value in recorder.steps[-1].items():
        assert torch.equal(checkpoint["current_model_state"][name], value), name
    assert any("running_var" in name for name in expected[0])


def test_a_run_that_goes_on_after_its_last_epoch_has_the_averages(tmp_path: Path, loader: DataLoader[Batch]) -> None:
    fit = trainer(tmp_path, callbacks=[EMA(decay=DECAY)])
    whole = module()

    class Saver(Callback):
        def on_train_epoch_end(self, trainer: Trainer, *_args: Any) -> None:
            trainer.save_checkpoint(tmp_path / "last.ckpt")

    fit.callbacks.append(Saver())  # type: ignore[attr-defined]
    fit.fit(whole, loader, loader)
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    for progress in checkpoint["loops"]["fit_loop"]["epoch_progress"].values():
        progress["completed"] = progress["processed"]  # as fmnist.training.callbacks.checkpoint restores it
    torch.save(checkpoint, tmp_path / "last.ckpt")
    resumed = module()
    again = trainer(tmp_path, callbacks=[EMA(decay=DECAY)])
    again.fit(resumed, loader, loader, ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(resumed)[name]), name


def test_the_average_is_of_no_effect_on_the_weights_that_are_trained(tmp_path: Path, loader: DataLoader[Batch]) -> None:
    alone, accompanied = Recorder(), Recorder()
    trainer(tmp_path, callbacks=[alone]).fit(module(), loader, loader)
    trainer(tmp_path, callbacks=[EMA(), accompanied]).fit(module(), loader, loader)
    for first, second in zip(alone.steps, accompanied.steps, strict=True):
        assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_what_never_changes_stays_as_it_is(tmp_path: Path, loader: DataLoader[Batch]) -> None:
    trained = module()
    trainer(tmp_path, callbacks=[EMA()]).fit(trained, loader, loader)
    assert torch.equal(trained.network.normalize.mean, torch.tensor(72.94))  # type: ignore[arg-type]
    assert torch.equal(trained.network.normalize.std, torch.tensor(90.02))  # type: ignore[arg-type]


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.5, float("nan")])
def test_a_decay_out_of_range_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match="decay must be above 0 and below 1, got"):
        EMA(decay=decay)


SMOKE = ["experiment=smoke", "threads=1", "callbacks=ema", "callbacks.ema.decay=0.9", "model=residual_small"]
SMOKE += ["model.stem_stride=2", "optimizer=adamw", "trainer.limit_train_batches=10", "trainer.log_every_n_steps=5"]


@pytest.mark.real_data
@pytest.mark.parametrize(
    "precision",
    ["null", pytest.param("bf16-mixed", marks=pytest.mark.skipif(not has_bf16(), reason="no bf16 here"))],
)
def test_a_run_tests_keeps_and_resumes_the_averages(precision: str, train_here: TrainHere, tmp_path: Path) -> None:
    settings = [*SMOKE, f"trainer.precision={precision}"]
    assert train_here(*settings, "hydra.run.dir=whole", "trainer.max_epochs=3").code == 0
    whole = RunDirectory(tmp_path / "whole")

    checkpoint = torch.load(whole.best_checkpoint, weights_only=True)
    network = fmnist.load(whole.path)
    for name, value in network.state_dict().items():
        assert torch.equal(value, checkpoint["state_dict"][f"network.{name}"]), name
    assert not torch.equal(network.out.weight, checkpoint["current_model_state"]["network.out.weight"])  # type: ignore[union-attr, arg-type]

    # What was tested is what was kept: an evaluation from the files gives the figures of the run.
    metrics = RunDirectory(evaluate.evaluate(evaluate.Options(run=whole.path))).read_metrics()
    assert {name: whole.read_metrics()[name] for name in ("test/acc", "test/loss")} == metrics

    # A run that was killed after its second epoch, and one that was killed before it wrote its metrics.
    assert train_here(*settings, "hydra.run.dir=resumed", "trainer.max_epochs=2").code == 0
    resumed = RunDirectory(tmp_path / "resumed")
    assert train_here("resume=resumed", "trainer.max_epochs=3").code == 0
    assert different(outcome(resumed), outcome(whole)) == []
    resumed.metrics.unlink()
    assert train_here("resume=resumed").code == 0
    assert different(outcome(resumed), outcome(whole)) == []
