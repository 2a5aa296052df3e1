"""Augmentation: each image in its own way, as a function of (seed, epoch, batch) alone."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
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
    """The augmented images, whose labels must stay as they are."""
    labels = torch.arange(len(images))
    context = BatchContext(seed, epoch, 0, labels, 60_000, 10)
    after, same = augmentation((images, labels), context, context.generator(images.device))
    assert same is labels
    assert (after.shape, after.dtype) == (images.shape, torch.uint8)
    return after


def every_shift(image: np.ndarray, pixels: int, mode: str) -> set[bytes]:
    """All shifts of an image [28, 28], made with NumPy."""
    padded = np.pad(image, pixels, mode=mode)  # type: ignore[call-overload]
    places = range(2 * pixels + 1)
    return {padded[row : row + 28, column : column + 28].tobytes() for row in places for column in places}


def test_flip_mirrors_half_of_the_images_and_leaves_the_others_alone() -> None:
    before = some_images(4000)
    after = changed(Flip(), before)
    alone, mirrored = ((after == images).flatten(1).all(dim=1) for images in (before, before.flip(3)))
    assert (alone | mirrored).all()
    assert mirrored.float().mean().item() == pytest.approx(0.5, abs=4 * 0.5 / 4000**0.5)  # four standard errors


@settings(max_examples=30)
@given(seed=seeds, epoch=epochs)
def test_alternating_flip_shows_each_image_both_ways_in_two_consecutive_epochs(seed: int, epoch: int) -> None:
    before, flip = some_images(20), Flip(alternating=True)
    one, other, third = (changed(flip, before, seed=seed, epoch=epoch + further) for further in range(3))
    assert torch.equal(one, other.flip(3))
    assert torch.equal(one, third)
    assert ((one == before) | (one == before.flip(3))).all()


@settings(max_examples=30)
@given(seed=seeds, epoch=epochs, chosen=st.lists(st.integers(0, 19), min_size=1).map(torch.tensor))
def test_alternating_flip_depends_on_the_image_and_not_on_its_batch(seed: int, epoch: int, chosen: Tensor) -> None:
    before, flip = some_images(20), Flip(alternating=True)
    whole = changed(flip, before, seed=seed, epoch=epoch)
    context = BatchContext(seed, epoch, 7, chosen, 60_000, 10)
    part, _ = flip((before[chosen], chosen), context, Generator().manual_seed(3))
    assert torch.equal(part, whole[chosen])


def test_alternating_flip_mirrors_half_of_the_training_set_and_another_half_for_each_seed() -> None:
    images = torch.tensor([1, 0], dtype=torch.uint8).expand(TRAIN_SIZE, 1, 1, 2)
    first, second = (changed(Flip(alternating=True), images, seed=seed)[:, 0, 0, 0] == 0 for seed in (0, 1))
    assert first.sum() == second.sum() == TRAIN_SIZE // 2
    in_both = (first & second).sum().item()
    assert in_both == pytest.approx(TRAIN_SIZE / 4, abs=4 * 61)  # hypergeometric: the standard deviation is 61


@settings(max_examples=30)
@given(seed=seeds, pixels=st.integers(0, 3), reflect=st.booleans())
def test_shift_moves_each_image_by_at_most_so_many_pixels(seed: int, pixels: int, reflect: bool) -> None:
    before = some_images(5)
    after = changed(Shift(pixels=pixels, reflect=reflect), before, seed=seed)
    for original, image in zip(before[:, 0].numpy(), after[:, 0].numpy(), strict=True):
        assert image.tobytes() in every_shift(original, pixels, "reflect" if reflect else "constant")


def test_shift_moves_each_image_differently_and_to_every_place_equally_often() -> None:
    image = some_images(1)
    counts = Counter(after.tobytes() for after in changed(Shift(pixels=1), image.repeat(4500, 1, 1, 1)).numpy())
    assert set(counts) == every_shift(image[0, 0].numpy(), 1, "constant")
    assert stats.chisquare(list(counts.values())).pvalue > 0.001


def test_shift_out_of_range_is_rejected() -> None:
    with pytest.raises(ValueError, match="pixels must be at least 0, got -1"):
        Shift(pixels=-1)
    changed(Shift(pixels=27), some_images(1))
    with pytest.raises(ValueError, match="pixels must be below the size of the images, 28, got 28"):
        changed(Shift(pixels=28), some_images(1))


EVERY = [Flip(), Flip(alternating=True), Shift(), Shift(reflect=True), Erase(noise=True), Mixup(), CutMix()]


@settings(max_examples=20)
@given(seed=seeds, epoch=epochs)
def test_batch_is_a_function_of_seed_epoch_and_number(seed: int, epoch: int) -> None:
    augmented = AugmentedDataset(ImageDataset(some_images(20), torch.arange(20) % 10), EVERY)

    def batches(earlier: list[int]) -> list[Tensor]:
        sampler = SeededBatchSampler(torch.arange(20), set_size=20, num_classes=10, batch_size=7, seed=seed)
        for before in earlier:
            sampler.set_epoch(before)
            list(sampler)
        torch.rand(3)  # other code may draw random numbers
        sampler.set_epoch(epoch)
        return [part for context in sampler for part in augmented[context]]

    fresh, used = batches([]), batches([epoch + 1, 0])
    assert all(torch.equal(a, b) for a, b in zip(fresh, used, strict=True))


@pytest.mark.parametrize("augmentations", [[], [Flip(alternating=True), Shift(), CutMix()]])
def test_several_processes_train_on_the_same_images_as_one(augmentations: list[Augmentation]) -> None:
    dataset = ImageDataset(some_images(60), torch.arange(60) % 10)
    whole = AugmentedDataset(dataset, augmentations)
    shards = [AugmentedDataset(dataset, augmentations, shard=Shard(rank, 3)) for rank in range(3)]
    assert len(whole) == len(shards[0]) == 60
    for context in SeededBatchSampler(torch.arange(60), set_size=60, num_classes=10, batch_size=12, seed=1):
        for one, several in zip(whole[context], zip(*(shard[context] for shard in shards), strict=True), strict=True):
            assert torch.equal(one, torch.cat(several))
