"""What a finished run has come to, small enough to keep: read from its directory, or from the JSON file kept of it.

Imported without torch.
"""

import dataclasses
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from fmnist.config.errors import UserError
from fmnist.runs import atomic, resume
from fmnist.runs.run_directory import RunDirectory
from fmnist.sweeps import sweep_directory
from fmnist.sweeps.ranking import SEED, Statistic

# Overrides that do not belong to a recipe: whatever they are, training is the same.
_NO_PART = (SEED, "sweep", "test", "max_jobs", "trust", "dashboard", "logger", "threads")
# What figures depend on, of a run's manifest.
_CONDITIONS = ("command", "start", "commit", "dirty", "python", "platform", "processor", "cores", "threads", "gpu")
_PACKAGES = ("torch", "torchvision", "lightning", "torchmetrics", "numpy", "hydra-core")


@dataclass(frozen=True)
class Measurement:
    """One run.

    Attributes:
        recipe: Its overrides but for the seed, as they are typed; none if all is as by default.
        seed: Of everything random in it.
        parameters: How many were trained; None of a run that did not write it down.
        seconds: From the first training step to the end of training, validation left out; the same.
        metrics: As in metrics.json.
        configuration: All of it, resolved.
        manifest: What the figures depend on, see ``fmnist.runs.manifest``.
        floor: Seconds that an epoch of ``benchmarks/floor.py`` took right before; None if nobody measured it.
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
            UserError: It is none, or damaged.
        """
        planned, configuration = run.read_configuration(), resume.configuration(run)
        manifest = run.read_manifest() or {}
        versions = manifest.get("packages") or {}
        names = ((text, sweep_directory.name_and_value(text)[0]) for text in sweep_directory.typed_overrides(run))
        typed = [text for text, name in names if name.partition(".")[0] not in _NO_PART]
        if configuration.trainer.max_epochs != planned.trainer.max_epochs:
            typed.append(f"trainer.max_epochs={configuration.trainer.max_epochs} (when resumed)")
        return cls(
            recipe=typed,
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
            result = cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise UserError(f"{path} holds no measurement: {error}") from error
        return result

    @property
    def start(self) -> str:
        """When it was begun, in a form that sorts; nothing if that is not known."""
        return self.manifest.get("start") or ""

    def write(self, path: Path) -> None:
        atomic.write_json(path, dataclasses.asdict(self))


@dataclass(frozen=True)
class Summary:
    """Runs of one recipe, which differ in nothing but their seed.

    Attributes:
        recipe: As a run has it.
        runs: One of each seed, in their order: who trains with one seed twice knows no more for it.
        others: What is not counted and has other figures than the run of its seed that is.
    """

    recipe: Sequence[str]
    runs: Sequence[Measurement]
    others: Sequence[Measurement] = ()

    @property
    def parameters(self) -> int | None:
        return self.runs[0].parameters

    @property
    def seconds(self) -> float | None:
        return _mean(run.seconds for run in self.runs)

    @property
    def floors(self) -> float | None:
        """Seconds in epochs of the floor."""
        return _mean(run.seconds / run.floor if run.seconds and run.floor else None for run in self.runs)

    @property
    def commits(self) -> list[str]:
        """Of the source that the runs were made from, in short, with a + if it was not as committed."""
        return list(dict.fromkeys(_commit(run.manifest) for run in self.runs))

    def statistic(self, metric: str) -> Statistic | None:
        """None if a run lacks the metric."""
        values = [run.metrics[metric] for run in self.runs if metric in run.metrics]
        return Statistic.of(values) if len(values) == len(self.runs) else None


def summaries(measurements: Iterable[Measurement]) -> list[Summary]:
    """Brings together what was trained in the same way, the shortest training first.

    Runs of one name whose configurations differ are told apart, since a recipe's file may have been changed. Of several
    runs of one seed one counts.
    """
    groups: dict[str, list[Measurement]] = {}
    for measurement in measurements:
        configuration = {name: value for name, value in measurement.configuration.items() if name not in _NO_PART}
        configuration["data"] = {**configuration["data"], "seed": None, "data_dir": None}
        key = json.dumps([list(measurement.recipe), configuration], sort_keys=True)
        groups.setdefault(key, []).append(measurement)
    made = [_summary(runs) for runs in groups.values()]
    return sorted(made, key=lambda summary: (summary.seconds is None, summary.seconds or 0.0, list(summary.recipe)))


def _summary(runs: Sequence[Measurement]) -> Summary:
    """Of several runs of one seed that with the most figures counts, of those the first that was begun."""
    counted: dict[int, Measurement] = {}
    others = []
    for run in sorted(runs, key=lambda run: (run.seed, -len(run.metrics), run.start)):
        first = counted.setdefault(run.seed, run).metrics
        if any(run.metrics[name] != first[name] for name in run.metrics.keys() & first.keys()):
            others.append(run)
    return Summary(runs[0].recipe, list(counted.values()), others)


def _mean(values: Iterable[float | None]) -> float | None:
    known = list(values)
    return None if None in known or not known else statistics.fmean(value for value in known if value is not None)


def _commit(manifest: Mapping[str, Any]) -> str:
    commit = manifest.get("commit")
    return f"{commit[:7]}{'+' if manifest.get('dirty') else ''}" if commit else "-"
