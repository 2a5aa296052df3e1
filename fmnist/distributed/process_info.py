"""Which of the processes of a run this is, as whatever has started it tells. Imported without torch."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from fmnist.config.errors import UserError


@dataclass(frozen=True)
class Member:
    """One of the processes of a run.

    Args:
        rank: Its number, from 0.
        size: How many there are.
        local_rank: Its number on its machine, from 0: that of its device.
        node: The number of its machine, from 0.
        address: Where process 0 is.
        port: Where it is to be asked; 0 if that is still to be chosen.
        launcher: What has started it; None if it is process 0, and is to start the others.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    node: int = 0
    address: str = "127.0.0.1"
    port: int = 0
    launcher: str | None = None

    def variables(self) -> dict[str, str]:
        """What tells a process that it is this one."""
        return {
            "RANK": str(self.rank),
            "WORLD_SIZE": str(self.size),
            "LOCAL_RANK": str(self.local_rank),
            "GROUP_RANK": str(self.node),
            "MASTER_ADDR": self.address,
            "MASTER_PORT": str(self.port),
        }


def this(environ: Mapping[str, str] = os.environ) -> Member:
    """Who this process is, by what its launcher has told it.

    Raises:
        UserError: The launcher has told it something that is no number, or too little.
    """
    try:
        # Of one process these are said, too, in containers above all: it is on its own.
        if "RANK" in environ and int(environ.get("WORLD_SIZE", 1)) > 1:
            return Member(
                rank=int(environ["RANK"]),
                size=int(environ["WORLD_SIZE"]),
                local_rank=int(environ.get("LOCAL_RANK", 0)),
                node=int(environ.get("GROUP_RANK", 0)),
                address=environ.get("MASTER_ADDR", "127.0.0.1"),
                port=int(environ["MASTER_PORT"]),
                launcher="torchrun" if "TORCHELASTIC_RUN_ID" in environ else "the launcher",
            )
        # In the script of an sbatch, too, Slurm tells of tasks: there one process stands for all of them.
        if int(environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
            return Member(
                rank=int(environ["SLURM_PROCID"]),
                size=int(environ["SLURM_STEP_NUM_TASKS"]),
                local_rank=int(environ["SLURM_LOCALID"]),
                node=int(environ["SLURM_NODEID"]),
                address=environ.get("MASTER_ADDR") or _first_host(environ["SLURM_STEP_NODELIST"]),
                # The same for all processes of a step, and another one for each step of a job.
                port=int(environ.get("MASTER_PORT") or 15000 + _slurm_number(environ) % 10000),
                launcher="srun",
            )
    except KeyError as error:
        raise UserError(f"one of several processes lacks the environment variable {error.args[0]}") from error
    except ValueError as error:
        raise UserError(f"an environment variable of a launcher of several processes is no number: {error}") from error
    return Member()


def _first_host(nodes: str) -> str:
    """The first of Slurm's list, such as node3 of node[3-5,7],other."""
    first = re.match(r"([^\[,]+)(?:\[(\d+))?([^,\]]*)", nodes)
    return f"{first[1]}{first[2] or ''}" if first else nodes


def _slurm_number(environ: Mapping[str, str]) -> int:
    return int(environ["SLURM_JOB_ID"]) * 16 + int(environ.get("SLURM_STEP_ID", 0))


def cores(environ: Mapping[str, str] = os.environ) -> int | None:
    """How many processor cores Slurm has given this process; None if it has not said.

    Raises:
        UserError: It has said something that is no number.
    """
    given = environ.get("SLURM_CPUS_PER_TASK")
    if given is None:
        return None
    if not given.isdecimal() or int(given) < 1:
        raise UserError(f"the environment variable SLURM_CPUS_PER_TASK is no number of processor cores: {given!r}")
    return int(given)
