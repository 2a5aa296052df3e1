"""A loss that is not finite ends the run with one line that names its step and images."""

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fmnist.data.fashion_mnist import FashionMNIST
from fmnist.runs.run_directory import RunDirectory
from fmnist.training.callbacks.non_finite_loss import NonFiniteLoss
from tests.conftest import Outcome, one_line

pytestmark = pytest.mark.real_data

TrainHere = Callable[..., Outcome]


class Poisoned(torch.nn.Module):
    """Returns NaN from a given training batch on."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.out = torch.nn.Linear(784, 10)
        self.left = after

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.out(images.flatten(1).float() / 255)
        if self.training and torch.is_grad_enabled():
            self.left -= 1
            if self.left < 0:
                return logits * float("nan")
        return logits


def trained(after: int, overrides: list[str], train_here: TrainHere) -> Outcome:
    return train_here(
        *("experiment=smoke", "trainer.max_epochs=3", "threads=1", "hydra.run.dir=run", "trust=[tests]"),
        *("model._target_=tests.training.test_non_finite_loss.Poisoned", f"+model.after={after}"),
        *(f"~model.{name}" for name in ("in_channels", "num_classes", "pixel_mean", "pixel_std")),
        *overrides,
    )


@pytest.mark.parametrize(
    ("after", "overrides", "step", "batch", "epoch"),
    [
        (0, [], 1, 1, 1),
        (63, [], 64, 14, 2),
        (99, [], 100, 50, 2),
        (99, ["data.val_size=0", "trainer.log_every_n_steps=0"], 100, 50, 2),  # only seen when the epoch ends
        (63, ["trainer.val_check_interval=0.5", "trainer.log_every_n_steps=0"], 64, 14, 2),
        (63, ["trainer.accumulate_grad_batches=5"], 13, 14, 2),
    ],
)
def test_the_first_non_finite_loss_is_named_and_the_last_checkpoint_is_good(
    after: int,
    overrides: list[str],
    step: int,
    batch: int,
    epoch: int,
    train_here: TrainHere,
    tmp_path: Path,
    official: Path,
) -> None:
    line = one_line(trained(after, [*overrides, "scheduler=cosine", "optimizer.lr=0.001"], train_here))
    told = f"the loss is nan in step {step}, batch {batch} of epoch {epoch}, at learning rate "
    assert told in line
    total = 3 * (10 if "trainer.accumulate_grad_batches=5" in overrides else 50)
    expected = 0.001 * (1 + torch.cos(torch.tensor(torch.pi * (step - 1) / total)).item()) / 2
    assert float(line.partition(told)[2].partition(":")[0]) == pytest.approx(expected, rel=1e-4)

    data = FashionMNIST(data_dir=str(official), val_size=0 if "data.val_size=0" in overrides else 5000)
    data.setup("fit")
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch - 1)  # type: ignore[attr-defined]
    images = [images for images, _ in loader][batch - 1]
    samples = torch.tensor([int(number) for number in re.findall(r"\d+", line.partition("images of the batch: ")[2])])
    assert torch.equal(data.train_set[samples][0], images)

    run = RunDirectory(tmp_path / "run")
    if epoch == 1:
        assert "no epoch was finished, so there is no checkpoint" in line
        assert not run.last_checkpoint.exists()
    else:
        assert "kept: " in line
        weights = torch.load(run.last_checkpoint, weights_only=True)["state_dict"]
        assert all(tensor.isfinite().all() for tensor in weights.values())
    manifest = run.read_manifest()
    assert manifest is not None
    assert manifest["state"] == "failed"
    assert told in manifest["error"]
    assert not run.finished


def test_gradient_clipping_prevents_a_non_finite_loss(train_here: TrainHere) -> None:
    wild = ["experiment=smoke", "threads=1", "dashboard=none", "optimizer=sgd", "optimizer.lr=1e20"]
    assert "the loss is" in one_line(train_here(*wild, "hydra.run.dir=wild"))
    assert train_here(*wild, "trainer.gradient_clip_val=1e-21", "hydra.run.dir=clipped").code == 0


def test_each_loss_is_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[int] = []
    stack = torch.stack

    def counting_stack(tensors: list[torch.Tensor]) -> torch.Tensor:
        checked.append(len(tensors))
        return stack(tensors)

    monkeypatch.setattr(torch, "stack", counting_stack)
    optimizer = SimpleNamespace(param_groups=[{"lr": 0.1}])
    strategy = SimpleNamespace(reduce=lambda losses: losses)  # the mean over one process
    trainer: Any = SimpleNamespace(strategy=strategy, optimizers=[optimizer], log_every_n_steps=10, global_step=0)
    callback = NonFiniteLoss()
    callback.on_train_epoch_start(trainer, trainer)
    for batch in range(25):
        callback.on_train_batch_start(trainer, trainer, None, batch)
        trainer.global_step += 1
        callback.on_train_batch_end(trainer, trainer, {"loss": torch.tensor(1.0)}, None, batch)
    callback.on_validation_start(trainer, trainer)
    callback.on_train_epoch_end(trainer, trainer)
    assert checked == [10, 10, 5]
