"""The usual Lightning project, as most templates write it.

It does what lightning-hydra-template does, the template that most people start from (its ``MNISTLitModule`` and
``MNISTDataModule``, as of 2023, its last release), and Lightning's own documentation of the LightningDataModule:
torchvision's data set, ToTensor and Normalize for each image, a DataLoader without workers, a random validation split,
torchmetrics objects called and logged on every step, ModelCheckpoint and EarlyStopping. Where the template leaves the
choice to its user: TensorBoard, and Adam as torch has it by default. Lightning's default progress bar stands for the
template's, which is rich's and slower. The template itself, trained on the same data, network and batch size in a
terminal, took 9.4 s an epoch on the day when this took 8.2 s.
"""

import tempfile
import time
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.data import DataLoader, Subset, random_split
from torchmetrics import MaxMetric, MeanMetric
from torchmetrics.classification import MulticlassAccuracy
from torchvision import transforms
from torchvision.datasets import FashionMNIST

from benchmarks.notebook import Network
from benchmarks.peer import Settings, main
from fmnist.data.download import CACHE


class LitClassifier(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.network = Network()
        self.train_acc = MulticlassAccuracy(10, average="micro")
        self.val_acc = MulticlassAccuracy(10, average="micro")
        self.test_acc = MulticlassAccuracy(10, average="micro")
        self.train_loss, self.val_loss, self.test_loss = MeanMetric(), MeanMetric(), MeanMetric()
        self.val_acc_best = MaxMetric()

    def step(self, batch: Any) -> tuple[Tensor, Tensor, Tensor]:
        images, labels = batch
        logits = self.network(images)
        return F.cross_entropy(logits, labels), logits.argmax(dim=1), labels

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss, preds, labels = self.step(batch)
        self.train_loss(loss)
        self.train_acc(preds, labels)
        self.log("train/loss", self.train_loss, on_step=False, on_epoch=True, prog_bar=True)
        self.log("train/acc", self.train_acc, on_step=False, on_epoch=True, prog_bar=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        loss, preds, labels = self.step(batch)
        self.val_loss(loss)
        self.val_acc(preds, labels)
        self.log("val/loss", self.val_loss, on_step=False, on_epoch=True, prog_bar=True)
        self.log("val/acc", self.val_acc, on_step=False, on_epoch=True, prog_bar=True)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        loss, preds, labels = self.step(batch)
        self.test_loss(loss)
        self.test_acc(preds, labels)
        self.log("test/loss", self.test_loss, on_step=False, on_epoch=True, prog_bar=True)
        self.log("test/acc", self.test_acc, on_step=False, on_epoch=True, prog_bar=True)

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
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.2860,), (0.3530,))])
    full = FashionMNIST(CACHE.parents[1], train=True, transform=transform)
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
            callbacks=[
                clock,
                ModelCheckpoint(monitor="val/acc", mode="max", save_last=True),
                EarlyStopping(monitor="val/acc", mode="max", patience=100),
                TQDMProgressBar(),  # the default where rich is not installed
            ],
        )
        trainer.fit(
            LitClassifier(),
            DataLoader(train, batch_size=settings.batch_size, shuffle=True),
            DataLoader(val, batch_size=settings.batch_size),
        )
        test_set = FashionMNIST(CACHE.parents[1], train=False, transform=transform)
        trainer.test(dataloaders=DataLoader(test_set, batch_size=settings.batch_size), ckpt_path="best")
    return [end - start for start, end in zip(clock.starts, clock.starts[1:], strict=False)]


if __name__ == "__main__":
    main(epochs)
