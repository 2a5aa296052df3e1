"""What goes to TensorBoard beside the scalars that Lightning sends there."""

from collections.abc import Iterator, Mapping

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.figure import Figure


def log_figure(trainer: Trainer, name: str, figure: Figure) -> None:
    for logger in _tensorboards(trainer):
        logger.experiment.add_figure(name, figure, trainer.global_step)


def log_text(trainer: Trainer, name: str, markdown: str) -> None:
    for logger in _tensorboards(trainer):
        logger.experiment.add_text(name, markdown)


def log_results(
    trainer: Trainer, hyperparameters: Mapping[str, bool | int | float | str], metrics: Mapping[str, float | int]
) -> None:
    """Fills the HPARAMS tab.

    The metrics go there under names of their own, ``final/...``: under those of the curves, a point of the best epoch
    would appear at the curves' end.
    """
    for logger in _tensorboards(trainer):
        logger.log_hyperparams(dict(hyperparameters), {f"final/{name}": value for name, value in metrics.items()})
        logger.finalize("success")


def _tensorboards(trainer: Trainer) -> Iterator[TensorBoardLogger]:
    """The trainer's TensorBoard loggers: one, or none where the user chose another logger or none."""
    return (logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger))
