"""Sweep directories as Hydra and the runs would write them."""

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from fmnist.config.monitor import Mode
from fmnist.sweeps.sweep_directory import Job, Overrides

BASIC_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
Metrics = Mapping[str, float | None]


def everything_in(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}


def make_jobs(
    results: Mapping[tuple[str, ...], Sequence[float]], names: Sequence[str], score: tuple[str, Mode]
) -> list[Job]:
    """Finished jobs without directories.

    Args:
        results: The score of each run of a setting, by seed.
        names: Of the parameters whose values make a setting.
        score: Metric and mode.
    """
    kind: type[Job] = type("Scored", (Job,), {"score": score})
    return [
        kind(
            {**dict(zip(names, values, strict=True)), "seed": str(seed)},
            state="finished",
            seconds=10.0 + seed,
            metrics={score[0]: result, "test/acc": result / 2},
        )
        for values, runs in results.items()
        for seed, result in enumerate(runs)
    ]


def make_sweep(
    path: Path,
    grid: Mapping[str, list[str]],
    metrics: Callable[[Overrides], Metrics | None] = lambda _job: None,
    *,
    fixed: Mapping[str, str] | None = None,
    sweeper: Mapping[str, Any] | None = None,
    **job: Any,
) -> Path:
    """Writes a sweep over a grid, with a directory per job, and returns its path.

    Args:
        path: The directory.
        grid: Values of each swept parameter.
        metrics: Content of a job's metrics.json; None for a job that has not started.
        fixed: Overrides that all jobs share.
        sweeper: Configuration of Hydra's sweeper; by default its own, with all values from the command line.
        job: Passed to ``make_job``.
    """
    fixed = fixed or {}
    path.mkdir(parents=True)
    task = [f"{k}={v}" for k, v in fixed.items()]
    if sweeper is None:
        task += [f"{key}={','.join(values)}" for key, values in grid.items()]
        sweeper = {"_target_": BASIC_SWEEPER, "params": None}
    hydra = {"overrides": {"hydra": [f"hydra.sweep.dir={path}", "hydra.mode=MULTIRUN"], "task": task}}
    (path / ".sweep").mkdir()
    (path / ".sweep/hydra.yaml").write_text(yaml.safe_dump({**hydra, "sweeper": dict(sweeper)}))
    for values in itertools.product(*grid.values()):
        overrides = dict(zip(grid, values, strict=True))
        if (results := metrics(overrides)) is not None:
            make_job(path, {**fixed, **overrides}, results, **job)
    return path


def make_job(
    sweep: Path,
    overrides: Overrides,
    metrics: Metrics | None,
    *,
    monitor: tuple[Any, Any] = ("val/acc", "max"),
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
    state = "interrupted" if metrics is None else "finished"
    (path / "manifest.json").write_text(json.dumps({"state": state, "error": None, "seconds": 10.0, **manifest}))
    if metrics is not None:
        (path / "metrics.json").write_text(json.dumps(metrics))
    return path
