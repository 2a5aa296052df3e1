"""Mixup and CutMix: images, and in the same shares their classes."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fmnist.dashboard.training_batch import class_captions
from fmnist.data.batches import BatchContext
from fmnist.data.mixing import CutMix, Mixing, Mixup
from tests.data.test_augmentation import some_images

seeds = st.integers(0, 2**32)
alphas = st.floats(0.05, 20)
KINDS = [Mixup, CutMix]


def mixed(mixing: Mixing, images: Tensor, targets: Tensor, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    context = BatchContext(seed, 0, 0, torch.arange(len(images)))
    after, probabilities = mixing((images, targets), context, context.generator(images.device))
    assert (after.shape, after.dtype) == (images.shape, torch.uint8)
    assert (probabilities.shape, probabilities.dtype) == ((len(images), 10), torch.float32)
    return after, probabilities


@pytest.mark.parametrize("kind", KINDS)
@given(seed=seeds, alpha=alphas, probability=st.floats(0, 1), labels=st.lists(st.integers(0, 9), min_size=1))
def test_targets_are_probabilities_of_the_image_and_the_one_before(
    kind: type[Mixing], seed: int, alpha: float, probability: float, labels: list[int]
) -> None:
    mixing = kind(alpha=alpha, probability=probability)
    _, probabilities = mixed(mixing, some_images(len(labels)), torch.tensor(labels), seed=seed)
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(len(labels)))
    assert (probabilities >= 0).all()
    for row, label, before in zip(probabilities, labels, [labels[-1], *labels[:-1]], strict=True):
        assert set(row.nonzero().flatten().tolist()) <= {label, before}


@given(seed=seeds, alpha=alphas)
def test_mixup_blends_the_pixels_in_the_shares_of_the_classes(seed: int, alpha: float) -> None:
    images, labels = some_images(6), torch.arange(6)
    after, probabilities = mixed(Mixup(alpha=alpha), images, labels, seed=seed)
    for i in range(6):
        share = probabilities[i, i].item()
        blend = share * images[i].numpy().astype(float) + (1 - share) * images[i - 1].numpy()
        assert np.abs(after[i].numpy() - blend).max() <= 0.5 + 1e-4  # rounded


@given(seed=seeds, alpha=alphas)
def test_cutmix_pastes_one_rectangle_and_its_area_is_the_share_of_the_other_class(seed: int, alpha: float) -> None:
    labels = torch.arange(6)
    images = (labels + 1).to(torch.uint8)[:, None, None, None].expand(6, 1, 28, 28)  # each of one value
    after, probabilities = mixed(CutMix(alpha=alpha), images, labels, seed=seed)
    for i in range(6):
        pasted = torch.eq(after[i, 0], images[i - 1, 0]).numpy()
        assert (pasted | torch.eq(after[i, 0], images[i, 0]).numpy()).all()
        assert probabilities[i, labels[i - 1]].item() == pytest.approx(pasted.mean(), abs=1e-6)
        rows, columns = np.any(pasted, axis=1), np.any(pasted, axis=0)
        assert (pasted == rows[:, None] & columns[None, :]).all()
        for side in (rows, columns):
            assert np.abs(np.diff(side.astype(int))).sum() <= 2  # in one piece


def test_cutmix_pastes_from_the_same_place() -> None:
    images = some_images(50)
    after, _ = mixed(CutMix(), images, torch.zeros(50).long())
    assert ((after == images) | (after == images.roll(1, 0))).all()


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_mixups_shares_are_from_the_beta_distribution(alpha: float) -> None:
    labels = torch.arange(4000) % 10
    images = torch.zeros(4000, 1, 28, 28, dtype=torch.uint8)
    _, probabilities = mixed(Mixup(alpha=alpha), images, labels)
    shares = probabilities.gather(1, labels[:, None]).flatten().double().numpy()
    reference = np.random.default_rng(0).beta(alpha, alpha, size=100_000)
    places = np.linspace(0, 1, 201)
    ours, theirs = ((sample[:, None] <= places).mean(axis=0) for sample in (shares, reference))
    # Kolmogorov and Smirnov's statistic, exceeded with probability 0.001.
    assert np.abs(ours - theirs).max() < 1.95 * (1 / 4000 + 1 / 100_000) ** 0.5
    assert np.corrcoef(shares[1:], shares[:-1])[0, 1] == pytest.approx(0, abs=4 / 4000**0.5)  # each image has its own


def test_a_rectangle_of_cutmix_that_is_not_cut_off_has_the_drawn_area() -> None:
    """With a great alpha each share is near 1/2, and a side near the square root of half of 28, 19.8."""
    labels = torch.arange(2000) % 10
    images = (labels + 1).to(torch.uint8)[:, None, None, None].expand(2000, 1, 28, 28)
    after, _ = mixed(CutMix(alpha=1e6), images, labels)
    pasted = (after == images.roll(1, 0))[:, 0]
    heights, widths = pasted.any(dim=2).sum(dim=1), pasted.any(dim=1).sum(dim=1)
    assert {heights.max().item(), widths.max().item()} <= {20, 21}
    # The centre is anywhere, and a half of 9.9 sticks out if it is nearer to a border: mean 28 x (s - s^2 / 4).
    side = math.sqrt(0.5)
    assert heights.double().mean().item() == pytest.approx(28 * (side - side**2 / 4), abs=0.4)


@pytest.mark.parametrize("kind", KINDS)
def test_so_many_are_left_alone_exactly(kind: type[Mixing]) -> None:
    images, labels = some_images(4000), torch.arange(4000) % 10
    after, probabilities = mixed(kind(alpha=1.0, probability=0.25), images, labels)
    alone = probabilities.amax(dim=1) == 1
    assert torch.equal(after[alone], images[alone])
    assert torch.equal(probabilities[alone].argmax(dim=1), labels[alone])
    # A rectangle of CutMix may be less than a pixel.
    assert alone.float().mean().item() == pytest.approx(0.75, abs=4 * 0.433 / 4000**0.5 + 0.003)


def test_what_is_mixed_can_be_mixed_again() -> None:
    images, labels = some_images(30), torch.arange(30) % 10
    once, targets = mixed(Mixup(), images, labels)
    twice, probabilities = mixed(CutMix(), once, targets, seed=1)
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(30))
    assert ((twice == once) | (twice == once.roll(1, 0))).all()
    assert (probabilities > 0).sum(dim=1).max() == 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alpha": 0.0}, "alpha must be above 0 and finite, got 0.0"),
        ({"alpha": math.inf}, "alpha must be above 0 and finite, got inf"),
        ({"alpha": math.nan}, "alpha must be above 0 and finite, got nan"),
        ({"probability": -0.1}, "probability must be from 0 to 1, got -0.1"),
    ],
)
def test_an_argument_out_of_range_is_named(kind: type[Mixing], arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**arguments)


def test_the_dashboard_names_the_greater_share_first() -> None:
    assert class_captions(torch.tensor([9, 0])) == ["Ankle boot", "T-shirt/top"]
    targets = torch.zeros(2, 10)
    targets[0, [8, 6]] = torch.tensor([0.7, 0.3])
    targets[1, 8] = 1
    assert class_captions(targets) == ["70% Bag\n30% Shirt", "Bag"]
