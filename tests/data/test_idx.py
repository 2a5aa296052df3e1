"""Data sets in the IDX format: your own, and MNIST's relatives from a local server."""

import functools
import gzip
import hashlib
import http.server
import io
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from torchvision import datasets
from torchvision.datasets.mnist import read_sn3_pascalvincent_tensor

from fmnist.config.errors import UserError
from fmnist.data import idx, mnist
from fmnist.data.dataset import ImageDataset
from tests.helpers import IDX_CODES, encode_idx

IMAGES = np.random.default_rng(0).integers(0, 256, (30, 16, 16), np.uint8)
LABELS = (np.arange(30) % 3).astype(np.uint8)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """20 training and 10 test images of 16 x 16 pixels, three classes."""
    for prefix, part in (("train", slice(20)), ("t10k", slice(20, None))):
        (tmp_path / f"{prefix}-images-idx3-ubyte").write_bytes(encode_idx(IMAGES[part]))
        (tmp_path / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(encode_idx(LABELS[part])))
    return tmp_path


values = st.sampled_from(list(IDX_CODES)).flatmap(
    lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=1, max_dims=3, max_side=4))
)


@given(values, st.booleans())
def test_any_file_is_read_as_torchvision_reads_it(
    tmp_path_factory: pytest.TempPathFactory, values: NDArray[Any], packed: bool
) -> None:
    directory = tmp_path_factory.mktemp("idx")
    plain = directory / "x"
    plain.write_bytes(encode_idx(values))
    path = directory / ("x.gz" if packed else "x")
    path.write_bytes(gzip.compress(encode_idx(values)) if packed else encode_idx(values))
    np.testing.assert_array_equal(idx.read(path), read_sn3_pascalvincent_tensor(str(plain)).numpy())


def test_directory_is_a_data_set_with_classes_by_number_or_by_name(directory: Path) -> None:
    data = idx.IDX(data_dir=str(directory), val_size=0.25)
    assert (data.spec.class_names, data.spec.image_shape) == (("0", "1", "2"), (1, 16, 16))
    data.setup("fit")
    data.setup("test")
    np.testing.assert_array_equal(data.train_set.images[:, 0], IMAGES[:20])
    np.testing.assert_array_equal(data.test_set.labels, LABELS[20:])
    assert len(data.val_indices) == 5
    (directory / "classes.txt").write_text("shoe\nhat\n\ncoat\n")
    assert idx.IDX(data_dir=str(directory)).spec.class_names == ("shoe", "hat", "coat")


def write(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda directory: (directory / name).write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: (path / "t10k-images-idx3-ubyte").unlink(), "must hold one file .*t10k.*images.*, found none"),
        (write("train-images2-idx3-ubyte", b""), "found train-images-idx3-ubyte, train-images2-idx3-ubyte"),
        (write("train-images-idx3-ubyte", b"<html>"), "train-images-idx3-ubyte is not an IDX file of whole numbers"),
        (write("train-images-idx3-ubyte", encode_idx(IMAGES[:20])[:-9]), r"is damaged: .*\[20, 16, 16\].*holds 5,111"),
        (write("train-images-idx3-ubyte", encode_idx(IMAGES[:20, 1:])), r"must hold square images, got \[20, 15, 16\]"),
        (write("train-images-idx3-ubyte", encode_idx(IMAGES[:19])), "holds 19 images, and .* 20 labels"),
        (write("train-labels-idx1-ubyte.gz", b"\x1f\x8b"), "is damaged: not a complete gzip file"),
        (write("classes.txt", b"a\nb\n"), "classes.txt must name 3 classes, one per line, got 2"),
        (write("classes.txt", b"a\nb\na\n"), "classes.txt must name each class once, and names a twice"),
        (
            write("t10k-images-idx3-ubyte", encode_idx(IMAGES[20:, 1:])),
            r"must hold bytes \[N, 16, 16\]",
        ),
        (
            write("t10k-labels-idx1-ubyte.gz", gzip.compress(encode_idx(LABELS[20:] + 1))),
            "labels from 1 to 3, and there are 3 cl",
        ),
    ],
)
def test_mistake_is_named(directory: Path, damage: Callable[[Path], object], message: str) -> None:
    def read() -> None:
        data = idx.IDX(data_dir=str(directory), val_size=0.25)
        data.setup("fit")
        data.setup("test")

    damage(directory)
    with pytest.raises((ValueError, UserError), match=message):
        read()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str]]:
    """A directory and the address where it is served; the cache is empty."""
    monkeypatch.setenv("FMNIST_DATA", str(tmp_path / "cache"))
    (tmp_path / "served").mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "served"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield tmp_path / "served", f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def serve(name: str, directory: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Serves small files in the form of a data set, and points torchvision there."""
    dataset, files = getattr(datasets, name), {}
    transposed = IMAGES.transpose(0, 2, 1) if name == "EMNIST" else IMAGES
    for part, chosen in (("train", slice(20)), ("test", slice(20, None))):
        stem = {"QMNIST": f"qmnist-{part}", "EMNIST": f"emnist-letters-{part}"}.get(name, part.replace("test", "t10k"))
        labels = LABELS[chosen] + (name == "EMNIST")
        if name == "QMNIST":
            labels = np.column_stack([labels, np.full((len(labels), 7), 99)]).astype(np.int32)
        kind = "idx2-int" if name == "QMNIST" else "idx1-ubyte"
        files[f"{stem}-images-idx3-ubyte.gz"] = gzip.compress(encode_idx(transposed[chosen]))
        files[f"{stem}-labels-{kind}.gz"] = gzip.compress(encode_idx(labels.astype(labels.dtype.name)))
    for file, content in files.items():
        (directory / file).write_bytes(content)
    resources = [(file, md5(content)) for file, content in files.items()]
    if name == "EMNIST":
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as packed:
            for file, content in files.items():
                packed.writestr(f"gzip/{file}", content)
        (directory / "gzip.zip").write_bytes(archive.getvalue())
        monkeypatch.setattr(dataset, "url", f"{address}gzip.zip")
        monkeypatch.setattr(dataset, "md5", md5(archive.getvalue()))
    elif name == "QMNIST":
        urls = [(address + file, digest) for file, digest in resources]
        monkeypatch.setattr(dataset, "resources", {"train": urls[:2], "test": urls[2:]})
    else:
        monkeypatch.setattr(dataset, "mirrors", [address])
        monkeypatch.setattr(dataset, "resources", resources)


@pytest.mark.parametrize(
    ("name", "options", "classes"),
    [
        ("MNIST", {}, ["0", "1", "2"]),
        ("KMNIST", {}, ["o", "ki", "su"]),
        ("QMNIST", {}, ["0", "1", "2"]),
        ("EMNIST", {"split": "letters"}, ["a", "b", "c"]),
    ],
)
def test_relatives_of_mnist_are_downloaded_once(
    name: str, options: dict[str, Any], classes: list[str], server: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(name, *server, monkeypatch)

    def read() -> tuple[ImageDataset, ImageDataset]:
        data = getattr(mnist, name)(**options)
        assert list(data.spec.class_names[:3]) == classes
        data.spec = data.spec.__class__(data.spec.name, data.spec.class_names, size=16)  # the files here are smaller
        data.prepare_data()
        return data.read("train"), data.read("test")

    first = read()
    assert not list((server[0].parent / "cache").rglob("*.gz"))
    for path in server[0].iterdir():
        path.unlink()
    for train, test in (first, read()):  # the second time from the cache
        np.testing.assert_array_equal(torch.cat([train.images, test.images])[:, 0], IMAGES)
        np.testing.assert_array_equal(torch.cat([train.labels, test.labels]), LABELS)


def test_failed_download_leaves_nothing_and_says_what_to_do(
    server: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    serve("KMNIST", *server, monkeypatch)
    (server[0] / "t10k-images-idx3-ubyte.gz").write_bytes(b"<html>")
    with pytest.raises(UserError, match=r"^KMNIST could not be downloaded: .*t10k-images.*data\.data_dir=<directory>$"):
        mnist.KMNIST().prepare_data()
    assert [path.name for path in (server[0].parent / "cache").iterdir()] == [".KMNIST.lock"]


def test_all_splits_of_emnist_have_names_for_their_classes() -> None:
    splits = {"balanced": 47, "letters": 26, "digits": 10, "byclass": 62, "bymerge": 47}
    assert {split: mnist.EMNIST(split=split).spec.num_classes for split in splits} == splits  # type: ignore[arg-type]
