"""Which figure says how good a run is. Imported without torch."""

from typing import Literal

from omegaconf import DictConfig

Mode = Literal["max", "min"]


def monitored(config: DictConfig) -> str | None:
    """Name of the metric that says which epoch is the best; None if there is nothing to validate on."""
    metric: str = config.monitor.metric
    validates = config.data.val_size > 0 and config.trainer.limit_val_batches != 0
    return metric if validates or not metric.startswith("val/") else None


def score(config: DictConfig) -> tuple[str, Mode]:
    """Name of the metric that a run is judged by, and whether the highest or the lowest is the best."""
    metric = monitored(config)
    return ("train/loss", "min") if metric is None else (metric, config.monitor.mode)
