"""The monitored metric. Imported without torch."""

from typing import Literal

from omegaconf import DictConfig

Mode = Literal["max", "min"]


def monitored(config: DictConfig) -> str | None:
    """Name of the metric that selects the best epoch; None if the run does not validate."""
    metric: str = config.monitor.metric
    validates = config.data.val_size > 0 and config.trainer.limit_val_batches != 0
    return metric if validates or not metric.startswith("val/") else None


def score(config: DictConfig) -> tuple[str, Mode]:
    """Name of the metric that ranks runs, and its direction. Without validation this is ``train/loss``."""
    metric = monitored(config)
    return ("train/loss", "min") if metric is None else (metric, config.monitor.mode)
