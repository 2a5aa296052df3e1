"""The LightningDataModule: which images go where, and what its arguments may be."""

import logging
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from torch import Tensor

from fmnist.config.errors import UserError
from fmnist.data import download, files
from fmnist.data.augmentation import Flip
from fmnist.data.dataset import ImageDataset
from fmnist.data.fashion_mnist import FashionMNIST

pytestmark = pytest.mark.real_data


def drawn(loader: Iterable[Any]) -> tuple[Tensor, Tensor]:
    images, labels = zip(*loader, strict=True)
    return torch.cat(images), torch.cat(labels)


def test_statistics_are_those_of_each_channel_of_the_given_images() -> None:
    images = torch.randint(256, (50, 3, 9, 9), dtype=torch.uint8)
    mean, std = ImageDataset(images, torch.zeros(50)).channel_statistics(torch.arange(40))
    np.testing.assert_allclose(mean, images[:40].double().mean(dim=(0, 2, 3)))
    np.testing.assert_allclose(std, images[:40].double().std(dim=(0, 2, 3), correction=0))


@pytest.mark.parametrize(
    ("images", "labels", "found"),
    [
        (torch.zeros(9, 1, 28, 28).byte(), torch.zeros(8).long(), r"got uint8 \[9, 1, 28, 28\] and int64 \[8\]"),
        (torch.zeros(9, 28, 28).byte(), torch.zeros(9).long(), r"got uint8 \[9, 28, 28\] and"),
        (torch.zeros(9, 1, 28, 28), torch.zeros(9).long(), r"got float32 \["),
        (torch.zeros(9, 1, 28, 28).byte(), torch.zeros(9), r"and float32 \[9\]"),
        (torch.zeros(9, 1, 28, 28).byte(), torch.arange(2, 11), "labels from 0 to 9, got 2 to 10"),
    ],
)
def test_data_set_that_reads_something_else_is_named(images: Tensor, labels: Tensor, found: str) -> None:
    class Mine(FashionMNIST):
        def read(self, split: str) -> ImageDataset:
            return ImageDataset(images, labels)

    with pytest.raises(UserError, match=rf"^Mine\.read\('train'\) must return .*{found}"):
        Mine(val_size=2).setup("fit")


@pytest.fixture(scope="module")
def data(official: Path) -> FashionMNIST:
    module = FashionMNIST(data_dir=str(official))
    module.setup("fit")
    module.setup("test")
    return module


def test_training_and_validation_images_together_are_the_official_60000(
    data: FashionMNIST, train_set: ImageDataset
) -> None:
    def rows(images: Tensor, labels: Tensor) -> list[bytes]:
        return sorted(map(bytes, np.column_stack([images.flatten(1), labels.byte()])))

    train, val = drawn(data.train_dataloader()), drawn(data.val_dataloader())
    assert len(train[1]) == 55_000
    assert val[1].bincount().tolist() == [500] * 10
    both = (torch.cat(parts) for parts in zip(train, val, strict=True))
    assert rows(*both) == rows(train_set.images, train_set.labels)


def test_test_images_are_the_official_10000_in_their_order(data: FashionMNIST, test_set: ImageDataset) -> None:
    images, labels = drawn(data.test_dataloader())
    assert torch.equal(images, test_set.images)
    assert torch.equal(labels, test_set.labels)


def test_batch_is_raw_pixels_fetched_by_one_indexing_operation(
    data: FashionMNIST, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch = MagicMock(side_effect=ImageDataset.__getitem__)
    monkeypatch.setattr(ImageDataset, "__getitem__", lambda *args: fetch(*args))
    images, labels = next(iter(data.train_dataloader()))
    assert fetch.call_count == 1
    assert (images.dtype, images.shape) == (torch.uint8, (100, 1, 28, 28))
    assert (labels.dtype, labels.shape) == (torch.int64, (100,))
    assert next(iter(data.loader("val")))[0].shape == (250, 1, 28, 28)


def test_first_batch_is_shown_before_and_after_augmentation(
    data: FashionMNIST, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "augmentations", [Flip()])
    before, after, labels = data.first_batch()
    mirrored = (before != after).flatten(1).any(dim=1)
    assert 0 < mirrored.sum() < 100
    assert torch.equal(before[mirrored].flip(3), after[mirrored])
    assert torch.equal(labels, data.train_set[data.batch_indices(0, 0)][1])


def test_batch_indices_are_those_of_the_epoch_and_batch(data: FashionMNIST) -> None:
    loader: Any = data.train_dataloader()
    loader.sampler.set_epoch(2)
    third = [labels for _, labels in loader][2]
    assert torch.equal(data.train_set[data.batch_indices(2, 2)][1], third)


def test_processes_share_batches_and_evaluation(data: FashionMNIST, monkeypatch: pytest.MonkeyPatch) -> None:
    def images() -> list[Tensor]:
        parts = next(iter(data.train_dataloader())), data.first_batch(), drawn(data.val_dataloader())
        return [*(part[0] for part in parts), drawn(data.test_dataloader())[0]]

    *expected, test_images = images()
    limits, shares = {"limit_val_batches": 1.0, "limit_test_batches": 3}, []
    for rank in range(2):
        monkeypatch.setattr(data, "trainer", SimpleNamespace(global_rank=rank, world_size=2, **limits))
        shares.append(images())
    together = [torch.cat(several) for several in zip(*shares, strict=True)]
    assert all(map(torch.equal, together, [*expected, test_images[: 3 * 250]]))


@pytest.mark.parametrize(
    ("val_size", "message"),
    [
        (0, "data: 60000 training and 0 validation images from {}"),
        (59_985, "data: each epoch leaves out 7 images, so that all processes have equally many"),
    ],
)
def test_numbers_of_images_are_logged(
    val_size: int, message: str, official: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    module: Any = FashionMNIST(data_dir=str(official), val_size=val_size, batch_size=1, eval_batch_size=1)
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    module.trainer = SimpleNamespace(global_rank=0, world_size=8, strategy=strategy)
    module.setup("fit")
    assert caplog.messages[-1] == message.format(official)
    assert val_size or module.val_dataloader() == []


def test_split_does_not_depend_on_the_runs_seed(data: FashionMNIST, official: Path) -> None:
    module = FashionMNIST(data_dir=str(official), seed=1)
    module.setup("fit")
    assert torch.equal(module.val_indices, data.val_indices)
    assert (data.seed, data.val_seed) == (0, 0)


def test_given_directory_is_the_only_source(official: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in files.SHA256:
        (tmp_path / name).symlink_to(official / name)
    damaged = tmp_path / "train-labels-idx1-ubyte"
    damaged.unlink()
    damaged.write_bytes(b"not the file")
    fetched: list[Path] = []
    monkeypatch.setattr(download, "fetch", fetched.append)
    module = FashionMNIST(data_dir=str(tmp_path))
    for each in (module, FashionMNIST()):
        each.prepare_data()
    assert fetched == [download.CACHE]  # by the one without a directory
    with pytest.raises(UserError, match=str(damaged)):
        module.setup("fit")


def test_home_directory_may_be_written_as_a_tilde(official: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(official.parent))
    assert FashionMNIST(data_dir=f"~/{official.name}").directory == official


@pytest.mark.parametrize(
    ("argument", "value", "constraint"),
    [
        ("batch_size", 0, "at least 1"),
        ("eval_batch_size", 0, "at least 1"),
        ("val_size", -1, "from 0 to 59999"),
        ("val_size", 60_000, "from 0 to 59999"),
        ("val_seed", -1, "at least 0"),
        ("seed", -1, "at least 0"),
        ("data_dir", "/nowhere", "/nowhere does not exist"),
    ],
)
def test_argument_out_of_range_is_named(argument: str, value: Any, constraint: str) -> None:
    with pytest.raises(ValueError, match=rf"^{argument}.* {constraint}") as error:
        FashionMNIST(**{argument: value})
    assert str(value) in str(error.value)
