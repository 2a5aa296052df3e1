"""What goes to the loggers beside the figures that Lightning sends there."""

import csv
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from tensorboard.compat.proto.event_pb2 import Event, SessionLog

from fmnist.runs import checkpoint_io

if TYPE_CHECKING:
    from fmnist.training.classifier import Classifier

log = logging.getLogger(__name__)


def log_start(trainer: Trainer, classifier: "Classifier", texts: Mapping[str, str], checkpoint: Path | None) -> None:
    """Logs what a run is: texts in Markdown by their names, and its network as a graph.

    A run that goes on from a checkpoint has that already. What it has logged beyond the checkpoint is taken back, since
    it will come again: curves have no point twice.
    """
    step = 0
    if checkpoint is not None:
        state = checkpoint_io.read(checkpoint)
        step = state["global_step"]
        log.info("going on after epoch %d, from %s", state["epoch"] + 1, checkpoint)
    _rewind(trainer, step)
    if checkpoint is not None:
        return
    for logger in tensorboards(trainer):
        for name, text in texts.items():
            logger.experiment.add_text(name, text)
        with warnings.catch_warnings():
            # Tracing is deprecated, and still the only way to TensorBoard's graph.
            warnings.filterwarnings("ignore", message=".*torch.jit", category=FutureWarning)
            logger.experiment.add_graph(classifier.network, classifier.example_input_array)


def log_at_once(trainer: Trainer, figures: Mapping[str, float]) -> None:
    """Logs figures of an epoch that ends, at its last step.

    What a module logs at the end of an epoch, Lightning sends to the loggers only after the checkpoints are written. A
    run that is killed in between would go on without these points.
    """
    for logger in trainer.loggers:
        logger.log_metrics(dict(figures), step=trainer.global_step - 1)


def log_results(
    trainer: Trainer, hyperparameters: Mapping[str, bool | int | float | str], metrics: Mapping[str, float]
) -> None:
    """Fills the HPARAMS tab.

    The metrics go there under names of their own, ``final/...``: under those of the curves, a point of the best epoch
    would appear at the curves' end. TensorBoard shows the first metric by itself and the others on demand.
    """
    for logger in tensorboards(trainer):
        final = {f"final/{name}": metrics[name] for name in _COLUMNS if name in metrics}
        logger.log_hyperparams(dict(hyperparameters), final, step=trainer.global_step)
        logger.finalize("success")


def tensorboards(trainer: Trainer) -> Iterator[TensorBoardLogger]:
    """The trainer's TensorBoard loggers: one, or none where the user chose another logger or none."""
    return (logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger))


def _rewind(trainer: Trainer, step: int) -> None:
    """Takes back what an earlier process has logged from a step on."""
    for logger in tensorboards(trainer):
        if any(Path(logger.log_dir).glob("events.out.tfevents.*")):
            # What its own purge_step writes, and TensorBoard understands.
            start = SessionLog(status=SessionLog.START)
            logger.experiment.file_writer.add_event(Event(session_log=start), step)
    for other in trainer.loggers:
        if isinstance(other, CSVLogger):
            _rewind_csv(other, step)


def _rewind_csv(logger: CSVLogger, step: int) -> None:
    # Lightning deletes the file that it finds; so it must not find it, and a killed process must not lose it.
    path = Path(logger.log_dir) / "metrics.csv"
    kept = path.parent.with_suffix(".kept")
    if not kept.exists():
        if not path.exists():
            return
        os.replace(path, kept)
    with kept.open(newline="") as file:
        rows: list[dict[str, Any]] = [{k: v for k, v in row.items() if v} for row in csv.DictReader(file)]
    logger.experiment.metrics = [row for row in rows if int(row["step"]) < step]
    logger.save()
    kept.unlink()


_COLUMNS = ("val/acc", "val/loss", "test/acc", "test/loss", "train/acc", "train/loss")
