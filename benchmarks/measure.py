"""``make measure``: trains experiments with several seeds, and keeps a JSON file of each run for ``make ladder``.

The protocol is in docs/accuracy.md. Right before each run an epoch of the floor is timed (benchmarks/floor.py), so that
seconds can be told in its terms, too. Runs that are kept are left out, and one that was interrupted goes on: what takes
long may be spread over days. Without --kept those of benchmarks/results/runs are among them; with it, only those of its
directory. Seconds count on a machine that does nothing else.

Overrides among the experiments are for all of them: ``record_93 trainer=auto --kept measured`` measures it on a
processor without bf16.
"""

import argparse
import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir

from benchmarks.bench import peer
from benchmarks.process import ROOT, python
from fmnist.cli.error_messages import CONF
from fmnist.cli.program import report_user_errors
from fmnist.config.errors import UserError
from fmnist.runs import resume
from fmnist.runs.provenance import source
from fmnist.runs.run_directory import RunDirectory
from fmnist.sweeps.measurement import Measurement

KEPT = ROOT / "benchmarks/results/runs"
NEW = ROOT / "runs/kept"  # git does not look here, so that the source stays as committed while runs are made
RUNS = Path("runs/measured")  # below the project

Job = tuple[str, int]  # an experiment and a seed


def directory(job: Job, runs: Path) -> RunDirectory:
    experiment, seed = job
    return RunDirectory(runs / experiment / f"seed{seed}")


def measure(job: Job, overrides: Sequence[str], runs: Path, images: int) -> Measurement:
    """Trains and tests once, or goes on with that.

    Args:
        job: What.
        overrides: Besides those that the job itself is.
        runs: Directory for the run directories.
        images: Of the floor's epoch.
    """
    floor = peer("floor", epochs=2, images=images, threads=os.cpu_count() or 1)
    run = directory(job, runs)
    if not run.finished:
        new = (*_typed(job, overrides), f"hydra.run.dir={run.path}")
        python("train.py", *([f"resume={run.path}"] if run.hydra.is_dir() else new))
    return dataclasses.replace(Measurement.of_run(run), floor=round(floor, 3))


def check(job: Job, overrides: Sequence[str], runs: Path) -> None:
    """Makes sure that a job can be trained here, and that a run of it that was begun is of it as it is now.

    Raises:
        HydraException: There is no such experiment, or override.
        UserError: Something in it is wrong or impossible here, or the run is of another configuration.
    """
    from fmnist import build  # imports torch

    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", _typed(job, overrides))
    run = directory(job, runs)
    build.check(config, run)
    if run.hydra.is_dir():
        resume.check_same(run, config)


def kept(job: Job, place: Path) -> Path | None:
    """The file of a run that is left out; of the default directory, runs that are committed are, too."""
    experiment, seed = job
    places = [place, KEPT] if place.resolve() == NEW.resolve() else [place]
    paths = (place / f"{experiment}-seed{seed}.json" for place in places)
    return next((path for path in paths if path.exists()), None)


def left_out(files: Mapping[Job, Path], seeds: int) -> Iterator[str]:
    """What to say of the runs that are left out."""
    for experiment in dict.fromkeys(experiment for experiment, _ in files):
        found = {seed: path.parent for (name, seed), path in files.items() if name == experiment}
        for place in dict.fromkeys(found.values()):
            numbers = ", ".join(str(seed) for seed, other in found.items() if other == place)
            shown = place.relative_to(ROOT) if place.is_relative_to(ROOT) else place
            yield f"{experiment}: left out, since {shown} has them: seeds {numbers}"
        if len(found) == seeds:
            command = f'make measure ARGS="{experiment} --kept <new directory> --runs <new directory>"'
            yield f"{experiment}: to measure it again:  {command}"


def make(place: Path) -> None:
    """Makes a directory for the JSON files, which git does not look into wherever it is: see ``NEW``.

    Raises:
        UserError: It cannot be made.
    """
    if place.is_dir():
        return
    try:
        place.mkdir(parents=True)
        (place / ".gitignore").write_text("*\n")
    except OSError as error:
        raise UserError(f"cannot write --kept {place}: {error.strerror}") from error


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "experiments", nargs="+", metavar="experiment|override", help="of conf/experiment, such as small; key=value"
    )
    parser.add_argument("--seeds", type=int, default=5, help="how many, from 0")
    parser.add_argument("--kept", type=Path, default=NEW, help="directory for the JSON files")
    parser.add_argument("--runs", type=Path, default=RUNS, help="directory for the run directories")
    parser.add_argument("--images", type=int, default=55_000, help="of the floor's epoch")
    return parser


def main() -> None:
    """Measures, and says so.

    Raises:
        UserError: Something is wrong with what is to be measured: told before anything is.
    """
    options = parser().parse_args()
    if options.seeds < 1:
        raise UserError(f"--seeds must be at least 1, got {options.seeds}")
    overrides = [word for word in options.experiments if "=" in word]
    experiments = list(dict.fromkeys(word for word in options.experiments if "=" not in word))
    if not experiments:
        raise UserError("which experiment? Those of conf/experiment can be measured, such as record_93")
    if overrides and options.kept == NEW:
        raise UserError(f"with {' '.join(overrides)} it is another recipe: give a directory, such as --kept measured")
    if source()["dirty"]:
        raise UserError(
            "the source differs from its commit, which would be kept as what made the figures: commit first"
        )
    # All experiments with one seed, then the next: a machine's drift hits all alike.
    jobs = [(experiment, seed) for seed in range(options.seeds) for experiment in experiments]
    there = {job: path for job in jobs if (path := kept(job, options.kept))}
    todo = [job for job in jobs if job not in there]
    for job in todo:
        check(job, overrides, options.runs)
    make(options.kept)
    for line in left_out(there, options.seeds):
        print(line, flush=True)
    for job in todo:
        experiment, seed = job
        trained = directory(job, options.runs)
        before = f" (trained before, in {trained.path})" if trained.finished else ""
        run = measure(job, overrides, options.runs, options.images)
        run.write(options.kept / f"{experiment}-seed{seed}.json")
        accuracy, seconds = 100 * run.metrics["test/acc"], run.seconds or 0.0
        print(f"{experiment} seed {seed}: {accuracy:.2f} % on the test set, {seconds:.1f} s{before}", flush=True)


def _typed(job: Job, overrides: Sequence[str]) -> list[str]:
    experiment, seed = job
    return [f"experiment={experiment}", *overrides, f"seed={seed}"]


if __name__ == "__main__":
    with report_user_errors():
        main()
