"""What the audit of the data set shows: pure functions to a matplotlib figure."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from fmnist.dashboard import figures
from fmnist.data.files import CLASS_NAMES
from fmnist.data_quality.duplicates import Pair
from fmnist.data_quality.label_issues import Doubt
from fmnist.data_quality.overlap import NEAR, SEARCHED, Overlap

COLUMNS = 8  # images in a row


def pairs(images: Tensor, overlap: Overlap, shown: Sequence[Pair], *, title: str) -> Figure:
    """Draws both images of each pair as they are in the files, with their numbers there, classes and distance.

    Args:
        images: uint8 [N, 1, 28, 28], of both sets.
        overlap: Knows what they are.
        shown: At least one.
        title: What they have in common.
    """
    captions, drawn = [], []
    for pair in shown:
        first, second = (f"{name} {number}" for name, number in map(overlap.image, (pair.first, pair.second)))
        names = dict.fromkeys(CLASS_NAMES[overlap.labels[position]] for position in (pair.first, pair.second))
        view = f", {pair.view}" if str(pair.view) else ""
        captions.append(figures.Caption(first, second, (" / ".join(names), f"{pair.distance:.3f}{view}")))
        gap = np.full((images.shape[2], 2), 255, np.uint8)
        drawn.append(np.hstack([images[pair.first, 0].numpy(), gap, images[pair.second, 0].numpy()]))
    return figures.gallery(np.stack(drawn), captions, title=title, columns=min(COLUMNS, max(4, len(drawn))))


def labels(images: Tensor, overlap: Overlap, shown: Sequence[Doubt], *, title: str) -> Figure:
    """Draws images with their label and its mean probability, and what how many of the networks say instead.

    Args:
        images: uint8 [N, 1, 28, 28], of both sets.
        overlap: Knows what they are.
        shown: At least one.
        title: What they have in common.
    """
    captions = []
    for doubt in shown:
        name, number = overlap.image(doubt.position)
        said, votes = Counter(vote for vote in doubt.votes if vote != doubt.label).most_common(1)[0]
        captions.append(
            figures.Caption(
                f"{name} {number}",
                f"is {CLASS_NAMES[doubt.label]} {doubt.probability:.1%}",
                (f"{CLASS_NAMES[said]}: {votes} of {len(doubt.votes)}",),
            )
        )
    drawn = images[[doubt.position for doubt in shown], 0].numpy()
    return figures.gallery(drawn, captions, title=title, columns=COLUMNS)


def distances(overlap: Overlap) -> Figure:
    """Draws how many pairs there are up to each distance, apart from those that are so close only when mirrored."""
    figure = Figure(figsize=(6.4, 4.4), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    for mirrored, colour, label in ((False, "#1f3b66", "as they are"), (True, "#e66100", "one of them mirrored")):
        found = sorted(pair.distance for pair in overlap.pairs if pair.view.mirrored == mirrored)
        axes.step([0, *found, SEARCHED], [0, *range(1, len(found) + 1), len(found)], "-", where="post", color=colour)
        axes.plot([], [], color=colour, label=f"{label}: {len(found):,}")
    axes.axvline(NEAR, color="0.4", linestyle="--", label=f"taken for near: up to {NEAR:.2f}")
    axes.set(xlim=(0, SEARCHED), ylim=(0, None))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("distance", fontsize=11)
    axes.set_ylabel("pairs up to there", fontsize=11)
    axes.legend(loc="upper left", fontsize=11, frameon=False)
    axes.grid(axis="y", color="0.9")
    axes.set_axisbelow(True)
    axes.set_title(f"pairs of images at most {SEARCHED:.2f} apart", fontsize=12, loc="right")
    return figure
