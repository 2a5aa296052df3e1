"""Figures: pure functions from arrays to a matplotlib figure."""

from collections.abc import Sequence

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
        A figure of 8 by 8 inches; each cell shows its count and its share of the row. Empty cells stay empty, so that
        mistakes stand out.
    """
    totals = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(totals, 1)

    figure = Figure(figsize=(8, 8), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in zip(*counts.nonzero(), strict=True):
        share = shares[row, column]
        axes.text(
            column,
            row,
            f"{counts[row, column]}\n{share:.1%}",
            ha="center",
            va="center",
            fontsize=8.5,
            color="white" if share > 0.5 else "black",
        )
    ticks = range(len(class_names))
    axes.set_xticks(ticks, class_names, rotation=45, ha="right", rotation_mode="anchor", fontsize=11)
    axes.set_yticks(ticks, class_names, fontsize=11)
    axes.set_xlabel("predicted class", fontsize=12)
    axes.set_ylabel("true class", fontsize=12)
    axes.set_title(title, fontsize=13)
    axes.set_xticks(np.arange(len(class_names) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(class_names) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="0.85", linewidth=0.6)
    axes.tick_params(which="both", length=0)
    return figure
