"""Random erasing: one rectangle, of a size and shape within bounds, and nothing else is changed."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from fmnist.data.erasing import Erase, rectangles
from tests.data.test_augmentation import changed, seeds, some_images

fractions = st.floats(0.001, 1)


def box(covered: np.ndarray) -> tuple[int, int, int, int]:
    """Top, left, height and width of the covered pixels, bool [28, 28], which must be a rectangle."""
    rows, columns = (np.flatnonzero(covered.any(axis=axis)) for axis in (1, 0))
    top, left, bottom, right = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
    assert covered[top:bottom, left:right].all()
    return int(top), int(left), int(bottom - top), int(right - left)


def erased(images: Tensor, erase: Erase, seed: int) -> np.ndarray:
    """The pixels covered by black, bool [B, 28, 28]; for images without black pixels."""
    after = changed(erase, images, seed=seed)
    covered = after == 0
    assert torch.equal(after, images.masked_fill(covered, 0))
    return covered[:, 0].numpy()


@settings(max_examples=50)
@given(seed=seeds, areas=st.tuples(fractions, fractions).map(sorted), min_aspect=fractions)
def test_erased_rectangle_is_within_the_bounds(seed: int, areas: list[float], min_aspect: float) -> None:
    erase = Erase(probability=1, min_area=areas[0], max_area=areas[1], min_aspect=min_aspect)
    for covered in erased(some_images(10), erase, seed):
        _, _, height, width = box(covered)
        # Each side has been rounded, and is at least 1.
        least_height, least_width = (side - 0.51 if side > 1 else 0 for side in (height, width))
        assert least_height * least_width <= areas[1] * 784
        assert (height + 0.51) * (width + 0.51) >= areas[0] * 784
        if min(height, width) > 1:
            least, greatest = sorted((height, width))
            assert (least + 0.51) / (greatest - 0.51) >= min_aspect * 0.999


def test_rectangles_have_the_sizes_and_probability_of_the_paper_and_come_at_every_place() -> None:
    covered = erased(torch.ones(20_000, 1, 28, 28, dtype=torch.uint8), Erase(), seed=0)
    has_one = covered.any(axis=(1, 2))
    assert has_one.mean() == pytest.approx(0.5, abs=4 * 0.5 / 20_000**0.5)  # four standard errors
    tops, lefts, heights, widths = np.array([box(one) for one in covered[has_one]]).T
    # Uniform between 0.02 and 0.4: mean 0.21, standard deviation 0.38 / sqrt(12) = 0.11.
    assert (heights * widths / 784).mean() == pytest.approx(0.21, abs=4 * 0.11 / has_one.sum() ** 0.5 + 0.001)
    assert (heights > widths).mean() == pytest.approx((widths > heights).mean(), abs=0.03)
    large = heights * widths > 150  # for these, rounding to whole pixels changes the aspect ratio little
    assert (heights / widths)[large].max() == pytest.approx(1 / 0.3, rel=0.1)
    for first, length in ((tops, heights), (lefts, widths)):
        assert first.min() == 0
        assert (first + length).max() == 28
        assert (first + length / 2).mean() == pytest.approx(14, abs=0.3)  # nothing draws it to one side
        places, counts = np.unique(first[length == 14], return_counts=True)
        assert places.tolist() == list(range(15))
        assert stats.chisquare(counts).pvalue > 0.001


def test_noise_fills_the_rectangle_of_each_image_with_uniform_pixels() -> None:
    images = some_images(500)
    assert torch.equal(changed(Erase(probability=0), images), images)
    covered = erased(images, Erase(probability=1), seed=3)
    assert covered.any(axis=(1, 2)).all()
    after = changed(Erase(probability=1, noise=True), images, seed=3)
    differs = (after != images)[:, 0].numpy()
    assert not (differs & ~covered).any()
    filling = after[:, 0].numpy()[covered]
    assert filling.mean() == pytest.approx(127.5, abs=4 * 73.9 / len(filling) ** 0.5)  # uniform from 0 to 255
    assert set(filling) == set(range(256))


def test_rectangles_are_the_same_as_slices() -> None:
    corners = torch.tensor([[0, 28, 0, 28], [3, 5, 7, 20], [4, 4, 0, 9], [-5, 2, 26, 40]])
    top, bottom, left, right = corners.T
    inside = rectangles(top, bottom, left, right, torch.zeros(4, 1, 28, 28))
    expected = np.zeros((4, 1, 28, 28), bool)
    for one, (first_row, end_row, first_column, end_column) in zip(expected, corners.tolist(), strict=True):
        one[0, max(first_row, 0) : end_row, first_column:end_column] = True
    np.testing.assert_array_equal(inside.numpy(), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"probability": 1.1}, "probability must be from 0 to 1, got 1.1"),
        ({"probability": float("nan")}, "probability must be from 0 to 1, got nan"),
        ({"min_area": 0}, "min_area must be above 0 and at most 1, got 0"),
        ({"min_area": 0.5}, "max_area must be from min_area, 0.5, to 1, got 0.4"),
        ({"max_area": 1.2}, "max_area must be from min_area, 0.02, to 1, got 1.2"),
        ({"min_aspect": 0}, "min_aspect must be above 0 and at most 1, got 0"),
        ({"min_aspect": 2}, "min_aspect must be above 0 and at most 1, got 2"),
    ],
)
def test_argument_out_of_range_is_named(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Erase(**arguments)  # type: ignore[arg-type]
