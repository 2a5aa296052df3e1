"""``make measure``: trains experiments with several seeds, and keeps a JSON file of each run for ``make ladder``.

The protocol is in docs/accuracy.md. Right before each run an epoch of the floor is timed (benchmarks/floor.py), so that
seconds can be told in its terms, too. Runs that are kept are left out, and one that was interrupted goes on: what takes
long may be spread over days. Seconds count on a machine that does nothing else.
"""

import argparse
import dataclasses
import os
from pathlib import Path

from benchmarks.bench import peer
from benchmarks.process import ROOT, python
from fmnist.machine import source
from fmnist.measurement import Measurement
from fmnist.run_directory import RunDirectory

KEPT = ROOT / "benchmarks/results/runs"
NEW = ROOT / "runs/kept"  # git does not look here, so that the source stays as committed while runs are made
RUNS = Path("runs/measured")  # below the project


def measure(experiment: str, seed: int, runs: Path, images: int = 55_000) -> Measurement:
    """Trains and tests once, or goes on with that."""
    floor = peer("floor", epochs=2, images=images, threads=os.cpu_count() or 1)
    run = RunDirectory(runs / experiment / f"seed{seed}")
    if not run.finished:
        new = (f"experiment={experiment}", f"seed={seed}", f"hydra.run.dir={run.path}")
        python("train.py", *([f"resume={run.path}"] if run.hydra.is_dir() else new))
    return dataclasses.replace(Measurement.of_run(run), floor=round(floor, 3))


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiments", nargs="+", help="of conf/experiment, such as small")
    parser.add_argument("--seeds", type=int, default=5, help="how many, from 0")
    parser.add_argument("--kept", type=Path, default=NEW, help="directory for the JSON files")
    parser.add_argument("--runs", type=Path, default=RUNS, help="directory for the run directories")
    parser.add_argument("--images", type=int, default=55_000, help="of the floor's epoch")
    return parser


def main() -> None:
    options = parser().parse_args()
    if source()["dirty"]:
        parser().error("the source differs from its commit, which would be kept as what made the figures: commit first")
    options.kept.mkdir(parents=True, exist_ok=True)
    for seed in range(options.seeds):  # all experiments with one seed, then the next: a machine's drift hits all alike
        for experiment in options.experiments:
            path = options.kept / f"{experiment}-seed{seed}.json"
            if path.exists() or (KEPT / path.name).exists():
                continue
            run = measure(experiment, seed, options.runs, options.images)
            run.write(path)
            accuracy, seconds = 100 * run.metrics["test/acc"], run.seconds or 0.0
            print(f"{experiment} seed {seed}: {accuracy:.2f} % on the test set, {seconds:.1f} s", flush=True)


if __name__ == "__main__":
    main()
