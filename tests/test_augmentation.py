"""Augmentation: each image in its own way, as a function of (seed, epoch, batch) alone."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor

from fmnist.augmentation import FlipAndShift, Identity
from fmnist.batches import Batches, Seeded
from fmnist.data import Augmented, ImageDataset

seeds = st.integers(0, 2**63)


def images(count: int, seed: int = 0) -> Tensor:
    return torch.randint(1, 256, (count, 1, 28, 28), generator=Generator().manual_seed(seed), dtype=torch.uint8)


def every_outcome(image: np.ndarray, *, flip: bool, shift: int) -> set[bytes]:
    """All that may become of an image [28, 28], made with NumPy, one at a time."""
    outcomes = set()
    for source in (image, image[:, ::-1]) if flip else (image,):
        padded = np.pad(source, shift)
        for row in range(2 * shift + 1):
            for column in range(2 * shift + 1):
                outcomes.add(padded[row : row + 28, column : column + 28].tobytes())
    return outcomes


@given(seed=seeds, flip=st.booleans(), shift=st.integers(0, 3))
def test_each_image_is_one_of_the_possible_ones(seed: int, flip: bool, shift: int) -> None:
    before = images(5)
    after = FlipAndShift(flip=flip, shift=shift)(before, Generator().manual_seed(seed))
    assert after.shape == before.shape
    assert after.dtype == torch.uint8
    for original, image in zip(before[:, 0].numpy(), after[:, 0].numpy(), strict=True):
        assert image.tobytes() in every_outcome(original, flip=flip, shift=shift)


def test_the_images_of_a_batch_are_changed_differently_and_every_possibility_comes() -> None:
    after = FlipAndShift(flip=True, shift=1)(images(1).repeat(2000, 1, 1, 1), Generator().manual_seed(0))
    outcomes = {image.tobytes() for image in after.numpy()}
    assert outcomes == every_outcome(images(1)[0, 0].numpy(), flip=True, shift=1)
    assert len(outcomes) == 2 * 9


def test_mirroring_comes_half_the_time() -> None:
    before = images(4000)
    after = FlipAndShift(flip=True, shift=0)(before, Generator().manual_seed(0))
    mirrored = (after != before).flatten(1).any(dim=1).float().mean().item()
    assert mirrored == pytest.approx(0.5, abs=4 * 0.5 / 4000**0.5)  # four standard errors


def test_identity_leaves_images_alone() -> None:
    before = images(3)
    assert Identity()(before, Generator()) is before


@pytest.mark.parametrize("shift", [-1, 28])
def test_a_shift_out_of_range_is_refused(shift: int) -> None:
    with pytest.raises(ValueError, match=f"shift must be from 0 to 27 pixels, got {shift}"):
        FlipAndShift(shift=shift)


@given(seed=st.integers(0, 2**32), epoch=st.integers(0, 100))
def test_a_batch_is_a_function_of_seed_epoch_and_number(seed: int, epoch: int) -> None:
    dataset = ImageDataset(images(20), torch.arange(20))
    augmented = Augmented(dataset, FlipAndShift())

    def batches(earlier: list[int]) -> list[Tensor]:
        sampler = Seeded(Batches(torch.arange(20), batch_size=7, seed=seed))
        for before in earlier:
            sampler.set_epoch(before)
            list(sampler)
        torch.rand(3)  # whatever else was drawn
        sampler.set_epoch(epoch)
        return [augmented[item][0] for item in sampler]

    fresh, used = batches([]), batches([epoch + 1, 0])
    assert all(torch.equal(a, b) for a, b in zip(fresh, used, strict=True))


def test_each_batch_and_each_epoch_has_a_seed_of_its_own() -> None:
    sampler = Seeded(Batches(torch.arange(100), batch_size=10, seed=0))
    drawn = set()
    for epoch in range(5):
        sampler.set_epoch(epoch)
        drawn |= {seed for seed, _ in sampler}
    assert len(drawn) == 50
    assert all(0 <= seed < 2**64 for seed in drawn)
