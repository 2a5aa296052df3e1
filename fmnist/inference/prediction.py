"""A picture, what the network saw of it, and what it said: as text and as a figure."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

MOST_PROBABLE = 3  # classes that are shown of each picture
LONGEST_NAME = 58  # characters that fit into the figure

# Inches.
WIDTH = 7.2
ROW = 1.65
IMAGE = 1.3
HEAD = 0.35


@dataclass(frozen=True)
class Inspection:
    """One picture.

    Args:
        name: What it is called.
        original: uint8, [H, W], [H, W, 3] or, with transparency, [H, W, 4]; a small copy will do.
        seen: What the network was given, uint8 [28, 28].
        true_class: None where it is not known.
        probabilities: Of each class, in the order of the classes.
    """

    name: str
    original: NDArray[np.uint8]
    seen: NDArray[np.uint8]
    true_class: str | None
    probabilities: dict[str, float]

    @property
    def most_probable(self) -> list[tuple[str, float]]:
        return sorted(self.probabilities.items(), key=lambda item: -item[1])[:MOST_PROBABLE]

    @property
    def predicted(self) -> str:
        return self.most_probable[0][0]


def table(inspections: Sequence[Inspection]) -> str:
    """For people: one line a picture, the most probable classes with their probabilities."""
    known = any(inspection.true_class for inspection in inspections)
    lines = [["picture", *(["true class"] if known else []), "most probable classes"]]
    for inspection in inspections:
        says = [f"{name:<11} {percent(value):>6}" for name, value in inspection.most_probable]
        lines.append([printable(inspection.name), *([inspection.true_class or ""] if known else []), "  ".join(says)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def as_json(inspections: Sequence[Inspection]) -> str:
    """For programs: a list of objects, with the probability of each class."""
    return json.dumps(
        [
            {
                "picture": inspection.name,
                "true_class": inspection.true_class,
                "predicted": inspection.predicted,
                "probabilities": {name: round(value, 6) for name, value in inspection.probabilities.items()},
            }
            for inspection in inspections
        ],
        indent=2,
        allow_nan=False,
    )


def as_csv(inspections: Sequence[Inspection]) -> str:
    """For tables: one row a picture, one column a class."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["picture", "true_class", "predicted", *inspections[0].probabilities])
    for inspection in inspections:
        values = (f"{value:.6f}" for value in inspection.probabilities.values())
        writer.writerow([printable(inspection.name), inspection.true_class or "", inspection.predicted, *values])
    return text.getvalue().rstrip("\n")


def percent(value: float) -> str:
    """A probability, short enough for a table and never 0."""
    return f"{value:.1%}" if value >= 0.001 else "<0.1%"


def printable(text: str) -> str:
    """The same on one line that any terminal takes: a file may have anything in its name."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def figure(inspections: Sequence[Inspection]) -> Figure:
    """Draws one row for each picture: the original, what the network saw, and the most probable classes.

    Returns:
        A figure of 720 pixels by 165 for each row, and 35.
    """
    height = HEAD + ROW * len(inspections)
    result = Figure(figsize=(WIDTH, height), dpi=100)

    def text(left: float, top: float, content: str, **style: Any) -> None:
        result.text(left / WIDTH, 1 - top / height, content, va="center", parse_math=False, **style)

    def axes(left: float, top: float, width: float, tall: float) -> Axes:
        return result.add_axes((left / WIDTH, 1 - (top + tall) / height, width / WIDTH, tall / height))

    for left, head in ((0.2, "picture"), (1.7, "what the network saw"), (4.3, "what it said")):
        text(left, HEAD / 2, head, fontsize=8.5, color="0.4")
    for row, inspection in enumerate(inspections):
        top = HEAD + ROW * row
        text(0.2, top + 0.1, _caption(inspection), fontsize=9.5)
        _image(axes(0.2, top + 0.22, IMAGE, IMAGE), inspection.original)
        _image(axes(1.7, top + 0.22, IMAGE, IMAGE), inspection.seen)
        _bars(axes(4.3, top + 0.22, 2.7, IMAGE), inspection)
    return result


def _caption(inspection: Inspection) -> str:
    name = printable(inspection.name)
    if len(name) > LONGEST_NAME:
        name = f"{name[: LONGEST_NAME // 2 - 2]}...{name[-LONGEST_NAME // 2 + 1 :]}"
    if inspection.true_class is None:
        return name
    verdict = "rightly" if inspection.predicted == inspection.true_class else "wrongly"
    return f"{name}: {inspection.true_class}, {verdict} classified"


def _image(axes: Axes, pixels: NDArray[np.uint8]) -> None:
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="nearest" if len(pixels) <= 28 else None)
    axes.set_facecolor("0.8")  # behind what is transparent
    axes.set_anchor("NW")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color("0.8")


def _bars(axes: Axes, inspection: Inspection) -> None:
    names, values = zip(*inspection.most_probable, strict=True)
    axes.barh(range(len(names)), values, color=["#2166ac", *["#a6c8e4"] * (len(names) - 1)], height=0.7)
    for position, value in enumerate(values):
        axes.text(value + 0.02, position, percent(value), va="center", fontsize=9.5)
    axes.set_yticks(range(len(names)), names, fontsize=9.5)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.25)  # room for the number beside a full bar
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.spines["left"].set_color("0.6")
