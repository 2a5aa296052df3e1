"""Tells which settings of a sweep were best: ``python -m fmnist.report sweep=<directory>``.

Every sweep ends with this report, also one that failed or was interrupted. Settings are ranked by the metric that the
runs monitor, by its mean over the seeds; the accuracy on the test set is told of the best one alone, since to look at
it for all is to choose by it. Into the sweep's directory go:

  report.md   the table, and the figure
  report.png  the metric over what was swept
  report.csv  a row for each run: what was swept, how it ended, seconds, metrics
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fmnist.cli import options
from fmnist.config.errors import UserError
from fmnist.runs import atomic
from fmnist.sweeps import ranking, report_text, sweep_directory
from fmnist.sweeps.ranking import SEED, Ranking
from fmnist.sweeps.sweep_directory import SweepDirectory

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    sweep: Path = options.option("directory of a sweep, below runs/sweeps")


def main(options: Options) -> None:
    """Writes the files and prints the report.

    Raises:
        UserError: There is no such sweep, or its directory cannot be written.
    """
    sweep = sweep_directory.read(options.sweep)
    ranks = ranking.of(sweep.jobs)
    log.info(report_text.terminal(sweep, ranks))
    _write(sweep, ranks)


def write(path: Path) -> str:
    """Writes the files and returns the text for the terminal, whatever state the sweep is in."""
    try:
        sweep = sweep_directory.read(path)
    except UserError as error:
        return f"no report: {error}"
    ranks = ranking.of(sweep.jobs)
    text = report_text.terminal(sweep, ranks)
    try:
        _write(sweep, ranks)
    except UserError as error:
        text += f"\n{error}"
    return text


def _write(sweep: SweepDirectory, ranks: Ranking) -> None:
    path = sweep.run.path
    try:
        atomic.write_csv(path / "report.csv", *_runs(sweep, ranks))
        if ranks.best:
            from fmnist.sweeps import sweep_figures  # imports matplotlib, which takes half a second

            atomic.write_figure(path / "report.png", sweep_figures.draw(ranks))
        atomic.write(path / "report.md", report_text.markdown(sweep, ranks).encode())
    except OSError as error:
        raise UserError(f"cannot write the report to {path}: {error.strerror}") from error


def _runs(sweep: SweepDirectory, ranks: Ranking) -> tuple[list[str], Iterator[list[object]]]:
    """Header and rows, best setting first. Of the test set there is what the best setting's runs have."""
    best = ranks.best
    swept = [*ranks.parameters, *([SEED] if ranks.seeds else [])]
    shown = [(setting, job) for setting in ranks.settings for job in setting.jobs]
    names = dict.fromkeys(
        name for setting, job in shown for name in job.metrics if setting is best or not name.startswith("test/")
    )

    def rows() -> Iterator[list[object]]:
        for setting, job in shown:
            metrics = [
                job.metrics.get(name, "") if setting is best or not name.startswith("test/") else "" for name in names
            ]
            directory = job.run.path.relative_to(sweep.run.path) if job.run else ""
            seconds = "" if job.seconds is None else job.seconds
            yield [*(job.overrides.get(n, "") for n in swept), job.state, seconds, *metrics, job.error or "", directory]

    return [*swept, "state", "seconds", *names, "error", "directory"], rows()


if __name__ == "__main__":
    options.run(main, Options)
