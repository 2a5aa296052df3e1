"""Train experiments with several seeds, and keep a JSON file of each run for ``make ladder``.

  make measure ARGS="experiments=[small,strong]"
  make measure ARGS="experiments=record_93 overrides=trainer=auto kept=measured"   # on a processor without bf16

docs/accuracy.md describes the protocol. Right before each run, an epoch of the floor (benchmarks/floor.py) is timed, so
that training time can be expressed in floor epochs. Use a machine that does nothing else.

Runs that are already kept are skipped, and an interrupted run is resumed. By default, the committed runs in
benchmarks/results/runs count as kept; with kept=<directory> only the files in that directory do.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra import compose, initialize_config_dir

from benchmarks.bench import peer
from benchmarks.process import ROOT, python
from fmnist.cli import options
from fmnist.config.cores import usable_cores
from fmnist.config.errors import UserError
from fmnist.config.paths import CONF
from fmnist.runs import resume
from fmnist.runs.provenance import source
from fmnist.runs.run_directory import RunDirectory
from fmnist.sweeps.measurement import Measurement

KEPT = ROOT / "benchmarks/results/runs"
NEW = ROOT / "runs/kept"  # ignored by git, so that new files do not make the source differ from its commit

Job = tuple[str, int]  # an experiment and a seed


@dataclass(frozen=True)
class Options:
    experiments: tuple[str, ...] = options.option("names in conf/experiment, such as [small,strong]")
    overrides: tuple[str, ...] = options.option("overrides of all experiments, such as trainer=auto", default=())
    seeds: int = options.option("number of seeds, from 0", default=5)
    kept: Path | None = options.option("directory for the JSON files; default: runs/kept", default=None)
    runs: Path = options.option("directory for the run directories", default=Path("runs/measured"))
    images: int = options.option("number of images in an epoch of the floor", default=55_000)


def main(given: Options) -> None:
    """Measures what is missing.

    Raises:
        UserError: An option is wrong, or an experiment cannot be trained here. Nothing was measured then.
    """
    if given.seeds < 1:
        raise UserError(f"seeds must be at least 1, got {given.seeds}")
    kept = given.kept or NEW
    if given.overrides and kept.resolve() == NEW.resolve():
        changed = " ".join(given.overrides)
        raise UserError(f"overrides={changed} makes another recipe: give it a directory, such as kept=measured")
    if source()["dirty"]:
        raise UserError("the source differs from its commit, which each file records: commit your changes first")
    # All experiments with one seed, then the next: a machine's drift affects all of them alike.
    jobs = [(experiment, seed) for seed in range(given.seeds) for experiment in dict.fromkeys(given.experiments)]
    existing = {job: path for job in jobs if (path := find_kept(job, kept))}
    missing = [job for job in jobs if job not in existing]
    for job in missing:
        check(job, given.overrides, given.runs)
    create_directory(kept)
    for line in describe_skipped(existing, given.seeds):
        print(line, flush=True)
    for job in missing:
        experiment, seed = job
        run = run_directory(job, given.runs)
        note = f" (already trained, in {run.path})" if run.finished else ""
        result = measure(job, given.overrides, given.runs, given.images)
        result.write(kept / f"{experiment}-seed{seed}.json")
        accuracy, seconds = 100 * result.metrics["test/acc"], result.seconds or 0.0
        print(f"{experiment} seed {seed}: {accuracy:.2f} % on the test set, {seconds:.1f} s{note}", flush=True)


def measure(job: Job, overrides: Sequence[str], runs: Path, images: int) -> Measurement:
    """Times the floor, then trains and tests a run, or resumes it."""
    floor = peer("floor", epochs=2, images=images, threads=usable_cores())
    run = run_directory(job, runs)
    if not run.finished:
        new = (*_train_overrides(job, overrides), f"hydra.run.dir={run.path}")
        python("train.py", *([f"resume={run.path}"] if run.hydra.is_dir() else new))
    return dataclasses.replace(Measurement.of_run(run), floor=round(floor, 3))


def run_directory(job: Job, runs: Path) -> RunDirectory:
    experiment, seed = job
    return RunDirectory(runs / experiment / f"seed{seed}")


def check(job: Job, overrides: Sequence[str], runs: Path) -> None:
    """Checks that a job can be trained here, and that an interrupted run of it has today's configuration.

    Raises:
        HydraException: There is no such experiment or override.
        UserError: The configuration is wrong, impossible here, or differs from that of the run.
    """
    from fmnist import build  # imports torch

    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", _train_overrides(job, overrides))
    run = run_directory(job, runs)
    build.check(config, run)
    if run.hydra.is_dir():
        resume.check_same(run, config)


def find_kept(job: Job, kept: Path) -> Path | None:
    """The file of a run that is already kept. With the default directory, committed runs count, too."""
    experiment, seed = job
    directories = [kept, KEPT] if kept.resolve() == NEW.resolve() else [kept]
    paths = (directory / f"{experiment}-seed{seed}.json" for directory in directories)
    return next((path for path in paths if path.exists()), None)


def describe_skipped(files: Mapping[Job, Path], seeds: int) -> Iterator[str]:
    """Lines that say which runs are skipped, and how to measure an experiment again of which all are."""
    for experiment in dict.fromkeys(experiment for experiment, _ in files):
        found = {seed: path.parent for (name, seed), path in files.items() if name == experiment}
        for directory in dict.fromkeys(found.values()):
            numbers = ", ".join(str(seed) for seed, other in found.items() if other == directory)
            shown = directory.relative_to(ROOT) if directory.is_relative_to(ROOT) else directory
            yield f"{experiment}: skipping seeds {numbers}, which {shown} already holds"
        if len(found) == seeds:
            command = f'make measure ARGS="experiments={experiment} kept=<new directory> runs=<new directory>"'
            yield f"{experiment}: to measure it again:  {command}"


def create_directory(path: Path) -> None:
    """Creates a directory for the JSON files that git ignores, wherever it is: see ``NEW``.

    Raises:
        UserError: It cannot be created.
    """
    if path.is_dir():
        return
    try:
        path.mkdir(parents=True)
        (path / ".gitignore").write_text("*\n")
    except OSError as error:
        raise UserError(f"cannot write kept={path}: {error.strerror}") from error


def _train_overrides(job: Job, overrides: Sequence[str]) -> list[str]:
    experiment, seed = job
    return [f"experiment={experiment}", *overrides, f"seed={seed}"]


if __name__ == "__main__":
    options.run(main, Options)
