"""The list of bad versions, and the audit that holds lock files and the environment against it."""

import json
import os
import re
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from fmnist import advisories, dependencies
from fmnist.advisories import ADVISORIES, Package
from tests.conftest import ROOT, Outcome, one_line, run_command

LOCKS = ("requirements.lock", "requirements-extras.lock")


def kinds(**versions: str) -> list[str]:
    """What is found about packages, by name with underscores, and their versions."""
    packages = [Package(name.replace("_", "-"), version) for name, version in versions.items()]
    return sorted({match.advisory.kind for match in advisories.find(packages)})


@pytest.mark.parametrize("version", ["2.6.2", "2.6.3"])
@pytest.mark.parametrize("name", ["lightning", "pytorch-lightning", "PyTorch_Lightning"])
def test_the_malicious_lightnings_are_found_however_the_name_is_written(name: str, version: str) -> None:
    sources = [match.advisory.source for match in advisories.find([Package(name, version)])]
    assert "GHSA-w37p-236h-pfx3" in sources


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        ({"lightning": "2.6.1"}, ["vulnerable"]),
        ({"lightning": "2.6.5"}, ["vulnerable"]),
        ({"lightning": "2.6.6"}, []),
        ({"torch": "2.5.1+cu124"}, ["vulnerable"]),
        ({"torch": "2.9.1"}, ["vulnerable"]),
        ({"torch": "2.14.1+cpu"}, []),
        ({"hydra_core": "1.3.2"}, ["vulnerable"]),
        ({"hydra_core": "1.3.6"}, ["vulnerable"]),
        ({"hydra_core": "1.3.8", "python": "3.13.9"}, []),
        ({"hydra_core": "1.3.8", "python": "3.14.0"}, ["broken"]),
        ({"tensorboard": "2.20.0", "setuptools": "81.0.0"}, []),
        ({"tensorboard": "2.20.0", "setuptools": "82.0.1"}, ["broken"]),
        ({"tensorboard": "2.21.0", "setuptools": "84.2.1"}, []),
        ({"torch": "2.14.1", "torchvision": "0.28.0"}, ["broken"]),
        ({"torch": "2.13.0", "torchvision": "0.29.1"}, ["broken"]),
        ({"torch": "2.14.1", "torchvision": "0.29.1"}, []),
        ({"torch": "2.15.0", "torchvision": "0.29.2"}, []),
        ({"optuna": "2.10.1", "sqlalchemy": "2.1.0"}, ["broken"]),
        ({"optuna": "2.10.1", "sqlalchemy": "1.4.54"}, []),
        ({"pillow": "12.3.0"}, ["vulnerable"]),
        ({"pillow": "13.0.0"}, []),
        ({"torch": "unknown"}, []),
        ({}, []),
    ],
    ids=str,
)
def test_bad_versions_are_found_and_good_ones_are_not(versions: dict[str, str], expected: list[str]) -> None:
    assert kinds(**versions) == expected


def test_every_entry_names_its_source_and_says_what_is_wrong() -> None:
    for advisory in ADVISORIES:
        assert advisory.what, advisory
        assert re.fullmatch(r"(CVE|GHSA)-[\w-]+|[\w-]+/[\w-]+#\d+|torchvision's requirements", advisory.source), (
            advisory
        )


@pytest.mark.parametrize("name", LOCKS)
def test_no_bad_version_is_locked(name: str) -> None:
    packages = advisories.locked(ROOT / name)
    assert {"lightning", "torch", "hydra-core", "pillow"} <= {package.name for package in packages}
    assert list(map(str, advisories.find(packages))) == []


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_of_a_lock_file_is_read(name: str) -> None:
    lines = [line for line in (ROOT / name).read_text().splitlines() if "==" in line and line[0].isalnum()]
    packages = advisories.locked(ROOT / name)
    assert [f"{package.name}=={package.version}" for package in packages] == [line.split()[0] for line in lines]


def test_what_is_for_other_systems_is_read_as_not_needed_here(tmp_path: Path) -> None:
    lock = tmp_path / "a.lock"
    lock.write_text(
        "one==1.0 \\\n    --hash=sha256:00\n    # via two==2.0\n"
        "two==2.0 ; sys_platform == 'nowhere' \\\n    --hash=sha256:00\n"
        f"two==3.0 ; sys_platform == '{sys.platform}' \\\n    --hash=sha256:00\n"
    )
    assert advisories.locked(lock) == [("one", "1.0", True), ("two", "2.0", False), ("two", "3.0", True)]


def test_a_bad_version_for_another_system_is_found_as_well(tmp_path: Path) -> None:
    lock = tmp_path / "bad.lock"
    lock.write_text("lightning==2.6.6 \\\nlightning==2.6.3 ; sys_platform == 'nowhere' \\\n")
    found = [line for line in dependencies.own_list([lock]) if line.startswith("bad.lock")]
    assert len(found) == 2  # malicious, and vulnerable besides
    assert found[0].startswith("bad.lock: lightning 2.6.3 is malicious: ")


def fake_pip_audit(directory: Path, monkeypatch: pytest.MonkeyPatch, out: object, err: str = "", code: int = 0) -> None:
    """Puts a program on the path that writes what pip-audit would, and hides a real one."""
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(directory))
    program = directory / "pip-audit"
    text = out if isinstance(out, str) else json.dumps(out)
    program.write_text(
        f"#!{sys.executable}\nimport sys\nprint({text!r})\nprint({err!r}, file=sys.stderr)\nsys.exit({code})\n"
    )
    program.chmod(0o755)


def test_what_pip_audit_finds_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vulnerability = {"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["1.1"], "description": "..."}
    answer = {
        "dependencies": [
            {"name": "a", "version": "1.0", "vulns": [vulnerability]},
            {"name": "b", "version": "2.0", "vulns": [{**vulnerability, "fix_versions": []}]},
            {"name": "c", "version": "3.0", "vulns": []},
        ]
    }
    fake_pip_audit(tmp_path, monkeypatch, answer, code=1)
    assert dependencies.ask_pip_audit([]) == [
        "pip-audit: a 1.0 is vulnerable: PYSEC-1, CVE-1 (mended in 1.1)",
        "pip-audit: b 2.0 is vulnerable: PYSEC-1, CVE-1 (mended in no version yet)",
    ]


UNREACHABLE = (
    "Traceback (most recent call last):\n  File 'x.py'\nrequests.exceptions.ConnectionError: no route\n\n"
    "The above exception was the direct cause\npip_audit.ServiceError\n"
)
SKIPPED = {"dependencies": [{"name": "a", "skip_reason": "Dependency not found on PyPI"}]}


@pytest.mark.parametrize(
    ("out", "err", "said"),
    [
        ("", UNREACHABLE, "no answer (requests.exceptions.ConnectionError: no route); the project's own list"),
        ("", "", "no answer (it said nothing); the project's own list"),
        ("null", "", "no answer"),
        (SKIPPED, "No known vulnerabilities found", "knows none of the 1 packages, as if it were out of reach"),
    ],
)
def test_a_pip_audit_that_cannot_reach_its_source_is_told_from_one_that_finds_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    out: object,
    err: str,
    said: str,
) -> None:
    fake_pip_audit(tmp_path, monkeypatch, out, err, code=0 if out == SKIPPED else 1)
    assert dependencies.ask_pip_audit([]) == []
    (line,) = capsys.readouterr().out.splitlines()
    assert said in line


def test_a_pip_audit_that_is_not_there_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert dependencies.ask_pip_audit([]) == []
    assert "not installed (make setup-extras)" in capsys.readouterr().out


@pytest.fixture
def run_audit(tmp_path: Path) -> Callable[..., Outcome]:
    """Runs the audit where nothing is known against what is installed, and where there is no pip-audit."""
    (tmp_path / "sitecustomize.py").write_text(
        "from fmnist import machine\nmachine.versions = lambda: {'lightning': '2.6.6'}\n"
        f"import sysconfig\nsysconfig.get_path = lambda _: {str(tmp_path)!r}\n"
    )
    path = os.pathsep.join([str(tmp_path), str(ROOT)])

    def call(*arguments: str) -> Outcome:
        return run_command("-m", "fmnist.dependencies", *arguments, cwd=tmp_path, PYTHONPATH=path, PATH=str(tmp_path))

    return call


def test_the_audit_passes_for_the_locks_of_the_project(run_audit: Callable[..., Outcome]) -> None:
    outcome = run_audit()
    assert outcome.code == 0, outcome
    assert outcome.err == ""
    assert re.search(r"^requirements.lock: nothing is known against its \d+ packages$", outcome.out, re.MULTILINE)
    assert "pip-audit: " in outcome.out


def test_the_audit_fails_with_a_line_for_a_bad_lock(tmp_path: Path, run_audit: Callable[..., Outcome]) -> None:
    (tmp_path / "bad.lock").write_text("hydra-core==1.3.2 \\\n")
    outcome = run_audit("locks=bad.lock")
    assert outcome.code == 1
    assert outcome.out.splitlines()[-1].startswith("bad.lock: hydra-core 1.3.2 is vulnerable: ")
    assert outcome.out.splitlines()[-1].endswith("(CVE-2026-68508)")


def test_a_lock_that_cannot_be_read_is_refused_with_one_line(tmp_path: Path, run_audit: Callable[..., Outcome]) -> None:
    assert "cannot read nowhere.lock: No such file" in one_line(run_audit("locks=nowhere.lock"))
    (tmp_path / "binary.lock").write_bytes(b"\xff\xfe")
    assert "cannot read binary.lock" in one_line(run_audit("locks=binary.lock"))
