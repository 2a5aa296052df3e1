"""A loss that is not finite ends the run with one line that names its step and images."""

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fmnist.data.dataset import ImageDataset
from fmnist.networks.cnn import CNN
from fmnist.runs.run_directory import RunDirectory
from fmnist.training.callbacks.non_finite_loss import NonFiniteLoss
from tests.helpers import TINY, TrainHere, one_line
from tests.training.test_classifier import classifier, loader, trainer

__all__ = ["loader"]  # a fixture

SHORT = [*TINY, "trainer.max_epochs=3", "trainer.limit_train_batches=10", "trainer.log_every_n_steps=3"]
SHORT += ["scheduler=cosine", "optimizer.lr=0.001", "hydra.run.dir=run"]


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("overrides", "place"),
    [
        ([], (1, 1, 1)),
        ([], (14, 4, 2)),
        (["data.val_size=0", "trainer.log_every_n_steps=0"], (20, 10, 2)),  # only seen when the epoch ends
        (["trainer.val_check_interval=0.5", "trainer.log_every_n_steps=0"], (14, 4, 2)),
        (["trainer.accumulate_grad_batches=5"], (3, 4, 2)),
    ],
)
def test_first_non_finite_loss_is_named_and_the_last_checkpoint_is_good(
    overrides: list[str],
    place: tuple[int, int, int],
    train_here: TrainHere,
    monkeypatch: pytest.MonkeyPatch,
    train_set: ImageDataset,
) -> None:
    step, batch, epoch = place
    batches: list[Tensor] = []
    number = 10 * (epoch - 1) + batch
    forward = CNN.forward

    def poisoned(self: CNN, images: Tensor) -> Tensor:
        if self.training and torch.is_grad_enabled():
            batches.append(images)
        return forward(self, images) * (math.nan if len(batches) >= number else 1)

    monkeypatch.setattr(CNN, "forward", poisoned)
    line = one_line(train_here(*SHORT, *overrides))
    where = f"the loss is nan in step {step}, batch {batch} of epoch {epoch}, at learning rate "
    assert where in line
    total = 3 * (2 if "trainer.accumulate_grad_batches=5" in overrides else 10)
    expected = 0.001 * (1 + math.cos(math.pi * (step - 1) / total)) / 2
    assert float(line.partition(where)[2].partition(":")[0]) == pytest.approx(expected, rel=1e-4)
    samples = torch.tensor([int(sample) for sample in re.findall(r"\d+", line.partition("images of the batch: ")[2])])
    assert torch.equal(train_set[samples][0], batches[number - 1])

    run = RunDirectory("run")
    if epoch == 1:
        assert "no epoch was finished, so there is no checkpoint" in line
        assert not run.last_checkpoint.exists()
    else:
        assert f"kept: {run.last_checkpoint.absolute()}" in line
        weights = torch.load(run.last_checkpoint, weights_only=True)["state_dict"]
        assert all(tensor.isfinite().all() for tensor in weights.values())
    manifest = run.read_manifest() or {}
    assert manifest["state"] == "failed"
    assert where in manifest["error"]


@pytest.mark.real_data
def test_gradient_clipping_prevents_a_non_finite_loss(train_here: TrainHere) -> None:
    wild = [*TINY, "optimizer=sgd", "optimizer.lr=1e20"]
    assert "the loss is" in one_line(train_here(*wild, "hydra.run.dir=wild"))
    assert train_here(*wild, "trainer.gradient_clip_val=1e-21", "hydra.run.dir=clipped").code == 0


def test_each_loss_is_checked_once(tmp_path: Path, loader: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fit = trainer(tmp_path, max_epochs=2, callbacks=[NonFiniteLoss()], log_every_n_steps=4)
    checked: list[int] = []

    def noting_reduce(tensor: Tensor, *_args: Any, **_kwargs: Any) -> Tensor:
        checked.extend(tensor.shape)
        return tensor

    monkeypatch.setattr(fit.strategy, "reduce", noting_reduce)
    fit.fit(classifier(), loader, loader)
    assert checked == [4, 4, 2, 2, 4, 4]  # after steps 4, 8, 12, 16 and 20, and before the first validation
