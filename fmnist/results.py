"""Makes a table of finished runs: ``python -m fmnist.results runs=runs``.

Runs of one recipe, which differ in nothing but their seed, make a row: parameters, seconds of training, accuracy on the
validation and the test set, mean and standard deviation over the runs. Recipes are to be chosen by the validation set;
who chooses by the test set's column has no figure left to report.

Of several runs of one recipe and one seed, such as a run and its reproduction, one counts: that with the most figures,
of those the first that was begun. If another's figures differ, a line below the table says so.

With keep=<directory> each run that counts is kept there as a small JSON file, which can be committed, and read again in
the place of the run: metrics, configuration, commit, versions, machine.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fmnist.cli import options
from fmnist.config.errors import UserError
from fmnist.runs import atomic, create
from fmnist.runs.run_directory import RunDirectory
from fmnist.sweeps.measurement import Measurement, Summary, summaries
from fmnist.sweeps.ranking import Statistic
from fmnist.sweeps.tables import Table, aligned, escaped, markdown_rows

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    runs: tuple[str, ...] = options.option("run directories, kept JSON files, or directories that hold some of them")
    keep: Path | None = options.option("directory to keep a JSON file of each run in", default=None)
    output: Path | None = options.option("Markdown file to write the table to", default=None)


def main(options: Options) -> None:
    """Prints the table, and writes what was asked for.

    Raises:
        UserError: There is no finished run, or something cannot be read or written.
    """
    measurements = [measurement for path in options.runs for measurement in read(Path(path))]
    if not measurements:
        raise UserError(f"no finished run in {', '.join(options.runs)}")
    recipes = summaries(measurements)
    if options.keep:
        kept = [run for recipe in recipes for run in recipe.runs]
        keep(kept, options.keep)
        log.info("kept %d files in %s", len(kept), options.keep)
    rows, common = table(recipes), shared(recipes)
    heading = [f"all with {' '.join(common)}", ""] if common else []
    notes = [line for recipe in recipes for line in ambiguous(recipe)]
    below = ["", *notes] if notes else []
    figures = aligned([row[1:] for row in rows], words=0)  # recipes may be long: at the end
    lines = [f"{line}  {recipe}" for line, (recipe, *_) in zip(figures, rows, strict=True)]
    log.info("\n".join([*heading, *lines, *below]))
    if options.output:
        lines = [*map(escaped, heading), *markdown_rows(rows, words=1), *map(escaped, below), ""]
        try:
            atomic.write(options.output, "\n".join(lines).encode())
        except OSError as error:
            raise UserError(f"cannot write output={options.output}: {error.strerror}") from error


def read(path: Path) -> Iterator[Measurement]:
    """The finished runs in a directory at any depth, and those that JSON files in it were kept of.

    Raises:
        UserError: There is no such path, or it is damaged.
    """
    if not path.exists():
        raise UserError(f"there is no {path}; runs are under runs/train and runs/sweeps")
    if path.is_file():
        yield Measurement.read(path)
        return
    for metrics in sorted(path.glob("**/metrics.json")):
        run = RunDirectory(metrics.parent)
        if run.hydra.is_dir():  # else an evaluation
            yield Measurement.of_run(run)
    for kept in sorted(path.glob("*-seed*.json")):
        yield Measurement.read(kept)


def keep(measurements: Iterable[Measurement], directory: Path) -> None:
    """Writes a JSON file of each run.

    Raises:
        UserError: A file would have to hold two runs, or cannot be written.
    """
    files: dict[Path, Measurement] = {}
    try:
        for measurement in measurements:
            path = directory / file_name(measurement)
            there = Measurement.read(path) if path.exists() else files.get(path, measurement)
            if there != measurement:
                raise UserError(
                    f"{path} would be the file of two runs, begun {_begun(there)} and {_begun(measurement)}; "
                    "keep them in different directories"
                )
            files[path] = measurement
        directory.mkdir(parents=True, exist_ok=True)
        for path, measurement in files.items():
            measurement.write(path)
    except OSError as error:
        raise UserError(f"cannot write keep={directory}: {error.strerror}") from error


def file_name(measurement: Measurement) -> str:
    """Of the JSON file that is kept of a run."""
    name = "+".join(measurement.recipe).removeprefix("experiment=") or "defaults"
    return f"{create.directory_name(name)}-seed{measurement.seed}.json"


def ambiguous(recipe: Summary) -> list[str]:
    """A line for each run that does not count, and has other figures than that of its seed which does."""
    counted = {run.seed: run for run in recipe.runs}
    name = " ".join(recipe.recipe) or "the defaults"
    return [
        f"{name}, seed {run.seed}: the run begun {_begun(counted[run.seed])} counts, "
        f"and that begun {_begun(run)} does not, whose figures are others"
        for run in recipe.others
    ]


def _begun(run: Measurement) -> str:
    return run.start or "at an unknown time"


def table(recipes: Sequence[Summary]) -> Table:
    """A header, and a row for each recipe, without what is shared by all."""
    common = shared(recipes)
    accuracies = ["validation accuracy", "test accuracy"]
    header = ["recipe", "parameters", "seconds", "floor epochs", *accuracies, "runs", "commit"]
    rows = [
        [
            " ".join(text for text in recipe.recipe if text not in common) or "the defaults",
            f"{recipe.parameters:,}" if recipe.parameters else "-",
            f"{recipe.seconds:,.0f}" if recipe.seconds else "-",
            f"{recipe.floors:,.0f}" if recipe.floors else "-",
            percent(recipe.statistic("val/acc")),
            percent(recipe.statistic("test/acc")),
            str(len(recipe.runs)),
            ", ".join(recipe.commits),
        ]
        for recipe in recipes
    ]
    if all(recipe.floors is None for recipe in recipes):
        for row in [header, *rows]:
            del row[3]
    return [header, *rows]


def shared(recipes: Sequence[Summary]) -> list[str]:
    """The overrides that all of several recipes have."""
    if len(recipes) < 2:
        return []
    first, *others = (recipe.recipe for recipe in recipes)
    return [text for text in first if all(text in other for other in others)]


def percent(accuracy: Statistic | None) -> str:
    """Mean and standard deviation in percent, such as '93.12 ± 0.14'."""
    if accuracy is None:
        return "-"
    return f"{100 * accuracy.mean:.2f}" + ("" if accuracy.sd is None else f" ± {100 * accuracy.sd:.2f}")


if __name__ == "__main__":
    options.run(main, Options)
