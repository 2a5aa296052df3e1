"""Report the best settings of a sweep.

  python -m fmnist.report sweep=<directory>

Every sweep ends with this report, even if it failed or was interrupted. It ranks settings by the metric that the runs
monitor, averaged over the seeds, and writes into the sweep's directory:

  report.md   the table and the figure
  report.png  the metric over the swept parameters
  report.csv  a row per run: swept parameters, state, seconds, metrics
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from fmnist.cli import options
from fmnist.sweeps import ranking, report, sweep_directory


@dataclass(frozen=True)
class Options:
    sweep: Path = options.option("directory of a sweep, below runs/sweeps", positional=True)


def main(given: Options) -> None:
    """Prints the report and writes its files.

    Raises:
        UserError: There is no such sweep, or its directory cannot be written.
    """
    sweep = sweep_directory.read(given.sweep)
    ranks = ranking.rank(sweep.jobs)
    logging.getLogger(__name__).info(report.terminal(sweep, ranks))
    report.write_files(sweep, ranks)


if __name__ == "__main__":
    options.run(main, Options)
