"""Galleries, kernels and the mistakes of an evaluation."""

import numpy as np
import torch
from numpy.typing import NDArray

from fmnist.dashboard import image_grids
from fmnist.training.evaluation import Evaluation


def images(count: int, value: int = 100) -> NDArray[np.uint8]:
    return np.full((count, 28, 28), value, np.uint8)


def test_gallery_shows_each_image_with_its_caption_on_one_scale_of_grey() -> None:
    pictures = np.stack([np.full((28, 28), value, np.uint8) for value in (0, 100, 255, 7, 9)])
    captions = [f"taken for {i}\nis {i}" for i in range(5)]
    axes = image_grids.gallery(pictures, captions, title="a title", columns=4).axes
    assert len(axes) == 8  # two rows
    for picture, caption, cell in zip(pictures, captions, axes, strict=False):
        np.testing.assert_array_equal(cell.images[0].get_array(), picture)
        assert cell.images[0].get_clim() == (0, 255)
        assert cell.get_xlabel() == caption
    assert all(not cell.images for cell in axes[5:])


def test_empty_gallery_can_be_drawn() -> None:
    figure = image_grids.gallery(images(0), [], title="no mistakes")
    assert figure.get_suptitle() == "no mistakes"


def test_gallery_makes_room_for_longer_captions_and_wider_images() -> None:
    def height(shape: tuple[int, ...], caption: str) -> float:
        return image_grids.gallery(np.zeros(shape, np.uint8), [caption] * 3, title="", columns=2).get_figheight()

    assert height((3, 28, 58), "a\nb") < height((3, 28, 58), "a\nb\nc\nd")
    assert height((3, 28, 58), "a\nb") < height((3, 28, 28), "a\nb")


def test_side_by_side_joins_images_with_a_white_gap() -> None:
    joined = image_grids.side_by_side(images(2, 10), images(2, 20))
    assert joined.shape == (2, 28, 58)
    assert (joined[:, :, :28] == 10).all()
    assert (joined[:, :, 28:30] == 255).all()
    assert (joined[:, :, 30:] == 20).all()


def test_mistakes_show_the_most_confident_first() -> None:
    logits = torch.tensor([[0.0, 2.0], [0.0, 9.0], [0.0, 1.0], [3.0, 0.0]])
    pictures = torch.arange(4, dtype=torch.uint8)[:, None, None, None].expand(4, 1, 28, 28)
    evaluation = Evaluation(pictures, torch.tensor([0, 1, 0, 1]), logits, torch.arange(4))  # all but the second wrong
    figure = image_grids.mistakes(evaluation, ["Coat", "Bag"], count=2, subject="test set")
    assert [axes.get_xlabel() for axes in figure.axes[:2]] == ["Coat 95%\nis Bag", "Bag 88%\nis Coat"]
    assert [int(np.asarray(axes.images[0].get_array())[0, 0]) for axes in figure.axes[:2]] == [3, 0]
    assert figure.get_suptitle() == "test set: the 2 most confident of 3 mistakes"


def test_kernels_share_one_scale_with_white_at_zero() -> None:
    weights = np.array([[[0.5, -2.0]], [[1.0, 0.0]]], np.float32)
    figure = image_grids.kernels(weights, title="conv1")
    for kernel, cell in zip(weights, figure.axes, strict=False):
        np.testing.assert_array_equal(cell.images[0].get_array(), kernel)
        assert cell.images[0].get_clim() == (-2, 2)
    assert figure.get_suptitle() == "conv1 (blue -2.00, white 0, red 2.00)"
