"""The moving average of the weights: against the formula, and that validation, test and checkpoints have it."""

import functools
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import LambdaCallback
from torch import Tensor, nn

import fmnist
from fmnist import evaluate
from fmnist.networks import residual
from fmnist.runs.run_directory import RunDirectory
from fmnist.training.callbacks.ema import EMA
from fmnist.training.classifier import Classifier
from fmnist.training.speed import has_bf16
from tests.helpers import TINY, Outcome
from tests.torture import different, outcome
from tests.training.test_classifier import Loader, classifier, loader, trainer

__all__ = ["loader"]  # a fixture

Weights = dict[str, Tensor]
DECAY = 0.8
ResidualCNN = functools.partial(residual.ResidualCNN, pixel_mean=72.94, pixel_std=90.02)


def module() -> Classifier:
    """A small network with batch norm and dropout."""
    torch.manual_seed(1)
    network = ResidualCNN(stem_width=2, stem_stride=2, widths=[3], dropout=0.3)
    return classifier(network=network, optimizer=partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1))


def weights(module: nn.Module) -> Weights:
    return {name: value.clone() for name, value in module.state_dict().items() if value.is_floating_point()}


def recorder(steps: list[Weights], evaluated: list[Weights]) -> Callback:
    """Records the weights after each step and at the start of each validation and test."""

    def evaluate(_trainer: Trainer, module: nn.Module) -> None:
        evaluated.append(weights(module))

    return LambdaCallback(
        on_train_batch_end=lambda _trainer, module, *_: steps.append(weights(module)),
        on_validation_epoch_start=evaluate,
        on_test_epoch_start=evaluate,
    )


def test_validation_test_and_checkpoints_have_the_averages(tmp_path: Path, loader: Loader) -> None:
    path, trained = tmp_path / "last.ckpt", module()
    steps: list[Weights] = []
    evaluated: list[Weights] = []
    save = LambdaCallback(on_train_epoch_end=lambda trainer, _: trainer.save_checkpoint(path))
    fit = trainer(tmp_path, callbacks=[EMA(decay=DECAY), recorder(steps, evaluated), save])
    fit.fit(trained, loader, loader)
    fit.test(trained, loader, ckpt_path=path, weights_only=True, verbose=False)
    checkpoint = torch.load(path, weights_only=True)

    averages = [{name: value.double() for name, value in steps[0].items()}]
    for step in steps[1:]:
        averages.append({name: DECAY * old + (1 - DECAY) * step[name] for name, old in averages[-1].items()})
    assert len(averages) == 20
    assert any("running_var" in name for name in averages[0])
    first, last = averages[9], averages[19]
    kept = {name: checkpoint["state_dict"][name] for name in last}
    for found, expected in zip((*evaluated, weights(trained), kept), (first, last, last, last, last), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6, check_dtype=False)
    for name, value in steps[-1].items():
        assert torch.equal(checkpoint["current_model_state"][name], value), name
    # What never changes does not drift.
    constants = trained.network.normalize.mean, trained.network.normalize.std
    assert constants == (torch.tensor(72.94), torch.tensor(90.02))

    # A run that is resumed after its last epoch has the averages, too.
    for progress in checkpoint["loops"]["fit_loop"]["epoch_progress"].values():
        progress["completed"] = progress["processed"]  # as fmnist.training.callbacks.checkpoint restores it
    torch.save(checkpoint, path)
    resumed = module()
    again = trainer(tmp_path, callbacks=[EMA(decay=DECAY)])
    again.fit(resumed, loader, loader, ckpt_path=path, weights_only=True)
    torch.testing.assert_close(weights(resumed), weights(trained), rtol=0, atol=0)


def test_average_does_not_change_the_weights_that_are_trained(tmp_path: Path, loader: Loader) -> None:
    alone: list[Weights] = []
    accompanied: list[Weights] = []
    trainer(tmp_path, callbacks=[recorder(alone, [])]).fit(module(), loader, loader)
    trainer(tmp_path, callbacks=[EMA(), recorder(accompanied, [])]).fit(module(), loader, loader)
    torch.testing.assert_close(accompanied, alone, rtol=0, atol=0)


@pytest.mark.parametrize("decay", [0.0, 1.0, float("nan")])
def test_decay_out_of_range_is_rejected(decay: float) -> None:
    with pytest.raises(ValueError, match=f"decay must be above 0 and below 1, got {decay}"):
        EMA(decay=decay)


@pytest.mark.real_data
def test_run_tests_keeps_and_resumes_the_averages(train_here: Callable[..., Outcome], tmp_path: Path) -> None:
    precision = "bf16-mixed" if has_bf16() else "null"
    settings = [*TINY, "callbacks=ema", "callbacks.ema.decay=0.9", "model=residual_small", "model.stem_stride=2"]
    settings += ["optimizer=adamw", "trainer.log_every_n_steps=2", f"trainer.precision={precision}"]
    assert train_here(*settings, "hydra.run.dir=whole", "trainer.max_epochs=2").code == 0
    whole, resumed = RunDirectory(tmp_path / "whole"), RunDirectory(tmp_path / "resumed")
    checkpoint = torch.load(whole.best_checkpoint, weights_only=True)
    for name, value in fmnist.load(whole.path).state_dict().items():
        assert torch.equal(value, checkpoint["state_dict"][f"network.{name}"]), name
    tested = RunDirectory(evaluate.evaluate(evaluate.Options(run=whole.path))).read_metrics()
    assert tested == {name: whole.read_metrics()[name] for name in ("test/acc", "test/loss")}

    assert train_here(*settings, "hydra.run.dir=resumed").code == 0
    assert train_here("resume=resumed", "trainer.max_epochs=2").code == 0
    assert different(outcome(resumed), outcome(whole)) == []
    resumed.metrics.unlink()  # as if it was killed before it wrote its metrics
    assert train_here("resume=resumed").code == 0
    assert different(outcome(resumed), outcome(whole)) == []
