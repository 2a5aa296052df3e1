"""Augmentation: each image in its own way, as a function of (seed, epoch, batch) alone."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor

from fmnist.data.augmentation import Augmentation, Flip, FlipAndShift, Identity, Shift
from fmnist.data.batches import Batches, Place, Placed
from fmnist.data.erasing import Erase
from fmnist.data.fashion_mnist import Augmented, ImageDataset
from fmnist.data.files import TRAIN_SIZE
from fmnist.data.mixing import CutMix, Mixup

seeds = st.integers(0, 2**32)
epochs = st.integers(0, 1000)


def some_images(count: int, seed: int = 0) -> Tensor:
    return torch.randint(1, 256, (count, 1, 28, 28), generator=Generator().manual_seed(seed), dtype=torch.uint8)


def changed(augmentation: Augmentation, images: Tensor, *, seed: int = 0, epoch: int = 0) -> Tensor:
    """What becomes of the images, whose labels must stay as they are."""
    place = Place(seed, epoch, 0, torch.arange(len(images)))
    labels = torch.arange(len(images))
    after, same = augmentation((images, labels), place, place.generator(images.device))
    assert same is labels
    assert after.shape == images.shape
    assert after.dtype == torch.uint8
    return after


def every_shift(image: np.ndarray, pixels: int, mode: str) -> set[bytes]:
    """All that may become of an image [28, 28], made with NumPy, one at a time."""
    padded = np.pad(image, pixels, mode=mode)  # type: ignore[call-overload]
    places = range(2 * pixels + 1)
    return {padded[row : row + 28, column : column + 28].tobytes() for row in places for column in places}


@given(seed=seeds, epoch=epochs, alternating=st.booleans())
def test_an_image_is_mirrored_or_left_alone(seed: int, epoch: int, alternating: bool) -> None:
    before = some_images(5)
    after = changed(Flip(alternating=alternating), before, seed=seed, epoch=epoch)
    for original, image in zip(before[:, 0].numpy(), after[:, 0].numpy(), strict=True):
        assert image.tobytes() in {original.tobytes(), original[:, ::-1].tobytes()}


def test_mirroring_comes_half_the_time() -> None:
    before = some_images(4000)
    mirrored = (changed(Flip(), before) != before).flatten(1).any(dim=1).float().mean().item()
    assert mirrored == pytest.approx(0.5, abs=4 * 0.5 / 4000**0.5)  # four standard errors


@given(seed=seeds, epoch=epochs)
def test_alternating_mirroring_shows_each_image_both_ways_in_two_consecutive_epochs(seed: int, epoch: int) -> None:
    before, flip = some_images(20), Flip(alternating=True)
    one, other, third = (changed(flip, before, seed=seed, epoch=epoch + further) for further in range(3))
    assert torch.equal(one, other.flip(3))
    assert torch.equal(one, third)


@given(seed=seeds, epoch=epochs, data=st.data())
def test_alternating_mirroring_depends_on_the_image_and_not_on_its_batch(
    seed: int, epoch: int, data: st.DataObject
) -> None:
    before, flip = some_images(20), Flip(alternating=True)
    whole = changed(flip, before, seed=seed, epoch=epoch)
    chosen = torch.tensor(data.draw(st.lists(st.integers(0, 19), min_size=1)))
    place = Place(seed, epoch, 7, chosen)
    part, _ = flip((before[chosen], chosen), place, Generator().manual_seed(3))
    assert torch.equal(part, whole[chosen])


def test_alternating_mirroring_takes_half_of_the_training_set_and_another_half_for_each_seed() -> None:
    stripe = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    stripe[..., 0] = 1
    images = stripe.expand(TRAIN_SIZE, -1, -1, -1)
    halves = [changed(Flip(alternating=True), images, seed=seed)[:, 0, 0, 0] == 0 for seed in (0, 1)]
    assert [int(half.sum()) for half in halves] == [TRAIN_SIZE // 2] * 2
    in_both = int((halves[0] & halves[1]).sum())
    assert in_both == pytest.approx(TRAIN_SIZE / 4, abs=4 * 61)  # hypergeometric: the standard deviation is 61


@given(seed=seeds, pixels=st.integers(0, 3), reflect=st.booleans())
def test_each_image_is_moved_by_at_most_so_many_pixels(seed: int, pixels: int, reflect: bool) -> None:
    before = some_images(5)
    after = changed(Shift(pixels=pixels, reflect=reflect), before, seed=seed)
    for original, image in zip(before[:, 0].numpy(), after[:, 0].numpy(), strict=True):
        assert image.tobytes() in every_shift(original, pixels, "reflect" if reflect else "constant")


def test_the_images_of_a_batch_are_moved_differently_and_every_place_comes_equally_often() -> None:
    image = some_images(1)
    after = changed(Shift(pixels=1), image.repeat(9000, 1, 1, 1))
    outcomes, counts = np.unique(after.flatten(1).numpy(), axis=0, return_counts=True)
    assert {outcome.tobytes() for outcome in outcomes} == every_shift(image[0, 0].numpy(), 1, "constant")
    chi_squared = ((counts - 1000) ** 2 / 1000).sum()
    assert chi_squared < 26.1  # exceeded with probability 0.001 at 8 degrees of freedom


@pytest.mark.parametrize("pixels", [-1, 28])
def test_a_shift_out_of_range_is_refused(pixels: int) -> None:
    with pytest.raises(ValueError, match=f"pixels must be from 0 to 27, got {pixels}"):
        Shift(pixels=pixels)


@given(seed=seeds, epoch=epochs)
def test_what_older_runs_name_does_what_it_did(seed: int, epoch: int) -> None:
    """As it was written then; a run that goes on must go on with the same images."""
    before = some_images(7)
    assert changed(Identity(), before) is before
    generator = Place(seed, epoch, 0, torch.arange(7)).generator(torch.device("cpu"))
    mirrored = torch.rand(7, generator=generator) < 0.5
    rows, columns = torch.randint(5, (2, 7), generator=generator).tolist()
    after = changed(FlipAndShift(flip=True, shift=2), before, seed=seed, epoch=epoch)
    for image, result, mirror, row, column in zip(before, after, mirrored, rows, columns, strict=True):
        padded = np.pad(image[0].numpy()[:, ::-1] if mirror else image[0].numpy(), 2)
        np.testing.assert_array_equal(result[0].numpy(), padded[row : row + 28, column : column + 28])


EVERY = [Flip(), Flip(alternating=True), Shift(), Shift(reflect=True), Erase(noise=True), Mixup(), CutMix()]


@given(seed=seeds, epoch=epochs)
def test_a_batch_is_a_function_of_seed_epoch_and_number(seed: int, epoch: int) -> None:
    dataset = ImageDataset(some_images(20), torch.arange(20) % 10)
    augmented = Augmented(dataset, EVERY)

    def batches(earlier: list[int]) -> list[Tensor]:
        sampler = Placed(Batches(torch.arange(20), batch_size=7, seed=seed))
        for before in earlier:
            sampler.set_epoch(before)
            list(sampler)
        torch.rand(3)  # whatever else was drawn
        sampler.set_epoch(epoch)
        return [part for place in sampler for part in augmented[place]]

    fresh, used = batches([]), batches([epoch + 1, 0])
    assert all(torch.equal(a, b) for a, b in zip(fresh, used, strict=True))


def test_each_batch_and_each_epoch_has_random_numbers_of_its_own() -> None:
    sampler = Placed(Batches(torch.arange(100), batch_size=10, seed=0))
    drawn = set()
    for epoch in range(5):
        sampler.set_epoch(epoch)
        drawn |= {place.generator(torch.device("cpu")).initial_seed() for place in sampler}
    assert len(drawn) == 50
    assert all(0 <= seed < 2**64 for seed in drawn)


def test_the_epoch_counts_that_is_set_before_the_first_batch_is_drawn() -> None:
    sampler = Placed(Batches(torch.arange(100), batch_size=10, seed=0))
    early = iter(sampler)  # as Lightning does when it resumes
    sampler.set_epoch(3)
    assert next(early).epoch == 3
