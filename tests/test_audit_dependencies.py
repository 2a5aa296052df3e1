"""``make audit``, with a fake pip-audit."""

import json
from pathlib import Path

import pytest

from tests.helpers import run_command

VULNERABILITY = {"id": "ID-1", "aliases": ["CVE-1"], "fix_versions": ["1.1"]}
VULNERABLE = {"name": "a", "version": "1.0", "vulns": [VULNERABILITY]}
SKIPPED = {"name": "b", "skip_reason": "Dependency not found"}


@pytest.mark.parametrize(
    ("packages", "stderr", "code", "line"),
    [
        ([VULNERABLE, SKIPPED], "", 1, "a 1.0: ID-1, CVE-1, fixed in 1.1"),
        ([{**VULNERABLE, "vulns": []}, SKIPPED], "", 0, "pip-audit checked 1 of 2 packages; its source does not know"),
        ([SKIPPED], "", 0, "pip-audit checked 0 of 1 packages"),
        (None, "requests.exceptions.ConnectionError: no route", 0, "pip-audit cannot reach its source"),
        (None, "ERROR: invalid requirements input: a.lock", 1, "error: pip-audit failed:"),
    ],
)
def test_vulnerable_versions_fail_and_an_unreachable_source_does_not(
    tmp_path: Path, packages: list[object] | None, stderr: str, code: int, line: str
) -> None:
    stdout = "" if packages is None else json.dumps({"dependencies": packages})
    program = f"import sys\nprint({stdout!r})\nprint({stderr!r}, file=sys.stderr)\nsys.exit(1)\n"
    (tmp_path / "pip_audit.py").write_text(program)
    outcome = run_command(".ci/audit_dependencies.py", "a.lock", PYTHONPATH=str(tmp_path))
    assert outcome.code == code
    assert any(text.startswith(line) for text in (outcome.out + outcome.err).splitlines()), outcome
    if code == 0:
        assert len(outcome.out.splitlines()) == 1
