"""The LightningDataModule that owns Fashion-MNIST: fetches, verifies, splits and batches it."""

import logging
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from fmnist.config.errors import UserError
from fmnist.data import download, files
from fmnist.data.augmentation import Augmentation
from fmnist.data.batches import Batch, SeededBatchSampler
from fmnist.data.dataset import AugmentedDataset, ImageDataset
from fmnist.data.sharding import Shard, shard_for_evaluation
from fmnist.data.split import stratified_split

log = logging.getLogger(__name__)


class FashionMNIST(LightningDataModule):
    """Fashion-MNIST as batches of raw pixels.

    The official 10,000 test images are the test set. The validation set is a stratified part of the official 60,000
    training images, drawn once with ``val_seed``.

    Args:
        data_dir: Directory with the four official files, the only place to look; None uses the project's cache and
            fills it from the first source that has the files (see ``fmnist.data.download``).
        batch_size: Training samples per optimizer step, over all processes.
        eval_batch_size: Samples per validation and test batch, over all processes; affects speed only.
        val_size: Number of validation images; 0 trains on all 60,000 and skips validation.
        val_seed: Seed of the split.
        seed: Seed of the order and of the augmentation of the training samples.
        augmentations: Applied to the training batches, in this order.
        reshuffle: Whether to draw a new order for each epoch. False repeats the batches of the first epoch.

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
        reshuffle: bool = True,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("eval_batch_size", eval_batch_size, 1),
            ("val_seed", val_seed, 0),
            ("seed", seed, 0),
        ):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        if not 0 <= val_size < files.TRAIN_SIZE:
            raise ValueError(
                f"val_size must be from 0 to {files.TRAIN_SIZE - 1} of the {files.TRAIN_SIZE} training images, "
                f"got {val_size}"
            )
        self.directory = download.CACHE if data_dir is None else Path(data_dir).expanduser()
        if data_dir is not None:
            try:
                files.find(self.directory)  # their content is verified when they are read
            except UserError as error:
                raise ValueError(f"data_dir: {error}") from error
        self.data_dir = data_dir
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.val_size = val_size
        self.val_seed = val_seed
        self.seed = seed
        self.augmentations = augmentations
        self.reshuffle = reshuffle

    def prepare_data(self) -> None:
        if self.data_dir is None:
            download.fetch(self.directory)

    def setup(self, stage: str) -> None:
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        if stage == "test":
            self.test_set = ImageDataset.read(self.directory, "t10k").to(device)
            return
        self.train_set = ImageDataset.read(self.directory, "train")
        self.train_indices, self.val_indices = stratified_split(
            self.train_set.labels, val_size=self.val_size, seed=self.val_seed
        )
        self.train_set = self.train_set.to(device)
        sizes = len(self.train_indices), len(self.val_indices)
        log.info("data: %d training and %d validation images from %s", *sizes, self.directory)
        if remainder := len(self.train_indices) % self._shard.world_size:
            log.info("data: each epoch leaves out %d images, so that all processes have equally many", remainder)

    def part(self, split: str) -> tuple[ImageDataset, Tensor]:
        """The official set that contains a split, and the positions of the split's images in it, int64 [N].

        Args:
            split: ``train``, ``val`` or ``test``; ``setup`` must have read it.
        """
        if split == "test":
            return self.test_set, torch.arange(len(self.test_set))
        return self.train_set, self.val_indices if split == "val" else self.train_indices

    def loader(self, split: str) -> DataLoader[Batch]:
        """Evaluation batches of a split, in its order, never augmented."""
        dataset, indices = self.part(split)
        shard, limit = self._shard, None
        if shard.world_size > 1:
            # Lightning cuts off the end of each process's batches, which is not the end of the set.
            given = getattr(self.trainer, f"limit_{split}_batches")
            limit = given if isinstance(given, int) else None  # 1.0 means all; trainer_options rejects other fractions
        batches = shard_for_evaluation(indices, batch_size=self.eval_batch_size, shard=shard, limit=limit)
        return _loader(dataset, [batch.to(dataset.labels.device) for batch in batches])

    def first_batch(self) -> tuple[Tensor, Tensor, Tensor]:
        """The first training batch: images uint8 [B, C, H, W] before and after augmentation, and targets."""
        images, targets = next(iter(self.train_dataloader()))
        return self.train_set[self._shard.of(self.batch_indices(0, 0))][0], images, targets

    def batch_indices(self, epoch: int, batch: int) -> Tensor:
        """Positions of the images of a training batch in the official training set, int64 [B]; both counted from 0."""
        sampler = self._sampler()
        sampler.set_epoch(epoch)
        return next(islice(sampler, batch, None)).indices

    def train_dataloader(self) -> DataLoader[Batch]:
        return _loader(AugmentedDataset(self.train_set, self.augmentations, shard=self._shard), self._sampler())

    def val_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        return self.loader("val") if self.val_size else []  # with an empty list Lightning skips validation

    def test_dataloader(self) -> DataLoader[Batch]:
        return self.loader("test")

    def _sampler(self) -> SeededBatchSampler:
        indices = self.train_indices.to(self.train_set.labels.device)
        return SeededBatchSampler(
            indices,
            batch_size=self.batch_size,
            seed=self.seed,
            world_size=self._shard.world_size,
            reshuffle=self.reshuffle,
        )

    @property
    def _shard(self) -> Shard:
        return Shard(self.trainer.global_rank, self.trainer.world_size) if self.trainer else Shard()


def _loader(dataset: Dataset[Batch], batches: Sampler[Any] | list[Tensor]) -> DataLoader[Batch]:
    # batch_size=None: the sampler yields whole batches and nothing is collated. Images and indices are in memory, so
    # worker processes would cost more than they save.
    return DataLoader(dataset, sampler=batches, batch_size=None)
