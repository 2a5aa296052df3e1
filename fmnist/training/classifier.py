"""The LightningModule: cross entropy, metrics, and what optimizes the network."""

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, distributed, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from fmnist.data.batches import Batch
from fmnist.data.seeding import Stream, derive_seed, seed_generators
from fmnist.training.callbacks.non_finite_loss import Watch
from fmnist.training.loggers import log_at_once
from fmnist.training.metrics import EpochMetrics, EvaluationMetrics
from fmnist.training.optimizer import OptimizerFactory, make_optimizer


class SchedulerFactory(Protocol):
    """A schedule that lacks only its optimizer and the number of optimizer steps."""

    def __call__(self, optimizer: Optimizer, /, *, total_steps: float) -> LRScheduler: ...


class Classifier(LightningModule):
    """Trains a network to tell classes apart.

    Logs ``{train,val,test}/{loss,acc}`` once per epoch and ``train/loss_step`` every ``log_every_n_steps`` steps.

    Args:
        network: From raw pixels [B, C, H, W] to logits [B, num_classes].
        optimizer: Makes the optimizer.
        scheduler: Makes the learning rate schedule, which is stepped after each optimizer step.
        num_classes: Number of logits.
        label_smoothing: Share of the target that is spread over all classes while training, at least 0 and below 1
            (https://arxiv.org/abs/1512.00567). It is part of the ``train/loss``, and of no other.
        seed: Seed of every random choice within the training steps, such as dropout.
        compile_mode: A mode of ``torch.compile``, which then compiles the network when training starts; None runs it
            eagerly.
    """

    def __init__(
        self,
        *,
        network: nn.Module,
        optimizer: OptimizerFactory,
        scheduler: SchedulerFactory,
        num_classes: int = 10,
        label_smoothing: float = 0.0,
        seed: int = 0,
        compile_mode: str | None = None,
    ) -> None:
        super().__init__()
        # The layout in which convolutions are fastest on a processor: 9 % off an epoch of the lesson's network.
        self.network: nn.Module = network.to(memory_format=torch.channels_last)
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.label_smoothing = label_smoothing
        self.seed = seed
        self.compile_mode = compile_mode
        self.train_metrics = EpochMetrics(num_classes)
        self.val_metrics = EvaluationMetrics(num_classes)
        self.test_metrics = EvaluationMetrics(num_classes)
        self._watch = Watch()
        self._decay_all = False
        self.example_input_array = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)  # for the graph

    def __setattr__(self, name: str, value: Any) -> None:
        # Lightning notes here which hook it is in, fifty times in a training step, and torch's own __setattr__ looks
        # each time whether that is a parameter: 0.06 ms.
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def forward(self, images: Tensor) -> Tensor:
        """Raw pixels [B, C, H, W] to logits [B, num_classes]."""
        logits: Tensor = self.network(images)
        return logits

    def setup(self, stage: str) -> None:
        if stage == "fit" and self.compile_mode is not None:
            self.network.compile(mode=self.compile_mode)  # in place: the names of the weights stay as they are

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images, targets = batch
        logits = self(images)
        loss = F.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)
        classes = targets if targets.dim() == 1 else targets.argmax(dim=1)  # of a mixture, the greatest share
        self.train_metrics.update(loss.detach(), logits.detach(), classes)
        # One call of self.log costs as much as a layer of a small network, so only when it is written.
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every > 0 and (self.global_step + 1) % every == 0:
            self._watch.look(self.trainer, self.train_metrics.losses)
            self.log("train/loss_step", loss, on_step=True, on_epoch=False, sync_dist=self.trainer.world_size > 1)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._evaluate(batch, self.val_metrics)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._evaluate(batch, self.test_metrics)

    def _evaluate(self, batch: Batch, metrics: EvaluationMetrics) -> None:
        images, targets = batch
        logits = self(images)
        metrics.update(F.cross_entropy(logits, targets), logits, targets)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        epoch_seed = derive_seed(Stream.TRAINING, self.seed, self.current_epoch, self.global_rank)
        seed_generators(self.device, (epoch_seed + batch_idx) % 2**64)
        self._watch.note(self.trainer)

    def on_train_epoch_start(self) -> None:
        self.train_metrics.reset()
        self._watch.start_epoch(self.trainer)

    def on_validation_epoch_start(self) -> None:
        self.val_metrics.reset()
        if self.trainer.world_size > 1:  # each process has batch norm's averages of its own share of the batches
            for buffer in self.network.buffers():
                distributed.broadcast(buffer, src=0)

    def on_test_epoch_start(self) -> None:
        self.test_metrics.reset()

    def on_validation_start(self) -> None:
        if self.trainer.state.fn == TrainerFn.FITTING:
            self._watch.look(self.trainer, self.train_metrics.losses)

    def on_train_epoch_end(self) -> None:
        self._watch.look(self.trainer, self.train_metrics.losses)
        self._log_epoch("train", self.train_metrics, logger=False)
        figures = {f"train/{name}": value.item() for name, value in self.train_metrics.compute().items()}
        log_at_once(self.trainer, {**figures, "epoch": self.current_epoch})

    def on_validation_epoch_end(self) -> None:
        self._log_epoch("val", self.val_metrics)

    def on_test_epoch_end(self) -> None:
        self._log_epoch("test", self.test_metrics)

    def _log_epoch(self, split: str, metrics: EpochMetrics, logger: bool | None = None) -> None:
        figures = {f"{split}/{name}": value for name, value in metrics.compute().items()}
        self.log_dict(figures, logger=logger, batch_size=1)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # A run that began when all parameters decayed has one group of them, and goes on as it began.
        self._decay_all = len(checkpoint["optimizer_states"][0]["param_groups"]) == 1

    def make_optimizer(self) -> Optimizer:
        return make_optimizer(self.optimizer, self.network, decay_all=self._decay_all)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = self.make_optimizer()
        scheduler = self.scheduler(optimizer, total_steps=self.trainer.estimated_stepping_batches)
        config: dict[str, Any] = {"scheduler": scheduler, "interval": "step", "name": "lr"}
        return {"optimizer": optimizer, "lr_scheduler": config}  # type: ignore[return-value]
