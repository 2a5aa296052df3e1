"""Shows the panels of the dashboard what there is to draw, when it is there."""

import logging
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from fmnist.dashboard.panel import Moment, Panel, View
from fmnist.training.classifier import Classifier
from fmnist.training.evaluation import Evaluation
from fmnist.training.loggers import tensorboards

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
        self._last: _Seen | None = None
        self._undrawn = False  # whether a killed process has trained to the end, and not drawn the last panels

    def on_validation_end(self, trainer: Trainer, pl_module: Classifier) -> None:
        if trainer.sanity_checking:
            return
        # At the last step, as Lightning's own figures of a validation.
        self._last = _Seen(trainer.current_epoch + 1, trainer.global_step - 1, pl_module.val_metrics.logits())
        moments = {Moment.EPOCH, Moment.MILESTONE} if is_milestone(self._last.epoch) else {Moment.EPOCH}
        self._draw(moments, set(), trainer, pl_module, "val", self._last)

    def on_train_start(self, trainer: Trainer, pl_module: Classifier) -> None:
        self._undrawn = False  # there is more to train

    def on_train_end(self, trainer: Trainer, pl_module: Classifier) -> None:
        self._draw_last(trainer, pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: Classifier) -> None:
        if self._undrawn:
            self._draw_last(trainer, pl_module)

    def on_test_end(self, trainer: Trainer, pl_module: Classifier) -> None:
        test = _Seen(None, trainer.global_step, pl_module.test_metrics.logits())
        self._draw({Moment.FINAL}, set(), trainer, pl_module, "test", test)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: Classifier, checkpoint: dict[str, Any]) -> None:
        if self._last is not None:
            checkpoint["last_validation"] = self._last._asdict()

    def on_load_checkpoint(self, trainer: Trainer, pl_module: Classifier, checkpoint: dict[str, Any]) -> None:
        if "last_validation" in checkpoint and trainer.state.fn == TrainerFn.FITTING:
            self._last, self._undrawn = _Seen(**checkpoint["last_validation"]), True

    def _draw_last(self, trainer: Trainer, pl_module: Classifier) -> None:
        if self._last is not None:
            moments = {Moment.LAST, Moment.FINAL} if self.final == "val" else {Moment.LAST}
            drawn = {Moment.MILESTONE} if is_milestone(self._last.epoch) else set()
            # After all that the last checkpoint knows of, since it is drawn again if the run is killed before its end.
            self._draw(moments, drawn, trainer, pl_module, "val", self._last._replace(step=trainer.global_step))

    def _draw(
        self,
        moments: set[Moment],
        drawn: set[Moment],
        trainer: Trainer,
        classifier: Classifier,
        split: str,
        seen: "_Seen",
    ) -> None:
        panels = [panel for panel in self.panels if panel.moments & moments and not panel.moments & drawn]
        loggers = list(tensorboards(trainer))
        if not panels or not loggers:
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        if not seen.logits.isfinite().all():
            log.warning("nothing is drawn of the %s split: not all that the network says is finite", split)
            return
        dataset, indices = data.part(split)
        evaluation = Evaluation.of(dataset, indices, seen.logits)
        for logger in loggers:
            view = View(logger.experiment, split, seen.epoch, seen.step, evaluation, classifier.network, data)
            for panel in panels:
                panel.draw(view)


class _Seen(NamedTuple):
    """What the network said of a split, and when."""

    epoch: int | None  # counted from 1
    step: int
    logits: Tensor  # [N, num_classes]


def is_milestone(epoch: int | None) -> bool:
    """Whether an epoch, counted from 1, is one of 1, 10, 100 ..."""
    return str(epoch).rstrip("0") == "1"
