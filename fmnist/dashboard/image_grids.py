"""Figures of many small images in a grid: pure functions that return a matplotlib figure."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fmnist.dashboard.figures import short
from fmnist.data.pictures import as_image
from fmnist.training.evaluation import Evaluation

Extent = tuple[float, float, float, float]  # left, right, bottom, top, in inches


def gallery(images: NDArray[np.uint8], captions: Sequence[str], *, title: str, columns: int = 4) -> Figure:
    """Draws images, each with a caption of one or more lines below it.

    Args:
        images: uint8 [N, C, H, W].
        captions: One per image.
        title: Title of the figure.
        columns: Images per row.
    """
    lines = max((caption.count("\n") + 1 for caption in captions), default=1)
    height = 1.5 * images.shape[2] / images.shape[3]
    figure, axes, places = _grid(len(images), columns, height=height, caption=0.1 + 0.18 * lines, title=title)
    for (left, right, bottom, top), image, caption in zip(places, images, captions, strict=True):
        axes.imshow(as_image(image), cmap="gray", vmin=0, vmax=255, extent=(left, right, bottom, top), aspect="auto")
        style: dict[str, Any] = {"ha": "center", "va": "top", "fontsize": 11, "linespacing": 1.1}
        axes.text((left + right) / 2, bottom + 0.04, caption, **style)
    return figure


def side_by_side(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Joins each image with another one, with a white gap of two pixels: twice [N, C, H, W] to [N, C, H, 2 * W + 2]."""
    gap = np.full((*left.shape[:3], 2), 255, np.uint8)
    return np.concatenate([left, gap, right], axis=3)


def mistakes(
    evaluation: Evaluation, class_names: Sequence[str], *, count: int, subject: str, columns: int = 4
) -> Figure:
    """Draws the most confident mistakes, each with its predicted class, confidence and true class.

    Args:
        evaluation: Of a network on a split.
        class_names: One per class.
        count: Maximum number of images.
        subject: What was evaluated, for the title.
        columns: Images per row.
    """
    positions = evaluation.mistakes()
    shown = positions[:count]
    values = (evaluation.predicted, evaluation.confidence, evaluation.targets)
    captions = [
        f"{short(class_names[predicted])} {confidence:.0%}\nis {short(class_names[target])}"
        for predicted, confidence, target in zip(*(column[shown].tolist() for column in values), strict=True)
    ]
    title = f"{subject}: the {len(shown)} most confident of {len(positions):,} mistakes"
    return gallery(evaluation.images[shown].numpy(), captions, title=title, columns=columns)


def kernels(weights: NDArray[np.float32], *, title: str) -> Figure:
    """Draws convolution kernels on one scale: red for positive weights, blue for negative ones.

    Args:
        weights: [N, H, W]; the first 64 are drawn.
        title: Title of the figure, to which the scale is added.
    """
    weights = weights[:64]
    limit = max(float(np.abs(weights).max()), 1e-12)
    title = f"{title} (blue {-limit:.2f}, white 0, red {limit:.2f})"
    figure, axes, places = _grid(len(weights), 4 if len(weights) <= 16 else 8, height=1.5, caption=0.06, title=title)
    for place, kernel in zip(places, weights, strict=True):
        axes.imshow(kernel, cmap="RdBu_r", vmin=-limit, vmax=limit, extent=place, aspect="auto")
    return figure


def _grid(count: int, columns: int, *, height: float, caption: float, title: str) -> tuple[Figure, Axes, list[Extent]]:
    """A figure with a title, axes that cover it, measured in inches, and the places of the images in them.

    One pair of axes for all images: making one for each takes most of the time of drawing.

    Args:
        count: Number of images.
        columns: Images per row, each 160 pixels wide with its margin.
        height: Of an image, in inches.
        caption: Space below each image, in inches.
        title: Title of the figure.
    """
    rows, head = max(1, -(-count // columns)), 0.42
    width, total = 1.6 * columns, head + rows * (height + caption) + 0.05
    figure = Figure(figsize=(width, total), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(total, 0), autoscale_on=False)
    axes.set_axis_off()
    figure.suptitle(title, fontsize=12, x=1 - 0.06 / width, y=1 - 0.08 / total, ha="right", va="top")
    corners = [(1.6 * (n % columns) + 0.05, head + n // columns * (height + caption)) for n in range(count)]
    return figure, axes, [(left, left + 1.5, top + height, top) for left, top in corners]
