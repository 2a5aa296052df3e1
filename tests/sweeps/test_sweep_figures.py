"""The figure of a sweep shows what was found."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from fmnist.sweeps import ranking, sweep_figures
from tests.sweep_fixtures import make_jobs

Figures = dict[tuple[str, ...], list[float]]


def draw(figures: Figures, *names: str) -> Figure:
    return sweep_figures.draw(ranking.rank(make_jobs(figures, names, ("val/acc", "max"))))


def points(line: Line2D) -> list[Any]:
    """Pairs of x and y."""
    return list(np.asarray(line.get_xydata()).tolist())


def test_each_run_is_a_point_over_its_parameter_and_the_mean_has_its_spread() -> None:
    figures: Figures = {("0.01",): [0.8, 0.84], ("0.001",): [0.7, 0.9], ("0.1",): [0.5, 0.56]}
    figure = draw(figures, "optimizer.lr")
    (axes,) = figure.axes
    lines = {str(line.get_label()): points(line) for line in axes.lines}
    assert sorted(lines["one run"]) == sorted([float(lr), run] for (lr,), runs in figures.items() for run in runs)
    (bars,) = (artist for artist in axes.collections if isinstance(artist, LineCollection))
    spreads = {x: [low, high] for (x, low), (_, high) in np.asarray(bars.get_segments())}
    assert spreads == {
        float(lr): pytest.approx([np.mean(runs) - np.std(runs, ddof=1), np.mean(runs) + np.std(runs, ddof=1)])
        for (lr,), runs in figures.items()
    }
    assert lines["best setting"] == [pytest.approx([0.01, 0.82])]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("optimizer.lr", "val/acc")
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0.001", "0.01", "0.1"]
    assert figure.get_suptitle() == "val/acc, 6 runs, the best in orange"


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        (["100", "200", "999"], "linear"),
        (["0.001", "0.003", "0.01"], "log"),  # a whole decade
        (["0", "10", "1000"], "linear"),  # zero has no place on a logarithmic axis
    ],
)
def test_axis_is_logarithmic_from_a_decade_on(values: list[str], scale: str) -> None:
    (axes,) = draw({(value,): [0.5] for value in values}, "data.batch_size").axes
    assert axes.get_xscale() == scale


def test_words_stand_side_by_side_in_the_planned_order() -> None:
    words = ["sgd", "adam", *(f"w{number}" for number in range(15))]
    (axes,) = draw({(word,): [0.5] for word in words}, "optimizer").axes
    assert [label.get_text() for label in axes.get_xticklabels()] == words[::3]  # at most eight
    assert axes.get_xticks().tolist() == list(range(0, 17, 3))
    assert axes.get_xlim() == (-0.5, 16.5)


def test_sweep_over_seeds_only_is_drawn() -> None:
    figure = draw({(): [0.5, 0.6, 0.7]})
    assert points(figure.axes[0].lines[0]) == [[0, 0.5], [0, 0.6], [0, 0.7]]
    assert figure.get_suptitle() == "val/acc, 3 runs"


def test_heat_map_has_a_cell_for_each_setting_with_its_figures_and_the_best_framed() -> None:
    figures: Figures = {
        ("0.01", "adam"): [0.80, 0.84],
        ("0.01", "sgd"): [0.6, 0.6],
        ("0.001", "adam"): [0.7, 0.7],
        ("0.001", "sgd"): [0.9, 0.96],
        ("0.1", "adam"): [0.5, 0.5],
    }
    figure = draw(figures, "optimizer.lr", "optimizer")
    axes = figure.axes[0]
    along, down = (axis.get_ticklabels() for axis in (axes.xaxis, axes.yaxis))
    assert (axes.get_xlabel(), [label.get_text() for label in along]) == ("optimizer.lr", ["0.001", "0.01", "0.1"])
    assert (axes.get_ylabel(), [label.get_text() for label in down]) == ("optimizer", ["adam", "sgd"])
    assert figure.get_suptitle() == "mean val/acc, 10 runs, the best in orange"
    (image,) = axes.images
    expected = np.array([[0.7, 0.82, 0.5], [0.93, 0.6, np.nan]])
    np.testing.assert_allclose(np.ma.filled(np.ma.asarray(image.get_array(), float), np.nan), expected)
    texts = {text.get_position(): text for text in axes.texts}
    assert texts[(1, 0)].get_text() == "0.8200\n±0.0283"
    assert {place: text.get_color() for place, text in texts.items()} == {
        (0, 0): "white",
        (1, 0): "white",
        (2, 0): "black",
        (0, 1): "white",
        (1, 1): "black",
    }
    (frame,) = (patch for patch in axes.patches if isinstance(patch, Rectangle))
    assert frame.get_center() == pytest.approx((0, 1))


@pytest.mark.parametrize(("count", "shape"), [(3, (1, 3)), (4, (2, 2)), (5, (2, 3))])
def test_more_parameters_have_a_panel_each_with_every_run_and_the_best_marked(
    count: int, shape: tuple[int, int]
) -> None:
    names = ["optimizer.lr", "optimizer", "data.batch_size", "fourth", "fifth"][:count]
    runs = [("0.001", "adam", "32", "1", "1"), ("0.01", "sgd", "32", "2", "2"), ("0.1", "adam", "64", "3", "3")]
    figure = draw({values[:count]: [score] for values, score in zip(runs, (0.9, 0.8, 0.7), strict=True)}, *names)
    panels = figure.axes[:count]
    assert [axes.get_xlabel() for axes in panels] == names
    assert figure.axes[0].get_gridspec().get_geometry() == shape  # type: ignore[union-attr]
    assert not any(axes.axison for axes in figure.axes[count:])
    for axes, best in zip(panels, (0.001, 0, 32, 1, 1), strict=False):
        assert [y for _, y in points(axes.lines[0])] == [0.9, 0.8, 0.7]
        assert points(axes.lines[1]) == [[best, 0.9]]


def test_random_search_over_two_parameters_is_not_a_heat_map() -> None:
    figures: Figures = {(f"0.{i}", f"{i * 7}"): [i / 10] for i in range(1, 9)}
    panels = draw(figures, "optimizer.lr", "data.batch_size").axes
    assert len(panels) == 2
    assert not any(axes.images for axes in panels)


values = st.text(max_size=30) | st.floats(allow_nan=False).map(repr) | st.integers().map(str)


@given(st.integers(0, 4), st.data())
@settings(max_examples=12, deadline=None)
def test_every_sweep_can_be_drawn(parameters: int, data: st.DataObject) -> None:
    setting = st.tuples(*[values.filter(lambda text: text.isprintable() and text.isascii())] * parameters)
    figures = data.draw(st.dictionaries(setting, st.lists(st.floats(0, 1), min_size=1, max_size=3), min_size=1))
    draw(figures, *[f"parameter{i}" for i in range(parameters)]).canvas.draw()
