"""Compare finished runs in a table: mean and standard deviation over seeds.

  python -m fmnist.results runs=runs

A row shows the runs of one recipe, which differ only in their seed: parameters, seconds of training, accuracy on the
validation and the test set. Choose recipes by the validation set: to choose by the test set leaves no unbiased result.

If a recipe and seed was run several times, one run counts: the one with the most metrics, of those the earliest. A line
below the table names the others whose metrics differ.

keep=<directory> saves each counted run as a small JSON file, which can be committed and read again instead of the run:
metrics, configuration, commit, versions, machine.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from fmnist.cli import options
from fmnist.config.errors import UserError
from fmnist.runs import atomic, create
from fmnist.runs.run_directory import RunDirectory, locate
from fmnist.runs.tables import escape, format_table
from fmnist.sweeps.measurement import Measurement, Summary, summaries

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    runs: tuple[str, ...] = options.option(
        "run directories, kept JSON files, or directories with some of them", positional=True
    )
    keep: Path | None = options.option("directory to save a JSON file of each run in", default=None)
    output: Path | None = options.option("Markdown file to write the table to", default=None)


def main(given: Options) -> None:
    """Prints the table and writes the requested files.

    Raises:
        UserError: There is no finished run, or something cannot be read or written.
    """
    measurements = [measurement for path in given.runs for measurement in read(Path(path))]
    if not measurements:
        raise UserError(f"no finished run in {', '.join(given.runs)}")
    recipes = summaries(measurements)
    if given.keep:
        kept = [run for recipe in recipes for run in recipe.runs]
        keep(kept, given.keep)
        log.info("kept %d files in %s", len(kept), given.keep)
    common = shared(recipes)
    heading = [f"all with {' '.join(common)}", ""] if common else []
    notes = [line for recipe in recipes for line in notes_on_uncounted(recipe)]
    below = ["", *notes] if notes else []
    rows = table(recipes)
    numbers = format_table([row[1:] for row in rows], "plain", words=0).splitlines()
    lines = [f"{line}  {row[0]}" for line, row in zip(numbers, rows, strict=True)]  # recipes may be long: last
    log.info("\n".join([*heading, *lines, *below]))
    if given.output:
        lines = [*map(escape, heading), format_table(rows, "pipe"), *map(escape, below), ""]
        try:
            atomic.write(given.output, "\n".join(lines).encode())
        except OSError as error:
            raise UserError(f"cannot write output={given.output}: {error.strerror}") from error


def read(path: Path) -> Iterator[Measurement]:
    """The finished runs in a directory at any depth, and those of which it keeps JSON files.

    Raises:
        UserError: There is no such path, or it is damaged.
    """
    if not path.exists():
        raise UserError(f"there is no {path}; runs are under runs/train and runs/sweeps")
    path, _ = locate(path)
    if path.is_file():
        yield Measurement.read(path)
        return
    for metrics in sorted(path.glob("**/metrics.json")):
        run = RunDirectory(metrics.parent)
        if run.hydra.is_dir():  # otherwise it belongs to an evaluation
            yield Measurement.of_run(run)
    for kept in sorted(path.glob("*-seed*.json")):
        yield Measurement.read(kept)


def keep(measurements: Iterable[Measurement], directory: Path) -> None:
    """Writes a JSON file of each run.

    Raises:
        UserError: Two runs would share a file, or a file cannot be written.
    """
    files: dict[Path, Measurement] = {}
    try:
        for measurement in measurements:
            path = directory / file_name(measurement)
            existing = Measurement.read(path) if path.exists() else files.get(path, measurement)
            if existing != measurement:
                raise UserError(
                    f"{path} would be the file of two runs, started {_start(existing)} and {_start(measurement)}; "
                    "keep them in different directories"
                )
            files[path] = measurement
        directory.mkdir(parents=True, exist_ok=True)
        for path, measurement in files.items():
            measurement.write(path)
    except OSError as error:
        raise UserError(f"cannot write keep={directory}: {error.strerror}") from error


def file_name(measurement: Measurement) -> str:
    """Name of the JSON file of a run."""
    name = "+".join(measurement.recipe).removeprefix("experiment=") or "defaults"
    return f"{create.directory_name(name)}-seed{measurement.seed}.json"


def notes_on_uncounted(recipe: Summary) -> list[str]:
    """A line for each run that does not count although its metrics differ from the counted run of its seed."""
    counted = {run.seed: run for run in recipe.runs}
    name = " ".join(recipe.recipe) or "the defaults"
    return [
        f"{name}, seed {run.seed}: the run started {_start(counted[run.seed])} counts; the one started "
        f"{_start(run)} has different metrics and does not"
        for run in recipe.uncounted
    ]


def _start(run: Measurement) -> str:
    return run.start or "at an unknown time"


def table(recipes: Sequence[Summary]) -> list[list[str]]:
    """A header, and a row per recipe without the overrides that all share."""
    common = shared(recipes)
    rows = [
        {
            "recipe": " ".join(text for text in recipe.recipe if text not in common) or "the defaults",
            "parameters": f"{recipe.runs[0].parameters:,}" if recipe.runs[0].parameters else "-",
            "seconds": _whole(recipe.mean("seconds")),
            "floor epochs": _whole(recipe.mean("floor epochs")),
            "validation accuracy": percent(recipe, "val/acc"),
            "test accuracy": percent(recipe, "test/acc"),
            "runs": str(len(recipe.runs)),
            "commit": ", ".join(dict.fromkeys(run.commit for run in recipe.runs)),
        }
        for recipe in recipes
    ]
    header = [name for name in rows[0] if name != "floor epochs" or any(row[name] != "-" for row in rows)]
    return [header, *([row[name] for name in header] for row in rows)]


def _whole(value: float) -> str:
    return "-" if pd.isna(value) else f"{value:,.0f}"


def shared(recipes: Sequence[Summary]) -> list[str]:
    """The overrides that all of several recipes have."""
    if len(recipes) < 2:
        return []
    first, *others = (recipe.recipe for recipe in recipes)
    return [text for text in first if all(text in other for other in others)]


def percent(recipe: Summary, metric: str) -> str:
    """Mean and standard deviation in percent, such as '93.12 ± 0.14'; '-' if a run lacks the metric."""
    if pd.isna(recipe.mean(metric)):
        return "-"
    sd = "" if len(recipe.runs) == 1 else f" ± {100 * recipe.sd(metric):.2f}"
    return f"{100 * recipe.mean(metric):.2f}{sd}"


if __name__ == "__main__":
    options.run(main, Options)
