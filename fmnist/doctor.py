"""Says what would go wrong here, before it does: ``python -m fmnist.doctor``.

One line for each check: 'ok', 'warn' or 'bad', what was found, and behind '->' what to do about it. Nothing is fetched,
installed or changed. Ends with exit code 1 if there is something 'bad', which keeps training from working.
"""

from __future__ import annotations  # a Python that is too old is to be told so, not to fail at Options

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

# A broken environment is what one calls a doctor for: nothing is imported here that it might lack.
from fmnist import installation_checks, place_checks
from fmnist.finding import REINSTALL, Finding

Check = Callable[[], Iterator[Finding]]


@dataclass(frozen=True)
class Options:
    # As arguments.option makes them: that module needs packages.
    runs: Path = field(default=Path("runs"), metadata={"help": "where the run directories are"})
    data_dir: Path | None = field(
        default=None, metadata={"help": "directory of the data set, if not the project's own"}
    )


def examine(options: Options) -> None:
    """Makes all checks, whatever they meet, and ends with exit code 1 if one of them found something bad."""
    checks: dict[str, Check] = {
        "python": installation_checks.python,
        "packages": installation_checks.packages,
        "advisories": installation_checks.advisories,
        "data": partial(place_checks.data, options.data_dir),
        "disk": partial(place_checks.disk, options.runs, options.data_dir),
        "writable": partial(place_checks.writable, options.runs),
        "runs": partial(place_checks.runs, options.runs),
        "torch": installation_checks.torch,  # last: it takes seconds, and a torch that does not fit may end the program
    }
    marks = []
    for subject, check in checks.items():
        for finding in _made(subject, check):
            marks.append(finding.mark)
            print(finding, flush=True)
    bad, warnings = marks.count("bad"), marks.count("warn")
    print(f"\n{bad} bad, {warnings} to be warned of" if bad or warnings else "\nall is well")
    if bad:
        sys.exit(1)


def _made(subject: str, check: Check) -> Iterator[Finding]:
    try:
        yield from check()
    except ImportError as error:
        yield Finding("bad", subject, f"cannot be checked: {error}", REINSTALL)
    except Exception as error:  # packages that do not fit together raise anything, and the other checks count, too
        yield Finding("bad", subject, f"cannot be checked: {type(error).__name__}: {error}")


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a run may be called anything
    try:
        from fmnist.cli import options
    except Exception:  # without its packages the project cannot read a command line, but the checks can be made
        examine(Options())
    else:
        options.run(examine, Options)
