"""Panel, the base class of the dashboard's panels: what they draw, when, and from which data."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum, auto
from typing import ClassVar

from matplotlib.figure import Figure
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from fmnist.data.image_data import ImageDataModule
from fmnist.training.evaluation import Evaluation


class Stage(Enum):
    """When a panel is drawn."""

    EPOCH = auto()  # after each validation
    MILESTONE = auto()  # after the validations of epochs 1, 10, 100 ... and the last: a figure costs 1 % of ten epochs
    FINAL = auto()  # after the test; in a run without one, after the last validation


@dataclass(frozen=True)
class PanelContext:
    """The data that a panel draws, and TensorBoard's writer.

    Args:
        writer: TensorBoard's writer.
        split: ``val`` or ``test``.
        epoch: Number of epochs trained, from 1; None for the test, which uses a checkpoint.
        step: Position on TensorBoard's axis.
        evaluation: The network's logits on the split.
        network: From raw pixels to logits.
        data: The data module.
    """

    writer: SummaryWriter
    split: str
    epoch: int | None
    step: int
    evaluation: Evaluation
    network: nn.Module
    data: ImageDataModule

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.data.spec.class_names

    @property
    def subject(self) -> str:
        """Split and epoch, for a title."""
        name = {"val": "validation set", "test": "test set"}[self.split]
        return name if self.epoch is None else f"{name} after epoch {self.epoch}"

    def add_figure(self, name: str, figure: Figure) -> None:
        self.writer.add_figure(f"{self.split}/{name}", figure, self.step)


class Panel(ABC):
    """Draws one thing for TensorBoard; once, even where several of its stages coincide."""

    stages: ClassVar[frozenset[Stage]]

    @abstractmethod
    def draw(self, context: PanelContext) -> None: ...


def tag(class_name: str) -> str:
    """A class name as the last part of a TensorBoard tag, where a slash would open a group."""
    return class_name.replace("/", " or ")
