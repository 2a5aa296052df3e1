"""The LightningModule: random numbers, number of log calls, learning rate steps."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader

from fmnist.data.batches import Batch, SeededBatchSampler
from fmnist.data.dataset import AugmentedDataset, ImageDataset
from fmnist.training.callbacks.step_seeds import StepSeeds
from fmnist.training.classifier import Classifier
from fmnist.training.optimizer import OptimizerFactory
from fmnist.training.scheduler import Constant, Cosine

pytestmark = pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`")

SIZE, BATCH_SIZE = 95, 10  # the last batch is short


class Network(nn.Module):
    """A linear network with dropout, which draws from torch's global generator."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)
        self.linear = nn.Linear(28 * 28, 10)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.dropout(images.flatten(1) / 255))
        return logits


class Doubles(nn.Module):
    """A network that calculates in float64."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images.double() / 255)
        return logits


def classifier(scheduler: Any = Constant, **arguments: Any) -> Classifier:
    torch.manual_seed(1)
    optimizer = partial(torch.optim.SGD, lr=0.1)
    return Classifier(**{"network": Network(), "optimizer": optimizer, "scheduler": scheduler} | arguments)


@pytest.fixture
def loader() -> DataLoader[Batch]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (SIZE, 1, 28, 28), generator=generator, dtype=torch.uint8)
    labels = torch.randint(10, (SIZE,), generator=generator)
    sampler = SeededBatchSampler(torch.arange(SIZE), batch_size=BATCH_SIZE, seed=2)
    return DataLoader(AugmentedDataset(ImageDataset(images, labels)), sampler=sampler, batch_size=None)


def trainer(tmp_path: Path, *, callbacks: Sequence[Callback] = (), **arguments: Any) -> Trainer:
    defaults: dict[str, Any] = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "max_epochs": 2,
        "default_root_dir": tmp_path,
        "callbacks": [*callbacks, StepSeeds(seed=5)],
    }
    return Trainer(**(defaults | arguments))


OPTIMIZERS = {
    "no decay": partial(torch.optim.SGD, lr=0.1),
    "decay": partial(torch.optim.AdamW, lr=0.01, weight_decay=0.3),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_run_resumed_after_an_epoch_equals_an_uninterrupted_one(
    optimizer: OptimizerFactory, tmp_path: Path, loader: DataLoader[Batch]
) -> None:
    whole = classifier(optimizer=optimizer)
    trainer(tmp_path, max_epochs=3).fit(whole, loader)

    first = trainer(tmp_path, max_epochs=1)
    first.fit(classifier(optimizer=optimizer), loader)
    first.save_checkpoint(tmp_path / "first.ckpt")
    torch.rand(7)  # whatever else draws in the meantime
    resumed = classifier(optimizer=optimizer)
    trainer(tmp_path, max_epochs=3).fit(resumed, loader, ckpt_path=tmp_path / "first.ckpt", weights_only=True)

    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


class Recorder(Callback):
    """Draws a number after each step, as any callback may."""

    def __init__(self) -> None:
        self.draws: list[float] = []

    def on_train_batch_end(self, *_args: Any) -> None:
        self.draws.append(torch.rand(1).item())


def test_a_callback_that_draws_random_numbers_does_not_change_the_weights(
    tmp_path: Path, loader: DataLoader[Batch]
) -> None:
    alone, accompanied = classifier(), classifier()
    trainer(tmp_path).fit(alone, loader)
    trainer(tmp_path, callbacks=[Recorder()]).fit(accompanied, loader)
    assert torch.equal(alone.network.linear.weight, accompanied.network.linear.weight)  # type: ignore[arg-type, union-attr]


def test_each_step_drops_out_differently(tmp_path: Path, loader: DataLoader[Batch]) -> None:

    recorder = Recorder()
    trainer(tmp_path, max_epochs=3, callbacks=[recorder]).fit(classifier(), loader)
    assert len(set(recorder.draws)) == 30


def test_the_epochs_loss_is_the_mean_over_samples_though_the_last_batch_is_short(
    tmp_path: Path, loader: DataLoader[Batch]
) -> None:
    losses: list[tuple[float, int]] = []

    class Losses(Callback):
        def on_train_batch_end(self, _trainer: Any, _module: Any, outputs: Any, batch: Batch, *_args: Any) -> None:
            losses.append((outputs["loss"].item(), len(batch[1])))

    fit = trainer(tmp_path, max_epochs=1, callbacks=[Losses()])
    fit.fit(classifier(), loader)
    assert [size for _, size in losses] == [10] * 9 + [5]
    mean = sum(loss * size for loss, size in losses) / SIZE
    assert fit.callback_metrics["train/loss"].item() == pytest.approx(mean)


def test_labels_are_smoothed_in_training_alone(tmp_path: Path, loader: DataLoader[Batch]) -> None:
    """Against the cross entropy of the targets written out: 0.3 of each spread evenly over ten classes."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 10)).to(torch.double)
    module = classifier(network=Doubles(network), optimizer=partial(torch.optim.SGD, lr=0.0), label_smoothing=0.3)
    fit = trainer(tmp_path, max_epochs=1)
    fit.fit(module, loader, loader)

    samples: Any = loader.dataset.dataset  # type: ignore[attr-defined]
    with torch.no_grad():
        probabilities = network(samples.images.double() / 255).log_softmax(dim=1)
    hard = F.one_hot(samples.labels, 10).double()
    smooth = 0.7 * hard + 0.3 * torch.full((SIZE, 10), 0.1, dtype=torch.double)
    for name, targets in (("train/loss", smooth), ("val/loss", hard)):
        expected = -(targets * probabilities).sum(dim=1).mean().item()
        assert fit.callback_metrics[name].item() == pytest.approx(expected, rel=1e-6), name


def test_a_sanity_check_does_not_enter_the_epochs_figures(tmp_path: Path, loader: DataLoader[Batch]) -> None:
    module = classifier()
    fit = trainer(tmp_path, max_epochs=1, num_sanity_val_steps=2)
    fit.fit(module, loader, loader)
    assert module.val_metrics.count == SIZE


def test_log_is_called_for_the_steps_that_are_written_and_not_for_the_others(
    tmp_path: Path, loader: DataLoader[Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call of self.log costs as much as a layer of a small network."""
    module = classifier()
    logged: list[str] = []
    log = Classifier.log

    def noting_log(self: Classifier, name: str, *args: Any, **kwargs: Any) -> None:
        logged.append(name)
        log(self, name, *args, **kwargs)

    monkeypatch.setattr(Classifier, "log", noting_log)
    fit = trainer(tmp_path, log_every_n_steps=4, logger=CSVLogger(tmp_path), max_epochs=2)
    fit.fit(module, loader)
    assert logged.count("train/loss_step") == 20 // 4
    assert logged.count("train/loss") == logged.count("train/acc") == 2
    assert len(logged) == 20 // 4 + 2 * 2


def test_the_schedule_is_stepped_after_each_optimizer_step_until_the_end(
    tmp_path: Path, loader: DataLoader[Batch]
) -> None:
    fit = trainer(tmp_path, max_epochs=2)
    fit.fit(classifier(Cosine), loader)
    assert fit.optimizers[0].param_groups[0]["lr"] == pytest.approx(0)


def test_only_the_networks_weights_are_in_the_state() -> None:
    assert set(classifier().state_dict()) == {"network.linear.weight", "network.linear.bias"}
