"""Number of CPU cores that this process may use. Imported without other packages."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from fmnist.config.errors import UserError


def usable_cores() -> int:
    """Number of CPU cores that this process may use: the least of affinity, container quotas and Slurm's share.

    A quota is rounded down, to at least one core: a thread too many costs more time than a part of a core saves.
    """
    # macOS and Windows have no affinity.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([cores, slurm_cores() or cores, *cgroup_quotas()])))


def cgroup_quotas(root: Path = Path("/sys/fs/cgroup"), groups: Path = Path("/proc/self/cgroup")) -> Iterator[float]:
    """CPU quotas, in cores, of the control groups of this process and of their parents, for cgroup versions 1 and 2."""
    for line in groups.read_text().splitlines() if groups.exists() else []:
        _, controllers, name = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = root / "cpu" if controllers else root  # version 2 names no controllers
        group = mount / name.strip("/")
        for directory in (group, *group.parents):
            if not directory.is_relative_to(mount):
                break
            try:
                if controllers:
                    quota, period = ((directory / f"cpu.cfs_{key}_us").read_text() for key in ("quota", "period"))
                else:
                    quota, period = (directory / "cpu.max").read_text().split()
                if int(quota) > 0:  # -1 is no limit in version 1
                    yield int(quota) / int(period)
            except (OSError, ValueError):  # the group has no such file, as in a container, or no limit ('max')
                pass


def slurm_cores(environ: Mapping[str, str] = os.environ) -> int | None:
    """Number of CPU cores that Slurm gives to this process; None outside of Slurm.

    Raises:
        UserError: The environment variable is not a number.
    """
    cores = environ.get("SLURM_CPUS_PER_TASK")
    if cores is None:
        return None
    if not cores.isdecimal() or int(cores) < 1:
        raise UserError(f"the environment variable SLURM_CPUS_PER_TASK is not a number of processor cores: {cores!r}")
    return int(cores)
