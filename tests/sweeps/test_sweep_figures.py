"""The figure of a sweep shows what was found."""

import statistics
from collections.abc import Mapping, Sequence

import matplotlib.colors
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from fmnist.sweeps import ranking, sweep_figures
from fmnist.sweeps.sweep_directory import Job
from fmnist.sweeps.sweep_figures import BEST, MEAN, RUN

Figures = Mapping[tuple[str, ...], Sequence[float]]


class Judged(Job):
    score = ("val/acc", "max")


def draw(figures: Figures, *names: str) -> Figure:
    """Of what each setting's runs came to, by seed."""
    jobs = [
        Judged({**dict(zip(names, values, strict=True)), "seed": str(s)}, state="finished", metrics={"val/acc": run})
        for values, runs in figures.items()
        for s, run in enumerate(runs)
    ]
    return sweep_figures.draw(ranking.rank(jobs))


def points(line: Line2D) -> NDArray[np.float64]:
    """[N, 2], x and y."""
    return np.asarray(line.get_xydata(), np.float64)


LR: Figures = {("0.01",): [0.8, 0.84], ("0.001",): [0.7, 0.9], ("0.1",): [0.5, 0.56]}


def test_each_run_is_a_point_over_its_parameter_and_the_mean_has_its_spread() -> None:
    (axes,) = draw(LR, "optimizer.lr").axes
    lines = {str(line.get_label()): line for line in axes.lines}
    runs = sorted(points(lines["one run"]).tolist())
    assert runs == sorted([float(lr), run] for (lr,), runs in LR.items() for run in runs)
    (bars,) = (c for c in axes.collections if isinstance(c, LineCollection))
    expected = {
        float(lr): (statistics.mean(runs) - statistics.stdev(runs), statistics.mean(runs) + statistics.stdev(runs))
        for (lr,), runs in LR.items()
    }
    drawn = {segment[0][0]: (segment[0][1], segment[1][1]) for segment in np.asarray(bars.get_segments())}
    assert drawn.keys() == expected.keys()
    for lr, (low, high) in expected.items():
        assert drawn[lr] == pytest.approx((low, high))
    np.testing.assert_allclose(points(lines["best setting"]), [[0.01, 0.82]])
    assert axes.get_xscale() == "log"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("optimizer.lr", "val/acc")
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0.001", "0.01", "0.1"]


def test_title_has_the_number_of_runs() -> None:
    assert "6 runs" in draw(LR, "optimizer.lr").get_suptitle()


def test_axis_is_logarithmic_from_a_decade_on() -> None:
    (axes,) = draw({("100",): [0.5], ("200",): [0.6], ("999",): [0.7]}, "data.batch_size").axes
    assert axes.get_xscale() == "linear"
    (axes,) = draw({("0.001",): [0.5], ("0.003",): [0.6], ("0.01",): [0.7]}, "optimizer.lr").axes
    assert axes.get_xscale() == "log", "a whole decade is a step of a learning rate's own scale"
    (axes,) = draw({("0",): [0.5], ("10",): [0.6], ("1000",): [0.7]}, "optimizer.momentum").axes
    assert axes.get_xscale() == "linear", "zero has no place on a logarithmic axis"


def test_words_stand_side_by_side_in_the_planned_order() -> None:
    (axes,) = draw({("sgd",): [0.5, 0.5], ("adam",): [0.7, 0.8], ("null",): [0.6, 0.6]}, "optimizer").axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["sgd", "adam", "null"]
    assert axes.get_xticks().tolist() == [0, 1, 2]


def test_sweep_over_seeds_only_is_drawn() -> None:
    (axes,) = draw({(): [0.5, 0.6, 0.7]}).axes
    assert sorted(points(axes.lines[0])[:, 1].tolist()) == [0.5, 0.6, 0.7]


def test_a_heat_map_has_a_cell_for_each_setting_with_its_figures_and_the_best_framed() -> None:
    figures: Figures = {
        ("0.01", "adam"): [0.80, 0.84],
        ("0.01", "sgd"): [0.6, 0.6],
        ("0.001", "adam"): [0.7, 0.7],
        ("0.001", "sgd"): [0.9, 0.96],
        ("0.1", "adam"): [0.5, 0.5],
    }
    axes = draw(figures, "optimizer.lr", "optimizer").axes[0]
    along = [label.get_text() for label in axes.get_xticklabels()]
    down = [label.get_text() for label in axes.get_yticklabels()]
    assert (axes.get_xlabel(), along) == ("optimizer.lr", ["0.001", "0.01", "0.1"])
    assert (axes.get_ylabel(), down) == ("optimizer", ["adam", "sgd"])
    image: NDArray[np.float64] = np.ma.filled(np.ma.asarray(axes.images[0].get_array(), float), np.nan)
    written = {text.get_position(): text.get_text() for text in axes.texts}
    for (lr, optimizer), runs in figures.items():
        column, row = along.index(lr), down.index(optimizer)
        assert image[row, column] == pytest.approx(statistics.mean(runs))
        assert written[(column, row)] == f"{statistics.mean(runs):.4f}\n±{statistics.stdev(runs):.4f}"
    assert np.isnan(image[down.index("sgd"), along.index("0.1")]), "what was not run stays empty"
    (frame,) = (patch for patch in axes.patches if isinstance(patch, Rectangle))
    assert (frame.get_x() + frame.get_width() / 2, frame.get_y() + frame.get_height() / 2) == pytest.approx((0, 1))


def test_more_parameters_have_a_panel_each_with_every_run_and_the_best_marked() -> None:
    figures: Figures = {
        ("0.001", "adam", "32"): [0.9],
        ("0.01", "sgd", "32"): [0.8],
        ("0.1", "adam", "64"): [0.7],
        ("0.1", "sgd", "64"): [0.6],
    }
    panels = draw(figures, "optimizer.lr", "optimizer", "data.batch_size").axes
    assert [axes.get_xlabel() for axes in panels] == ["optimizer.lr", "optimizer", "data.batch_size"]
    for axes, best in zip(panels, (0.001, 0, 32), strict=True):
        runs, mark = (points(line) for line in axes.lines)
        assert sorted(runs[:, 1].tolist()) == [0.6, 0.7, 0.8, 0.9]
        assert mark.tolist() == [[best, 0.9]]
        assert axes.lines[1].get_color() == BEST


def test_random_search_over_two_parameters_is_not_a_heat_map() -> None:
    figures: Figures = {(f"0.{i}", f"{i * 7}"): [i / 10] for i in range(1, 9)}
    panels = draw(figures, "optimizer.lr", "data.batch_size").axes
    assert len(panels) == 2
    assert not any(axes.images for axes in panels)


values = st.text(max_size=30) | st.floats(allow_nan=False).map(repr) | st.integers().map(str)


@given(st.integers(0, 4), st.data())
@settings(max_examples=30, deadline=None)
def test_every_sweep_can_be_drawn(parameters: int, data: st.DataObject) -> None:
    setting = st.tuples(*[values.filter(lambda text: text.isprintable() and text.isascii())] * parameters)
    figures = data.draw(st.dictionaries(setting, st.lists(st.floats(0, 1), min_size=1, max_size=3), min_size=1))
    figure = draw(figures, *[f"parameter{i}" for i in range(parameters)])
    figure.canvas.draw()


def test_colours_differ_in_brightness() -> None:
    """Which print and the colour-blind are left with."""
    light = sorted(np.dot(matplotlib.colors.to_rgb(colour), [0.3, 0.59, 0.11]) for colour in (RUN, MEAN, BEST))
    assert min(np.diff(light)) > 0.1


def test_figures_do_not_pile_up() -> None:
    import matplotlib.pyplot as plt

    draw(LR, "optimizer.lr")
    assert plt.get_fignums() == []
