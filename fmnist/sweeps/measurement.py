"""Results of finished runs, small enough to commit: from run directories or kept JSON files. Imported without torch."""

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import OmegaConf

from fmnist.config.errors import UserError
from fmnist.runs import atomic, resume
from fmnist.runs.run_directory import RunDirectory
from fmnist.sweeps import sweep_directory
from fmnist.sweeps.ranking import SEED

# Overrides that do not change the training.
IRRELEVANT = (SEED, "name", "sweep", "test", "max_jobs", "trust", "dashboard", "logger", "threads")
# Parts of the manifest that the results depend on.
_CONDITIONS = ("command", "start", "commit", "dirty", "python", "platform", "processor", "cores", "threads", "gpu")
_PACKAGES = ("torch", "torchvision", "lightning", "torchmetrics", "numpy", "hydra-core")


@dataclass(frozen=True)
class Measurement:
    """One finished run.

    Attributes:
        recipe: Its overrides without the seed, as typed; empty for the defaults.
        seed: Its seed.
        parameters: Number of trained parameters, if the manifest has it.
        seconds: Training time without validation, if the manifest has it.
        metrics: As in metrics.json.
        configuration: Complete and resolved.
        manifest: What the results depend on, see ``fmnist.runs.manifest``.
        floor: Seconds that an epoch of ``benchmarks/floor.py`` took right before; None if it was not measured.
    """

    recipe: Sequence[str]
    seed: int
    parameters: int | None
    seconds: float | None
    metrics: Mapping[str, float]
    configuration: dict[str, Any]
    manifest: Mapping[str, Any]
    floor: float | None = None

    @classmethod
    def of_run(cls, run: RunDirectory) -> "Measurement":
        """Reads the directory of a finished run.

        Raises:
            UserError: It is not one, or it is damaged.
        """
        planned, configuration = run.read_configuration(), resume.configuration(run)
        manifest = run.read_manifest() or {}
        versions = manifest.get("packages") or {}
        names = ((text, sweep_directory.name_and_value(text)[0]) for text in sweep_directory.typed_overrides(run))
        recipe = [text for text, name in names if name.partition(".")[0] not in IRRELEVANT]
        if configuration.trainer.max_epochs != planned.trainer.max_epochs:
            recipe.append(f"trainer.max_epochs={configuration.trainer.max_epochs} (when resumed)")
        return cls(
            recipe=recipe,
            seed=configuration.seed,
            parameters=manifest.get("parameters"),
            seconds=manifest.get("training_seconds"),
            metrics=run.read_metrics(),
            configuration=OmegaConf.to_container(configuration, resolve=True),  # type: ignore[arg-type]
            manifest={name: manifest.get(name) for name in _CONDITIONS}
            | {"packages": {name: versions.get(name) for name in _PACKAGES}},
        )

    @classmethod
    def read(cls, path: Path) -> "Measurement":
        """Reads what :meth:`write` wrote.

        Raises:
            UserError: The file holds something else.
        """
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"{path} holds no measurement: {error}") from error

    def write(self, path: Path) -> None:
        atomic.write_json(path, dataclasses.asdict(self))

    @property
    def start(self) -> str:
        """When it started, in a form that sorts; empty if unknown."""
        return self.manifest.get("start") or ""

    @property
    def commit(self) -> str:
        """The short commit, with a + for uncommitted changes; '-' if unknown."""
        commit = self.manifest.get("commit")
        return f"{commit[:7]}{'+' if self.manifest.get('dirty') else ''}" if commit else "-"


@dataclass(frozen=True)
class Summary:
    """Runs of one recipe that differ only in their seed.

    Attributes:
        recipe: See ``Measurement``.
        runs: One per seed, in the order of the seeds.
        uncounted: Runs of the same seeds that are not counted although their metrics differ.
    """

    recipe: Sequence[str]
    runs: Sequence[Measurement]
    uncounted: Sequence[Measurement] = ()

    @cached_property
    def _table(self) -> pd.DataFrame:
        floor_epochs = (run.seconds / run.floor if run.seconds and run.floor else None for run in self.runs)
        rows = [
            {**run.metrics, "seconds": run.seconds, "floor epochs": epochs}
            for run, epochs in zip(self.runs, floor_epochs, strict=True)
        ]
        return pd.DataFrame(rows, columns=["val/acc", "test/acc", "seconds", "floor epochs"], dtype=float)

    def mean(self, column: str) -> float:
        """Mean of ``val/acc``, ``test/acc``, ``seconds`` or ``floor epochs`` (training time in epochs of the floor).

        NaN if a run lacks it.
        """
        return self._table[column].mean(skipna=False)

    def sd(self, column: str) -> float:
        """Sample standard deviation; NaN for one run."""
        return self._table[column].std()


def summaries(measurements: Iterable[Measurement]) -> list[Summary]:
    """Groups runs by recipe and configuration, shortest training first.

    Runs of one recipe whose configurations differ stay apart: the experiment's file may have changed in between.
    """
    groups: dict[str, list[Measurement]] = {}
    for measurement in measurements:
        configuration = {name: value for name, value in measurement.configuration.items() if name not in IRRELEVANT}
        configuration["data"] = {**configuration["data"], "seed": None, "data_dir": None}
        key = json.dumps([list(measurement.recipe), configuration], sort_keys=True)
        groups.setdefault(key, []).append(measurement)
    found = [_summarize(runs) for runs in groups.values()]
    return sorted(found, key=lambda summary: (_or_infinite(summary.mean("seconds")), list(summary.recipe)))


def _or_infinite(value: float) -> float:
    return math.inf if math.isnan(value) else value


def _summarize(runs: Sequence[Measurement]) -> Summary:
    """Of several runs of one seed, the one with the most metrics counts; of those, the first that was started."""
    counted: dict[int, Measurement] = {}
    uncounted = []
    for run in sorted(runs, key=lambda run: (run.seed, -len(run.metrics), run.start)):
        first = counted.setdefault(run.seed, run).metrics
        if any(run.metrics[name] != first[name] for name in run.metrics.keys() & first.keys()):
            uncounted.append(run)
    return Summary(runs[0].recipe, list(counted.values()), uncounted)
