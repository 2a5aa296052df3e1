"""Repeats a finished run, to see whether its figures come out again: ``python -m fmnist.reproduce run=<directory>``.

The same configuration is trained and tested in a directory of its own. If the figures are not equal to the last digit,
this says what differs beside them, as far as the manifests of both runs know: source, versions, threads, processor,
data. The exit code is 0 if they are equal.
"""

import datetime
import logging
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from fmnist.cli import options
from fmnist.config.errors import UserError
from fmnist.runs import create, manifest, resume
from fmnist.runs.provenance import ROOT
from fmnist.runs.run_directory import RunDirectory

log = logging.getLogger(__name__)


def _new_directory() -> Path:
    return Path("runs/reproductions", datetime.datetime.now().strftime("%Y-%m-%d/%H-%M-%S-%f"))


@dataclass(frozen=True)
class Options:
    run: Path = options.option("directory of a finished run")
    to: Path | None = options.option("directory for the repetition, if not below runs/reproductions", default=None)
    trust: tuple[str, ...] = options.option(options.TRUST, default=())


def main(options: Options) -> None:
    """Repeats the run and ends the program, with 1 if the figures are others.

    Raises:
        UserError: There is no such run, or it is not finished.
    """
    run, again = RunDirectory(options.run), RunDirectory(options.to or _new_directory())
    repeat(run, again, options.trust)
    if not compare(run, again):
        sys.exit(1)


def repeat(run: RunDirectory, again: RunDirectory, trust: tuple[str, ...] = ()) -> None:
    """Trains and tests what a run was configured with once more.

    To repeat a run is to continue one that has not begun: one that has nothing but the configuration.
    """
    config = resume.configuration(run)
    if not run.finished:
        raise UserError(f"{run.shown} has not finished, so that it has no figures yet; to go on:  {run.resume_command}")
    create.for_run(again, {path.name: path.read_text() for path in run.hydra.iterdir()})
    command = [
        f'resume="{again.path}"',
        f"trainer.max_epochs={config.trainer.max_epochs}",
        f"trust=[{','.join(trust)}]",
    ]
    ended = subprocess.run([sys.executable, ROOT / "train.py", *command], check=False)
    if ended.returncode:
        raise UserError(f"the repetition in {again.shown} did not come to its end (exit code {ended.returncode})")


def compare(run: RunDirectory, again: RunDirectory) -> bool:
    """Tells whether two runs have the same figures, to the last digit, and what else differs if they have not."""
    first, second = run.read_metrics(), again.read_metrics()
    names = list(dict.fromkeys([*first, *second]))
    different = [name for name in names if first.get(name) != second.get(name)]
    if not different:
        log.info("\nequal: all %d figures, to the last digit", len(names))
        return True
    lines = ["", f"not equal: {len(different)} of {len(names)} figures", f"{'':<14} {'the run':<22} again"]
    lines += [f"{name:<14} {first.get(name)!s:<22} {second.get(name)}" for name in different]
    known, now = run.read_manifest(), again.read_manifest()
    assert now is not None
    if known is None:
        lines.append("what else differs is not known: the run has no manifest.json")
    else:
        others = manifest.differences(known, now)
        lines += [f"{name} was {then}, and is {today}" for name, (then, today) in others.items()]
        if changed := {name for session in known["sessions"] for name in session["differs"]}:
            lines.append(f"the run itself was resumed with others: {', '.join(sorted(changed))}")
        elif not others:
            lines.append("nothing else differs that a manifest knows of")
    log.info("\n".join(lines))
    return False


if __name__ == "__main__":
    options.run(main, Options)
