"""The directory of a sweep: which jobs were planned, and what came of each. Imported without torch."""

import itertools
import math
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from fmnist import manifest, monitor
from fmnist.errors import UserError
from fmnist.run_directory import RunDirectory

NOT_STARTED, DAMAGED = "not started", "damaged"  # what a job can be beside the states of fmnist.manifest

Overrides = dict[str, str]


@dataclass(frozen=True)
class Job:
    """One run of a sweep, or one that was planned and has not begun."""

    overrides: Overrides  # name to value, as they were typed; empty if a sweeper has yet to choose them
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
        """What it is judged by, see ``fmnist.monitor``; None if it has no configuration that says so."""
        if self.run is None:
            return None
        try:
            return monitor.score(self.run.read_configuration())
        except (UserError, OmegaConfBaseException, AttributeError, TypeError):  # somebody has changed the file
            return None


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
    begun = [_job(RunDirectory(hydra.parent)) for hydra in sorted(path.glob("**/.hydra"))]
    multirun = path / "multirun.yaml"
    if not begun and not multirun.exists():
        raise UserError(f"{path} is no directory of a sweep: it has no multirun.yaml, and no runs in it")
    hydra = _mapping(_mapping(_load(multirun)).get("hydra"))
    return SweepDirectory(run, _with_planned(begun, hydra), _command(run, hydra))


def differing(jobs: Iterable[Overrides]) -> list[str]:
    """Names of the overrides that are not the same in all jobs, in order of appearance."""
    jobs = [job for job in jobs if job]
    names = dict.fromkeys(name for job in jobs for name in job)
    return [name for name in names if len({job.get(name) for job in jobs}) > 1]


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
    jobs = {key(overrides): Job(overrides) for overrides in planned}
    jobs |= {key(job.overrides): job for job in begun if job.overrides}  # without: killed before it could begin
    return sorted(jobs.values(), key=lambda job: order.get(key(job.overrides), len(order)))


def _planned(hydra: Mapping[str, Any]) -> list[Overrides]:
    """What Hydra's own sweeper was to run; nothing if that cannot be told."""
    sweeper = _mapping(hydra.get("sweeper"))
    if not str(sweeper.get("_target_")).endswith(".BasicSweeper"):
        return []
    parameters = [f"{key}={value}" for key, value in _mapping(sweeper.get("params")).items()]
    values: dict[str, list[str]] = {}
    try:
        for override in OverridesParser.create().parse_overrides([*parameters, *_overrides(hydra, "task")]):
            sweeps = override.is_sweep_override()
            texts = override.sweep_string_iterator() if sweeps else [override.get_value_element_as_str()]
            values[_name(override.get_key_element())] = list(texts)
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
    texts = _load(run.hydra / "overrides.yaml")
    pairs = [str(text).partition("=") for text in texts] if isinstance(texts, list) else []
    overrides = {_name(key): value for key, _, value in pairs}
    try:
        told = run.read_manifest() or {}
        metrics = run.read_metrics() if run.finished else {}
    except UserError as error:
        return Job(overrides, run, DAMAGED, _line(error))
    state, why = _line(told.get("state", NOT_STARTED)), None
    if run.finished:
        state = manifest.FINISHED
    elif state == manifest.FINISHED:
        state, why = DAMAGED, "metrics.json is gone"
    elif state == manifest.RUNNING and not run.running:
        state = manifest.KILLED  # and could not say so
    elif state == manifest.FAILED:
        why = _line(told.get("error") or "")
    seconds = told.get("seconds")
    figures = {_line(name): value for name, value in metrics.items() if _is_finite(value)}
    return Job(overrides, run, state, why, seconds if _is_finite(seconds) else None, figures)


def _load(path: Path) -> object:
    """What a YAML file holds; None if it cannot be read."""
    try:
        content: object = yaml.safe_load(path.read_text())
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return content


def _overrides(hydra: Mapping[str, Any], kind: str) -> list[str]:
    texts = _mapping(hydra.get("overrides")).get(kind)
    return [str(text) for text in texts] if isinstance(texts, list) else []


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _name(key: str) -> str:
    return key.lstrip("+")


def _line(value: object) -> str:
    return " ".join(str(value).split())


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
