"""A sweep: which jobs it has, and whether it may start, or go on, in a directory. Imported before torch is."""

import math
from collections import Counter
from collections.abc import Iterator

from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep
from omegaconf import DictConfig, OmegaConf

from fmnist.config.errors import UserError
from fmnist.config.signature import check_value
from fmnist.runs import atomic, create, resume
from fmnist.runs.run_directory import RunDirectory
from fmnist.sweeps import search, sweep_directory


def overrides(config: DictConfig) -> list[str]:
    """What the jobs are made of: the sweeper's parameters, and after them the command line, which has the last word."""
    params = config.hydra.sweeper.get("params") or {}
    return [*(f"{key}={value}" for key, value in params.items()), *config.hydra.overrides.task]


def trial_jobs(config: DictConfig) -> Iterator[list[str]]:
    """Jobs among which each value comes once, so that a wrong one is found before the first job starts.

    Raises:
        UserError: There is no job, or there are too many; or a value stands twice: jobs are named by their overrides,
            and two would share a directory.
    """
    fixed: dict[str, str] = {}
    sweeps: dict[str, list[str]] = {}
    counts: dict[str, int] = {}
    for override in OverridesParser.create().parse_overrides(overrides(config)):
        key = override.get_key_element()
        for known in (fixed, sweeps, counts):
            known.pop(key, None)  # what comes later has the last word
        if not override.is_sweep_override():
            fixed[key] = str(override.input_line)
        elif override.is_discrete_sweep():
            values = list(override.sweep_string_iterator())
            if not values:
                raise UserError(f"{override.input_line} gives no value to sweep over, so that there would be no job")
            if twice := [value for value, times in Counter(values).items() if times > 1]:
                raise UserError(f"{override.key_or_group} is to be swept over {twice[0]} twice; name each value once")
            counts[key] = len(values)
            if override.is_range_sweep():
                values = list(dict.fromkeys([values[0], values[-1]]))  # what lies between is as right as its ends
            sweeps[key] = [f"{key}={value}" for value in values]
        elif override.is_interval_sweep():
            interval = override.value()
            assert isinstance(interval, IntervalSweep)
            sweeps[key] = [f"{key}={value}" for value in (interval.start, interval.end)]
    check_value("max_jobs", config.max_jobs, int)
    jobs = search.trials(config) if search.is_search(config) else math.prod(counts.values())
    if jobs > config.max_jobs:
        raise UserError(f"the sweep would have {jobs:,} jobs; if you mean it, add max_jobs={jobs}")
    first = {key: jobs[0] for key, jobs in sweeps.items()}
    yield [*fixed.values(), *first.values()]
    for key, values in sweeps.items():
        for job in values[1:]:
            yield [*fixed.values(), *(first | {key: job}).values()]


def check_same(sweep: RunDirectory) -> None:
    """Makes sure that the jobs which a sweep has begun are of the configurations that they would have now.

    Else the report would rank runs of different recipes as if their overrides were all that differs. Of jobs that have
    their values in common with others, not all are looked at: to compose a configuration takes a tenth of a second.

    Raises:
        UserError: The files in ``conf/`` have changed since.
    """
    seen: set[str] = set()
    for job in sweep_directory.read(sweep.path).jobs:
        if job.run is not None and job.typed and not seen.issuperset(job.typed):
            seen.update(job.typed)
            now = compose("train", list(job.typed))
            resume.check_same(job.run, now, free=[key for key in resume.ALLOWED if key != "trainer.max_epochs"])


def take(sweep: RunDirectory, config: DictConfig) -> bool:
    """Takes a directory for a sweep, or finds it taken by the same sweep, which then is to go on.

    Returns:
        Whether the sweep goes on.

    Raises:
        UserError: The directory holds something else, or cannot be written.
    """
    wanted = OmegaConf.to_yaml(OmegaConf.create(overrides(config)))
    path = sweep.sweep / "overrides.yaml"
    if not path.is_file():
        create.create_sweep_directory(sweep, {path.name: wanted, "hydra.yaml": OmegaConf.to_yaml(config.hydra)})
        return False
    begun = path.read_text()
    if begun != wanted:
        command = " ".join(OmegaConf.create(begun))
        raise UserError(f"{sweep.shown} holds another sweep, and nothing in it was changed; it is of: {command}")
    return True


def record(sweep: RunDirectory, config: DictConfig) -> None:
    """Writes down with which of Hydra's settings a sweep goes on, such as the number of trials; while it is locked."""
    atomic.write(sweep.sweep / "hydra.yaml", OmegaConf.to_yaml(config.hydra).encode())
