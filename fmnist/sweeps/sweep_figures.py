"""The figure of a sweep: the metric over the swept parameters."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fmnist.sweeps.ranking import Ranking, number, short

# Distinguishable by the colour-blind and in print.
RUN, MEAN, BEST = "#7fa6d6", "#1f3b66", "#e66100"
NAMED = 8  # values of a parameter that an axis has room to name


def draw(ranking: Ranking) -> Figure:
    """Draws two parameters of a grid as a heat map, otherwise one panel per parameter.

    Args:
        ranking: With at least one setting that has a score.
    """
    cells = len(ranking.settings)
    if len(ranking.parameters) == 2 and len(ranking.values[0]) * len(ranking.values[1]) <= 2 * cells:
        figure, what = _heat_map(ranking), "mean "
    else:
        figure, what = _slices(ranking), ""
    runs = "1 run" if ranking.runs == 1 else f"{ranking.runs:,} runs"
    best = ", the best in orange" if ranking.parameters else ""
    figure.suptitle(f"{what}{ranking.metric}, {runs}{best}", fontsize=12, x=0.985, ha="right")
    return figure


def _slices(ranking: Ranking) -> Figure:
    """A panel per parameter: a point for each run over its value, whatever the values of the other parameters."""
    count = max(1, len(ranking.parameters))
    columns = 2 if count == 4 else min(3, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(max(6.4, 3.2 * columns), 0.8 + 3.4 * rows), dpi=100, layout="constrained")
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for place, axes in enumerate(grid.flat):
        if place < count:
            _slice(ranking, place, axes)
        else:
            axes.set_axis_off()
    for axes in grid[:, 0]:
        axes.set_ylabel(ranking.metric, fontsize=11)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=10, frameon=False)
    return figure


def _slice(ranking: Ranking, place: int, axes: Axes) -> None:
    column = ranking.values[place] if ranking.parameters else [""]
    values, positions = _positions(column)
    x = dict(zip(values, positions, strict=True))

    def at(setting: Any) -> float:
        return x[setting.values[place]] if ranking.parameters else 0.0

    runs = [(at(setting), value) for setting in ranking.settings for value in setting.figures]
    axes.plot(*zip(*runs, strict=True), "o", color=RUN, markersize=5, label="one run", zorder=3)
    if len(ranking.parameters) <= 1:  # with more, several settings share a value
        means = sorted((at(setting), score.mean, score.sd or 0.0) for setting, score in ranking.judged)
        centre, mean, sd = (np.array(part) for part in zip(*means, strict=True))
        axes.errorbar(centre, mean, sd, fmt="_", color=MEAN, markersize=14, capsize=5, label="mean, standard deviation")
    if ranking.parameters:
        best, score = ranking.judged[0]
        ring: dict[str, Any] = {"markersize": 15, "markeredgewidth": 2, "markerfacecolor": "none", "linestyle": "none"}
        axes.plot(at(best), score.mean, marker="o", color=BEST, label="best setting", zorder=4, **ring)
        axes.set_xlabel(ranking.parameters[place], fontsize=11)
    else:
        axes.set_xticks([])
    numeric = None not in map(number, values)
    if numeric and positions[0] > 0 and positions[-1] >= 10 * positions[0]:
        axes.set_xscale("log")
    if len(values) <= NAMED:
        axes.set_xticks(positions, map(short, values))
        axes.minorticks_off()
    elif not numeric:
        axes.set_xticks(positions[:: len(values) // NAMED], map(short, values[:: len(values) // NAMED]))
    if not numeric:
        axes.set_xlim(-0.5, len(values) - 0.5)
        axes.tick_params(axis="x", labelrotation=0 if len(values) <= 3 else 30)
    axes.grid(axis="y", color="0.9")
    axes.set_axisbelow(True)


def _heat_map(ranking: Ranking) -> Figure:
    """A cell per setting with the mean, and the standard deviation if there is one, written into it."""
    (down, _), (along, _) = (_positions(column) for column in ranking.values)
    names = ranking.parameters
    turned = len(down) > len(along)  # the longer parameter goes along the wider side
    if turned:
        down, along, names = along, down, names[::-1]
    figure = Figure(figsize=(max(6.4, 0.8 * len(along) + 2), 1.8 + 0.7 * len(down)), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    means = np.full((len(down), len(along)), np.nan)
    for setting, score in ranking.judged:
        first, second = setting.values[::-1] if turned else setting.values
        means[down.index(first), along.index(second)] = score.mean
    # The better, the darker: on white paper the good settings should stand out.
    image = axes.imshow(means, cmap="viridis_r" if ranking.mode == "max" else "viridis", aspect="auto", origin="lower")
    for setting, score in ranking.judged:
        first, second = setting.values[::-1] if turned else setting.values
        row, column = down.index(first), along.index(second)
        red, green, blue, _ = image.to_rgba(means)[row, column]
        colour = "white" if 0.3 * red + 0.59 * green + 0.11 * blue < 0.5 else "black"
        text = f"{score.mean:.4f}" + ("" if score.sd is None else f"\n±{score.sd:.4f}")
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
        if setting is ranking.best:
            frame = Rectangle((column - 0.47, row - 0.47), 0.94, 0.94, fill=False, edgecolor=BEST, linewidth=3.5)
            axes.add_patch(frame)
    axes.set_facecolor("0.9")  # settings without a mean
    axes.set_xticks(range(len(along)), map(short, along), rotation=30 if len(along) > 6 else 0)
    axes.set_yticks(range(len(down)), map(short, down))
    axes.tick_params(length=0)
    axes.set_ylabel(names[0], fontsize=11)
    axes.set_xlabel(names[1], fontsize=11)
    figure.colorbar(image, ax=axes, label=ranking.metric, pad=0.02)
    return figure


def _positions(column: Sequence[str]) -> tuple[list[str], list[float]]:
    """The values in the order of an axis and their positions: numbers by their size, words one after another."""
    numbers = [number(value) for value in column]
    if None in numbers:
        return list(column), [float(place) for place in range(len(column))]
    ordered = sorted((place or 0.0, value) for place, value in zip(numbers, column, strict=True))
    return [value for _, value in ordered], [place for place, _ in ordered]
