"""Looks for versions that are known to be malicious, vulnerable or broken: ``python -m fmnist.dependencies``.

Holds the lock files and what is installed against the project's own list (fmnist/advisories.py), then asks pip-audit,
which has the whole list of the Python Package Index but needs the network. Ends with exit code 1 if anything is found.
Where pip-audit is not installed or cannot reach its source, a line says so, and the project's own list decides.
"""

import json
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fmnist import advisories, arguments, machine
from fmnist.advisories import Package
from fmnist.errors import UserError

LOCKS = tuple(machine.ROOT / name for name in ("requirements.lock", "requirements-extras.lock"))
TIMEOUT = 300  # seconds for pip-audit, which makes a request for each package
ALONE = "the project's own list decides alone"


@dataclass(frozen=True)
class Options:
    locks: tuple[str, ...] = arguments.option("lock files, if not the project's: locks=[a.lock,b.lock]", default=())


def audit(options: Options) -> None:
    """Prints a line for each finding, and ends with exit code 1 if there is one.

    Raises:
        UserError: A lock file cannot be read.
    """
    locks = [Path(lock) for lock in options.locks] or LOCKS
    findings = [*own_list(locks), *ask_pip_audit(locks)]
    for finding in dict.fromkeys(findings):
        print(finding)
    if findings:
        sys.exit(1)


def own_list(locks: Sequence[Path]) -> Iterator[str]:
    """What the project's own list says of the lock files and of what is installed."""
    places = {"installed": installed()}
    for path in locks:
        try:
            places[path.name] = advisories.locked(path)
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    for place, packages in places.items():
        found = advisories.find(packages)
        yield from (f"{place}: {finding}" for finding in found)
        if not found:
            print(f"{place}: nothing is known against its {len(packages)} packages")


def installed() -> list[Package]:
    """The packages of this environment, and Python."""
    return [*(Package(*item) for item in machine.versions().items()), Package("python", platform.python_version())]


def ask_pip_audit(locks: Sequence[Path]) -> list[str]:
    """What pip-audit says of the lock files; nothing, and a line that says why, if it has no answer."""
    program = shutil.which("pip-audit", path=sysconfig.get_path("scripts")) or shutil.which("pip-audit")
    if program is None:
        print(f"pip-audit: not installed (make setup-extras); {ALONE}")
        return []
    command = [program, "--disable-pip", "--progress-spinner=off", "--format=json"]
    command += [f"--requirement={path}" for path in locks]
    try:
        result = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=TIMEOUT
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"pip-audit: {error}; {ALONE}")
        return []
    try:
        packages = json.loads(result.stdout)["dependencies"]
    except (ValueError, LookupError, TypeError):  # it writes an answer or, if it has none, an error
        print(f"pip-audit: no answer ({_reason(result.stderr)}); {ALONE}")
        return []
    # Of a package that its source does not find it says nothing, and still calls it a success.
    answered = [package for package in packages if "skip_reason" not in package]
    if not answered:
        print(f"pip-audit: its source knows none of the {len(packages)} packages, as if it were out of reach; {ALONE}")
    else:
        print(f"pip-audit: answered for {len(answered)} of {len(packages)} packages")
    return [
        f"pip-audit: {package['name']} {package['version']} is vulnerable: "
        f"{', '.join([vulnerability['id'], *vulnerability['aliases']])} "
        f"(mended in {', '.join(vulnerability['fix_versions']) or 'no version yet'})"
        for package in answered
        for vulnerability in package["vulns"]
    ]


def _reason(output: str) -> str:
    """The line of an error output that says most: the last that names an error and says something about it."""
    lines = output.strip().splitlines() or ["it said nothing"]
    errors = [line for line in lines if re.match(r"ERROR:|[\w.]+(Error|Exception): ", line)]
    return (errors or lines)[-1].strip()[:160]


if __name__ == "__main__":
    arguments.run(audit, Options)
