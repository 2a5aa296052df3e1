"""The LightningDataModule of every data set: splits the images and batches them. A data set supplies the images."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from fmnist.config.errors import UserError
from fmnist.data.augmentation import Augmentation
from fmnist.data.batches import Batch, SeededBatchSampler
from fmnist.data.dataset import AugmentedDataset, ImageDataset
from fmnist.data.sharding import Shard, shard_for_evaluation
from fmnist.data.spec import DataSpec
from fmnist.data.split import stratified_split

log = logging.getLogger(__name__)

Split = Literal["train", "test"]


class ImageDataModule(LightningDataModule, ABC):
    """Labelled images as batches of raw pixels. A subclass says what they are (``spec``) and reads them (``read``).

    The test set is read once, after training. The validation set is a stratified part of the training set, drawn once
    with ``val_seed``.

    Args:
        data_dir: Directory of the data set; each subclass says what None means.
        batch_size: Training samples per optimizer step, over all processes.
        eval_batch_size: Samples per validation and test batch, over all processes; affects speed only.
        val_size: Number of validation images; below 1, their share of the training set. 0 trains on all images and
            skips validation.
        val_seed: Seed of the split.
        seed: Seed of the order and of the augmentation of the training samples.
        augmentations: Applied to the training batches, in this order.
        reshuffle: Whether to draw a new order for each epoch. False repeats the batches of the first epoch.
        class_weights: ``balanced`` weighs the training loss of each image by how rare its class is, so that all classes
            count alike. None counts all images alike.

    Raises:
        ValueError: An argument is out of range.
    """

    spec: DataSpec
    directory: Path | None
    train_size: int | None = None  # if it is known before the images are read

    def __init__(
        self,
        *,
        data_dir: str | None = None,
        batch_size: int = 100,
        eval_batch_size: int = 250,
        val_size: float = 5000,
        val_seed: int = 0,
        seed: int = 0,
        augmentations: Sequence[Augmentation] = (),
        reshuffle: bool = True,
        class_weights: Literal["balanced"] | None = None,
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
        if self.train_size is not None and not 0 <= val_size < self.train_size:
            raise ValueError(
                f"val_size must be from 0 to {self.train_size - 1} of the {self.train_size} training images, "
                f"got {val_size}"
            )
        if val_size < 0 or (val_size % 1 and val_size > 1):
            raise ValueError(f"val_size must be a number of images, or a share from 0 to 1, got {val_size}")
        self.data_dir = data_dir
        self.directory = None if data_dir is None else Path(data_dir).expanduser()
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.val_size = val_size
        self.val_seed = val_seed
        self.seed = seed
        self.augmentations = augmentations
        self.reshuffle = reshuffle
        self.class_weights = class_weights
        self.sha256: dict[str, str] = {}  # of each set that has been read, by which a resumed run notices other images

    @abstractmethod
    def read(self, split: Split) -> ImageDataset:
        """Reads the training or the test set. ``prepare_data`` has been called before, in one process per machine."""

    def setup(self, stage: str) -> None:
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        split: Split = "test" if stage == "test" else "train"
        dataset = self.read(split)
        dataset.check(self.spec, f"{type(self).__name__}.read('{split}')")
        if split not in self.sha256:
            self.sha256[split] = dataset.sha256()
        if split == "test":
            self.test_set = dataset.to(device)
            return
        self.train_set = dataset
        try:
            self.train_indices, self.val_indices = self.split_train()
        except ValueError as error:
            raise UserError(f"data.{error}") from error
        missing = set(dataset.labels.tolist()) - set(dataset.labels[self.train_indices].tolist())
        if missing:
            name = self.spec.class_names[min(missing)]
            raise UserError(f"data.val_size={self.val_size} leaves no training image of {name}: take a smaller one")
        self.train_set = dataset.to(device)
        sizes = len(self.train_indices), len(self.val_indices)
        log.info("data: %d training and %d validation images from %s", *sizes, self.directory or self.spec.name)
        if remainder := len(self.train_indices) % self._shard.world_size:
            log.info("data: each epoch leaves out %d images, so that all processes have equally many", remainder)

    def split_train(self) -> tuple[Tensor, Tensor]:
        """Indices of the training and the validation images within the training set."""
        labels = self.train_set.labels
        size = max(1, round(self.val_size * len(labels))) if 0 < self.val_size < 1 else int(self.val_size)
        return stratified_split(labels, val_size=size, seed=self.val_seed)

    def file_names(self, split: Split) -> list[str] | None:
        """The file of each image of a set; None if they have none of their own."""
        return None

    def state_dict(self) -> dict[str, Any]:
        return {"sha256": dict(self.sha256)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        before = state_dict["sha256"]
        if any(before[split] != self.sha256[split] for split in before.keys() & self.sha256.keys()):
            where = self.directory or self.spec.name
            raise UserError(
                f"the images from {where} are not those that the run began with: put those back, or start a new run"
            )

    @cached_property
    def pixel_statistics(self) -> tuple[Sequence[float], Sequence[float]]:
        """Mean and standard deviation of each channel of the training images, in pixel values."""
        return self.train_set.channel_statistics(self.train_indices)

    def loss_weights(self) -> Tensor | None:
        """The weight of each class in the training loss, float32 [num_classes]."""
        if self.class_weights is None:
            return None
        return self.train_set.balanced_weights(self.train_indices, self.spec.num_classes)

    def part(self, split: str) -> tuple[ImageDataset, Tensor]:
        """The set that contains a split, and the positions of the split's images in it, int64 [N].

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
        """Positions of the images of a training batch in the training set, int64 [B]; both counted from 0."""
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
            set_size=len(self.train_set),
            num_classes=self.spec.num_classes,
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
