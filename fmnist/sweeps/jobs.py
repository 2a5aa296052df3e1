"""The jobs of a sweep, and whether it may start or resume in a directory. Imported before torch."""

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
    """The sweeper's parameters, then the command line, which takes precedence."""
    params = config.hydra.sweeper.get("params") or {}
    return [*(f"{key}={value}" for key, value in params.items()), *config.hydra.overrides.task]


def sample_jobs(config: DictConfig) -> Iterator[list[str]]:
    """Overrides of jobs that contain each swept value once, to find a wrong value before the first job starts.

    Raises:
        UserError: The sweep has no job or more than ``max_jobs``, or a value occurs twice, or is not part of a job's
            name: jobs are named by their overrides, so that two would share a directory.
    """
    unnamed = OmegaConf.select(config, "hydra.job.config.override_dirname.exclude_keys", default=[])
    fixed: dict[str, str] = {}
    sweeps: dict[str, list[str]] = {}
    counts: dict[str, int] = {}
    for override in OverridesParser.create().parse_overrides(overrides(config)):
        key = override.get_key_element()
        for known in (fixed, sweeps, counts):
            known.pop(key, None)  # the last override of a key takes precedence
        if not override.is_sweep_override():
            fixed[key] = str(override.input_line)
        elif key in unnamed:
            raise UserError(f"{key} cannot be swept: the directories of the jobs would have the same name")
        elif override.is_discrete_sweep():
            values = list(override.sweep_string_iterator())
            if not values:
                raise UserError(f"{override.input_line} has no values to sweep over, so the sweep would have no job")
            if repeated := [value for value, count in Counter(values).items() if count > 1]:
                raise UserError(f"{override.key_or_group} has the value {repeated[0]} twice; name each value once")
            counts[key] = len(values)
            if override.is_range_sweep():
                values = list(dict.fromkeys([values[0], values[-1]]))  # if both ends are valid, so is every value
            sweeps[key] = [f"{key}={value}" for value in values]
        elif override.is_interval_sweep():
            interval = override.value()
            assert isinstance(interval, IntervalSweep)
            if interval.start is None or interval.end is None or not interval.start < interval.end:
                raise UserError(f"{override.input_line}: an interval goes from a smaller number to a greater one")
            if "log" in interval.tags and interval.start <= 0:
                raise UserError(f"{override.input_line}: on a logarithmic scale, all values must be above 0")
            sweeps[key] = [f"{key}={value}" for value in (interval.start, interval.end)]
    check_value("max_jobs", config.max_jobs, int)
    jobs = config.hydra.sweeper.n_trials if search.is_search(config) else math.prod(counts.values())
    if jobs > config.max_jobs:
        raise UserError(f"the sweep would have {jobs:,} jobs; if you mean it, add max_jobs={jobs}")
    first = {key: values[0] for key, values in sweeps.items()}
    yield [*fixed.values(), *first.values()]
    for key, values in sweeps.items():
        for value in values[1:]:
            yield [*fixed.values(), *(first | {key: value}).values()]


def shorten_names(config: DictConfig) -> None:
    """Leaves the overrides that all jobs share out of the names of their directories."""
    parsed = OverridesParser.create().parse_overrides(overrides(config))
    swept = {override.key_or_group: override.is_sweep_override() for override in parsed}  # the last one counts
    if any(swept.values()):
        path = "hydra.job.config.override_dirname.exclude_keys"
        excluded = [*OmegaConf.select(config, path), *(key for key, is_swept in swept.items() if not is_swept)]
        config.hydra.overrides.hydra.append(f"{path}=[{','.join(excluded)}]")


def check_same(sweep: RunDirectory) -> None:
    """Checks that the jobs that have started would have the same configuration today.

    Otherwise the report would rank runs of different recipes as if only their overrides differed. Composing takes a
    tenth of a second, so jobs are skipped if each of their overrides has been checked in another job.

    Raises:
        UserError: The files in ``conf/`` have changed.
    """
    checked: set[str] = set()
    for job in sweep_directory.read(sweep.path).jobs:
        if job.run is not None and job.typed and not checked.issuperset(job.typed):
            checked.update(job.typed)
            now = compose("train", list(job.typed))
            resume.check_same(job.run, now, free=[key for key in resume.ALLOWED if key != "trainer.max_epochs"])


def create_or_resume(sweep: RunDirectory, config: DictConfig) -> bool:
    """Creates the directory of a sweep, unless it already holds the same sweep.

    Returns:
        Whether the sweep is resumed.

    Raises:
        UserError: The directory holds something else, or cannot be written.
    """
    wanted = OmegaConf.to_yaml(OmegaConf.create(overrides(config)))
    path = sweep.sweep / "overrides.yaml"
    if not path.is_file():
        create.create_sweep_directory(sweep, {path.name: wanted, "hydra.yaml": OmegaConf.to_yaml(config.hydra)})
        return False
    existing = path.read_text()
    if existing != wanted:
        raise UserError(
            f"{sweep.shown} holds another sweep and stays unchanged: {' '.join(OmegaConf.create(existing))}"
        )
    return True


def write_hydra_config(sweep: RunDirectory, config: DictConfig) -> None:
    """Stores Hydra's configuration of a resumed sweep, whose number of trials may be higher. Call it while locked."""
    atomic.write(sweep.sweep / "hydra.yaml", OmegaConf.to_yaml(config.hydra).encode())
