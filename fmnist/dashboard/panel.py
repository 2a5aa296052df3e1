"""What a panel is: something that draws, at certain moments of a run, what it is shown."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum, auto
from typing import ClassVar

from matplotlib.figure import Figure
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from fmnist.data.fashion_mnist import FashionMNIST
from fmnist.training.evaluation import Evaluation

DESCRIPTION = {"val": "validation set", "test": "test set"}


class Moment(Enum):
    """When a panel may be drawn."""

    EPOCH = auto()  # after each validation
    MILESTONE = auto()  # after the validations of epochs 1, 10, 100 ...: a figure costs 1 % of ten epochs
    LAST = auto()  # after training, with the last validation
    FINAL = auto()  # with the test; for a run without one, with the last validation


@dataclass(frozen=True)
class View:
    """What there is to draw, and where.

    Args:
        writer: TensorBoard's.
        split: ``val`` or ``test``.
        epoch: How many epochs the weights have seen, from 1; None for the test, which has a checkpoint's.
        step: Where on TensorBoard's axis it belongs.
        evaluation: What the network says of the split.
        network: The network.
        data: The data module.
    """

    writer: SummaryWriter
    split: str
    epoch: int | None
    step: int
    evaluation: Evaluation
    network: nn.Module
    data: FashionMNIST

    @property
    def subject(self) -> str:
        """What is shown, for a title."""
        after = "" if self.epoch is None else f" after epoch {self.epoch}"
        return f"{DESCRIPTION[self.split]}{after}"

    def add_figure(self, name: str, figure: Figure) -> None:
        self.writer.add_figure(f"{self.split}/{name}", figure, self.step)


class Panel(ABC):
    """One thing to look at.

    Of the moments that come together, it is drawn once.
    """

    moments: ClassVar[frozenset[Moment]]

    @abstractmethod
    def draw(self, view: View) -> None: ...
