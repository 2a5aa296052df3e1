"""The figure of a sweep: what the swept parameters did to the metric. Pure functions to a matplotlib figure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import NullLocator

from fmnist.sweeps.ranking import Ranking, Setting, Statistic, number, short

# They differ also to the colour-blind, and in print.
RUN, MEAN, BEST = "#7fa6d6", "#1f3b66", "#e66100"
NAMED = 8  # values of a parameter that an axis has room to name
WRITTEN = 8  # cells in a row of a heat map that have room for their figures


@dataclass(frozen=True)
class Scale:
    """Where the values of a parameter stand on an axis: numbers as such, words one after another."""

    values: list[str]  # each once, in the order of the axis
    places: list[float]
    numeric: bool
    log: bool  # positive and spread over a decade or more

    @classmethod
    def of(cls, column: Sequence[str]) -> "Scale":
        values = list(dict.fromkeys(column))
        numbers = [number(value) for value in values]
        known = sorted((place, value) for place, value in zip(numbers, values, strict=True) if place is not None)
        if len(known) < len(values):
            return cls(values, [float(place) for place in range(len(values))], numeric=False, log=False)
        places = [place for place, _ in known]
        log = places[0] > 0 and places[-1] >= 10 * places[0]
        return cls([value for _, value in known], places, numeric=True, log=log)

    def place(self, value: str) -> float:
        return self.places[self.values.index(value)]

    def share(self, value: str) -> float:
        """The place on an axis from 0 to 1."""
        low, high, place = (
            math.log(x) if self.log else x for x in (self.places[0], self.places[-1], self.place(value))
        )
        return (place - low) / (high - low) if high > low else 0.5

    @property
    def named(self) -> list[str]:
        """Those that have room for their name, far enough from one another."""
        if not self.numeric or len(self.values) <= 2:
            return self.values
        chosen = [self.values[0], self.values[-1]]
        for value in self.values[1:-1]:
            if all(abs(self.share(value) - self.share(other)) > 0.9 / NAMED for other in chosen):
                chosen.append(value)
        return [value for value in self.values if value in chosen]


def draw(ranking: Ranking) -> Figure:
    """Draws one parameter along an axis, two as a heat map, more as parallel coordinates.

    Two of which most combinations were never meant to be tried, as in a random search, are drawn as more are.

    Args:
        ranking: With at least one setting that has a score.
    """
    scales = [Scale.of(values) for values in ranking.values]
    if len(scales) <= 1:
        return _along_an_axis(ranking, *scales)
    if len(scales) == 2 and len(scales[0].values) * len(scales[1].values) <= 2 * len(ranking.settings):
        return _heat_map(ranking, *scales)
    return _parallel(ranking, scales)


def _along_an_axis(ranking: Ranking, scale: Scale | None = None) -> Figure:
    """A point for each run; means with their standard deviation over the values of the parameter, if there is one."""
    figure = Figure(figsize=(6.4, 4.4), dpi=100, layout="constrained")
    axes = figure.add_subplot()

    def place(setting: Setting) -> float:
        return scale.place(setting.values[0]) if scale else 0.0

    runs = [(place(setting), figure) for setting in ranking.settings for figure in setting.figures]
    axes.plot(*zip(*runs, strict=True), "o", color=RUN, markersize=5, label="one run", zorder=3)
    means = sorted((place(setting), score.mean, score.sd or 0.0) for setting, score in ranking.judged)
    x, mean, sd = (np.array(column) for column in zip(*means, strict=True))
    if scale and scale.numeric:
        axes.plot(x, mean, color=MEAN, linewidth=1.2)
    if sd.any():
        bars: dict[str, Any] = {"fmt": "_", "markersize": 14, "capsize": 5, "linewidth": 1.4, "zorder": 2}
        axes.errorbar(x, mean, sd, color=MEAN, label="mean, standard deviation", **bars)
    if scale:
        best, score = ranking.judged[0]
        ring: dict[str, Any] = {"markersize": 15, "markeredgewidth": 2, "markerfacecolor": "none", "linestyle": "none"}
        label = f"best: {short(best.values[0])}"
        axes.plot(place(best), score.mean, marker="o", color=BEST, label=label, zorder=4, **ring)
        if scale.log:
            axes.set_xscale("log")
        if not scale.numeric:
            axes.set_xlim(-0.5, len(scale.values) - 0.5)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticks([scale.place(value) for value in scale.named], [short(value) for value in scale.named])
        _slant(axes, scale)
        axes.set_xlabel(ranking.parameters[0], fontsize=11)
    else:
        axes.set(xlim=(-1, 1), xticks=[])
    axes.set_ylabel(ranking.metric, fontsize=11)
    axes.grid(axis="y", color="0.9")
    axes.set_axisbelow(True)
    figure.suptitle(f"{ranking.metric}, {_runs(ranking)}", fontsize=12, x=0.985, ha="right")
    figure.legend(loc="outside lower center", ncols=3, fontsize=10, frameon=False)
    return figure


def _heat_map(ranking: Ranking, first: Scale, second: Scale) -> Figure:
    """A cell for each setting, the mean written in it, with the standard deviation where there is one."""
    turned = len(first.values) > len(second.values)  # the longer one goes along, where there is more room
    down, along = (second, first) if turned else (first, second)
    names = ranking.parameters[::-1] if turned else ranking.parameters
    rows, columns = len(down.values), len(along.values)
    figure = Figure(figsize=(6.4, min(6.4, 1.8 + 0.7 * rows)), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    colours = _colours(ranking)
    means = np.full((rows, columns), np.nan)
    for setting, score in ranking.judged:
        values = setting.values[::-1] if turned else setting.values
        row, column = down.values.index(values[0]), along.values.index(values[1])
        means[row, column] = score.mean
        if max(rows, columns) <= WRITTEN:
            red, green, blue, _ = _colour(colours, score)
            colour = "white" if 0.3 * red + 0.59 * green + 0.11 * blue < 0.5 else "black"
            spread = "" if score.sd is None else f"\n±{score.sd:.4f}"
            text = f"{score.mean:.4f}{spread}"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=9 if columns <= 6 else 7.5)
        if setting is ranking.best:
            frame: dict[str, Any] = {"fill": False, "edgecolor": BEST, "linewidth": 3.5}
            axes.add_patch(Rectangle((column - 0.47, row - 0.47), 0.94, 0.94, **frame))
    axes.set_facecolor("0.9")  # of cells without a figure
    axes.imshow(means, cmap=colours.cmap, clim=colours.get_clim(), aspect="auto", origin="lower")
    every = -(-columns // 16), -(-rows // 16)
    axes.set_xticks(range(0, columns, every[0]), [short(value) for value in along.values[:: every[0]]])
    axes.set_yticks(range(0, rows, every[1]), [short(value) for value in down.values[:: every[1]]])
    _slant(axes, along)
    axes.tick_params(length=0)
    axes.set_ylabel(names[0], fontsize=11)
    axes.set_xlabel(names[1], fontsize=11)
    figure.colorbar(colours, ax=axes, label=ranking.metric, pad=0.02)
    title = f"mean {ranking.metric}, {_runs(ranking)}, the best framed"
    figure.suptitle(title, fontsize=12, x=0.985, ha="right")
    return figure


def _parallel(ranking: Ranking, scales: Sequence[Scale]) -> Figure:
    """A line for each setting through its values, coloured by the mean of the metric, which is the last axis."""
    figure = Figure(figsize=(max(6.4, 1.2 * (len(scales) + 1)), 4.6), dpi=100)
    axes = figure.add_axes((0.13, 0.1, 0.82, 0.78))
    colours = _colours(ranking)
    low, high = colours.get_clim()
    assert low is not None
    assert high is not None
    settings = len(ranking.judged)
    for place, (setting, score) in reversed(list(enumerate(ranking.judged))):  # the best last, above the others
        apart = 0.06 * (0.5 - place / settings)  # side by side, where many settings share a value
        places = [
            scale.share(value) + (apart if len(scale.values) < settings else 0)
            for scale, value in zip(scales, setting.values, strict=True)
        ]
        places.append((score.mean - low) / (high - low))
        if setting is ranking.best:
            axes.plot(places, color=BEST, linewidth=3.5, zorder=3)
        else:
            axes.plot(places, color=_colour(colours, score), linewidth=1.6)
    labels = [[(scale.share(value), short(value)) for value in scale.named] for scale in scales]
    labels.append([(share, f"{low + share * (high - low):.4f}") for share in (0.0, 0.25, 0.5, 0.75, 1.0)])
    box: dict[str, Any] = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 0.8}
    for number_of_axis, names in enumerate(labels):
        axes.axvline(number_of_axis, color="0.35", linewidth=1)
        for share, name in names:
            axes.text(number_of_axis - 0.03, share, name, ha="right", va="center", fontsize=9, bbox=box, zorder=4)
    axes.set(xlim=(-0.02, len(scales) + 0.02), ylim=(-0.04, 1.04), yticks=[])
    axes.set_xticks(range(len(labels)), [*map(ranking.name, ranking.parameters), ranking.metric], fontsize=10)
    axes.tick_params(length=0)
    axes.set_frame_on(False)
    title = f"mean {ranking.metric}, {_runs(ranking)}: the better the darker, the best in orange"
    figure.suptitle(title, fontsize=12, x=0.985, ha="right")
    return figure


def _colours(ranking: Ranking) -> ScalarMappable:
    """The better, the darker: on white paper it is the good ones that should be seen."""
    means = [score.mean for _, score in ranking.judged]
    low, high = min(means), max(means)
    if low == high:
        low, high = low - 0.5, high + 0.5
    return ScalarMappable(Normalize(low, high), "viridis_r" if ranking.mode == "max" else "viridis")


def _colour(colours: ScalarMappable, score: Statistic) -> list[float]:
    rgba: list[float] = colours.to_rgba(np.array([score.mean]))[0].tolist()
    return rgba


def _runs(ranking: Ranking) -> str:
    return "1 run" if ranking.runs == 1 else f"{ranking.runs:,} runs"


def _slant(axes: Axes, scale: Scale) -> None:
    """Turns the names along the axis if they are too long to stand side by side."""
    if sum(len(short(value)) + 2 for value in scale.named) > 60:
        axes.tick_params(axis="x", labelrotation=30)
        for label in axes.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")
