"""The audit of the data set in words: for the terminal, and as Markdown."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from fmnist.data.files import CLASS_NAMES
from fmnist.data_quality.label_issues import Doubt, Verdicts
from fmnist.data_quality.overlap import NEAR, SEARCHED, Overlap, Place
from fmnist.sweeps.tables import Table, aligned, escaped, markdown_rows

SURE = 0.01  # mean probability of a label below which networks are said to be sure
LISTED = 20  # doubtful labels in each table of the report; the others are in the CSV file


@dataclass(frozen=True)
class Findings:
    """What the audit found; ``verdicts`` and ``doubts`` are of the networks of ``runs``, if there are any."""

    overlap: Overlap
    runs: Sequence[str] = ()
    verdicts: Verdicts | None = None
    doubts: Sequence[Doubt] = ()

    @property
    def unseen(self) -> list[Doubt]:
        """Doubtful labels of images that none of the networks was trained on."""
        return [doubt for doubt in self.doubts if not doubt.seen]

    @property
    def seen(self) -> list[Doubt]:
        return [doubt for doubt in self.doubts if doubt.seen]


NO_RUNS = "doubtful labels and test accuracy: left out, since no networks were given (runs=[<run>,<run>])"


def terminal(found: Findings) -> str:
    lines: list[str] = []
    for title, table in _tables(found):
        lines += ["", title, "", *aligned(table, words=1)]
    if found.verdicts is None:
        lines += ["", NO_RUNS]
    return "\n".join(lines)


def markdown(found: Findings, pictures: dict[str, str]) -> str:
    """The same as a page.

    Args:
        found: What to tell.
        pictures: What each shows, by file name.
    """
    lines = ["# Audit of the data set", ""]
    for title, table in _tables(found):
        lines += [f"**{escaped(title).capitalize()}.**", "", *markdown_rows(table, words=1), ""]
    if found.verdicts is None:
        lines += [f"{escaped(NO_RUNS).capitalize()}.", ""]
    for title, doubts in (("that no network was trained on", found.unseen), ("trained on", found.seen)):
        if doubts:
            lines += [f"**Images {title}, of which most networks reject the label: the surest {LISTED}.**", ""]
            lines += [*markdown_rows(_doubts(found, doubts[:LISTED]), words=4), ""]
    lines += [
        "A distance is that of the pixels of two images, each scaled to length 1; one of them may be mirrored, and "
        f"moved by a pixel. Pairs up to {NEAR:.2f} are called near, which is a choice. A label that networks reject "
        "need not be wrong: classes overlap, and networks of one kind make the same mistakes.",
        "",
    ]
    for name, title in pictures.items():
        lines += [f"![{escaped(title)}]({name})", ""]
    return "\n".join(lines)


def _tables(found: Findings) -> Iterator[tuple[str, Table]]:
    overlap = found.overlap
    places: tuple[Place, ...] = get_args(Place)
    numbers = [[place, *(f"{number:,}" for number in overlap.exact(place))] for place in places]
    yield "exact duplicates", [["", "groups", "images", "contradicting labels"], *numbers]
    numbers = [[place, *(f"{number:,}" for number in overlap.near(place))] for place in places]
    title = f"near duplicates, at most {NEAR:.2f} apart (exact ones are among them)"
    yield title, [["", "pairs", "images", "contradicting labels"], *numbers]
    yield "pairs by distance", _distances(overlap)
    if found.verdicts is not None:
        networks = len(found.runs)
        header = ["", "images", "rejected by most", "by all", f"label below {SURE:.0%}"]
        sizes = {"unseen": ~found.verdicts.seen.any(dim=0), "seen": found.verdicts.seen.any(dim=0)}
        rows = [
            ["trained on by no network", *_doubt_counts(found.unseen, int(sizes["unseen"].sum()), networks)],
            ["trained on by some or all", *_doubt_counts(found.seen, int(sizes["seen"].sum()), networks)],
        ]
        yield f"labels that networks reject, of {networks}", [header, *rows]
        yield "test accuracy with and without the images that have a duplicate in train", _accuracies(found)


def _distances(overlap: Overlap) -> Table:
    """Pairs in bands of 0.01."""
    rows = []
    for band in range(round(SEARCHED * 100)):
        low, high = band / 100, (band + 1) / 100
        inside = [pair for pair in overlap.pairs if (low < pair.distance or band == 0) and pair.distance <= high]
        between = sum(overlap.place(pair) == "train and test" for pair in inside)
        contradicting = sum(overlap.contradicts([pair.first, pair.second]) for pair in inside)
        mirrored = sum(pair.view.mirrored for pair in inside)
        counts = (len(inside), mirrored, between, contradicting)
        rows.append([f"{low:.2f} to {high:.2f}", *map(str, counts)])
    return [["", "pairs", "of these mirrored", "train and test", "contradicting labels"], *rows]


def _doubt_counts(doubts: Sequence[Doubt], images: int, networks: int) -> list[str]:
    counts = [
        images,
        len(doubts),
        sum(doubt.rejected == networks for doubt in doubts),
        sum(doubt.probability < SURE for doubt in doubts),
    ]
    return [f"{count:,}" for count in counts]


def _accuracies(found: Findings) -> Table:
    """Of each network: on all test images, without those that have a duplicate in train, and on these alone."""
    assert found.verdicts is not None
    overlap = found.overlap
    right = (found.verdicts.predicted == overlap.labels)[:, overlap.train_size :]
    near, far = (overlap.test_images(limit) for limit in (NEAR, SEARCHED))
    size = right.shape[1]
    header = [
        "",
        f"all {size:,}",
        f"without {len(near)} up to {NEAR:.2f}",
        f"on those {len(near)}",
        f"without {len(far)} up to {SEARCHED:.2f}",
    ]
    rows = []
    for run, row in zip(found.runs, right, strict=True):
        values = (row, row[_without(near, size)], row[near], row[_without(far, size)])
        rows.append([run, *(f"{value.double().mean():.4f}" if len(value) else "-" for value in values)])
    return [header, *rows]


def _without(numbers: Tensor, size: int) -> Tensor:
    kept = torch.ones(size, dtype=torch.bool)
    kept[numbers] = False
    return kept


def _doubts(found: Findings, doubts: Sequence[Doubt]) -> Table:
    rows = []
    for doubt in doubts:
        name, number = found.overlap.image(doubt.position)
        rows.append(
            [
                f"{name} {number}",
                CLASS_NAMES[doubt.label],
                CLASS_NAMES[doubt.suggestion],
                ", ".join(CLASS_NAMES[vote] for vote in doubt.votes),
                f"{doubt.probability:.4f}",
                f"{doubt.suggestion_probability:.4f}",
                f"{doubt.rejected} of {len(found.runs)}",
                f"{doubt.seen} of {len(found.runs)}",
            ]
        )
    header = ["image", "label", "suggested", "networks say", "p(label)", "p(suggested)", "rejected by", "trained on by"]
    return [header, *rows]
