"""Figures: pure functions from arrays to a matplotlib figure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from fmnist.training.evaluation import CALIBRATION_BINS, Calibration


def confusion_matrix(counts: NDArray[np.int64], class_names: Sequence[str], *, title: str) -> Figure:
    """Draws a confusion matrix, coloured by the share of each true class.

    Args:
        counts: [num_classes, num_classes], true classes as rows, predicted classes as columns.
        class_names: One name a class.
        title: What was counted.

    Returns:
        A figure of 640 by 640 pixels, made to be read at TensorBoard's half of that; each cell shows its count and its
        share of the row. Empty cells stay empty, so that mistakes stand out.
    """
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(6.4, 6.4), dpi=100)
    # Made to measure for names as long as "T-shirt/top": matplotlib's own layout would draw everything twice.
    axes = figure.add_axes((0.18, 0.165, 0.79, 0.79))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in zip(*counts.nonzero(), strict=True):
        share = shares[row, column]
        style: dict[str, Any] = {"ha": "center", "color": "white" if share > 0.5 else "black"}
        axes.text(column, row - 0.02, f"{counts[row, column]}", va="bottom", fontsize=10.5, **style)
        axes.text(
            column, row + 0.04, f"{share:.1%}" if share < 0.0995 else f"{share:.0%}", va="top", fontsize=8.5, **style
        )
    axes.set_xticks(range(len(class_names)), class_names, rotation=45, ha="right", rotation_mode="anchor", fontsize=11)
    axes.set_yticks(range(len(class_names)), class_names, fontsize=11)
    axes.set_xlabel("predicted class", fontsize=11)
    axes.set_ylabel("true class", fontsize=11)
    axes.set_title(title, fontsize=_fitting(title), loc="right")
    axes.set_xticks(np.arange(len(class_names) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(class_names) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="0.85", linewidth=0.6)
    axes.tick_params(which="both", length=0)
    return figure


@dataclass(frozen=True)
class Caption:
    """Lines under an image, such as what it was taken for, and what it is."""

    first: str
    second: str
    more: tuple[str, ...] = ()


def gallery(images: NDArray[np.uint8], captions: Sequence[Caption], *, title: str, columns: int = 4) -> Figure:
    """Draws images in a grid, each with a caption.

    Args:
        images: [N, H, W].
        captions: One for each image.
        title: What they are.
        columns: Images in a row.
    """
    height = 1.5 * images.shape[1] / images.shape[2]
    space = 0.46 + 0.18 * max((len(caption.more) for caption in captions), default=0)
    figure, grid = _grid(len(images), columns, height=height, caption=space, title=title)
    for axes, image, caption in zip(grid, images, captions, strict=False):
        axes.imshow(image, cmap="gray", vmin=0, vmax=255)
        text = "\n".join([caption.first, caption.second, *caption.more])
        axes.set_xlabel(text, fontsize=11, labelpad=3, linespacing=1.1)
    return figure


def batch(before: NDArray[np.uint8], after: NDArray[np.uint8], names: Sequence[str], *, title: str) -> Figure:
    """Draws training images as the network gets them, beside themselves as they were if they were changed.

    Args:
        before: [N, H, W], as in the data set.
        after: [N, H, W], as in the batch.
        names: The class of each, in one line or two.
        title: What they are.
    """
    changed = bool((before != after).any())
    caption = 0.46 if any("\n" in name for name in names) else 0.28
    figure, grid = _grid(len(after), 4, height=0.74 if changed else 1.5, caption=caption, title=title)
    for axes, original, image, name in zip(grid, before, after, names, strict=False):
        gap = np.full((len(image), 2), 255, np.uint8)
        axes.imshow(np.hstack([original, gap, image]) if changed else image, cmap="gray", vmin=0, vmax=255)
        axes.set_xlabel(name, fontsize=11, labelpad=3, linespacing=1.1)
    return figure


def kernels(weights: NDArray[np.float32], *, title: str) -> Figure:
    """Draws convolution kernels, red for positive weights and blue for negative ones, on one scale.

    Args:
        weights: [N, H, W]; the first 64 are drawn.
        title: Whose they are.
    """
    weights = weights[:64]
    limit = max(float(np.abs(weights).max()), 1e-12)
    title = f"{title} (blue {-limit:.2f}, white 0, red {limit:.2f})"
    columns = 4 if len(weights) <= 16 else 8
    figure, grid = _grid(len(weights), columns, height=1.5, caption=0.06, title=title)
    for axes, kernel in zip(grid, weights, strict=False):
        axes.imshow(kernel, cmap="RdBu_r", vmin=-limit, vmax=limit)
    return figure


def reliability(calibration: Calibration, *, title: str) -> Figure:
    """Draws how often the network is right against how sure it is, and how many images there are of each sureness.

    Bars that reach the diagonal are what a network shows that is right as often as it says.
    """
    figure = Figure(figsize=(6.4, 6.4), dpi=100)
    upper = figure.add_axes((0.12, 0.34, 0.84, 0.53))
    lower = figure.add_axes((0.12, 0.1, 0.84, 0.2), sharex=upper)
    middle, accuracy = calibration.confidence.numpy(), calibration.accuracy.numpy()
    count = calibration.count.numpy()
    left, width = calibration.number.numpy() / CALIBRATION_BINS, 1 / CALIBRATION_BINS
    style: dict[str, Any] = {"width": width, "align": "edge", "edgecolor": "white"}
    upper.bar(left, accuracy, color="#4c78a8", label="fraction that is right", **style)
    upper.plot([0, 1], [0, 1], color="0.4", linestyle="--", label="as sure as right")
    upper.plot(middle, accuracy, "o", color="black", markersize=3.5, label="at the mean probability of the bin")
    upper.set(xlim=(0, 1), ylim=(0, 1))
    upper.set_ylabel("fraction that is right", fontsize=11)
    # Above: a bar of few images may be anywhere.
    upper.legend(loc="lower right", bbox_to_anchor=(1.02, 0.99), ncols=3, fontsize=9, frameon=False, columnspacing=1.2)
    upper.tick_params(labelbottom=False)
    lower.bar(left, count / count.sum(), color="0.6", **style)
    lower.set_xlabel("probability of the predicted class", fontsize=11)
    lower.set_ylabel("of the images", fontsize=11)
    lower.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    lines = f"{title}:", f"expected calibration error {calibration.error:.2%}"
    upper.set_title("\n".join(lines), fontsize=min(map(_fitting, lines)), loc="right", pad=24)
    return figure


def _fitting(line: str) -> float:
    """The font size, at most 12, at which a line is no wider than a figure of 6.4 inches."""
    return 12 * min(1, 66 / max(1, len(line)))


def _grid(count: int, columns: int, *, height: float, caption: float, title: str) -> tuple[Figure, list[Axes]]:
    """Axes without ticks for a number of images, row by row, under a title.

    A column is 160 pixels wide; an image is ``height`` inches high, the space for its caption ``caption``.
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
