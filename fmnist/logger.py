"""What goes to TensorBoard beside the scalars that Lightning sends there."""

import warnings
from collections.abc import Iterator, Mapping

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from fmnist.classifier import Classifier


def log_start(trainer: Trainer, classifier: Classifier, texts: Mapping[str, str]) -> None:
    """Logs what a run is: texts in Markdown by their names, and its network as a graph."""
    for logger in tensorboards(trainer):
        for name, text in texts.items():
            logger.experiment.add_text(name, text)
        with warnings.catch_warnings():
            # Tracing is deprecated, and still the only way to TensorBoard's graph.
            warnings.filterwarnings("ignore", message=".*torch.jit", category=FutureWarning)
            logger.experiment.add_graph(classifier.network, classifier.example_input_array)


def log_results(
    trainer: Trainer, hyperparameters: Mapping[str, bool | int | float | str], metrics: Mapping[str, float]
) -> None:
    """Fills the HPARAMS tab.

    The metrics go there under names of their own, ``final/...``: under those of the curves, a point of the best epoch
    would appear at the curves' end. TensorBoard shows the first metric by itself and the others on demand.
    """
    for logger in tensorboards(trainer):
        logger.log_hyperparams(
            dict(hyperparameters), {f"final/{name}": metrics[name] for name in _COLUMNS if name in metrics}
        )
        logger.finalize("success")


def tensorboards(trainer: Trainer) -> Iterator[TensorBoardLogger]:
    """The trainer's TensorBoard loggers: one, or none where the user chose another logger or none."""
    return (logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger))


_COLUMNS = ("val/acc", "val/loss", "test/acc", "test/loss", "train/acc", "train/loss")
