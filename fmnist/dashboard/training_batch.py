"""A training batch before and after augmentation."""

from collections.abc import Sequence

from torch import Tensor

from fmnist.dashboard import image_grids
from fmnist.dashboard.figures import short
from fmnist.dashboard.panel import Panel, PanelContext, Stage


class TrainingBatch(Panel):
    """Draws the first images of the first training batch; beside the originals if augmentation changes them.

    Args:
        count: Images to show, at least 1.
    """

    stages = frozenset({Stage.FINAL})

    def __init__(self, *, count: int = 16) -> None:
        if count < 1:
            raise ValueError(f"count must be at least 1, got {count}")
        self.count = count

    def draw(self, context: PanelContext) -> None:
        before, after, targets = (part[: self.count].cpu() for part in context.data.first_batch())
        images = after.numpy()
        if (before != after).any():
            images = image_grids.side_by_side(before.numpy(), images)
        title = f"the first {len(targets)} images of the first training batch"
        figure = image_grids.gallery(images, class_captions(targets, context.class_names), title=title)
        context.writer.add_figure("train/batch", figure, context.step)


def class_captions(targets: Tensor, class_names: Sequence[str]) -> list[str]:
    """The class of each image; for a mixture, its two largest shares on a line each.

    Args:
        targets: Labels int64 [B], or shares of the classes [B, num_classes].
        class_names: One per class.
    """
    class_names = list(map(short, class_names))
    if targets.dim() == 1:
        return [class_names[label] for label in targets.tolist()]
    shares, classes = targets.topk(2)
    return [
        class_names[first]
        if share > 0.995
        else f"{share:.0%} {class_names[first]}\n{second_share:.0%} {class_names[second]}"
        for (share, second_share), (first, second) in zip(shares.tolist(), classes.tolist(), strict=True)
    ]
