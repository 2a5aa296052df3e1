"""Rank and world size of this process, read from the environment variables of its launcher. Imported without torch."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from fmnist.config.errors import UserError


@dataclass(frozen=True)
class ProcessInfo:
    """One of the processes of a run.

    Args:
        rank: Global rank, from 0.
        world_size: Number of processes of the run.
        local_rank: Rank on this machine, from 0, which is also the index of the device.
        node_rank: Index of this machine, from 0.
        address: Host of rank 0.
        port: Port of rank 0; 0 to choose a free one.
        launcher: The program that started all processes; None if this process starts the others itself.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    node_rank: int = 0
    address: str = "127.0.0.1"
    port: int = 0
    launcher: str | None = None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> "ProcessInfo":
        """Reads the variables of torchrun, of srun, or of a launcher that sets RANK and WORLD_SIZE.

        Raises:
            UserError: A variable is missing or not a number.
        """
        try:
            # A world of one process, as many containers declare it, counts as no launcher.
            if "RANK" in environ and int(environ.get("WORLD_SIZE", 1)) > 1:
                return cls(
                    rank=int(environ["RANK"]),
                    world_size=int(environ["WORLD_SIZE"]),
                    local_rank=int(environ.get("LOCAL_RANK", 0)),
                    node_rank=int(environ.get("GROUP_RANK", 0)),
                    address=environ.get("MASTER_ADDR", "127.0.0.1"),
                    port=int(environ["MASTER_PORT"]),
                    launcher="torchrun" if "TORCHELASTIC_RUN_ID" in environ else "the launcher",
                )
            # Not SLURM_NTASKS, which the script of an sbatch sees too: it is one process for all tasks.
            if int(environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
                # A port that all processes of a step derive, and that differs between the steps of a job.
                step = int(environ["SLURM_JOB_ID"]) * 16 + int(environ.get("SLURM_STEP_ID", 0))
                return cls(
                    rank=int(environ["SLURM_PROCID"]),
                    world_size=int(environ["SLURM_STEP_NUM_TASKS"]),
                    local_rank=int(environ["SLURM_LOCALID"]),
                    node_rank=int(environ["SLURM_NODEID"]),
                    address=environ.get("MASTER_ADDR") or _first_host(environ["SLURM_STEP_NODELIST"]),
                    port=int(environ.get("MASTER_PORT") or 15000 + step % 10000),
                    launcher="srun",
                )
        except KeyError as error:
            raise UserError(
                f"the environment variable {error.args[0]} is missing in one of several processes"
            ) from error
        except ValueError as error:
            raise UserError(f"an environment variable of the launcher is not a number: {error}") from error
        return cls()

    def to_environment(self) -> dict[str, str]:
        """Environment variables from which ``from_environment`` reads this process."""
        return {
            "RANK": str(self.rank),
            "WORLD_SIZE": str(self.world_size),
            "LOCAL_RANK": str(self.local_rank),
            "GROUP_RANK": str(self.node_rank),
            "MASTER_ADDR": self.address,
            "MASTER_PORT": str(self.port),
        }


def _first_host(nodes: str) -> str:
    """The first host of a Slurm node list: node3 of node[3-5,7],other."""
    first = re.match(r"([^\[,]+)(?:\[(\d+))?([^,\]]*)", nodes)
    return f"{first[1]}{first[2] or ''}" if first else nodes
