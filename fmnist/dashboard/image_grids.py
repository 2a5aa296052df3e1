"""Figures of many small images in a grid: pure functions that return a matplotlib figure."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fmnist.dashboard.figures import short
from fmnist.data.pictures import as_image
from fmnist.training.evaluation import Evaluation


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
    figure, grid = _grid(len(images), columns, height=height, caption=0.1 + 0.18 * lines, title=title)
    for axes, image, caption in zip(grid, images, captions, strict=False):
        axes.imshow(as_image(image), cmap="gray", vmin=0, vmax=255)
        axes.set_xlabel(caption, fontsize=11, labelpad=3, linespacing=1.1)
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
    figure, grid = _grid(len(weights), 4 if len(weights) <= 16 else 8, height=1.5, caption=0.06, title=title)
    for axes, kernel in zip(grid, weights, strict=False):
        axes.imshow(kernel, cmap="RdBu_r", vmin=-limit, vmax=limit)
    return figure


def _grid(count: int, columns: int, *, height: float, caption: float, title: str) -> tuple[Figure, list[Axes]]:
    """Axes without ticks, at least ``count``, row by row under a title.

    Columns are 160 pixels wide. ``height`` of an image and of its ``caption`` are in inches.
    """
    rows, head = max(1, -(-count // columns)), 0.42
    total = head + rows * (height + caption) + 0.05
    figure = Figure(figsize=(1.6 * columns, total), dpi=100)
    grid = figure.subplots(rows, columns, squeeze=False)
    bottom = (caption + 0.05) / total
    figure.subplots_adjust(0.015, bottom, 0.985, 1 - head / total, wspace=0.06, hspace=caption / height)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.set_frame_on(False)
    figure.suptitle(title, fontsize=12, x=0.985, y=1 - 0.08 / total, ha="right", va="top")
    return figure, list(grid.flat)
