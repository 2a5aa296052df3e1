"""What the network is trained on, and what augmentation makes of it."""

from fmnist import figures
from fmnist.dashboard.panel import Moment, Panel, View
from fmnist.files import CLASS_NAMES


class TrainingBatch(Panel):
    """Draws the first images of the first training batch, above them as they were if augmentation has changed them.

    Args:
        count: Images to show, at least 1.
    """

    moments = frozenset({Moment.FINAL})

    def __init__(self, *, count: int = 16) -> None:
        if count < 1:
            raise ValueError(f"count must be at least 1, got {count}")
        self.count = count

    def draw(self, view: View) -> None:
        before, after, labels = (part[: self.count].cpu() for part in view.data.first_batch())
        figure = figures.batch(
            before[:, 0].numpy(),
            after[:, 0].numpy(),
            [CLASS_NAMES[label] for label in labels.tolist()],
            title=f"the first {len(labels)} images of the first training batch",
        )
        view.writer.add_figure("train/batch", figure, view.step)
