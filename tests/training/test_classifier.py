"""The LightningModule: random numbers, loss, number of log calls, learning-rate steps."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import LambdaCallback
from lightning.pytorch.loggers import CSVLogger
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn
from torch.utils.data import DataLoader

from fmnist.config.errors import UserError
from fmnist.data.batches import Batch, SeededBatchSampler
from fmnist.data.dataset import AugmentedDataset, ImageDataset
from fmnist.data.fashion_mnist import FashionMNIST
from fmnist.networks.cnn import CNN
from fmnist.training.callbacks.step_seeds import StepSeeds
from fmnist.training.classifier import Classifier
from fmnist.training.optimizer import OptimizerFactory
from fmnist.training.schedule_check import check_more_epochs
from fmnist.training.scheduler import Constant, Cosine, Linear

pytestmark = pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`")

Loader = DataLoader[Batch]
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


def classifier(scheduler: Any = Constant, **arguments: Any) -> Classifier:
    torch.manual_seed(1)
    optimizer = partial(torch.optim.SGD, lr=0.1)
    defaults = {"network": Network(), "optimizer": optimizer, "scheduler": scheduler, "data": FashionMNIST.spec}
    return Classifier(**defaults | arguments)


@pytest.fixture
def loader() -> Loader:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (SIZE, 1, 28, 28), generator=generator, dtype=torch.uint8)
    labels = torch.randint(10, (SIZE,), generator=generator)
    sampler = SeededBatchSampler(torch.arange(SIZE), set_size=SIZE, num_classes=10, batch_size=BATCH_SIZE, seed=2)
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


@pytest.mark.parametrize(
    "optimizer",
    [partial(torch.optim.SGD, lr=0.1), partial(torch.optim.AdamW, lr=0.01, weight_decay=0.3)],
    ids=["no decay", "decay"],
)
def test_resumed_run_equals_uninterrupted_run(optimizer: OptimizerFactory, tmp_path: Path, loader: Loader) -> None:
    def save(trainer: Trainer, _module: Classifier) -> None:
        if trainer.current_epoch == 0:
            trainer.save_checkpoint(tmp_path / "first.ckpt")
            torch.rand(7)  # other code draws in the meantime

    whole, resumed = (classifier(partial(Linear, warmup=0.5), optimizer=optimizer) for _ in range(2))
    trainer(tmp_path, max_epochs=3, callbacks=[LambdaCallback(on_train_epoch_end=save)]).fit(whole, loader)
    trainer(tmp_path, max_epochs=3).fit(resumed, loader, ckpt_path=tmp_path / "first.ckpt", weights_only=True)
    assert set(whole.state_dict()) == {"network.linear.weight", "network.linear.bias"}
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


class Recorder(Callback):
    """Records loss and size of each batch, and draws a random number after it, as any callback may."""

    def __init__(self) -> None:
        self.batches: list[tuple[float, int]] = []
        self.draws: list[float] = []

    def on_train_batch_end(self, _trainer: Any, _module: Any, outputs: Any, batch: Batch, *_args: Any) -> None:
        self.batches.append((outputs["loss"].item(), len(batch[1])))
        self.draws.append(torch.rand(1).item())


def test_each_step_has_its_own_random_numbers_whatever_callbacks_draw(tmp_path: Path, loader: Loader) -> None:
    alone, accompanied, recorder = classifier(), classifier(), Recorder()
    trainer(tmp_path).fit(alone, loader)
    trainer(tmp_path, callbacks=[recorder]).fit(accompanied, loader)
    assert len(set(recorder.draws)) == 20
    for name, tensor in alone.state_dict().items():
        assert torch.equal(tensor, accompanied.state_dict()[name]), name


def test_loss_of_an_epoch_is_the_mean_over_samples(tmp_path: Path, loader: Loader) -> None:
    """The last batch is short. A sanity check before training does not count."""
    recorder, module = Recorder(), classifier()
    fit = trainer(tmp_path, max_epochs=1, callbacks=[recorder], num_sanity_val_steps=2)
    fit.fit(module, loader, loader)
    assert [size for _, size in recorder.batches] == [10] * 9 + [5]
    mean = sum(loss * size for loss, size in recorder.batches) / SIZE
    assert fit.callback_metrics["train/loss"].item() == pytest.approx(mean)
    assert module.val_metrics.count == SIZE


@pytest.mark.parametrize("mixed", [False, True])
def test_balanced_weights_make_all_classes_count_alike(mixed: bool) -> None:
    """Against scikit-learn's weights and a sum written out."""
    module = classifier(label_smoothing=0.1)
    labels = torch.tensor([0, 0, 0, 1, 1, 9, 9, 9, 9, 9])
    weights = ImageDataset(torch.zeros(10, 1, 28, 28), labels).balanced_weights(torch.arange(10), 10)
    expected = compute_class_weight("balanced", classes=np.array([0, 1, 9]), y=labels.numpy())
    np.testing.assert_allclose(weights[[0, 1, 9]] * 10 / 3, expected, rtol=1e-6)  # three of ten classes have images
    module.class_weights = weights
    logits = torch.randn(10, 10)
    targets = torch.rand(10, 10).softmax(dim=1) if mixed else F.one_hot(labels, 10).float()
    smooth = 0.9 * targets + 0.01
    by_hand = -(smooth * weights * logits.log_softmax(dim=1)).sum() / 10
    torch.testing.assert_close(module._training_loss(logits, targets if mixed else labels), by_hand)


def test_labels_are_smoothed_in_training_only(tmp_path: Path, loader: Loader) -> None:
    """Against the cross entropy of the targets written out: 0.3 of each spread evenly over ten classes."""
    network = CNN().double()
    module = classifier(network=network, optimizer=partial(torch.optim.SGD, lr=0.0), label_smoothing=0.3)
    fit = trainer(tmp_path, max_epochs=1)
    fit.fit(module, loader, loader)

    samples: Any = loader.dataset.dataset  # type: ignore[attr-defined]
    with torch.no_grad():
        probabilities = network(samples.images).log_softmax(dim=1)
    hard = F.one_hot(samples.labels, 10).double()
    smooth = 0.7 * hard + 0.3 * torch.full((SIZE, 10), 0.1, dtype=torch.double)
    for name, targets in (("train/loss", smooth), ("val/loss", hard)):
        expected = -(targets * probabilities).sum(dim=1).mean().item()
        assert fit.callback_metrics[name].item() == pytest.approx(expected, rel=1e-6), name


@pytest.mark.parametrize("every", [1, 4])
def test_log_is_called_only_for_the_steps_that_are_written(
    every: int, tmp_path: Path, loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call of self.log costs as much as a layer of a small network."""
    logged: list[str] = []
    log = Classifier.log

    def noting_log(self: Classifier, name: str, *args: Any, **kwargs: Any) -> None:
        logged.append(name)
        log(self, name, *args, **kwargs)

    monkeypatch.setattr(Classifier, "log", noting_log)
    logger = CSVLogger(tmp_path)
    trainer(tmp_path, log_every_n_steps=every, logger=logger).fit(classifier(), loader)
    assert sorted(logged) == ["train/acc"] * 2 + ["train/loss"] * 2 + ["train/loss_step"] * (20 // every)
    assert set(logger.experiment.metrics_keys) == {"step", "epoch", "train/acc", "train/loss", "train/loss_step"}


def test_schedule_advances_after_each_optimizer_step_until_the_end(tmp_path: Path, loader: Loader) -> None:
    fit = trainer(tmp_path)
    fit.fit(classifier(Cosine), loader)
    assert fit.optimizers[0].param_groups[0]["lr"] == pytest.approx(0)


def test_run_may_be_extended_if_its_learning_rates_so_far_stay_the_same() -> None:
    check_more_epochs(classifier(Constant), 1, 3)
    check_more_epochs(classifier(partial(Linear, warmup=0.0, end_factor=1.0)), 1, 3)
    message = r"planned for 1 epochs: with trainer\.max_epochs=2, the learning-rate schedule would differ"
    for schedule in (Cosine, Linear):
        with pytest.raises(UserError, match=message):
            check_more_epochs(classifier(schedule), 1, 2)
