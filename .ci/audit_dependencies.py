"""Check lock files for known vulnerabilities: ``python .ci/audit_dependencies.py <lock file> ...``.

Exits with code 1 if pip-audit reports a vulnerability or cannot read a file, and with code 0 if it cannot reach its
source, which is reported in one line.
"""

import json
import subprocess
import sys

command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--progress-spinner=off", "--format=json"]
command += [f"--requirement={path}" for path in sys.argv[1:]]
result = subprocess.run(command, capture_output=True, text=True, check=False)
if not result.stdout.strip():
    if "requests.exceptions." in result.stderr or "Could not connect" in result.stderr:
        print("pip-audit cannot reach its source of vulnerabilities; nothing was checked")
        sys.exit()
    sys.exit(f"error: pip-audit failed:\n{result.stderr}")
packages = json.loads(result.stdout)["dependencies"]
checked = [package for package in packages if "skip_reason" not in package]  # pip-audit skips what its source lacks
print(f"pip-audit checked {len(checked)} of {len(packages)} packages; its source does not know the others")
vulnerable = [(package, found) for package in checked for found in package["vulns"]]
for package, found in vulnerable:
    fixed = ", ".join(found["fix_versions"]) or "no version yet"
    print(f"{package['name']} {package['version']}: {', '.join([found['id'], *found['aliases']])}, fixed in {fixed}")
sys.exit(bool(vulnerable))
