"""Test-time augmentation, against variants and means made one by one with NumPy."""

import numpy as np
import pytest
import scipy.ndimage
import scipy.special
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from fmnist.inference import tta
from fmnist.inference.tta import Kind, variants
from fmnist.networks.cnn import CNN
from tests.data.test_augmentation import some_images


def by_hand(image: NDArray[np.uint8], kind: Kind) -> list[NDArray[np.uint8]]:
    """The variants of an image [28, 28]."""
    steps = [(0, 0)] if kind == "flip" else [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)]
    straight = [scipy.ndimage.shift(image, step, order=0) for step in steps]
    return straight if kind == "shift" else [*straight, *(one[:, ::-1] for one in straight)]


@pytest.mark.parametrize(("kind", "count"), [("flip", 2), ("shift", 5), ("flip_shift", 10)])
def test_variants_match_scipy_and_begin_with_the_image(kind: Kind, count: int) -> None:
    images = some_images(3)
    made = list(variants(images, kind))
    assert len(made) == count
    assert torch.equal(made[0], images)
    for i, image in enumerate(images[:, 0].numpy()):
        assert {one[i, 0].numpy().tobytes() for one in made} == {one.tobytes() for one in by_hand(image, kind)}


@pytest.mark.parametrize("kind", ["flip", "shift", "flip_shift"])
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_probabilities_are_the_mean_over_the_variants(kind: Kind, seed: int) -> None:
    torch.manual_seed(seed)
    network, images = CNN().eval(), some_images(4, seed)
    with torch.inference_mode():
        found = tta.TestTimeAugmentation(network, kind)(images).softmax(dim=1).numpy()
        for i, image in enumerate(images[:, 0].numpy()):
            logits = network(torch.from_numpy(np.stack(by_hand(image, kind))[:, None])).double()
            np.testing.assert_allclose(found[i], scipy.special.softmax(logits, axis=1).mean(axis=0), rtol=1e-4)


def test_improbable_class_keeps_a_finite_loss() -> None:
    class Sure(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.tensor([[1e4, -1e4]]).expand(len(images), -1)

    assert tta.TestTimeAugmentation(Sure(), "flip")(some_images(1)).tolist() == [[0, -2e4]]
