"""The LightningDataModule that owns Fashion-MNIST: getting it, verifying it, splitting it, batching it."""

import logging
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from fmnist import fetch
from fmnist.config.errors import UserError
from fmnist.data import files
from fmnist.data.augmentation import Augmentation
from fmnist.data.batches import WHOLE, Batch, Batches, Place, Placed, Share, portion
from fmnist.data.split import stratified_split

log = logging.getLogger(__name__)


class ImageDataset(Dataset[Batch]):
    """Labelled images, whole in the memory of one device, indexed by one number or by a tensor of them.

    Args:
        images: uint8 [N, 1, 28, 28].
        labels: int64 [N].
    """

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images = images
        self.labels = labels

    @classmethod
    def read(cls, directory: Path, prefix: str) -> "ImageDataset":
        """Reads one of the two official sets, see ``fmnist.data.files.load``."""
        arrays = files.load(directory, prefix)
        return cls(torch.from_numpy(arrays.images), torch.from_numpy(arrays.labels))

    def to(self, device: torch.device) -> "ImageDataset":
        """The same on a device, so that training moves no images: the whole set is 55 MB."""
        return ImageDataset(self.images.to(device), self.labels.to(device))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int | Tensor) -> Batch:
        return self.images[index], self.labels[index]


class Augmented(Dataset[Batch]):
    """Images that are changed at random each time that they are fetched, indexed by the place of their batch.

    Args:
        dataset: The official training set.
        augmentations: What is done to each batch, in this order.
        share: Which part of each batch is this process's. Chance falls for the whole batch, so that the images are the
            same however many processes share them.
    """

    def __init__(self, dataset: ImageDataset, augmentations: Sequence[Augmentation], *, share: Share = WHOLE) -> None:
        self.dataset = dataset
        self.augmentations = augmentations
        self.share = share

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, place: Place) -> Batch:
        if not self.augmentations:
            return self.dataset[self.share.of(place.indices)]
        batch = self.dataset[place.indices]
        generator = place.generator(place.indices.device)
        for augmentation in self.augmentations:
            batch = augmentation(batch, place, generator)
        images, targets = batch
        return self.share.of(images), self.share.of(targets)


class FashionMNIST(LightningDataModule):
    """Fashion-MNIST as batches of raw pixels.

    The official 10,000 test images are the test set. The validation set is a stratified part of the official 60,000
    training images, drawn once with a seed of its own.

    Args:
        data_dir: Directory that holds the four official files, the only place to look for them; None for the project's
            cache, which is filled from the first source that has them (see ``fmnist.fetch``).
        batch_size: Training samples per optimizer step, of all processes together.
        eval_batch_size: Samples per batch of validation and test, of all processes together; a matter of speed alone.
        val_size: Number of validation images; 0 trains on all 60,000 and validates on nothing.
        val_seed: Seed of the split.
        seed: Seed of the order of the training samples, and of their augmentation.
        augmentations: Change the training images at random, one after the other.

    Raises:
        ValueError: An argument is out of range, or ``data_dir`` does not hold the four files.
    """

    def __init__(
        self,
        *,
        data_dir: str | None = None,
        batch_size: int = 100,
        eval_batch_size: int = 250,
        val_size: int = 5000,
        val_seed: int = 0,
        seed: int = 0,
        augmentations: Sequence[Augmentation] = (),
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if eval_batch_size < 1:
            raise ValueError(f"eval_batch_size must be at least 1, got {eval_batch_size}")
        if not 0 <= val_size < files.TRAIN_SIZE:
            raise ValueError(
                f"val_size must be from 0 to {files.TRAIN_SIZE - 1} of the {files.TRAIN_SIZE} training images, "
                f"got {val_size}"
            )
        for name, value in (("val_seed", val_seed), ("seed", seed)):
            if value < 0:
                raise ValueError(f"{name} must be at least 0, got {value}")
        self.directory = fetch.CACHE if data_dir is None else Path(data_dir).expanduser()
        if data_dir is not None:
            try:
                files.find(self.directory)  # that they are the official ones is verified when they are read
            except UserError as error:
                raise ValueError(f"data_dir: {error}") from error
        self.data_dir = data_dir
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.val_size = val_size
        self.val_seed = val_seed
        self.seed = seed
        self.augmentations = augmentations

    def prepare_data(self) -> None:
        if self.data_dir is None:
            fetch.fetch(self.directory)

    def setup(self, stage: str) -> None:
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        if stage == "test":
            self.test_set = ImageDataset.read(self.directory, "t10k").to(device)
        else:
            train_set = ImageDataset.read(self.directory, "train")
            self.train_indices, self.val_indices = stratified_split(
                train_set.labels, val_size=self.val_size, seed=self.val_seed
            )
            self.train_set = train_set.to(device)
            log.info(
                "data: %d training and %d validation images from %s",
                len(self.train_indices),
                len(self.val_indices),
                self.directory,
            )
            if left_out := len(self.train_indices) % self._share.size:
                log.info("data: of each epoch %d images are left out, so that all processes have as many", left_out)

    def part(self, split: str) -> tuple[ImageDataset, Tensor]:
        """The official set that a split is part of, and the positions of its images in it, int64 [N].

        Args:
            split: ``train``, ``val`` or ``test``; of these, what ``setup`` has read.
        """
        if split == "test":
            return self.test_set, torch.arange(len(self.test_set))
        return self.train_set, self.val_indices if split == "val" else self.train_indices

    def loader(self, split: str) -> DataLoader[Batch]:
        """Batches of a split for evaluation: in its order, and never augmented."""
        dataset, indices = self.part(split)
        share, limit = self._share, None
        if share.size > 1:
            # Lightning cuts off the end of what each process has, which of several is the middle of the set.
            given = getattr(self.trainer, f"limit_{split}_batches")
            limit = given if isinstance(given, int) else None  # 1.0 is all; other parts trainer_checks refuses
        batches = portion(indices, batch_size=self.eval_batch_size, share=share, limit=limit)
        return _loader(dataset, [batch.to(dataset.labels.device) for batch in batches])

    def first_batch(self) -> tuple[Tensor, Tensor, Tensor]:
        """The first training batch: images as they are, uint8 [B, 1, 28, 28], as they are trained on, and targets."""
        images, targets = next(iter(self.train_dataloader()))
        return self.train_set[self._share.of(self.samples(0, 0))][0], images, targets

    def samples(self, epoch: int, batch: int) -> Tensor:
        """Positions in the official training set of the images of a training batch, int64 [B]; counted from 0."""
        batches = self._train_batches()
        batches.set_epoch(epoch)
        return next(islice(batches, batch, None))

    def _train_batches(self) -> Batches:
        batches = Batches(self.train_indices, batch_size=self.batch_size, seed=self.seed, multiple_of=self._share.size)
        return batches.to(self.train_set.labels.device)

    @property
    def _share(self) -> Share:
        return Share(self.trainer.global_rank, self.trainer.world_size) if self.trainer else WHOLE

    def train_dataloader(self) -> DataLoader[Batch]:
        augmented = Augmented(self.train_set, self.augmentations, share=self._share)
        return _loader(augmented, Placed(self._train_batches()))

    def val_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        if self.val_size == 0:
            return []  # Lightning then runs no validation
        return self.loader("val")

    def test_dataloader(self) -> DataLoader[Batch]:
        return self.loader("test")


def _loader(dataset: Dataset[Batch], batches: Sampler[Any] | list[Tensor]) -> DataLoader[Batch]:
    # batch_size=None: the sampler yields whole batches, nothing is collated. Worker processes would cost more than
    # they give, since the images are in memory, as do the indices: nothing waits for a copy to a device.
    return DataLoader(dataset, sampler=batches, batch_size=None)
