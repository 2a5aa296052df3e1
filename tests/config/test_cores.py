"""The number of usable cores follows affinity, container quotas and Slurm."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fmnist.config.cores import cgroup_quotas, slurm_cores, usable_cores
from fmnist.config.errors import UserError
from tests.helpers import ROOT

V1 = Path("/sys/fs/cgroup/cpu")  # a real group of version 1


def write_files(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize(
    ("groups", "files", "quotas"),
    [
        ("0::/a/b", {"a/b/cpu.max": "150000 100000", "a/cpu.max": "max 100000", "cpu.max": "400000 100000"}, [1.5, 4]),
        ("0::/", {"cpu.max": "100000 50000"}, [2]),  # in a container
        ("0::/a/b", {}, []),
        ("0::/a", {"a/cpu.max": "rubbish"}, []),
        ("4:memory:/a\n2:cpu,cpuacct:/a", {"cpu/a/cpu.cfs_quota_us": "30", "cpu/a/cpu.cfs_period_us": "10"}, [3]),
        ("2:cpu:/elsewhere", {"cpu/cpu.cfs_quota_us": "30", "cpu/cpu.cfs_period_us": "20"}, [1.5]),  # in a container
        ("2:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "10"}, []),
        ("2:cpuset:/a", {"cpuset/a/cpu.cfs_quota_us": "30", "cpuset/a/cpu.cfs_period_us": "10"}, []),
    ],
)
def test_quotas_of_all_parents_are_read(
    groups: str, files: dict[str, str], quotas: list[float], tmp_path: Path
) -> None:
    write_files(tmp_path, {**files, "groups": groups + "\n"})
    assert list(cgroup_quotas(tmp_path, tmp_path / "groups")) == quotas


def test_without_cgroups_there_is_no_quota(tmp_path: Path) -> None:
    assert list(cgroup_quotas(tmp_path, tmp_path / "missing")) == []


@pytest.mark.parametrize(
    ("affinity", "slurm", "quotas", "expected"),
    [(8, None, [], 8), (8, "3", [], 3), (8, "3", [2.9], 2), (1, "3", [2], 1), (8, None, [0.5], 1)],
)
def test_the_least_limit_counts(
    affinity: int, slurm: str | None, quotas: list[float], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(affinity)), raising=False)
    monkeypatch.setattr("fmnist.config.cores.cgroup_quotas", lambda: quotas)
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    if slurm:
        monkeypatch.setenv("SLURM_CPUS_PER_TASK", slurm)
    assert usable_cores() == expected


def test_number_of_cores_comes_from_slurm() -> None:
    assert slurm_cores({}) is None
    assert slurm_cores({"SLURM_CPUS_PER_TASK": "1"}) == 1


@pytest.mark.parametrize("value", ["many", "0", "-1", ""])
def test_invalid_number_of_cores_from_slurm_is_rejected(value: str) -> None:
    with pytest.raises(UserError, match="SLURM_CPUS_PER_TASK is not a number of processor cores"):
        slurm_cores({"SLURM_CPUS_PER_TASK": value})


@pytest.mark.skipif(not os.access(V1 / "tasks", os.W_OK), reason="needs cgroup version 1 and root")
def test_a_real_quota_limits_the_threads_of_training() -> None:
    group = V1 / f"fmnist-test-{os.getpid()}"
    group.mkdir()
    try:
        (group / "cpu.cfs_quota_us").write_text("100000")
        (group / "cpu.cfs_period_us").write_text("100000")
        code = (
            f"import os; open({str(group / 'tasks')!r}, 'w').write(str(os.getpid()))\n"
            "import torch; torch.set_num_threads(2); from fmnist import build; from hydra import *\n"
            f"initialize_config_dir({str(ROOT / 'conf')!r}, version_base='1.3')\n"
            "build.configure_process(compose('train')); print(torch.get_num_threads())"
        )
        result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        assert result.stdout == "1\n"
    finally:
        group.rmdir()
