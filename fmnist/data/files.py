"""The four official files of Fashion-MNIST: their names, their contents' hashes, and how to read them."""

import gzip
import hashlib
import zlib
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fmnist.config.errors import UserError

# Source: https://github.com/zalandoresearch/fashion-mnist, section "Labels".
CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
TRAIN_SIZE = 60_000

# SHA-256 of the uncompressed files: the header of a .gz differs between distributors, its content does not.
SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


class Arrays(NamedTuple):
    """Images and labels of one of the two official sets."""

    images: NDArray[np.uint8]  # [N, 1, 28, 28], 0 is black (background), 255 is white
    labels: NDArray[np.int64]  # [N], indices into CLASS_NAMES


def find(directory: Path) -> dict[str, Path]:
    """Finds the four files in a directory.

    Three layouts are known: plain files, ``.gz`` files, and torchvision's, which is either of the two in
    ``FashionMNIST/raw`` below the directory.

    Raises:
        UserError: The directory or one of the files is not there.
    """
    if not directory.is_dir():
        raise UserError(f"{directory} " + ("is not a directory" if directory.exists() else "does not exist"))
    found = {}
    for name in SHA256:
        candidates = (
            place / f"{name}{suffix}" for place in (directory, directory / "FashionMNIST/raw") for suffix in ("", ".gz")
        )
        path = next((candidate for candidate in candidates if candidate.is_file()), None)
        if path is None:
            raise UserError(
                f"{directory} holds no {name}: looked for it as it is, as {name}.gz, and for both in FashionMNIST/raw"
            )
        found[name] = path
    return found


def read(path: Path) -> NDArray[np.uint8]:
    """Reads one file, uncompressed, and verifies that it is the official one. Jobs of one process share the memory.

    Args:
        path: An official file, plain or with ``.gz`` appended to its name.

    Returns:
        The content with its IDX header, one element per byte.

    Raises:
        UserError: The file cannot be read, or its content is not the official one.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    return _read(path, status.st_ino, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=len(SHA256))
def _read(path: Path, *_version: int) -> NDArray[np.uint8]:
    name = path.name.removesuffix(".gz")
    try:
        if path.suffix == ".gz":
            content = np.frombuffer(bytearray(gzip.decompress(path.read_bytes())), np.uint8)
        else:
            content = np.fromfile(path, np.uint8)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path} is damaged: not a complete gzip file ({error}); {_REMEDY}") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    digest = hashlib.sha256(content.data).hexdigest()
    if digest != SHA256[name]:
        raise UserError(
            f"{path} is not the official file: expected SHA-256 {SHA256[name][:12]}..., "
            f"found {digest[:12]}... over {content.size:,} bytes; {_REMEDY}"
        )
    return content


_REMEDY = "replace it by the official file, or omit data.data_dir to download the data set"


def load(directory: Path, prefix: str) -> Arrays:
    """Reads and verifies one of the two official sets.

    Args:
        directory: A directory in one of the layouts that ``find`` knows.
        prefix: ``train`` or ``t10k``.

    Raises:
        UserError: As ``find`` and ``read`` do.
    """
    paths = find(directory)
    # The content is verified, so the sizes of the IDX headers are known: 16 bytes for images, 8 for labels.
    images = read(paths[f"{prefix}-images-idx3-ubyte"])[16:].reshape(-1, 1, 28, 28)
    labels = read(paths[f"{prefix}-labels-idx1-ubyte"])[8:].astype(np.int64)
    return Arrays(images, labels)
