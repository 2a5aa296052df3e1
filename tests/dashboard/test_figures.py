"""Confusion matrix and reliability diagram."""

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Rectangle

from fmnist.dashboard import figures
from fmnist.data.files import CLASS_NAMES
from fmnist.training.evaluation import Calibration


def test_confusion_matrix_shows_counts_and_shares_of_the_true_class() -> None:
    counts = np.array([[8, 2, 0], [1, 998, 1], [0, 0, 0]])
    (axes,) = figures.confusion_matrix(counts, ["a", "b", "c"], title="a title").axes
    cells: dict[tuple[int, int], list[str]] = {}
    for text in axes.texts:
        x, y = text.get_position()
        cells.setdefault((round(y), round(x)), []).append(text.get_text())
    # Rows are true classes, from top to bottom; cells without a prediction stay empty.
    assert cells == {
        (0, 0): ["8", "80%"],
        (0, 1): ["2", "20%"],
        (1, 0): ["1", "0.1%"],
        (1, 1): ["998", "100%"],
        (1, 2): ["1", "0.1%"],
    }
    assert axes.get_ylabel() == "true class"
    assert axes.get_xlabel() == "predicted class"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b", "c"]
    assert axes.yaxis_inverted()
    assert axes.get_title(loc="right") == "a title"


def test_colours_show_the_share_of_the_true_class() -> None:
    (axes,) = figures.confusion_matrix(np.array([[1, 1], [500, 500]]), ["a", "b"], title="").axes
    np.testing.assert_array_equal(axes.images[0].get_array(), [[0.5, 0.5], [0.5, 0.5]])


def test_figures_do_not_accumulate_in_pyplot() -> None:
    import matplotlib.pyplot as plt

    figures.confusion_matrix(np.eye(3, dtype=np.int64), ["a", "b", "c"], title="")
    assert plt.get_fignums() == []


def test_reliability_bars_are_the_accuracies_of_the_bins() -> None:
    calibration = Calibration(
        number=torch.tensor([5, 14]),
        confidence=torch.tensor([0.35, 0.96]),
        accuracy=torch.tensor([0.25, 0.9]),
        count=torch.tensor([4, 10]),
        error=0.0714,
    )
    upper, lower = figures.reliability(calibration, title="test set").axes
    bars = [(bar.get_x(), bar.get_height()) for bar in upper.patches if isinstance(bar, Rectangle)]
    np.testing.assert_allclose(bars, [(5 / 15, 0.25), (14 / 15, 0.9)], rtol=1e-6)
    shares = [bar.get_height() for bar in lower.patches if isinstance(bar, Rectangle)]
    np.testing.assert_allclose(shares, [4 / 14, 10 / 14])
    assert upper.get_title(loc="right") == "test set:\nexpected calibration error 7.14%"


@pytest.mark.parametrize("length", [10, 40, 80, 120])
def test_long_title_fits_and_covers_nothing(length: int) -> None:
    one = torch.ones(1)
    calibration = Calibration(number=torch.tensor([1]), confidence=one, accuracy=one, count=one, error=0.1)
    title = "".join("abcdefghij"[number % 10] for number in range(length))
    matrix = figures.confusion_matrix(np.eye(10, dtype=int), CLASS_NAMES, title=title)
    reliability = figures.reliability(calibration, title=title)
    for figure in (matrix, reliability):
        renderer = FigureCanvasAgg(figure).get_renderer()
        box = figure.axes[0]._right_title.get_window_extent(renderer)  # type: ignore[attr-defined]
        assert box.x0 >= 0
        assert box.y1 <= figure.bbox.y1
    axes = reliability.axes[0]
    legend = axes.get_legend()
    assert legend is not None
    box = legend.get_window_extent(FigureCanvasAgg(reliability).get_renderer())
    assert box.y0 >= axes.get_window_extent().y1 - 5  # a bar may be anywhere
    assert box.x0 >= 0
