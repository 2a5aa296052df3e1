"""Confusion matrix and reliability diagram: pure functions that return a matplotlib figure."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from fmnist.training.evaluation import CALIBRATION_BINS, Calibration


def confusion_matrix(counts: NDArray[np.int64], class_names: Sequence[str], *, title: str) -> Figure:
    """Draws a confusion matrix, coloured by the share of each true class.

    Args:
        counts: [num_classes, num_classes], true classes as rows, predicted classes as columns.
        class_names: One per class.
        title: Title of the figure.

    Returns:
        A figure of 640 by 640 pixels for up to 10 classes, readable at half that size, as in TensorBoard; larger for
        more. Each cell shows its count and, if there is room, its share of the row. Empty cells stay empty, so that
        mistakes stand out.
    """
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = list(map(short, class_names))
    few = len(names) <= 10
    # Fixed margins, in inches, for the longest name: matplotlib's automatic layout would draw everything twice.
    margin = 0.55 + 0.066 * max(11, *map(len, names))
    side = 6.4 if few else margin + 0.28 * len(names) + 0.2
    figure = Figure(figsize=(side, side), dpi=100)
    left, below = margin / side, (margin - 0.1) / side
    axes = figure.add_axes((left, below, 0.97 - left, 0.955 - below))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in zip(*counts.nonzero(), strict=True):
        share = shares[row, column]
        percent = f"{share:.1%}" if share < 0.0995 else f"{share:.0%}"
        style: dict[str, Any] = {"ha": "center", "color": "white" if share > 0.5 else "black"}
        text = f"{counts[row, column]}\n{percent}" if few else f"{counts[row, column]}"
        axes.text(column, row, text, va="center", fontsize=9.5 if few else 7, linespacing=1.1, **style)
    size = 11 if few else 9
    turned: dict[str, Any] = {"rotation": 45} if few else {"rotation": 90, "va": "center"}
    axes.set_xticks(range(len(names)), names, ha="right", rotation_mode="anchor", fontsize=size, **turned)
    axes.set_yticks(range(len(names)), names, fontsize=size)
    axes.set_xlabel("predicted class", fontsize=11)
    axes.set_ylabel("true class", fontsize=11)
    axes.set_title(title, fontsize=_fitting_font_size(title), loc="right")
    lines = np.arange(1, len(names)) - 0.5  # a grid of minor ticks would take three times as long to draw
    axes.hlines(lines, -0.5, len(names) - 0.5, color="0.85", linewidth=0.6, zorder=1)
    axes.vlines(lines, -0.5, len(names) - 0.5, color="0.85", linewidth=0.6, zorder=1)
    axes.tick_params(length=0)
    return figure


def short(name: str) -> str:
    """The name of a class, cut off after 16 characters, which a figure has room for."""
    return name if len(name) <= 16 else f"{name[:15]}…"


def reliability(calibration: Calibration, *, title: str) -> Figure:
    """Draws a reliability diagram: accuracy against confidence, with the share of the images in each bin below.

    The bars of a perfectly calibrated network reach the diagonal.
    """
    figure = Figure(figsize=(6.4, 6.4), dpi=100)
    upper = figure.add_axes((0.12, 0.34, 0.84, 0.53))
    lower = figure.add_axes((0.12, 0.1, 0.84, 0.2), sharex=upper)
    confidence, accuracy = calibration.confidence.numpy(), calibration.accuracy.numpy()
    count = calibration.count.numpy()
    left = calibration.number.numpy() / CALIBRATION_BINS
    style: dict[str, Any] = {"width": 1 / CALIBRATION_BINS, "align": "edge", "edgecolor": "white"}
    upper.bar(left, accuracy, color="#4c78a8", label="accuracy", **style)
    upper.plot([0, 1], [0, 1], color="0.4", linestyle="--", label="perfect calibration")
    upper.plot(confidence, accuracy, "o", color="black", markersize=3.5, label="at the mean confidence of the bin")
    upper.set(xlim=(0, 1), ylim=(0, 1))
    upper.set_ylabel("accuracy", fontsize=11)
    # The legend is above the axes: the bar of a bin with few images may be anywhere.
    upper.legend(loc="lower right", bbox_to_anchor=(1.02, 0.99), ncols=3, fontsize=9, frameon=False, columnspacing=1.2)
    upper.tick_params(labelbottom=False)
    lower.bar(left, count / count.sum(), color="0.6", **style)
    lower.set_xlabel("confidence: probability of the predicted class", fontsize=11)
    lower.set_ylabel("of the images", fontsize=11)
    lower.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    lines = f"{title}:", f"expected calibration error {calibration.error:.2%}"
    upper.set_title("\n".join(lines), fontsize=min(map(_fitting_font_size, lines)), loc="right", pad=24)
    return figure


def _fitting_font_size(line: str) -> float:
    """The font size, at most 12, at which a line is no wider than a figure of 6.4 inches."""
    return 12 * min(1, 66 / max(1, len(line)))
