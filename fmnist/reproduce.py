"""Repeat a finished run and compare the metrics.

  python -m fmnist.reproduce run=<directory>

Trains and tests the same configuration in a new directory. If the metrics differ in any digit, prints what else differs
between the manifests of the two runs: source, versions, threads, processor, data. The exit code is 0 if all metrics are
equal.
"""

import datetime
import logging
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

from fmnist.cli import options
from fmnist.config.errors import UserError
from fmnist.config.paths import TRAIN
from fmnist.runs import create, manifest, resume
from fmnist.runs.run_directory import RunDirectory

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    run: Path = options.option("directory of a finished run", positional=True)
    to: Path | None = options.option(
        "new directory for the repetition (default: below runs/reproductions)", default=None
    )
    trust: tuple[str, ...] = options.option(options.TRUST, default=())


def main(options: Options) -> None:
    """Repeats the run, and exits with 1 if a metric differs.

    Raises:
        UserError: There is no such run, or it is not finished.
    """
    now = datetime.datetime.now().strftime("%Y-%m-%d/%H-%M-%S-%f")
    run, repetition = RunDirectory(options.run), RunDirectory(options.to or Path("runs/reproductions", now))
    repeat(run, repetition, options.trust)
    if not compare(run, repetition):
        sys.exit(1)


def repeat(run: RunDirectory, repetition: RunDirectory, trust: tuple[str, ...]) -> None:
    """Trains and tests the configuration of a run again: resumes a copy of the run that holds only ``.hydra``."""
    config = resume.configuration(run)
    if not run.finished:
        raise UserError(f"{run.shown} is not finished, so it has no metrics yet; to resume:  {run.resume_command}")
    create.create_run_directory(repetition, {path.name: path.read_text() for path in run.hydra.iterdir()})
    overrides = [
        f'resume="{repetition.path}"',
        f"trainer.max_epochs={config.trainer.max_epochs}",
        f"trust=[{','.join(trust)}]",
    ]
    result = subprocess.run([sys.executable, TRAIN, *overrides], check=False)
    if result.returncode:
        raise UserError(f"the repetition in {repetition.shown} failed (exit code {result.returncode})")


def compare(run: RunDirectory, repetition: RunDirectory) -> bool:
    """Whether two runs have exactly the same metrics. If not, prints the differences and their possible causes."""
    first, second = run.read_metrics(), repetition.read_metrics()
    names = list(dict.fromkeys([*first, *second]))
    different = [name for name in names if first.get(name) != second.get(name)]
    if not different:
        log.info("\nequal: all %d metrics, to the last digit", len(names))
        return True
    rows = [(name, first.get(name), second.get(name)) for name in different]
    table = tabulate(rows, headers=["", "run", "repetition"], tablefmt="plain", disable_numparse=True)
    lines = ["", f"not equal: {len(different)} of {len(names)} metrics", table]
    before, after = run.read_manifest(), repetition.read_manifest()
    assert after is not None
    if before is None:
        lines.append("other differences are unknown: the run has no manifest.json")
    else:
        others = manifest.differences(before, after)
        lines += [f"{name} was {old} and is now {new}" for name, (old, new) in others.items()]
        if changed := {name for session in before["sessions"] for name in session["differs"]}:
            lines.append(f"the run was resumed under other conditions: {', '.join(sorted(changed))}")
        elif not others:
            lines.append("the manifests show no other difference")
    log.info("\n".join(lines))
    return False


if __name__ == "__main__":
    options.run(main, Options)
