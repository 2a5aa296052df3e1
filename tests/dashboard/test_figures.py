"""Confusion matrix, reliability diagram, and grids of small images."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from fmnist.dashboard import figures, image_grids
from fmnist.data.files import CLASS_NAMES
from fmnist.training.evaluation import Calibration, Evaluation


def assert_fits(figure: Figure) -> None:
    """Everything that is drawn lies inside the figure."""
    box, (width, height) = figure.get_tightbbox(FigureCanvasAgg(figure).get_renderer()), figure.get_size_inches()
    assert 0 <= box.x0 < box.x1 <= width
    assert 0 <= box.y0 < box.y1 <= height


def test_confusion_matrix_shows_counts_and_shares_of_the_true_class() -> None:
    counts = np.array([[8, 2, 0], [1, 998, 1], [0, 0, 0]])
    (axes,) = figures.confusion_matrix(counts, ["a", "b", "c"], title="a title").axes
    cells = {text.get_position()[::-1]: (text.get_text(), text.get_color()) for text in axes.texts}
    # Rows are true classes, from top to bottom; cells without a prediction stay empty.
    assert cells == {
        (0, 0): ("8\n80%", "white"),
        (0, 1): ("2\n20%", "black"),
        (1, 0): ("1\n0.1%", "black"),
        (1, 1): ("998\n100%", "white"),
        (1, 2): ("1\n0.1%", "black"),
    }
    np.testing.assert_array_equal(axes.images[0].get_array(), [[0.8, 0.2, 0], [0.001, 0.998, 0.001], [0, 0, 0]])
    assert axes.images[0].get_clim() == (0, 1)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [label.get_text() for label in labels] == ["a", "b", "c"]
    assert axes.yaxis_inverted()
    assert axes.get_title(loc="right") == "a title"
    assert plt.get_fignums() == []  # figures do not accumulate


@pytest.mark.parametrize("name", ["x", "a name that is far too long for a figure"])
@pytest.mark.parametrize("size", [2, 10, 11, 62])
def test_confusion_matrix_has_room_for_2_to_62_classes(size: int, name: str) -> None:
    figure = figures.confusion_matrix(np.full((size, size), 9999), [f"{name} {n}" for n in range(size)], title="x")
    assert_fits(figure)
    (axes,) = figure.axes
    renderer = FigureCanvasAgg(figure).get_renderer()
    cell = axes.get_window_extent(renderer).width / size
    assert all(text.get_window_extent(renderer).width < cell for text in axes.texts)
    assert len(axes.get_yticklabels()) == size


def test_reliability_bars_are_the_accuracies_of_the_bins() -> None:
    calibration = Calibration(
        number=torch.tensor([5, 14]),
        confidence=torch.tensor([0.35, 0.96]),
        accuracy=torch.tensor([0.25, 0.9]),
        count=torch.tensor([4, 10]),
        error=0.0714,
    )
    upper, lower = figures.reliability(calibration, title="test set").axes
    for axes, heights in ((upper, [0.25, 0.9]), (lower, [4 / 14, 10 / 14])):
        bars = [(bar.get_x(), bar.get_width(), bar.get_height()) for bar in axes.patches if isinstance(bar, Rectangle)]
        expected = [(left / 15, 1 / 15, height) for left, height in zip((5, 14), heights, strict=True)]
        np.testing.assert_allclose(bars, expected, rtol=1e-6)
    diagonal, means = (np.array([line.get_xdata(), line.get_ydata()]) for line in upper.lines)
    np.testing.assert_array_equal(diagonal, [[0, 1], [0, 1]])
    np.testing.assert_allclose(means, [[0.35, 0.96], [0.25, 0.9]], rtol=1e-6)
    assert upper.get_xlim() == upper.get_ylim() == (0, 1)
    assert lower.yaxis.get_major_formatter()(0.5) == "50%"
    assert upper.get_title(loc="right") == "test set:\nexpected calibration error 7.14%"


@pytest.mark.parametrize("length", [10, 120])
def test_long_title_fits_and_covers_nothing(length: int) -> None:
    one, title = torch.ones(1), ("abcdefghij" * 12)[:length]
    calibration = Calibration(number=torch.tensor([1]), confidence=one, accuracy=one, count=one, error=0.1)
    reliability = figures.reliability(calibration, title=title)
    for figure in (figures.confusion_matrix(np.eye(10, dtype=int), CLASS_NAMES, title=title), reliability):
        assert_fits(figure)
        assert (figure.bbox.width, figure.bbox.height) == (640, 640)
    axes = reliability.axes[0]
    legend = axes.get_legend()
    assert legend is not None
    box = legend.get_window_extent(FigureCanvasAgg(reliability).get_renderer())
    assert box.y0 >= axes.get_window_extent().y1 - 5  # a bar may be anywhere


def grey(*values: int, width: int = 28) -> NDArray[np.uint8]:
    return np.stack([np.full((1, 28, width), value, np.uint8) for value in values])


def test_gallery_shows_each_image_with_its_caption_on_one_scale_of_grey() -> None:
    pictures, captions = grey(0, 100, 255, 7, 9), [f"taken for {i}\nis {i}" for i in range(5)]
    figure = image_grids.gallery(pictures, captions, title="a title")
    assert_fits(figure)
    (axes,) = figure.axes
    for picture, caption, image, text in zip(pictures, captions, axes.images, axes.texts, strict=True):
        np.testing.assert_array_equal(image.get_array(), picture[0])
        assert image.get_clim() == (0, 255)
        assert text.get_text() == caption
        left, right, bottom, top = image.get_extent()
        assert (right - left, bottom - top) == pytest.approx((1.5, 1.5))
        assert left < text.get_position()[0] < right
        assert bottom < text.get_position()[1] < bottom + 0.1
    lefts, _, bottoms, _ = np.transpose([image.get_extent() for image in axes.images])
    assert len(set(lefts)) == 4  # a row of four, and the fifth below the first
    assert lefts[4] == lefts[0]
    assert bottoms[4] > bottoms[3] == bottoms[0]
    assert image_grids.gallery(pictures[:0], [], title="no mistakes").get_suptitle() == "no mistakes"


def test_gallery_makes_room_for_longer_captions_and_wider_images() -> None:
    def height(width: int, caption: str) -> float:
        figure = image_grids.gallery(grey(1, 2, 3, width=width), [caption] * 3, title="", columns=2)
        assert figure.get_figwidth() == 3.2
        return figure.get_figheight()

    # A title of 0.42 inches, two rows, a margin of 0.05; 1.5 inches for a square image, 0.18 for each line.
    assert height(28, "a\nb") == pytest.approx(0.42 + 2 * (1.5 + 0.1 + 2 * 0.18) + 0.05)
    assert height(56, "a\nb\nc\nd") == pytest.approx(0.42 + 2 * (0.75 + 0.1 + 4 * 0.18) + 0.05)


def test_side_by_side_joins_images_with_a_white_gap() -> None:
    joined = image_grids.side_by_side(grey(10, 10), grey(20, 20))
    np.testing.assert_array_equal(joined[0, 0, 0], [10] * 28 + [255] * 2 + [20] * 28)
    assert joined.shape == (2, 1, 28, 58)


def test_mistakes_show_the_most_confident_first() -> None:
    logits = torch.tensor([[0.0, 2.0], [0.0, 9.0], [0.0, 1.0], [3.0, 0.0]])
    pictures = torch.from_numpy(grey(0, 1, 2, 3))
    evaluation = Evaluation(pictures, torch.tensor([0, 1, 0, 1]), logits, torch.arange(4))  # all but the second wrong
    figure = image_grids.mistakes(evaluation, ["Coat", "Bag"], count=2, subject="test set")
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == ["Coat 95%\nis Bag", "Bag 88%\nis Coat"]
    assert [int(np.asarray(image.get_array())[0, 0]) for image in axes.images] == [3, 0]
    assert figure.get_suptitle() == "test set: the 2 most confident of 3 mistakes"


def test_kernels_share_one_scale_with_white_at_zero() -> None:
    weights = np.array([[[0.5, -2.0]], [[1.0, 0.0]]], np.float32)
    figure = image_grids.kernels(weights, title="conv1")
    for kernel, image in zip(weights, figure.axes[0].images, strict=True):
        np.testing.assert_array_equal(image.get_array(), kernel)
        assert image.get_clim() == (-2, 2)
    assert figure.get_suptitle() == "conv1 (blue -2.00, white 0, red 2.00)"
    many = image_grids.kernels(np.ones((65, 1, 1), np.float32), title="")
    assert len(many.axes[0].images) == 64  # in rows of 8; the others are left out
