"""What the network is trained on, and what augmentation makes of it."""

from torch import Tensor

from fmnist.dashboard import figures
from fmnist.dashboard.panel import Moment, Panel, View
from fmnist.data.files import CLASS_NAMES


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
        before, after, targets = (part[: self.count].cpu() for part in view.data.first_batch())
        figure = figures.batch(
            before[:, 0].numpy(),
            after[:, 0].numpy(),
            class_names(targets),
            title=f"the first {len(targets)} images of the first training batch",
        )
        view.writer.add_figure("train/batch", figure, view.step)


def class_names(targets: Tensor) -> list[str]:
    """What each image is; of a mixture, a line each, the two greatest shares.

    Args:
        targets: Labels int64 [B], or probabilities of the classes [B, 10].
    """
    if targets.dim() == 1:
        return [CLASS_NAMES[label] for label in targets.tolist()]
    shares, classes = targets.topk(2)
    return [
        CLASS_NAMES[label]
        if share > 0.995
        else f"{share:.0%} {CLASS_NAMES[label]}\n{second_share:.0%} {CLASS_NAMES[second]}"
        for (share, second_share), (label, second) in zip(shares.tolist(), classes.tolist(), strict=True)
    ]
