"""What Lightning asks to learn which of a run's processes it is in."""

import dataclasses

from lightning.fabric.plugins import ClusterEnvironment
from lightning.fabric.utilities.rank_zero import rank_zero_only

from fmnist.distributed.process_info import Member


class Cluster(ClusterEnvironment):
    """Answers with a member of the run, in the place of Lightning's own look at the environment variables.

    Its own would start the other processes of a machine with the same command line, so that each would compose, refuse
    and write what process 0 has; and where Slurm is, it would take over the signals.

    Attributes:
        member: Who this process is. Process 0 gets to know its port when the others are started.
    """

    def __init__(self, member: Member) -> None:
        super().__init__()
        self.member = member

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return self.member.address

    @property
    def main_port(self) -> int:
        return self.member.port

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return self.member.size

    def set_world_size(self, size: int) -> None:
        self.member = dataclasses.replace(self.member, size=size)

    def global_rank(self) -> int:
        return self.member.rank

    def set_global_rank(self, rank: int) -> None:
        # Lightning counts machine by machine, which a launcher need not do.
        rank_zero_only.rank = self.member.rank  # type: ignore[attr-defined]  # as Lightning's own do

    def local_rank(self) -> int:
        return self.member.local_rank

    def node_rank(self) -> int:
        return self.member.node
