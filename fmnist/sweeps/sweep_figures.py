"""The figure of a sweep: the metric over the swept parameters."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fmnist.sweeps.ranking import Ranking, Setting, number, short

RUN, MEAN, BEST = "#7fa6d6", "#1f3b66", "#e66100"  # distinguishable by the colour-blind and in print
NAMED = 8  # values that the axis of a parameter has room to name


def draw(ranking: Ranking) -> Figure:
    """Draws a grid over two parameters as a heat map, otherwise one panel per parameter.

    Args:
        ranking: With at least one setting that has a mean.
    """
    is_grid = len(ranking.values) == 2 and len(ranking.values[0]) * len(ranking.values[1]) <= 2 * len(ranking.settings)
    figure = _heat_map(ranking) if is_grid else _panels(ranking)
    count = sum(setting.scored for setting in ranking.settings)
    runs = "1 run" if count == 1 else f"{count:,} runs"
    best = ", the best in orange" if ranking.parameters else ""
    figure.suptitle(f"{'mean ' if is_grid else ''}{ranking.metric}, {runs}{best}", fontsize=12)
    return figure


def _panels(ranking: Ranking) -> Figure:
    """A panel per parameter: a point per run over its value, whatever the values of the other parameters."""
    count = max(1, len(ranking.parameters))
    columns = 2 if count == 4 else min(3, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(max(6.4, 3.2 * columns), 0.8 + 3.4 * rows), dpi=100, layout="constrained")
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for place, axes in enumerate(grid.flat):
        if place < count:
            _panel(axes, ranking, place)
        else:
            axes.set_axis_off()
    for axes in grid[:, 0]:
        axes.set_ylabel(ranking.metric, fontsize=11)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=10, frameon=False)
    return figure


def _panel(axes: Axes, ranking: Ranking, place: int) -> None:
    values = _sorted(ranking.values[place]) if ranking.parameters else [""]
    numbers = [value for text in values if (value := number(text)) is not None]
    numeric = len(numbers) == len(values)
    positions = numbers if numeric else [float(index) for index in range(len(values))]

    def x(setting: Setting) -> float:
        return positions[values.index(setting.values[place])] if setting.values else 0.0

    metric = ranking.metric
    runs = [
        (x(setting), job.metrics[metric])
        for setting in ranking.settings
        for job in setting.jobs
        if metric in job.metrics
    ]
    axes.plot(*zip(*runs, strict=True), "o", color=RUN, markersize=5, label="one run", zorder=3)
    if len(ranking.parameters) <= 1:  # with more, several settings share a value
        means = np.array([(x(setting), setting.mean, setting.sd) for setting in ranking.ranked])
        style: dict[str, Any] = {"fmt": "_", "color": MEAN, "markersize": 14, "capsize": 5}
        axes.errorbar(*np.nan_to_num(means.T), **style, label="mean, standard deviation")
    if ranking.parameters:
        ring: dict[str, Any] = {"markersize": 15, "markeredgewidth": 2, "markerfacecolor": "none", "linestyle": "none"}
        best = ranking.ranked[0]
        axes.plot(x(best), best.mean, marker="o", color=BEST, label="best setting", zorder=4, **ring)
        axes.set_xlabel(ranking.parameters[place], fontsize=11)

    if numeric and 0 < 10 * positions[0] <= positions[-1]:
        axes.set_xscale("log")
    if not numeric or len(values) <= NAMED:
        step = -(-len(values) // NAMED)
        axes.set_xticks(positions[::step], map(short, values[::step]))
        axes.minorticks_off()
    if not numeric:
        axes.set_xlim(-0.5, len(values) - 0.5)
    axes.tick_params(axis="x", labelrotation=0 if numeric or len(values) <= 3 else 30)
    axes.grid(axis="y", color="0.9")
    axes.set_axisbelow(True)


def _heat_map(ranking: Ranking) -> Figure:
    """A cell per setting with the mean, and the standard deviation if there is one, written into it."""
    # The parameter with more values goes along the wider side.
    y, x = sorted((0, 1), key=lambda place: len(ranking.values[place]))
    rows, columns = _sorted(ranking.values[y]), _sorted(ranking.values[x])
    figure = Figure(figsize=(max(6.4, 0.8 * len(columns) + 2), 1.8 + 0.7 * len(rows)), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    cells = {(columns.index(it.values[x]), rows.index(it.values[y])): it for it in ranking.ranked}
    means = np.full((len(rows), len(columns)), np.nan)
    for (column, row), setting in cells.items():
        means[row, column] = setting.mean
    # The better, the darker: on white paper the good settings stand out.
    image = axes.imshow(means, cmap="viridis_r" if ranking.mode == "max" else "viridis", aspect="auto", origin="lower")
    for (column, row), setting in cells.items():
        brightness = np.dot(image.to_rgba(means)[row, column, :3], [0.3, 0.59, 0.11])
        text = f"{setting.mean:.4f}" + ("" if np.isnan(setting.sd) else f"\n±{setting.sd:.4f}")
        color = "white" if brightness < 0.5 else "black"
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=8)
    column, row = next(iter(cells))  # the best comes first
    axes.add_patch(Rectangle((column - 0.47, row - 0.47), 0.94, 0.94, fill=False, edgecolor=BEST, linewidth=3.5))
    axes.set_facecolor("0.9")  # settings without a mean
    axes.set_xticks(range(len(columns)), map(short, columns), rotation=30 if len(columns) > 6 else 0)
    axes.set_yticks(range(len(rows)), map(short, rows))
    axes.tick_params(length=0)
    axes.set_ylabel(ranking.parameters[y], fontsize=11)
    axes.set_xlabel(ranking.parameters[x], fontsize=11)
    figure.colorbar(image, ax=axes, label=ranking.metric, pad=0.02)
    return figure


def _sorted(values: Sequence[str]) -> list[str]:
    """Numbers by size; words in the planned order."""
    return list(values) if any(number(value) is None for value in values) else sorted(values, key=float)
