"""Sweep directories as Hydra and the runs would write them."""

import itertools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

Job = dict[str, str]


def make_sweep(
    path: Path,
    grid: Mapping[str, list[str]],
    metrics: Callable[[Job], dict[str, float | None] | None],
    *,
    fixed: Mapping[str, str] | None = None,
    monitor: tuple[str, str] = ("val/acc", "max"),
    val_size: int = 5000,
    sweeper: Mapping[str, Any] | None = None,
) -> Path:
    """Writes a sweep over a grid, with a directory per job, and returns its path.

    Args:
        path: The directory.
        grid: Values of each swept parameter.
        metrics: Content of a job's metrics.json; None for a job that has not started.
        fixed: Overrides that all jobs share.
        monitor: Metric and mode.
        val_size: Number of validation images.
        sweeper: Configuration of Hydra's sweeper; by default its own, with all values from the command line.
    """
    fixed = fixed or {}
    path.mkdir(parents=True)
    task = [f"{k}={v}" for k, v in fixed.items()]
    if sweeper is None:
        task += [f"{key}={','.join(values)}" for key, values in grid.items()]
        sweeper = {"_target_": "hydra._internal.core_plugins.basic_sweeper.BasicSweeper", "params": None}
    hydra = {"overrides": {"hydra": [f"hydra.sweep.dir={path}", "hydra.mode=MULTIRUN"], "task": task}}
    (path / ".sweep").mkdir()
    (path / ".sweep/hydra.yaml").write_text(yaml.safe_dump({**hydra, "sweeper": dict(sweeper)}))
    for values in itertools.product(*grid.values()):
        job = dict(zip(grid, values, strict=True))
        if (figures := metrics(job)) is not None:
            make_job(path, {**fixed, **job}, figures, monitor=monitor, val_size=val_size)
    return path


def make_job(
    sweep: Path,
    overrides: Job,
    metrics: Mapping[str, float | None] | None,
    *,
    monitor: tuple[str, str] = ("val/acc", "max"),
    val_size: int = 5000,
    **manifest: Any,
) -> Path:
    """Writes the directory of one job, without metrics.json if there are no metrics."""
    path = sweep / "+".join(f"{key}-{value}" for key, value in sorted(overrides.items()))
    (path / ".hydra").mkdir(parents=True, exist_ok=True)
    (path / ".hydra/overrides.yaml").write_text(yaml.safe_dump([f"{key}={value}" for key, value in overrides.items()]))
    config = {
        "monitor": {"metric": monitor[0], "mode": monitor[1]},
        "data": {"val_size": val_size},
        "trainer": {"limit_val_batches": None},
    }
    (path / ".hydra/config.yaml").write_text(yaml.safe_dump(config))
    content = {
        "state": "finished" if metrics is not None else "interrupted",
        "error": None,
        "seconds": 10.0,
        **manifest,
    }
    (path / "manifest.json").write_text(json.dumps(content))
    if metrics is not None:
        (path / "metrics.json").write_text(json.dumps(metrics))
    return path
