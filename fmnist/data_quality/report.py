"""The audit's tables, for the terminal and for Markdown."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from tabulate import tabulate

from fmnist.data_quality.pairs import NEAR, PLACES, SEARCHED, count, duplicated_test_images

CONFIDENT = 0.01  # networks reject a label confidently below this mean probability

NOTE = (
    "The distance of two images is the Euclidean distance of their pixels, each image scaled to length 1. One of them "
    f"may be mirrored, and moved by a pixel. Pairs up to {NEAR:.2f} count as near duplicates; this threshold is a "
    "choice. A label that networks reject need not be wrong: classes overlap, and networks of one kind make the same "
    "mistakes."
)


def render(tables: Mapping[str, pd.DataFrame], tablefmt: Literal["plain", "pipe"]) -> str:
    """Formats tables by title: ``plain`` for the terminal, ``pipe`` for Markdown."""
    parts = []
    for title, table in tables.items():
        cells = [[name, *map(_format, numbers)] for name, *numbers in table.itertuples()]
        alignment = ["left", *("right" for _ in table)]
        parts.append(title if tablefmt == "plain" else f"**{title.capitalize()}.**")
        parts.append(tabulate(cells, ["", *table], tablefmt=tablefmt, disable_numparse=True, colalign=alignment))
    return "\n\n".join(parts)


def _format(number: float) -> str:
    if isinstance(number, int):
        return f"{number:,}"
    return "-" if np.isnan(number) else f"{number:.4f}"


def duplicate_tables(pairs: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Tables of exact duplicates, near duplicates and distances, from the pairs of ``pairs.find``."""
    exact = pairs[pairs["exact"] == 1]
    near = pairs[pairs["distance"] <= NEAR].assign(group=lambda frame: frame.index)  # each pair is a group
    labels = "contradicting labels"
    edges = [step / 100 for step in range(round(SEARCHED * 100) + 1)]
    names = [f"{low:.2f} to {high:.2f}" for low, high in itertools.pairwise(edges)]
    bands = pd.cut(pairs["distance"].astype(float), edges, labels=names, include_lowest=True)
    properties = {
        "pairs": True,
        "mirrored": pairs["mirrored"] == 1,
        "train and test": pairs["place"] == "train and test",
        labels: pairs["label"] != pairs["other_label"],
    }
    return {
        "exact duplicates": _counts(exact, ["groups", "images", labels]),
        f"near duplicates, at most {NEAR:.2f} apart, including exact ones": _counts(near, ["pairs", "images", labels]),
        "pairs by distance": pd.DataFrame(properties).groupby(bands, observed=False).sum().astype(int),
    }


def _counts(pairs: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    return pd.DataFrame([count(pairs, place) for place in PLACES.values()], list(PLACES.values()), columns)


def label_table(issues: pd.DataFrame, trained_on: NDArray[np.bool_]) -> pd.DataFrame:
    """Counts label issues, apart for images that a network was trained on.

    Args:
        issues: Of ``label_issues.find``.
        trained_on: Whether a network was trained on an image, bool [networks, N].
    """
    seen = trained_on.any(axis=0)
    issue_seen = issues["trained_on_by"] > 0
    rows = [
        [images, len(part), (part["rejected_by"] == len(trained_on)).sum(), (part["probability"] < CONFIDENT).sum()]
        for images, part in (((~seen).sum(), issues[~issue_seen]), (seen.sum(), issues[issue_seen]))
    ]
    columns = ["images", "rejected by most", "by all", f"label below {CONFIDENT:.0%}"]
    return pd.DataFrame(rows, ["trained on by no network", "trained on by some or all"], columns)


def accuracy_table(pairs: pd.DataFrame, correct: NDArray[np.bool_], runs: list[str]) -> pd.DataFrame:
    """Accuracy on the test set with and without the images that have a duplicate in the training set.

    Args:
        pairs: Of ``pairs.find``.
        correct: Whether a network classifies a test image correctly, bool [networks, N].
        runs: Names of the networks.
    """
    near, searched = (duplicated_test_images(pairs, limit) for limit in (NEAR, SEARCHED))
    subsets = {
        f"all {correct.shape[1]:,}": correct,
        f"without {len(near)} up to {NEAR:.2f}": np.delete(correct, near, axis=1),
        f"on those {len(near)}": correct[:, near],
        f"without {len(searched)} up to {SEARCHED:.2f}": np.delete(correct, searched, axis=1),
    }
    return pd.DataFrame({name: pd.DataFrame(subset).mean(axis=1) for name, subset in subsets.items()}).set_axis(runs)


def markdown(tables: Mapping[str, pd.DataFrame], note: str, pictures: Mapping[str, Figure | None]) -> str:
    """The page with all tables and pictures, the latter by file name."""
    links = "".join(f"![{Path(name).stem}]({name})\n\n" for name, picture in pictures.items() if picture)
    return f"# Audit of the data set\n\n{render(tables, 'pipe')}\n\n{note}{NOTE}\n\n{links}"
