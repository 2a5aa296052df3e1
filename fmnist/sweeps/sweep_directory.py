"""The directory of a sweep: which jobs were planned, and what came of each. Imported without torch."""

import itertools
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from fmnist.config import monitor
from fmnist.config.errors import UserError
from fmnist.runs import manifest
from fmnist.runs.run_directory import RunDirectory

NOT_STARTED, DAMAGED = "not started", "damaged"  # what a job can be beside the states of fmnist.runs.manifest

Overrides = dict[str, str]


@dataclass(frozen=True)
class Job:
    """One run of a sweep, or one that was planned and has not begun."""

    overrides: Overrides  # name to value; empty if a sweeper has yet to choose them
    typed: tuple[str, ...] = ()  # the same as Hydra wrote them down, with a + or ~ before the name; () until it begins
    run: RunDirectory | None = None
    state: str = NOT_STARTED
    error: str | None = None
    seconds: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)  # those that are finite

    @property
    def finished(self) -> bool:
        return self.state == manifest.FINISHED

    @property
    def score(self) -> tuple[str, monitor.Mode] | None:
        """What it is judged by, see ``fmnist.config.monitor``; None if it has no configuration that says so."""
        if self.run is None:
            return None
        try:
            metric, mode = monitor.score(self.run.read_configuration())
        except (UserError, OmegaConfBaseException, AttributeError, TypeError):  # somebody has changed the file
            return None
        return (metric, mode) if isinstance(metric, str) and mode in get_args(monitor.Mode) else None


@dataclass(frozen=True)
class SweepDirectory:
    run: RunDirectory  # the directory itself
    jobs: list[Job]  # in the order in which they were planned, as far as that is known
    command: str | None  # what goes on with the sweep, to be typed into a shell; None if that is not known

    @property
    def complete(self) -> bool:
        """Whether every job has finished."""
        return all(job.finished for job in self.jobs)


def read(path: Path) -> SweepDirectory:
    """Reads the directory of a sweep, in whatever state it is.

    Raises:
        UserError: It is none of a sweep.
    """
    if not path.is_dir():
        raise UserError(f"no directory {path}; sweeps are under runs/sweeps")
    run = RunDirectory(path)
    if run.hydra.exists():
        raise UserError(f"{path} is the directory of one run; a sweep's holds a directory for each of its runs")
    if not run.sweep.exists():
        raise UserError(f"{path} is no directory of a sweep: it has no {run.sweep.name}")
    hydra = _mapping(_load(run.sweep / "hydra.yaml"))
    begun = [_job(RunDirectory(job.parent)) for job in sorted(path.glob("**/.hydra"))]
    return SweepDirectory(run, _with_planned(begun, hydra), _command(run, hydra))


def differing(jobs: Iterable[Overrides]) -> list[str]:
    """Names of the overrides that are not the same in all jobs, in order of appearance."""
    jobs = [job for job in jobs if job]
    names = dict.fromkeys(name for job in jobs for name in job)
    return [name for name in names if len({job.get(name) for job in jobs}) > 1]


def typed_overrides(run: RunDirectory) -> tuple[str, ...]:
    """Of a run, as Hydra wrote them down; none if the file is damaged."""
    return tuple(_line(text) for text in _texts(_load(run.hydra / "overrides.yaml")))


def name_and_value(typed: str) -> tuple[str, str]:
    """Of an override, as it was typed: what is set, without a + before it, and to what."""
    name, _, value = typed.partition("=")
    return _name(name), value


def _with_planned(begun: list[Job], hydra: Mapping[str, Any]) -> list[Job]:
    """Adds the jobs that have not begun, and brings all into the order in which they were planned."""
    planned = _planned(hydra)
    if not planned:  # another sweeper than Hydra's own chooses as it goes; Optuna's says how often
        trials = _mapping(hydra.get("sweeper")).get("n_trials")
        return begun + [Job({})] * (trials - len(begun) if isinstance(trials, int) else 0)
    names = differing(planned)

    def key(overrides: Overrides) -> tuple[str | None, ...]:
        return tuple(overrides.get(name) for name in names)

    order = {key(overrides): place for place, overrides in enumerate(planned)}
    jobs = [job for job in begun if job.overrides]  # without: killed before it could begin
    known = {key(job.overrides) for job in jobs}
    jobs += [Job(overrides) for overrides in planned if key(overrides) not in known]
    return sorted(jobs, key=lambda job: order.get(key(job.overrides), len(order)))


def _planned(hydra: Mapping[str, Any]) -> list[Overrides]:
    """What Hydra's own sweeper was to run; nothing if that cannot be told."""
    sweeper = _mapping(hydra.get("sweeper"))
    if not str(sweeper.get("_target_")).endswith(".BasicSweeper"):
        return []
    parameters = _mapping(sweeper.get("params")).items()
    texts = [f"{key}={value}" for key, value in parameters if isinstance(value, str | int | float)]
    values: dict[str, list[str]] = {}
    try:
        for override in OverridesParser.create().parse_overrides([*texts, *_overrides(hydra, "task")]):
            sweeps = override.is_sweep_override()
            chosen = override.sweep_string_iterator() if sweeps else [override.get_value_element_as_str()]
            values[_name(override.get_key_element())] = list(chosen)
    except (HydraException, NotImplementedError):  # damaged, or swept over what only composing tells, such as glob(*)
        return []
    return [dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())]


def _command(run: RunDirectory, hydra: Mapping[str, Any]) -> str | None:
    if "overrides" not in hydra:
        return None
    own = [text for text in _overrides(hydra, "hydra") if not text.startswith(("hydra.mode=", "hydra.sweep.dir="))]
    overrides = [shlex.quote(text) for text in [*_overrides(hydra, "task"), *own]]
    return " ".join(["python train.py -m", *overrides, run.override("hydra.sweep.dir")])


def _job(run: RunDirectory) -> Job:
    typed = typed_overrides(run)
    overrides = dict(name_and_value(text) for text in typed)
    try:
        told = run.read_manifest() or {}
        metrics = run.read_metrics() if run.finished else {}
    except UserError as error:
        return Job(overrides, typed, run, DAMAGED, _line(error))
    state, why = _line(told.get("state") or NOT_STARTED), None
    if run.finished:
        state = manifest.FINISHED
    elif state == manifest.FINISHED:
        state, why = DAMAGED, "metrics.json is gone"
    elif state == manifest.RUNNING and not run.running:
        state = manifest.KILLED  # and could not say so
    elif state == manifest.FAILED:
        why = _line(told.get("error") or "")
    seconds = told.get("seconds")
    figures = {_line(name): value for name, value in metrics.items() if _is_figure(value)}
    return Job(overrides, typed, run, state, why, seconds if _is_figure(seconds) else None, figures)


def _load(path: Path) -> object:
    """What a YAML file holds; None if it cannot be read."""
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


def _name(key: str) -> str:
    return key.lstrip("+")


def _line(value: object) -> str:
    text = " ".join(str(value).split())
    return "".join(character if character.isprintable() else "?" for character in text)


def _is_figure(value: object) -> bool:
    """Whether it is a number that can be averaged, which rules out NaN, too."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e100 < value < 1e100
