"""What one check of ``fmnist.doctor`` found: a line, with the remedy."""

from typing import Literal, NamedTuple

REINSTALL = "make clean setup"  # the remedy for whatever is installed wrongly


class Finding(NamedTuple):
    """``bad`` keeps training from working, ``warn`` does not."""

    mark: Literal["ok", "warn", "bad"]
    subject: str
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        line = f"{self.mark:<5} {self.subject:<11} {' '.join(self.found.split())}"
        return f"{line}  ->  {self.remedy}" if self.remedy else line
