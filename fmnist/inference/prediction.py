"""Predictions for pictures, as a table, JSON, CSV, or a figure."""

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
from tabulate import tabulate

from fmnist.config.errors import printable
from fmnist.data.pictures import as_image

MOST_PROBABLE = 3  # classes shown per picture
LONGEST_NAME = 58  # characters that fit into the figure

# Inches.
WIDTH = 7.2
ROW = 1.65
IMAGE = 1.3
HEAD = 0.35


@dataclass(frozen=True)
class Picture:
    """A picture to classify.

    Args:
        name: File name or description.
        original: uint8 [H, W, 3] or, with transparency, [H, W, 4]; may be a thumbnail. None if it is ``pixels``.
        pixels: Input of the network, uint8 [C, H, W].
        true_class: None if unknown.
    """

    name: str
    original: NDArray[np.uint8] | None
    pixels: NDArray[np.uint8]
    true_class: str | None = None


@dataclass(frozen=True)
class Prediction:
    """A picture and the probability of each class, in the order of the classes."""

    picture: Picture
    probabilities: dict[str, float]

    @property
    def most_probable(self) -> list[tuple[str, float]]:
        return sorted(self.probabilities.items(), key=lambda item: -item[1])[:MOST_PROBABLE]

    @property
    def predicted(self) -> str:
        return self.most_probable[0][0]


def as_table(predictions: Sequence[Prediction]) -> str:
    """A line per picture with its most probable classes."""
    width = max(11, *(len(name) for prediction in predictions for name, _ in prediction.most_probable))
    rows = [
        {
            "picture": printable(prediction.picture.name),
            "true class": prediction.picture.true_class or "",
            "most probable classes": "  ".join(
                f"{name:<{width}} {percent(p):>6}" for name, p in prediction.most_probable
            ),
        }
        for prediction in predictions
    ]
    if not any(row["true class"] for row in rows):
        rows = [{key: value for key, value in row.items() if key != "true class"} for row in rows]
    return tabulate(rows, headers="keys", tablefmt="plain", disable_numparse=True)


def as_json(predictions: Sequence[Prediction]) -> str:
    """A list of objects with the probability of each class."""
    return json.dumps(
        [
            {
                "picture": prediction.picture.name,
                "true_class": prediction.picture.true_class,
                "predicted": prediction.predicted,
                "probabilities": {name: round(value, 6) for name, value in prediction.probabilities.items()},
            }
            for prediction in predictions
        ],
        indent=2,
        allow_nan=False,
    )


def as_csv(predictions: Sequence[Prediction]) -> str:
    """A row per picture, a column per class."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["picture", "true_class", "predicted", *predictions[0].probabilities])
    for prediction in predictions:
        picture, values = prediction.picture, (f"{value:.6f}" for value in prediction.probabilities.values())
        writer.writerow([printable(picture.name), picture.true_class or "", prediction.predicted, *values])
    return text.getvalue().rstrip("\n")


def percent(probability: float) -> str:
    """A short text that is never 0 %."""
    return f"{probability:.1%}" if probability >= 0.001 else "<0.1%"


def figure(predictions: Sequence[Prediction]) -> Figure:
    """Draws a row per picture: the original, the input of the network, and the most probable classes.

    Returns:
        A figure of 720 pixels by 165 per row, plus 35.
    """
    height = HEAD + ROW * len(predictions)
    result = Figure(figsize=(WIDTH, height), dpi=100)

    def text(left: float, top: float, content: str, **style: Any) -> None:
        result.text(left / WIDTH, 1 - top / height, content, va="center", parse_math=False, **style)

    def axes(left: float, top: float, width: float) -> Axes:
        return result.add_axes((left / WIDTH, 1 - (top + IMAGE) / height, width / WIDTH, IMAGE / height))

    for left, heading in ((0.2, "picture"), (1.7, "input of the network"), (4.3, "prediction")):
        text(left, HEAD / 2, heading, fontsize=8.5, color="0.4")
    for row, prediction in enumerate(predictions):
        top = HEAD + ROW * row
        text(0.2, top + 0.1, _caption(prediction), fontsize=9.5)
        pixels = as_image(prediction.picture.pixels)
        original = prediction.picture.original
        _draw_image(axes(0.2, top + 0.22, IMAGE), pixels if original is None else original)
        _draw_image(axes(1.7, top + 0.22, IMAGE), pixels)
        _draw_bars(axes(4.3, top + 0.22, 2.7), prediction.most_probable)
    return result


def _caption(prediction: Prediction) -> str:
    name, true_class = printable(prediction.picture.name), prediction.picture.true_class
    if len(name) > LONGEST_NAME:
        name = f"{name[: LONGEST_NAME // 2 - 2]}...{name[-LONGEST_NAME // 2 + 1 :]}"
    if true_class is None:
        return name
    return f"{name}: {true_class}, {'correctly' if prediction.predicted == true_class else 'wrongly'} classified"


def _draw_image(axes: Axes, pixels: NDArray[np.uint8]) -> None:
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="nearest" if len(pixels) <= 28 else None)
    axes.set(facecolor="0.8", anchor="NW", xticks=[], yticks=[])  # the grey shows behind transparent pixels
    axes.spines[:].set_color("0.8")


def _draw_bars(axes: Axes, most_probable: Sequence[tuple[str, float]]) -> None:
    names, values = zip(*most_probable, strict=True)
    bars = axes.barh(range(len(names)), values, color=["#2166ac", *["#a6c8e4"] * (len(names) - 1)], height=0.7)
    axes.bar_label(bars, [percent(value) for value in values], padding=4, fontsize=9.5)
    axes.set_yticks(range(len(names)), names, fontsize=9.5)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.25)  # leaves room for the number beside a full bar
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.spines["left"].set_color("0.6")
