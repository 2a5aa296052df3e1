"""The figure of docs/accuracy.md: test accuracy against training time, of this project and of published results."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from benchmarks.process import ROOT

PUBLISHED = ROOT / "benchmarks/published.csv"
OURS, THEIRS = "#c43c00", "#1f4e8c"  # distinguishable by the colour-blind and in print
TICKS = {10: "10 s", 60: "1 min", 600: "10 min", 3600: "1 h", 86_400: "1 day"}
UNTIMED = 600_000.0  # position of results without a reported time


@dataclass(frozen=True)
class Point:
    """A test accuracy.

    Attributes:
        name: Label in the figure.
        accuracy: In percent.
        sd: Standard deviation over the runs; None for one run.
        seconds: Training time; None if not reported.
        mark: Marker of matplotlib: "o" this project, "s" published, "D" published and the test set selected the epoch.
        hollow: Whether it is not comparable: the test set selected the epoch, or may have, or the data are older.
    """

    name: str
    accuracy: float
    sd: float | None
    seconds: float | None
    mark: str = "o"
    hollow: bool = False


def published(path: Path = PUBLISHED) -> list[Point]:
    with path.open(newline="") as file:
        return [
            Point(
                letter,
                float(row["accuracy"]),
                float(row["sd"]) if row["sd"] else None,
                float(row["seconds"]) if row["seconds"] else None,
                "D" if row["epoch chosen on the test set"].startswith("yes") else "s",
                row["epoch chosen on the test set"] != "no" or row["data"] != "today's",
            )
            for letter, row in zip(ascii_lowercase, csv.DictReader(file), strict=False)
        ]


def table(path: Path = PUBLISHED) -> list[list[str]]:
    """The table of published results; the letters are those in the figure."""
    header = ["", "network", "test accuracy", "parameters", "time", "epoch chosen on the test set", "data", "source"]
    with path.open(newline="") as file:
        rows = [
            [
                letter,
                row["method"],
                row["accuracy"] + (f" ± {row['sd']} (n = {row['runs']})" if row["sd"] else f" (n = {row['runs']})"),
                f"{int(row['parameters']):,}" if row["parameters"] else "-",
                f"{float(row['seconds']):,.0f} s {row['hardware']}".rstrip() if row["seconds"] else "-",
                row["epoch chosen on the test set"].replace("not reported", "-"),
                row["data"].replace("not reported", "-"),
                f"{row['source']}, {row['year']}",
            ]
            for letter, row in zip(ascii_lowercase, csv.DictReader(file), strict=False)
        ]
    return [header, *rows]


def draw(ours: Sequence[Point], theirs: Sequence[Point]) -> Figure:
    """Draws accuracy over time on a logarithmic axis, with hollow marks for results that are not comparable."""
    figure = Figure(figsize=(9.6, 6.0), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    axes.set_xscale("log")
    axes.axvline(UNTIMED / 2.2, color="0.8", linewidth=1)
    for point in theirs:
        close = [other for other in theirs if other.seconds == point.seconds]
        covered = any(0 < other.accuracy - point.accuracy < 0.15 for other in close)
        _mark(axes, point, THEIRS, (-7, -3) if covered else (7, -3), "right" if covered else "left")
    for point in ours:
        if point.name.startswith("record_"):  # below the line
            _mark(axes, point, OURS, (7, -14), "left")
        elif (point.seconds or UNTIMED) < 60:  # to the right: close to the axis
            _mark(axes, point, OURS, (7, -3), "left")
        else:
            _mark(axes, point, OURS, (-7, -3), "right")
    records = sorted((point.seconds or UNTIMED, point.accuracy) for point in ours if point.name.startswith("record"))
    axes.plot([x for x, _ in records], [y for _, y in records], color=OURS, linewidth=1, zorder=1)
    axes.set_xlim(8, UNTIMED * 1.8)
    axes.xaxis.set_major_locator(FixedLocator([*TICKS, UNTIMED]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: TICKS.get(round(x), "not reported")))
    axes.set_xlabel("training time")
    axes.set_ylabel("test accuracy (%)")
    axes.grid(axis="y", color="0.9")
    axes.set_axisbelow(True)
    for marker, color, face, label in (
        ("o", OURS, OURS, "this project, 2 processor cores"),
        ("s", THEIRS, THEIRS, "published; hardware differs, most of it GPUs"),
        ("D", THEIRS, "white", "published; the test set selected the epoch"),
        ("s", THEIRS, "white", "published; not comparable for another reason: see the table"),
    ):
        axes.plot([], [], marker, color=color, markerfacecolor=face, label=label)
    axes.legend(loc="lower right", bbox_to_anchor=(0.86, 0.0), frameon=False, fontsize=9)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure


def _mark(axes: Axes, point: Point, color: str, offset: tuple[float, float], side: str) -> None:
    x = point.seconds or UNTIMED
    face = "white" if point.hollow else color
    size = 5 if point.mark == "D" else 6
    axes.errorbar(
        x, point.accuracy, point.sd, marker=point.mark, color=color, markerfacecolor=face, markersize=size, capsize=2
    )
    at = (x, point.accuracy)
    axes.annotate(point.name, at, xytext=offset, textcoords="offset points", ha=side, fontsize=9, color=color)
