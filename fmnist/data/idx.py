"""Data sets in the IDX format, the one of MNIST: http://yann.lecun.com/exdb/mnist/, "file formats"."""

import gzip
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from fmnist.config.errors import UserError
from fmnist.data.dataset import ImageDataset
from fmnist.data.image_data import ImageDataModule, Split
from fmnist.data.spec import DataSpec

ELEMENT_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4"}  # of whole numbers, by the code in the header
CLASS_NAMES = "classes.txt"


class IDX(ImageDataModule):
    """Your own images in IDX files: grey, square, and of one size.

    The directory holds four files, plain or ``.gz``: images and labels of a training set, with ``train`` in their
    names, and of a test set, with ``test`` or ``t10k``. A file ``classes.txt`` may name the classes, one per line.

    Args:
        options: As for every data set; ``data_dir`` must be given.

    Raises:
        ValueError: An argument is out of range, or the directory does not hold the files.
    """

    directory: Path

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if self.data_dir is None:
            raise ValueError("data_dir must be given: the directory of the four files")
        try:
            self.files = {split: find(self.directory, split) for split in ("train", "test")}
            count, *shape = read_header(self.files["train"].images).shape
            if len(shape) != 2 or shape[0] != shape[1]:
                raise UserError(f"{self.files['train'].images} must hold square images, got {[count, *shape]}")
            self.spec = DataSpec(
                self.directory.resolve().name, self._class_names(self.directory / CLASS_NAMES), size=shape[0]
            )
        except UserError as error:
            raise ValueError(f"data_dir: {error}") from error
        self.train_size = count

    def _class_names(self, path: Path) -> tuple[str, ...]:
        largest = int(read_labels(self.files["train"].labels).max())
        if not path.is_file():
            return tuple(map(str, range(largest + 1)))
        names = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
        if twice := [name for name in names if names.count(name) > 1]:
            raise UserError(f"{path} must name each class once, and names {twice[0]} twice")
        if len(names) <= largest:
            raise UserError(f"{path} must name {largest + 1} classes, one per line, got {len(names)}")
        return names

    def read(self, split: Split) -> ImageDataset:
        return read_set(self.files[split], self.spec)


class Files(NamedTuple):
    """The two files of a training or test set."""

    images: Path
    labels: Path


class Header(NamedTuple):
    """The header of an IDX file."""

    element_type: str
    shape: list[int]
    size: int  # of the header, in bytes


def find(directory: Path, split: Split, prefix: str = "") -> Files:
    """Finds the files of a training or test set by their names.

    Args:
        directory: Where they are.
        split: Which set.
        prefix: What the names begin with.

    Raises:
        UserError: One of them is not there, or several could be meant.
    """
    if not directory.is_dir():
        raise UserError(f"{directory} " + ("is not a directory" if directory.exists() else "does not exist"))
    words = ("train",) if split == "train" else ("test", "t10k")
    names = sorted(path.name.removesuffix(".gz") for path in directory.iterdir())
    found = []
    for content in ("images", "labels"):
        matching = {
            name
            for name in names
            if name.startswith(prefix) and content in name and "idx" in name and any(word in name for word in words)
        }
        if len(matching) != 1:
            what = f"one file {prefix}*{'|'.join(words)}*{content}*idx*, plain or .gz"
            raise UserError(f"{directory} must hold {what}, found {', '.join(sorted(matching)) or 'none'}")
        path = directory / matching.pop()
        found.append(path if path.exists() else path.with_name(f"{path.name}.gz"))
    return Files(*found)


def read_header(path: Path) -> Header:
    """Reads the first bytes of a file.

    Raises:
        UserError: It cannot be read, or is not an IDX file.
    """
    start = _content(path, 16)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in ELEMENT_TYPES or not 1 <= start[3] <= 3:
        raise UserError(f"{path} is not an IDX file of whole numbers")
    size = 4 + 4 * start[3]
    return Header(ELEMENT_TYPES[start[2]], np.frombuffer(start[4:size], ">u4").tolist(), size)


def read(path: Path) -> NDArray[Any]:
    """Reads a file, plain or ``.gz``.

    Raises:
        UserError: It cannot be read, or its size does not match its header.
    """
    header, content = read_header(path), _content(path)
    values = np.frombuffer(content[header.size :], header.element_type)
    if values.size != np.prod(header.shape):
        raise UserError(f"{path} is damaged: its header says {header.shape} values, it holds {values.size:,}")
    return values.reshape(header.shape)


def read_labels(path: Path) -> NDArray[np.int64]:
    """Labels [N]; of several columns, as in QMNIST, the first."""
    labels = read(path).astype(np.int64)
    if labels.size == 0 or labels.min() < 0:
        raise UserError(f"{path} must hold labels of at least 0")
    return labels if labels.ndim == 1 else labels[:, 0]


def read_set(files: Files, spec: DataSpec, *, first_label: int = 0) -> ImageDataset:
    """Reads a training or test set.

    Args:
        files: Its files.
        spec: What they must hold.
        first_label: The label of the first class in the files.

    Raises:
        UserError: The files do not fit each other or the description of the data set.
    """
    images, labels = read(files.images), read_labels(files.labels) - first_label
    if images.dtype != np.uint8 or images.shape[1:] != (spec.size, spec.size):
        raise UserError(f"{files.images} must hold bytes [N, {spec.size}, {spec.size}], got {list(images.shape)}")
    if len(images) != len(labels):
        raise UserError(f"{files.images} holds {len(images):,} images, and {files.labels} {len(labels):,} labels")
    if labels.min() < 0 or labels.max() >= spec.num_classes:
        found = f"from {labels.min() + first_label} to {labels.max() + first_label}"
        raise UserError(f"{files.labels} holds labels {found}, and there are {spec.num_classes} classes")
    return ImageDataset(torch.from_numpy(images.copy())[:, None], torch.from_numpy(labels))


def _content(path: Path, size: int = -1) -> bytes:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return file.read(size)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path} is damaged: not a complete gzip file ({error})") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
