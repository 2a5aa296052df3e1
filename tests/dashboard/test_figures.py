"""Figures say what they are meant to say."""

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from fmnist.dashboard import figures
from fmnist.data.files import CLASS_NAMES
from fmnist.training.evaluation import Calibration


def test_the_confusion_matrix_shows_each_count_and_its_share_of_the_true_class() -> None:
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


def test_colours_show_the_share_of_the_row_so_that_rare_classes_count_as_much() -> None:
    (axes,) = figures.confusion_matrix(np.array([[1, 1], [500, 500]]), ["a", "b"], title="").axes
    np.testing.assert_array_equal(axes.images[0].get_array(), [[0.5, 0.5], [0.5, 0.5]])


def test_figures_do_not_pile_up() -> None:
    import matplotlib.pyplot as plt

    figures.confusion_matrix(np.eye(3, dtype=np.int64), ["a", "b", "c"], title="")
    assert plt.get_fignums() == []


def images(count: int, value: int = 100) -> NDArray[np.uint8]:
    return np.full((count, 28, 28), value, np.uint8)


def test_a_gallery_shows_each_image_with_its_caption_on_one_scale_of_grey() -> None:
    pictures = np.stack([np.full((28, 28), value, np.uint8) for value in (0, 100, 255, 7, 9)])
    captions = [figures.Caption(f"taken for {i}", f"is {i}") for i in range(5)]
    axes = figures.gallery(pictures, captions, title="a title", columns=4).axes
    assert len(axes) == 8  # two rows
    for picture, caption, cell in zip(pictures, captions, axes, strict=False):
        np.testing.assert_array_equal(cell.images[0].get_array(), picture)
        assert cell.images[0].get_clim() == (0, 255)
        assert cell.get_xlabel() == f"{caption.first}\n{caption.second}"
    assert all(not cell.images for cell in axes[5:])


def test_a_gallery_of_nothing_can_be_drawn() -> None:
    figure = figures.gallery(images(0), [], title="no mistakes")
    assert figure.get_suptitle() == "no mistakes"


def test_a_batch_shows_images_beside_themselves_only_if_they_were_changed() -> None:
    before, after, names = images(2, 10), images(2, 20), ["Coat", "Bag"]
    (first, second, *_) = figures.batch(before, after, names, title="").axes
    shown = np.asarray(first.images[0].get_array())
    assert (shown[:, :28] == 10).all()
    assert (shown[:, -28:] == 20).all()
    assert (first.get_xlabel(), second.get_xlabel()) == ("Coat", "Bag")
    (unchanged, *_) = figures.batch(before, before, names, title="").axes
    np.testing.assert_array_equal(unchanged.images[0].get_array(), before[0])


def test_kernels_share_one_scale_with_white_at_zero() -> None:
    weights = np.array([[[0.5, -2.0]], [[1.0, 0.0]]], np.float32)
    figure = figures.kernels(weights, title="conv1")
    for kernel, cell in zip(weights, figure.axes, strict=False):
        np.testing.assert_array_equal(cell.images[0].get_array(), kernel)
        assert cell.images[0].get_clim() == (-2, 2)
    assert figure.get_suptitle() == "conv1 (blue -2.00, white 0, red 2.00)"


def test_the_bars_of_a_reliability_diagram_are_the_accuracies_of_the_bins() -> None:
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
def test_a_long_title_is_whole_and_hides_nothing(length: int) -> None:
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


def test_a_caption_may_have_more_lines_and_an_image_be_wider_than_high() -> None:
    pictures = np.zeros((3, 28, 58), np.uint8)
    figure = figures.gallery(pictures, [figures.Caption("a", "b", ("c", "d"))] * 3, title="", columns=2)
    assert figure.axes[0].get_xlabel() == "a\nb\nc\nd"
    square = figures.gallery(pictures[:, :, :28], [figures.Caption("a", "b")] * 3, title="", columns=2)
    without = figures.gallery(pictures, [figures.Caption("a", "b")] * 3, title="", columns=2)
    assert without.get_figheight() < min(figure.get_figheight(), square.get_figheight())
