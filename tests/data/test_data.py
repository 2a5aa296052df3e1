"""The LightningDataModule: which images go where, and what its arguments may be."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fmnist.config.errors import UserError
from fmnist.data.dataset import ImageDataset
from fmnist.data.fashion_mnist import FashionMNIST

pytestmark = pytest.mark.real_data


def fingerprints(images: Tensor) -> list[bytes]:
    return sorted(hashlib.sha256(image.numpy().tobytes()).digest() for image in images)


def drawn(loader: Iterable[Any]) -> tuple[Tensor, Tensor]:
    images, labels = zip(*loader, strict=True)
    return torch.cat(images), torch.cat(labels)


@pytest.fixture
def data(official: Path) -> FashionMNIST:
    module = FashionMNIST(data_dir=str(official))
    module.prepare_data()
    module.setup("fit")
    module.setup("test")
    return module


def test_training_and_validation_images_together_are_the_official_60000(
    data: FashionMNIST, train_set: ImageDataset
) -> None:
    train, val = drawn(data.train_dataloader()), drawn(data.val_dataloader())
    assert len(train[1]) == 55_000
    assert val[1].bincount().tolist() == [500] * 10
    assert fingerprints(torch.cat([train[0], val[0]])) == fingerprints(train_set.images)


def test_the_test_images_are_the_official_10000_in_their_order(data: FashionMNIST, test_set: ImageDataset) -> None:
    images, labels = drawn(data.test_dataloader())
    assert torch.equal(images, test_set.images)
    assert torch.equal(labels, test_set.labels)


def test_images_keep_their_labels(data: FashionMNIST, train_set: ImageDataset) -> None:
    label_of = {
        image.numpy().tobytes(): int(label) for image, label in zip(train_set.images, train_set.labels, strict=True)
    }
    for images, labels in data.train_dataloader():
        assert [label_of[image.numpy().tobytes()] for image in images] == labels.tolist()


def test_a_batch_is_raw_pixels_fetched_by_one_indexing_operation(
    data: FashionMNIST, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetches: list[object] = []
    fetch = ImageDataset.__getitem__

    def noting_fetch(dataset: ImageDataset, index: Tensor) -> tuple[Tensor, Tensor]:
        fetches.append(index)
        return fetch(dataset, index)

    monkeypatch.setattr(ImageDataset, "__getitem__", noting_fetch)
    images, labels = next(iter(data.train_dataloader()))
    assert images.dtype == torch.uint8
    assert images.shape == (100, 1, 28, 28)
    assert labels.dtype == torch.int64
    assert labels.shape == (100,)
    assert len(fetches) == 1


def test_the_split_does_not_depend_on_the_runs_seed(official: Path) -> None:
    indices = []
    for seed in (0, 1):
        module = FashionMNIST(data_dir=str(official), seed=seed)
        module.setup("fit")
        indices.append(module.val_indices)
    assert torch.equal(*indices)


def test_without_validation_all_60000_are_for_training(official: Path) -> None:
    module = FashionMNIST(data_dir=str(official), val_size=0)
    module.setup("fit")
    assert len(module.train_indices) == 60_000
    assert module.val_dataloader() == []


def test_a_given_directory_is_the_only_source(official: Path, tmp_path: Path) -> None:
    for path in official.glob("*ubyte"):
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(b"not the file")
    module = FashionMNIST(data_dir=str(tmp_path))
    module.prepare_data()  # fetches nothing, although the cache is full
    with pytest.raises(UserError, match=str(tmp_path / "train-labels-idx1-ubyte")):
        module.setup("fit")


def test_the_home_directory_may_be_written_as_a_tilde(official: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(official.parent))
    assert FashionMNIST(data_dir=f"~/{official.name}").directory == official


@pytest.mark.parametrize(
    ("argument", "value", "constraint"),
    [
        ("batch_size", 0, "at least 1"),
        ("batch_size", -1, "at least 1"),
        ("eval_batch_size", 0, "at least 1"),
        ("val_size", -1, "from 0 to 59999"),
        ("val_size", 60_000, "from 0 to 59999"),
        ("val_seed", -1, "at least 0"),
        ("seed", -1, "at least 0"),
        ("data_dir", "/nowhere", "does not exist"),
    ],
)
def test_an_argument_out_of_range_is_named_with_constraint_and_value(
    argument: str, value: int | str, constraint: str
) -> None:
    with pytest.raises(ValueError, match=rf"^{argument}.* {constraint}") as error:
        FashionMNIST(**{argument: value})  # type: ignore[arg-type]
    assert str(value) in str(error.value)
