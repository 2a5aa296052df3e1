"""Pictures of the audit."""

from collections import Counter

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from fmnist.dashboard.image_grids import gallery, side_by_side
from fmnist.data_quality.pairs import NEAR, PLACES, SEARCHED

SHOWN = 40  # images or pairs in a gallery
COLUMNS = 8


def draw(images: Tensor, pairs: pd.DataFrame, issues: pd.DataFrame) -> dict[str, Figure | None]:
    """Draws all pictures, by file name. A gallery without images is None.

    Args:
        images: uint8 [N, C, H, W], the training set followed by the test set.
        pairs: Of ``pairs.find``.
        issues: Of ``label_issues.find``, with the columns ``set`` and ``index``.
    """
    near = pairs[pairs["distance"] <= NEAR]
    around = pairs[max(0, len(near) - SHOWN // 2) : len(near) + SHOWN // 2]
    seen = issues["trained_on_by"] > 0
    parts = [(f"duplicates-{p}", f"near duplicates, {p}", near[near["place"] == p]) for p in PLACES.values()]
    parts += [
        ("duplicates-threshold", f"pairs around the threshold of {NEAR:.2f}", around),
        ("labels-unseen", "rejected labels of images that no network was trained on", issues[~seen]),
        ("labels-seen", "rejected labels of images that networks were trained on", issues[seen]),
    ]
    pictures: dict[str, Figure | None] = {"distances.png": distances(pairs)}
    for name, title, rows in parts:
        count = f"all {len(rows)}" if len(rows) <= SHOWN else f"the first {SHOWN} of {len(rows):,}"
        draw_gallery = label_gallery if name.startswith("labels") else pair_gallery
        figure = draw_gallery(images, rows[:SHOWN], f"{title}: {count}") if len(rows) else None
        pictures[f"{name.replace(' ', '-')}.png"] = figure
    return pictures


def pair_gallery(images: Tensor, pairs: pd.DataFrame, title: str) -> Figure:
    """Draws the unchanged images of each pair, with set, index, classes, distance and what aligned them."""
    captions = []
    for pair in pairs.to_dict("records"):
        names = " / ".join(dict.fromkeys([pair["label"], pair["other_label"]]))
        changes = ", mirrored" * pair["mirrored"] + (", moved" if pair["down"] or pair["right"] else "")
        locations = f"{pair['set']} {pair['index']}\n{pair['other_set']} {pair['other_index']}"
        captions.append(f"{locations}\n{names}\n{pair['distance']:.3f}{changes}")
    drawn = side_by_side(*(images[pairs[column].tolist()].numpy() for column in ("first", "second")))
    return gallery(drawn, captions, title=title, columns=min(COLUMNS, max(4, len(drawn))))


def label_gallery(images: Tensor, issues: pd.DataFrame, title: str) -> Figure:
    """Draws images with their label, its mean probability, and the class that most networks predict instead."""
    captions = []
    for issue in issues.to_dict("records"):
        votes = Counter(vote for vote in issue["votes"] if vote != issue["label"])
        predicted, count = votes.most_common(1)[0]
        label = f"is {issue['label']} {issue['probability']:.1%}"
        captions.append(f"{issue['set']} {issue['index']}\n{label}\n{predicted}: {count} of {len(issue['votes'])}")
    return gallery(images[issues.index.tolist()].numpy(), captions, title=title, columns=COLUMNS)


def distances(pairs: pd.DataFrame) -> Figure:
    """Draws the number of pairs up to each distance, apart for pairs that are this close only when mirrored."""
    figure = Figure(figsize=(6.4, 4.4), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    for mirrored, color, label in ((0, "#1f3b66", "not mirrored"), (1, "#e66100", "one image mirrored")):
        found = pairs["distance"][pairs["mirrored"] == mirrored].tolist()  # ascending
        steps = [*range(len(found) + 1), len(found)]
        axes.step([0, *found, SEARCHED], steps, where="post", color=color, label=f"{label}: {len(found):,}")
    axes.axvline(NEAR, color="0.4", linestyle="--", label=f"near duplicates: up to {NEAR:.2f}")
    axes.set(xlim=(0, SEARCHED), ylim=(0, None))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("distance", fontsize=11)
    axes.set_ylabel("pairs up to this distance", fontsize=11)
    axes.legend(loc="upper left", fontsize=11, frameon=False)
    axes.grid(axis="y", color="0.9")
    axes.set_axisbelow(True)
    axes.set_title(f"pairs of images at most {SEARCHED:.2f} apart", fontsize=12, loc="right")
    return figure
