"""Reads the directory of a sweep: its planned jobs and the state and metrics of each. Imported without torch."""

import itertools
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from fmnist.config import monitor
from fmnist.config.errors import UserError
from fmnist.config.paths import TRAIN_COMMAND
from fmnist.runs import manifest
from fmnist.runs.run_directory import RunDirectory
from fmnist.sweeps import search

if TYPE_CHECKING:
    from optuna import Study

NOT_STARTED, DAMAGED = "not started", "damaged"  # states of a job in addition to those of fmnist.runs.manifest

Overrides = dict[str, str]


@dataclass(frozen=True)
class Job:
    """One run of a sweep, started or planned."""

    overrides: Overrides  # name to value; empty if the sweeper has yet to choose them
    typed: tuple[str, ...] = ()  # the overrides as Hydra stored them, which may start with + or ~; () until it starts
    run: RunDirectory | None = None
    state: str = NOT_STARTED
    error: str | None = None
    seconds: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)  # of a finished run, without those that are not finite

    @property
    def finished(self) -> bool:
        return self.state == manifest.FINISHED

    @property
    def score(self) -> tuple[str, monitor.Mode] | None:
        """The metric that ranks it and its direction, see ``fmnist.config.monitor``; None if that cannot be read."""
        if self.run is None:
            return None
        try:
            metric, mode = monitor.score(self.run.read_configuration())
        except (UserError, OmegaConfBaseException, AttributeError, TypeError):  # the file was edited
            return None
        return (metric, mode) if isinstance(metric, str) and mode in get_args(monitor.Mode) else None


@dataclass(frozen=True)
class SweepDirectory:
    run: RunDirectory  # the directory itself
    jobs: list[Job]  # in the planned order, if it is known
    command: str | None  # shell command that resumes the sweep, if it is known

    @cached_property
    def study(self) -> "Study | None":
        """Optuna's study of a search; None for other sweeps, or if it cannot be read."""
        return search.load_study(self.run.path)

    @property
    def complete(self) -> bool:
        """Whether every job has finished, or was pruned."""
        return all(job.finished or job.state == manifest.PRUNED for job in self.jobs)


def read(path: Path) -> SweepDirectory:
    """Reads the directory of a sweep, whatever its state.

    Raises:
        UserError: The directory does not belong to a sweep.
    """
    if not path.is_dir():
        raise UserError(f"no directory {path}; sweeps are under runs/sweeps")
    run = RunDirectory(path)
    if run.hydra.exists():
        raise UserError(f"{path} is the directory of one run, not of a sweep")
    if not run.sweep.exists():
        raise UserError(f"{path} is not the directory of a sweep: it has no {run.sweep.name}")
    hydra = _mapping(_load(run.sweep / "hydra.yaml"))
    started = [_job(RunDirectory(job.parent)) for job in sorted(path.glob("**/.hydra"))]
    return SweepDirectory(run, _with_planned(started, hydra), _command(run, hydra))


def differing(jobs: Iterable[Overrides]) -> list[str]:
    """Names of the overrides that differ between jobs, in order of appearance."""
    jobs = [job for job in jobs if job]
    names = dict.fromkeys(name for job in jobs for name in job)
    return [name for name in names if len({job.get(name) for job in jobs}) > 1]


def typed_overrides(run: RunDirectory) -> tuple[str, ...]:
    """The overrides of a run as Hydra stored them; empty if the file is damaged."""
    return tuple(_line(text) for text in _texts(_load(run.hydra / "overrides.yaml")))


def name_and_value(typed: str) -> tuple[str, str]:
    """Splits an override; the name comes without a leading +."""
    name, _, value = typed.partition("=")
    return name.lstrip("+"), value


def _with_planned(started: list[Job], hydra: Mapping[str, Any]) -> list[Job]:
    """Adds the jobs that have not started, and sorts all in the planned order."""
    planned = _planned(hydra)
    if not planned:  # a search chooses values as it goes, but knows the number of trials
        trials = _mapping(hydra.get("sweeper")).get("n_trials")
        return started + [Job({})] * (trials - len(started) if isinstance(trials, int) else 0)
    names = differing(planned)

    def key(overrides: Overrides) -> tuple[str | None, ...]:
        return tuple(overrides.get(name) for name in names)

    order = {key(overrides): place for place, overrides in enumerate(planned)}
    jobs = [job for job in started if job.overrides]  # without overrides: killed before it could start
    known = {key(job.overrides) for job in jobs}
    jobs += [Job(overrides) for overrides in planned if key(overrides) not in known]
    return sorted(jobs, key=lambda job: order.get(key(job.overrides), len(order)))


def _planned(hydra: Mapping[str, Any]) -> list[Overrides]:
    """The jobs that Hydra's own sweeper runs; empty if they cannot be derived."""
    sweeper = _mapping(hydra.get("sweeper"))
    if not str(sweeper.get("_target_")).endswith(".BasicSweeper"):
        return []
    parameters = _mapping(sweeper.get("params")).items()
    texts = [f"{key}={value}" for key, value in parameters if isinstance(value, str | int | float)]
    values: dict[str, list[str]] = {}
    try:
        for override in OverridesParser.create().parse_overrides([*texts, *_overrides(hydra, "task")]):
            swept = override.is_sweep_override()
            chosen = override.sweep_string_iterator() if swept else [override.get_value_element_as_str()]
            values[override.get_key_element().lstrip("+")] = list(chosen)
    except (HydraException, NotImplementedError):  # damaged, or only composing can list the values, such as glob(*)
        return []
    return [dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())]


def _command(run: RunDirectory, hydra: Mapping[str, Any]) -> str | None:
    if "overrides" not in hydra:
        return None
    own = [text for text in _overrides(hydra, "hydra") if not text.startswith(("hydra.mode=", "hydra.sweep.dir="))]
    overrides = [shlex.quote(text) for text in [*_overrides(hydra, "task"), *own]]
    return " ".join([f"{TRAIN_COMMAND} -m", *overrides, run.override("hydra.sweep.dir")])


def _job(run: RunDirectory) -> Job:
    typed = typed_overrides(run)
    overrides = dict(name_and_value(text) for text in typed)
    try:
        content = run.read_manifest() or {}
        metrics = run.read_metrics() if run.finished else {}
    except UserError as damage:
        return Job(overrides, typed, run, DAMAGED, _line(damage))
    state, error = _line(content.get("state") or NOT_STARTED), None
    if run.finished:
        state = manifest.FINISHED
    elif state == manifest.FINISHED:
        state, error = DAMAGED, "metrics.json is missing"
    elif state == manifest.RUNNING and not run.running:
        state = manifest.KILLED  # before it could write the manifest
    elif state in (manifest.FAILED, manifest.PRUNED):
        error = _line(content.get("error") or "")
    seconds = content.get("seconds")
    metrics = {_line(name): value for name, value in metrics.items() if _is_finite(value)}
    return Job(overrides, typed, run, state, error, seconds if _is_finite(seconds) else None, metrics)


def _load(path: Path) -> object:
    """The content of a YAML file; None if it cannot be read."""
    try:
        content: object = yaml.safe_load(path.read_text())
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return content


def _overrides(hydra: Mapping[str, Any], kind: str) -> list[str]:
    return _texts(_mapping(hydra.get("overrides")).get(kind))


def _texts(value: object) -> list[str]:
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _line(value: object) -> str:
    """Text in one line, without control characters."""
    text = " ".join(str(value).split())
    return "".join(character if character.isprintable() else "?" for character in text)


def _is_finite(value: object) -> bool:
    """Whether it is a number that can be averaged; NaN is not."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e100 < value < 1e100
