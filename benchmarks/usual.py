"""The usual Lightning project, as most templates write it.

After Lightning's own documentation ("Lightning in 15 minutes", "LightningDataModule") and lightning-hydra-template:
torchvision's data set with ToTensor, DataLoader, torchmetrics objects called and logged on every step, loss with
on_step and on_epoch, a validation split with a ModelCheckpoint, TensorBoard, the default progress bar, default Adam.
"""

import tempfile
import time
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.data import DataLoader, Subset, random_split
from torchmetrics import MaxMetric, MeanMetric
from torchmetrics.classification import MulticlassAccuracy
from torchvision import transforms
from torchvision.datasets import FashionMNIST

from benchmarks.peer import Settings, main
from fmnist.fetch import CACHE
from fmnist.model import CNN


class LitClassifier(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.network = CNN(pixel_std=1.0)  # ToTensor has divided already
        self.train_acc = MulticlassAccuracy(10, average="micro")
        self.val_acc = MulticlassAccuracy(10, average="micro")
        self.train_loss, self.val_loss, self.val_acc_best = MeanMetric(), MeanMetric(), MaxMetric()

    def step(self, batch: Any) -> tuple[Tensor, Tensor, Tensor]:
        images, labels = batch
        logits = self.network(images)
        return F.cross_entropy(logits, labels), logits.argmax(dim=1), labels

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss, preds, labels = self.step(batch)
        self.train_loss(loss)
        self.train_acc(preds, labels)
        self.log("train/loss", self.train_loss, on_step=True, on_epoch=True, prog_bar=True)
        self.log("train/acc", self.train_acc, on_step=True, on_epoch=True, prog_bar=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        loss, preds, labels = self.step(batch)
        self.val_loss(loss)
        self.val_acc(preds, labels)
        self.log("val/loss", self.val_loss, on_step=False, on_epoch=True, prog_bar=True)
        self.log("val/acc", self.val_acc, on_step=False, on_epoch=True, prog_bar=True)

    def on_validation_epoch_end(self) -> None:
        self.val_acc_best(self.val_acc.compute())
        self.log("val/acc_best", self.val_acc_best.compute(), prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.01)


class EpochSeconds(Callback):
    """From the start of one epoch to the start of the next, with everything in between."""

    def __init__(self) -> None:
        self.starts: list[float] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.starts.append(time.perf_counter())

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.starts.append(time.perf_counter())


def epochs(settings: Settings) -> list[float]:
    full = FashionMNIST(CACHE.parents[1], train=True, transform=transforms.ToTensor())
    val_images = settings.images // 11  # 5,000 beside 55,000
    train, val, _ = random_split(full, [settings.images, val_images, len(full) - settings.images - val_images])
    assert isinstance(train, Subset)
    clock = EpochSeconds()
    with tempfile.TemporaryDirectory() as directory:
        trainer = Trainer(
            max_epochs=settings.epochs,
            accelerator="cpu",
            devices=1,
            logger=TensorBoardLogger(directory),
            callbacks=[clock, ModelCheckpoint(monitor="val/acc", mode="max", save_last=True)],
        )
        trainer.fit(
            LitClassifier(),
            DataLoader(train, batch_size=settings.batch_size, shuffle=True),
            DataLoader(val, batch_size=settings.batch_size),
        )
    return [end - start for start, end in zip(clock.starts, clock.starts[1:], strict=False)]


if __name__ == "__main__":
    main(epochs)
