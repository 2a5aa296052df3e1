"""Test-time augmentation, against variants and means made one by one with NumPy."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from fmnist.inference import tta
from fmnist.inference.tta import Kind, variants
from fmnist.networks.cnn import CNN
from tests.data.test_augmentation import some_images

KINDS: tuple[Kind, ...] = ("flip", "shift", "flip_shift")


def moved(image: NDArray[np.uint8], row: int, column: int) -> NDArray[np.uint8]:
    """An image [28, 28] moved down and to the right, pixel by pixel."""
    result = np.zeros_like(image)
    for y in range(28):
        for x in range(28):
            if 0 <= y + row < 28 and 0 <= x + column < 28:
                result[y + row, x + column] = image[y, x]
    return result


def by_hand(image: NDArray[np.uint8], kind: Kind) -> list[NDArray[np.uint8]]:
    steps = [(0, 0)] if kind == "flip" else [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)]
    straight = [moved(image, *step) for step in steps]
    return straight if kind == "shift" else [*straight, *(one[:, ::-1] for one in straight)]


@pytest.mark.parametrize("kind", KINDS)
def test_variants_match_numpy_and_begin_with_the_image(kind: Kind) -> None:
    images = some_images(3)
    made = list(variants(images, kind))
    assert torch.equal(made[0], images)
    assert len(made) == {"flip": 2, "shift": 5, "flip_shift": 10}[kind]
    for i in range(3):
        expected = {one.tobytes() for one in by_hand(images[i, 0].numpy(), kind)}
        assert {one[i, 0].numpy().tobytes() for one in made} == expected
        assert len(expected) == len(made)


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 2**32))
def test_probabilities_are_the_mean_over_the_variants(kind: Kind, seed: int) -> None:
    torch.manual_seed(seed)
    network, images = CNN().eval(), some_images(4, seed)
    with torch.inference_mode():
        ours = tta.TestTimeAugmentation(network, kind)(images).softmax(dim=1).numpy()
        for i in range(4):
            batch = np.stack(by_hand(images[i, 0].numpy(), kind))[:, None]
            logits = network(torch.from_numpy(batch)).double().numpy()
            exponentials = np.exp(logits)
            expected = (exponentials / exponentials.sum(axis=1, keepdims=True)).mean(axis=0)
            np.testing.assert_allclose(ours[i], expected, rtol=1e-4)


class Symmetric(nn.Module):
    """Depends on the brightness of an image only."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(1, 10)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.linear(images.double().mean(dim=(1, 2, 3))[:, None].float() / 255)
        return logits


@pytest.mark.parametrize("kind", KINDS)
def test_invariant_network_predicts_the_same(kind: Kind) -> None:
    images = some_images(20)
    images[:, :, [0, -1], :] = 0  # nothing is moved out of the image
    images[:, :, :, [0, -1]] = 0
    network = Symmetric().eval()
    with torch.inference_mode():
        torch.testing.assert_close(tta.TestTimeAugmentation(network, kind)(images), network(images).log_softmax(dim=1))


@pytest.mark.parametrize("kind", KINDS)
def test_mirror_image_gets_the_same_prediction_if_mirroring_is_a_variant(kind: Kind) -> None:
    images, network = some_images(10), CNN().eval()
    with torch.inference_mode():
        augmented = tta.TestTimeAugmentation(network, kind)
        logits, of_mirrored = augmented(images), augmented(images.flip(3))
    assert torch.allclose(logits, of_mirrored, atol=1e-5) == (kind != "shift")


def test_improbable_class_keeps_a_finite_loss() -> None:
    class Sure(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.tensor([[1e4, -1e4]]).expand(len(images), -1)

    assert tta.TestTimeAugmentation(Sure(), "flip")(some_images(1)).tolist() == [[0, -2e4]]
