"""Trains and tests once, and collects the metrics that a run ends with."""

from pathlib import Path

from lightning.pytorch import LightningDataModule, LightningModule, Trainer

from fmnist.runs import checkpoint_file
from fmnist.runs.run_directory import RunDirectory
from fmnist.runs.summary import Metrics
from fmnist.training.callbacks.epoch_report import EpochReport
from fmnist.training.metrics import NAMES


def fit_and_test(
    trainer: Trainer, module: LightningModule, data: LightningDataModule, run: RunDirectory, *, test: bool
) -> Metrics:
    """Trains, from the last checkpoint if there is one, then tests the best checkpoint.

    Every process of a run calls this.

    Returns:
        ``train/*`` of the last epoch, ``val/*`` of the best, ``epochs``, ``best_epoch`` and, if tested, ``test/*``.
    """
    last, best = run.last_checkpoint, run.best_checkpoint
    trainer.fit(module, data, ckpt_path=last if last.is_file() else None, weights_only=True)
    metrics = _training_metrics(trainer, run)
    if test:
        ckpt_path = best if best.is_file() else None  # None: the current weights, of a run without checkpoints
        trainer.test(module, data, ckpt_path=ckpt_path, weights_only=True, verbose=False)
        metrics |= _logged(trainer)
    return metrics


def training_cost(trainer: Trainer) -> dict[str, int | float | None]:
    """Number of trained ``parameters``, and ``training_seconds``; None without the callback that measures them."""
    clocks = [callback for callback in trainer.callbacks if isinstance(callback, EpochReport)]  # type: ignore[attr-defined]
    return {
        "parameters": sum(parameter.numel() for parameter in trainer.lightning_module.parameters()),
        "training_seconds": round(clocks[0].training_seconds, 3) if clocks else None,
    }


def _training_metrics(trainer: Trainer, run: RunDirectory) -> Metrics:
    """From the checkpoints, each of which holds its epoch's metrics; without checkpoints, those of the last epoch."""
    last = _of_checkpoint(run.last_checkpoint) or {"epochs": trainer.current_epoch, **_logged(trainer)}
    best = _of_checkpoint(run.best_checkpoint) or last
    return {
        **{name: value for name, value in last.items() if name.startswith("train/")},
        **{name: value for name, value in best.items() if name.startswith("val/")},
        "epochs": last["epochs"],
        "best_epoch": best["epochs"],
    }


def _of_checkpoint(path: Path) -> Metrics | None:
    if not path.is_file():
        return None
    checkpoint = checkpoint_file.read(path)
    metrics = checkpoint["metrics"]
    return {"epochs": checkpoint["epoch"] + 1, **{name: metrics[name] for name in NAMES if name in metrics}}


def _logged(trainer: Trainer) -> Metrics:
    return {name: trainer.callback_metrics[name].item() for name in NAMES if name in trainer.callback_metrics}
