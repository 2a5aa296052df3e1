"""Figures: pure functions from arrays to a matplotlib figure."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray


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
    axes.set_title(title, fontsize=12, loc="right")
    axes.set_xticks(np.arange(len(class_names) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(class_names) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="0.85", linewidth=0.6)
    axes.tick_params(which="both", length=0)
    return figure
