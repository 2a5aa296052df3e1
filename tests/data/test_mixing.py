"""Mixup and CutMix: images, and in the same shares their classes."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from fmnist.data.batches import BatchContext
from fmnist.data.mixing import CutMix, Mixing, Mixup
from tests.data.test_augmentation import seeds, some_images

alphas = st.floats(0.05, 20)


def mixed(mixing: Mixing, images: Tensor, targets: Tensor, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    context = BatchContext(seed, 0, 0, torch.arange(len(images)), len(images), 10)
    after, probabilities = mixing((images, targets), context, context.generator(images.device))
    assert (after.shape, after.dtype) == (images.shape, torch.uint8)
    assert (probabilities.shape, probabilities.dtype) == ((len(images), 10), torch.float32)
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(len(images)))
    return after, probabilities


def plain_images(labels: Tensor) -> Tensor:
    """Images of one value each, which tells the class."""
    return (labels + 1).to(torch.uint8)[:, None, None, None].expand(len(labels), 1, 28, 28)


@settings(max_examples=30)
@given(seed=seeds, alpha=alphas)
def test_mixup_blends_the_pixels_in_the_shares_of_the_classes(seed: int, alpha: float) -> None:
    images, labels = some_images(6), torch.arange(6)
    after, probabilities = mixed(Mixup(alpha=alpha), images, labels, seed=seed)
    share = probabilities[labels, labels].reshape(6, 1, 1, 1).numpy()
    assert probabilities[labels, labels.roll(1)] == pytest.approx(1 - share.flatten())
    blend = share * images.numpy() + (1 - share) * np.roll(images.numpy(), 1, axis=0)
    assert np.abs(after.numpy() - blend).max() <= 0.5 + 1e-4  # rounded


@settings(max_examples=50)
@given(seed=seeds, alpha=alphas)
def test_cutmix_pastes_one_rectangle_and_its_area_is_the_share_of_the_other_class(seed: int, alpha: float) -> None:
    labels = torch.arange(6)
    images = plain_images(labels)
    after, probabilities = mixed(CutMix(alpha=alpha), images, labels, seed=seed)
    for i in range(6):
        pasted = torch.eq(after[i, 0], images[i - 1, 0]).numpy()
        assert (pasted | torch.eq(after[i, 0], images[i, 0]).numpy()).all()
        assert probabilities[i, [i, (i - 1) % 6]].numpy() == pytest.approx([1 - pasted.mean(), pasted.mean()], abs=1e-6)
        rows, columns = np.any(pasted, axis=1), np.any(pasted, axis=0)
        assert (pasted == rows[:, None] & columns[None, :]).all()
        for side in (rows, columns):
            assert np.abs(np.diff(side.astype(int))).sum() <= 2  # in one piece


def test_each_image_has_its_own_share_uniform_by_default() -> None:
    labels = torch.arange(4000) % 10
    _, probabilities = mixed(Mixup(), torch.zeros(4000, 1, 1, 1, dtype=torch.uint8), labels)
    shares = probabilities.gather(1, labels[:, None]).flatten().double().numpy()
    assert stats.kstest(shares, "uniform").pvalue > 0.001
    assert np.corrcoef(shares[1:], shares[:-1])[0, 1] == pytest.approx(0, abs=4 / 4000**0.5)


def test_rectangle_of_cutmix_has_the_drawn_area_unless_the_border_cuts_it_off() -> None:
    """With a great alpha each share is near 1/2, and a side near the square root of half of 28, 19.8."""
    labels = torch.arange(2000) % 10
    images = plain_images(labels)
    after, _ = mixed(CutMix(alpha=1e6), images, labels)
    pasted = (after == images.roll(1, 0))[:, 0]
    heights, widths = pasted.any(dim=2).sum(dim=1), pasted.any(dim=1).sum(dim=1)
    assert {heights.max().item(), widths.max().item()} <= {20, 21}
    # The centre is anywhere, and a half of 9.9 sticks out if it is nearer to a border: mean 28 x (s - s^2 / 4).
    side = math.sqrt(0.5)
    for lengths in (heights, widths):
        assert lengths.double().mean().item() == pytest.approx(28 * (side - side**2 / 4), abs=0.4)


@pytest.mark.parametrize("kind", [Mixup, CutMix])
def test_the_given_share_of_images_is_mixed(kind: type[Mixing]) -> None:
    images, labels = some_images(4000), torch.arange(4000) % 10
    after, probabilities = mixed(kind(probability=0.25), images, labels)
    alone = probabilities.amax(dim=1) == 1
    assert torch.equal(after[alone], images[alone])
    assert torch.equal(probabilities[alone].argmax(dim=1), labels[alone])
    # A rectangle of CutMix may be less than a pixel.
    assert alone.float().mean().item() == pytest.approx(0.75, abs=4 * 0.433 / 4000**0.5 + 0.003)


def test_mixed_images_can_be_mixed_again() -> None:
    images, labels = some_images(30), torch.arange(30) % 10
    once, targets = mixed(Mixup(), images, labels)
    twice, probabilities = mixed(CutMix(), once, targets, seed=1)
    assert ((twice == once) | (twice == once.roll(1, 0))).all()  # pasted from the same place
    assert (probabilities > 0).sum(dim=1).max() == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alpha": 0.0}, "alpha must be above 0 and finite, got 0.0"),
        ({"alpha": math.inf}, "alpha must be above 0 and finite, got inf"),
        ({"alpha": math.nan}, "alpha must be above 0 and finite, got nan"),
        ({"probability": -0.1}, "probability must be from 0 to 1, got -0.1"),
        ({"probability": 1.1}, "probability must be from 0 to 1, got 1.1"),
    ],
)
def test_argument_out_of_range_is_named(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Mixup(**arguments)
