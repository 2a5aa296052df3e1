"""The figures that a run ends with."""

import math
import shlex
import sys
from pathlib import Path

from lightning.pytorch import Trainer
from omegaconf import DictConfig

from fmnist.config import monitor
from fmnist.runs import checkpoint_io
from fmnist.runs.run_directory import RunDirectory
from fmnist.training.callbacks.epoch_report import EpochReport
from fmnist.training.metrics import NAMES

Metrics = dict[str, float | int]


def after_training(trainer: Trainer, run: RunDirectory) -> Metrics:
    """``train/*`` of the last epoch, ``val/*`` of the best, and how many epochs there were.

    They come from the checkpoints, each of which holds the metrics of its epoch. Without checkpoints, as in a
    ``fast_dev_run``, the figures of the last epoch are all there is.
    """
    last = _of_checkpoint(run, "last") or {"epochs": trainer.current_epoch, **_logged(trainer)}
    best = _of_checkpoint(run, "best") or last
    return {
        **{name: value for name, value in last.items() if name.startswith("train/")},
        **{name: value for name, value in best.items() if name.startswith("val/")},
        "epochs": last["epochs"],
        "best_epoch": best["epochs"],
    }


def effort(trainer: Trainer) -> dict[str, int | float | None]:
    """What was trained, and how long: ``parameters``, and ``training_seconds`` if somebody has looked at a clock."""
    parameters = sum(parameter.numel() for parameter in trainer.lightning_module.parameters())
    callbacks = trainer.callbacks  # type: ignore[attr-defined]  # Lightning does not declare it
    clocks = [callback for callback in callbacks if isinstance(callback, EpochReport)]
    return {"parameters": parameters, "training_seconds": round(clocks[0].training_seconds, 3) if clocks else None}


def after_test(trainer: Trainer) -> Metrics:
    """``test/*``."""
    return _logged(trainer)


def score(metrics: Metrics, config: DictConfig) -> float:
    """What a sweeper may optimize, see ``fmnist.config.monitor``; nan if the run ended before its first validation."""
    value = metrics.get(monitor.score(config)[0])
    return math.nan if value is None else value


def line(metrics: Metrics) -> str:
    """What to tell the user at the end of one job among many; the sweep's report tells the rest."""
    figures = [f"{name} {metrics[name]:.4f}" for name in ("train/acc", "val/acc", "test/acc") if name in metrics]
    return f"finished: {'  '.join(figures)}  (best epoch {metrics['best_epoch']} of {metrics['epochs']})"


def summary(run: RunDirectory, metrics: Metrics) -> str:
    """What to tell the user at the end of a run: how good, where, and how to look at it."""
    lines = ["", f"{'best epoch':<20} {metrics['best_epoch']} of {metrics['epochs']}"]
    names = {"train": "training accuracy", "val": "validation accuracy", "test": "test accuracy"}
    lines += [
        f"{name:<20} {metrics[f'{split}/acc']:.4f}  (loss {metrics[f'{split}/loss']:.4f})"
        for split, name in names.items()
        if f"{split}/acc" in metrics
    ]
    path = run.shown
    if (Path.cwd() / "Makefile").is_file() and path.parts[0] == "runs":
        dashboard = "make tensorboard"
    else:
        dashboard = shlex.join([sys.executable, "-m", "tensorboard.main", "--logdir", str(path)])
    lines += [f"{'run directory':<20} {path}", f"{'dashboard':<20} {dashboard}"]
    return "\n".join(lines)


def _of_checkpoint(run: RunDirectory, name: str) -> Metrics | None:
    path = run.best_checkpoint if name == "best" else run.last_checkpoint
    if not path.is_file():
        return None
    checkpoint = checkpoint_io.read(path)
    return {
        "epochs": checkpoint["epoch"] + 1,
        **{name: checkpoint["metrics"][name] for name in NAMES if name in checkpoint["metrics"]},
    }


def _logged(trainer: Trainer) -> Metrics:
    return {name: trainer.callback_metrics[name].item() for name in NAMES if name in trainer.callback_metrics}
