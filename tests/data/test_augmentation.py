"""Augmentation: each image in its own way, as a function of (seed, epoch, batch) alone."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor

from fmnist.data.augmentation import Augmentation, Flip, Shift
from fmnist.data.batches import BatchContext, SeededBatchSampler
from fmnist.data.dataset import AugmentedDataset, ImageDataset
from fmnist.data.erasing import Erase
from fmnist.data.files import TRAIN_SIZE
from fmnist.data.mixing import CutMix, Mixup
from fmnist.data.sharding import Shard

seeds = st.integers(0, 2**32)
epochs = st.integers(0, 1000)


def some_images(count: int, seed: int = 0) -> Tensor:
    return torch.randint(1, 256, (count, 1, 28, 28), generator=Generator().manual_seed(seed), dtype=torch.uint8)


def changed(augmentation: Augmentation, images: Tensor, *, seed: int = 0, epoch: int = 0) -> Tensor:
    """What becomes of the images, whose labels must stay as they are."""
    context = BatchContext(seed, epoch, 0, torch.arange(len(images)))
    labels = torch.arange(len(images))
    after, same = augmentation((images, labels), context, context.generator(images.device))
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
    context = BatchContext(seed, epoch, 7, chosen)
    part, _ = flip((before[chosen], chosen), context, Generator().manual_seed(3))
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


EVERY = [Flip(), Flip(alternating=True), Shift(), Shift(reflect=True), Erase(noise=True), Mixup(), CutMix()]


@given(seed=seeds, epoch=epochs)
def test_a_batch_is_a_function_of_seed_epoch_and_number(seed: int, epoch: int) -> None:
    dataset = ImageDataset(some_images(20), torch.arange(20) % 10)
    augmented = AugmentedDataset(dataset, EVERY)

    def batches(earlier: list[int]) -> list[Tensor]:
        sampler = SeededBatchSampler(torch.arange(20), batch_size=7, seed=seed)
        for before in earlier:
            sampler.set_epoch(before)
            list(sampler)
        torch.rand(3)  # whatever else was drawn
        sampler.set_epoch(epoch)
        return [part for context in sampler for part in augmented[context]]

    fresh, used = batches([]), batches([epoch + 1, 0])
    assert all(torch.equal(a, b) for a, b in zip(fresh, used, strict=True))


@pytest.mark.parametrize("augmentations", [[], [Flip()], [Flip(alternating=True), Shift(), CutMix()]])
def test_several_processes_train_on_the_same_images_as_one(augmentations: list[Augmentation]) -> None:
    dataset = ImageDataset(some_images(60), torch.arange(60) % 10)
    whole = AugmentedDataset(dataset, augmentations)
    shards = [AugmentedDataset(dataset, augmentations, shard=Shard(rank, 3)) for rank in range(3)]
    for context in SeededBatchSampler(torch.arange(60), batch_size=12, seed=1):
        for one, several in zip(whole[context], zip(*(shard[context] for shard in shards), strict=True), strict=True):
            assert torch.equal(one, torch.cat(several))
