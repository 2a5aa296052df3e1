"""What a run prints and returns at its end."""

import math
import shlex
import sys
from pathlib import Path

from omegaconf import DictConfig

from fmnist.config import monitor
from fmnist.config.paths import ROOT
from fmnist.runs.run_directory import RunDirectory

Metrics = dict[str, float | int]


def score(metrics: Metrics, config: DictConfig) -> float:
    """The monitored metric, which a sweeper may optimize; NaN if the run ended before its first validation."""
    value = metrics.get(monitor.score(config)[0])
    return math.nan if value is None else value


def format_line(metrics: Metrics) -> str:
    """One line for a job of a sweep, which ends with a report."""
    values = [f"{name} {metrics[name]:.4f}" for name in ("train/acc", "val/acc", "test/acc") if name in metrics]
    return f"finished: {'  '.join(values)}  (best epoch {metrics['best_epoch']} of {metrics['epochs']})"


def format_summary(run: RunDirectory, metrics: Metrics) -> str:
    """The last lines of a run: metrics, run directory, and how to open the dashboard."""
    lines = ["", f"{'best epoch':<20} {metrics['best_epoch']} of {metrics['epochs']}"]
    names = {"train": "training accuracy", "val": "validation accuracy", "test": "test accuracy"}
    lines += [
        f"{name:<20} {metrics[f'{split}/acc']:.4f}  (loss {metrics[f'{split}/loss']:.4f})"
        for split, name in names.items()
        if f"{split}/acc" in metrics
    ]
    path = run.shown
    lines.append(f"{'run directory':<20} {path}")
    if any(run.path.rglob("events.out.tfevents.*")):  # else the run used another logger
        directory = "runs" if path.parts[0] == "runs" else str(path)  # TensorBoard shows its own directory as "."
        command = shlex.join([sys.executable, "-m", "tensorboard.main", "--logdir", directory])
        made = directory == "runs" and Path.cwd() == ROOT
        lines.append(f"{'dashboard':<20} {'make tensorboard' if made else command}")
    return "\n".join(lines)
