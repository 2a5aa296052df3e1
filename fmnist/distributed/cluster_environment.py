"""The ClusterEnvironment plugin through which Lightning learns rank and world size."""

import dataclasses

from lightning.fabric.plugins import ClusterEnvironment
from lightning.fabric.utilities.rank_zero import rank_zero_only

from fmnist.distributed.process_info import ProcessInfo


class RunEnvironment(ClusterEnvironment):
    """Tells Lightning the values of a :class:`ProcessInfo`.

    Lightning's own environments would start the other processes with the same command line, so that each would compose
    the configuration and write files as rank 0 does. Under Slurm they would also take over the signals.

    Attributes:
        process: This process. ``launch_workers`` sets the port of rank 0 when it is known.
    """

    def __init__(self, process: ProcessInfo) -> None:
        super().__init__()
        self.process = process

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return self.process.address

    @property
    def main_port(self) -> int:
        return self.process.port

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return self.process.world_size

    def set_world_size(self, size: int) -> None:
        self.process = dataclasses.replace(self.process, world_size=size)

    def global_rank(self) -> int:
        return self.process.rank

    def set_global_rank(self, rank: int) -> None:
        # Lightning numbers ranks machine by machine, which not every launcher does.
        rank_zero_only.rank = self.process.rank  # type: ignore[attr-defined]  # Lightning's environments do the same

    def local_rank(self) -> int:
        return self.process.local_rank

    def node_rank(self) -> int:
        return self.process.node_rank
