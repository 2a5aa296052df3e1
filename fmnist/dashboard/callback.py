"""The callback that draws the panels of the dashboard."""

import logging
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from fmnist.dashboard.panel import Panel, PanelContext, Stage
from fmnist.training.classifier import Classifier
from fmnist.training.evaluation import Evaluation
from fmnist.training.loggers import tensorboards

log = logging.getLogger(__name__)


class Logits(NamedTuple):
    """The network's logits on a split, and when they were computed."""

    epoch: int | None  # counted from 1; None for the test
    step: int
    logits: Tensor  # [N, num_classes]


class Dashboard(Callback):
    """Draws each panel at its stages, for TensorBoard; other loggers get nothing.

    One callback draws all panels, since every callback adds time to each training step.

    Args:
        panels: What to draw.
        final: The split of ``Stage.FINAL``: ``test`` if a test follows the training, else ``val``.
    """

    def __init__(self, *, panels: Sequence[Panel], final: Literal["test", "val"]) -> None:
        self.panels = panels
        self.final = final
        self._last: Logits | None = None  # of the last validation
        self._resumed_after_training = False  # a process was killed between the last epoch and the last panels

    def on_validation_end(self, trainer: Trainer, pl_module: Classifier) -> None:
        if trainer.sanity_checking:
            return
        # The last step of the epoch, where Lightning logs the metrics of a validation.
        self._last = Logits(trainer.current_epoch + 1, trainer.global_step - 1, pl_module.val_metrics.logits())
        stages = {Stage.EPOCH, Stage.MILESTONE} if is_milestone(self._last.epoch) else {Stage.EPOCH}
        self._draw(self._panels(stages), "val", self._last, trainer, pl_module)

    def on_train_start(self, trainer: Trainer, pl_module: Classifier) -> None:
        self._resumed_after_training = False  # there are epochs left to train

    def on_train_end(self, trainer: Trainer, pl_module: Classifier) -> None:
        self._draw_last(trainer, pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: Classifier) -> None:
        if self._resumed_after_training:
            self._draw_last(trainer, pl_module)

    def on_test_end(self, trainer: Trainer, pl_module: Classifier) -> None:
        logits = Logits(None, trainer.global_step, pl_module.test_metrics.logits())
        self._draw(self._panels({Stage.FINAL}), "test", logits, trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: Classifier, checkpoint: dict[str, Any]) -> None:
        if self._last is not None:
            checkpoint["last_validation"] = self._last._asdict()

    def on_load_checkpoint(self, trainer: Trainer, pl_module: Classifier, checkpoint: dict[str, Any]) -> None:
        if "last_validation" in checkpoint and trainer.state.fn == TrainerFn.FITTING:
            self._last, self._resumed_after_training = Logits(**checkpoint["last_validation"]), True

    def _draw_last(self, trainer: Trainer, pl_module: Classifier) -> None:
        if self._last is None:
            return
        panels = self._panels({Stage.MILESTONE, Stage.FINAL} if self.final == "val" else {Stage.MILESTONE})
        if is_milestone(self._last.epoch):  # these were drawn after the validation
            panels = [panel for panel in panels if Stage.MILESTONE not in panel.stages]
        # One step after the last checkpoint: a run that is killed before its end draws these panels again.
        self._draw(panels, "val", self._last._replace(step=trainer.global_step), trainer, pl_module)

    def _panels(self, stages: set[Stage]) -> list[Panel]:
        return [panel for panel in self.panels if panel.stages & stages]

    def _draw(
        self, panels: Sequence[Panel], split: str, logits: Logits, trainer: Trainer, classifier: Classifier
    ) -> None:
        loggers = list(tensorboards(trainer))
        if not panels or not loggers:
            return
        epoch, step, values = logits
        if not values.isfinite().all():
            log.warning("no panels for the %s split: some logits are not finite", split)
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        dataset, indices = data.part(split)
        evaluation = Evaluation.of(dataset, indices, values)
        for logger in loggers:
            context = PanelContext(logger.experiment, split, epoch, step, evaluation, classifier.network, data)
            for panel in panels:
                panel.draw(context)


def is_milestone(epoch: int | None) -> bool:
    """Whether an epoch, counted from 1, is one of 1, 10, 100 ..."""
    return str(epoch).rstrip("0") == "1"
