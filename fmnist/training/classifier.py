"""The LightningModule: cross entropy, metrics, optimizer and schedule."""

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from fmnist.data.batches import Batch
from fmnist.data.spec import DataSpec
from fmnist.networks.normalize import Normalize
from fmnist.training.lightning_internals import QuickModule
from fmnist.training.loggers import log_now
from fmnist.training.metrics import EpochMetrics, EvaluationMetrics
from fmnist.training.optimizer import OptimizerFactory, make_optimizer


class SchedulerFactory(Protocol):
    """Makes a schedule from an optimizer and the number of optimizer steps."""

    def __call__(self, optimizer: Optimizer, /, *, total_steps: float) -> LRScheduler: ...


class Classifier(QuickModule):
    """Trains a network to classify images.

    Logs ``{train,val,test}/{loss,acc}`` once per epoch and ``train/loss_step`` every ``log_every_n_steps`` steps.

    Args:
        network: From raw pixels [B, C, H, W] to logits [B, num_classes].
        optimizer: Makes the optimizer.
        scheduler: Makes the learning-rate schedule, which advances after each optimizer step.
        data: Classes and shape of the images, kept in every checkpoint.
        label_smoothing: Share of each training target that is spread over all classes, at least 0 and below 1
            (https://arxiv.org/abs/1512.00567). Part of ``train/loss`` only.
        compile_mode: Mode of ``torch.compile``, applied when training starts; None runs the network eagerly.
    """

    def __init__(
        self,
        *,
        network: nn.Module,
        optimizer: OptimizerFactory,
        scheduler: SchedulerFactory,
        data: DataSpec,
        label_smoothing: float = 0.0,
        compile_mode: str | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.label_smoothing = label_smoothing
        self.compile_mode = compile_mode
        self.class_weights: Tensor | None = None  # of the data module, when training starts
        self.data = data
        self.train_metrics = EpochMetrics(data.num_classes)
        self.val_metrics = EvaluationMetrics(data.num_classes)
        self.test_metrics = EvaluationMetrics(data.num_classes)
        self.example_input_array = torch.zeros(1, *data.image_shape, dtype=torch.uint8)  # for the graph

    def forward(self, images: Tensor) -> Tensor:
        """Raw pixels [B, C, H, W] to logits [B, num_classes]."""
        logits: Tensor = self.network(images)
        return logits

    def setup(self, stage: str) -> None:
        if stage != "fit":
            return
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        for layer in self.network.modules():
            if isinstance(layer, Normalize) and layer.missing:
                layer.set_missing(*data.pixel_statistics)
        self.class_weights = data.loss_weights() if data else None
        if self.compile_mode is not None:
            self.network.compile(mode=self.compile_mode)  # in place: the names of the weights stay the same

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["data"] = self.data.to_dict()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images, targets = batch
        logits = self(images)
        loss = self._training_loss(logits, targets)
        classes = targets if targets.dim() == 1 else targets.argmax(dim=1)  # of mixed images, the largest share
        self.train_metrics.update(loss.detach(), logits.detach(), classes)
        # One call of self.log costs as much as a layer of a small network: log only the steps that are written.
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every > 0 and (self.global_step + 1) % every == 0:
            self.log("train/loss_step", loss, on_step=True, on_epoch=False, sync_dist=self.trainer.world_size > 1)
        return loss

    def _training_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        if self.class_weights is None:
            return F.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)
        weights = self.class_weights.to(logits.device)
        # Not torch's weighted mean, which divides by the weights of the batch: rare classes would count less again.
        losses = F.cross_entropy(logits, targets, weights, label_smoothing=self.label_smoothing, reduction="sum")
        return losses / len(logits)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._evaluate(batch, self.val_metrics)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._evaluate(batch, self.test_metrics)

    def _evaluate(self, batch: Batch, metrics: EvaluationMetrics) -> None:
        images, targets = batch
        logits = self(images)
        metrics.update(F.cross_entropy(logits, targets), logits, targets)

    def on_train_epoch_start(self) -> None:
        self.train_metrics.reset()

    def on_validation_epoch_start(self) -> None:
        self.val_metrics.reset()

    def on_test_epoch_start(self) -> None:
        self.test_metrics.reset()

    def on_train_epoch_end(self) -> None:
        self._log_epoch("train", self.train_metrics, logger=False)
        metrics = {f"train/{name}": value.item() for name, value in self.train_metrics.compute().items()}
        log_now(self.trainer, {**metrics, "epoch": self.current_epoch})

    def on_validation_epoch_end(self) -> None:
        self._log_epoch("val", self.val_metrics)

    def on_test_epoch_end(self) -> None:
        self._log_epoch("test", self.test_metrics)

    def _log_epoch(self, split: str, metrics: EpochMetrics, logger: bool | None = None) -> None:
        values = {f"{split}/{name}": value for name, value in metrics.compute().items()}
        self.log_dict(values, logger=logger, batch_size=1)

    def make_optimizer(self) -> Optimizer:
        return make_optimizer(self.optimizer, self.network)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = self.make_optimizer()
        scheduler = self.scheduler(optimizer, total_steps=self.trainer.estimated_stepping_batches)
        config: dict[str, Any] = {"scheduler": scheduler, "interval": "step", "name": "lr"}
        return {"optimizer": optimizer, "lr_scheduler": config}  # type: ignore[return-value]
