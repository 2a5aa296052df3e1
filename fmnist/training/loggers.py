"""Log entries beyond those that Lightning writes: graph, texts, hyper-parameters; and rewinding on resume."""

import csv
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from tensorboard.compat.proto.event_pb2 import Event, SessionLog

from fmnist.runs import checkpoint_file
from fmnist.runs.run_directory import RunDirectory
from fmnist.training.torch_internals import graph

log = logging.getLogger(__name__)

_FINAL = ("val/acc", "val/loss", "test/acc", "test/loss", "train/acc", "train/loss")


def log_start(trainer: Trainer, module: LightningModule, texts: Mapping[str, str], run: RunDirectory) -> None:
    """Logs the network's graph and Markdown texts at the start of a run.

    A resumed run has logged these. It removes what was logged after its checkpoint, so that no curve has a point twice.

    Args:
        trainer: Its loggers are used.
        module: Has a ``network`` and an ``example_input_array``.
        texts: Markdown by name.
        run: If it has a last checkpoint, it is resumed from there.
    """
    if run.last_checkpoint.is_file():
        state = checkpoint_file.read(run.last_checkpoint)
        log.info("resuming after epoch %d, from %s", state["epoch"] + 1, run.last_checkpoint)
        _rewind(trainer, state["global_step"])
        return
    _rewind(trainer, 0)
    for logger in tensorboards(trainer):
        for name, text in texts.items():
            logger.experiment.add_text(name, text)
        try:
            logger.experiment.file_writer.add_graph(graph(module.network, module.example_input_array))
        except Exception as error:  # torch cannot trace every network, and raises many kinds of errors
            log.warning("TensorBoard gets no graph: this network cannot be traced (%s)", type(error).__name__)


def log_now(trainer: Trainer, metrics: Mapping[str, float]) -> None:
    """Logs metrics of an epoch at its last step, immediately.

    Lightning sends what a module logs at the end of an epoch only after the checkpoints are written: a run that is
    killed in between and resumed would lack these points.
    """
    for logger in trainer.loggers:
        logger.log_metrics(dict(metrics), step=trainer.global_step - 1)


def log_results(
    trainer: Trainer, hyperparameters: Mapping[str, bool | int | float | str], metrics: Mapping[str, float]
) -> None:
    """Fills the HPARAMS tab.

    The metrics are named ``final/...``: under the names of the curves, the best epoch's value would become the curves'
    last point. TensorBoard shows the first metric by default and the others on demand.
    """
    for logger in tensorboards(trainer):
        final = {f"final/{name}": metrics[name] for name in _FINAL if name in metrics}
        logger.log_hyperparams(dict(hyperparameters), final, step=trainer.global_step)
        logger.finalize("success")


def tensorboards(trainer: Trainer) -> Iterator[TensorBoardLogger]:
    """The trainer's TensorBoard loggers: one or none."""
    return (logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger))


def _rewind(trainer: Trainer, step: int) -> None:
    """Removes what an earlier process logged from a step on."""
    for logger in tensorboards(trainer):
        if any(Path(logger.log_dir).glob("events.out.tfevents.*")):
            # The same event as SummaryWriter's purge_step writes.
            start = SessionLog(status=SessionLog.START)
            logger.experiment.file_writer.add_event(Event(session_log=start), step)
    for other in trainer.loggers:
        if isinstance(other, CSVLogger):
            _rewind_csv(other, step)


def _rewind_csv(logger: CSVLogger, step: int) -> None:
    # Lightning deletes a metrics.csv that it finds, and a killed process must not lose it: move it away first.
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
