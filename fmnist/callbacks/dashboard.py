"""Shows the panels of the dashboard what there is to draw, when it is there."""

import logging
from collections.abc import Sequence
from typing import Literal

from lightning.pytorch import Callback, Trainer

from fmnist.classifier import Classifier
from fmnist.dashboard.panel import Moment, Panel, View
from fmnist.evaluation import Evaluation
from fmnist.logger import tensorboards

log = logging.getLogger(__name__)


class Dashboard(Callback):
    """Draws the panels for TensorBoard, each at its moments; nothing for another logger.

    One callback for all, since each costs time on every training step, whatever it does.

    Args:
        panels: What to draw.
        final: ``test`` if a test will follow the training, else ``val``.
    """

    def __init__(self, *, panels: Sequence[Panel], final: Literal["test", "val"]) -> None:
        self.panels = panels
        self.final = final
        self._last: tuple[int, int] | None = None  # epoch, counted from 1, and step of the last validation

    def on_validation_end(self, trainer: Trainer, pl_module: Classifier) -> None:
        if trainer.sanity_checking:
            return
        epoch, step = self._last = (trainer.current_epoch + 1, trainer.global_step)
        moments = {Moment.EPOCH, Moment.MILESTONE} if is_milestone(epoch) else {Moment.EPOCH}
        self._draw(moments, set(), trainer, pl_module, "val", epoch, step)

    def on_train_end(self, trainer: Trainer, pl_module: Classifier) -> None:
        if self._last is not None:
            epoch, step = self._last
            moments = {Moment.LAST, Moment.FINAL} if self.final == "val" else {Moment.LAST}
            drawn = {Moment.MILESTONE} if is_milestone(epoch) else set()
            self._draw(moments, drawn, trainer, pl_module, "val", epoch, step)

    def on_test_end(self, trainer: Trainer, pl_module: Classifier) -> None:
        self._draw({Moment.FINAL}, set(), trainer, pl_module, "test", None, trainer.global_step)

    def _draw(
        self,
        moments: set[Moment],
        drawn: set[Moment],
        trainer: Trainer,
        classifier: Classifier,
        split: str,
        epoch: int | None,
        step: int,
    ) -> None:
        panels = [panel for panel in self.panels if panel.moments & moments and not panel.moments & drawn]
        loggers = list(tensorboards(trainer))
        if not panels or not loggers:
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        metrics = classifier.test_metrics if split == "test" else classifier.val_metrics
        if not metrics.logits().isfinite().all():
            log.warning("nothing is drawn of the %s split: not all that the network says is finite", split)
            return
        dataset, indices = data.part(split)
        evaluation = Evaluation.of(dataset, indices, metrics.logits())
        for logger in loggers:
            view = View(logger.experiment, split, epoch, step, evaluation, classifier.network, data)
            for panel in panels:
                panel.draw(view)


def is_milestone(epoch: int) -> bool:
    """Whether an epoch, counted from 1, is one of 1, 10, 100 ..."""
    return str(epoch).rstrip("0") == "1"
