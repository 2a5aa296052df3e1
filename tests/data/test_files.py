"""Finding, reading and verifying the four official files."""

import gzip
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import FashionMNIST

from fmnist.config.errors import UserError
from fmnist.data import files

pytestmark = pytest.mark.real_data

SMALL = "t10k-labels-idx1-ubyte"  # 10 kB


def plain(source: Path, target: Path) -> None:
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(".*"))


def gzipped(source: Path, target: Path) -> None:
    target.mkdir()
    for name in files.SHA256:
        (target / f"{name}.gz").write_bytes(gzip.compress((source / name).read_bytes(), compresslevel=1))


def torchvisions(source: Path, target: Path) -> None:
    plain(source, target / "FashionMNIST/raw")


def torchvisions_gzipped(source: Path, target: Path) -> None:
    (target / "FashionMNIST").mkdir(parents=True)
    gzipped(source, target / "FashionMNIST/raw")


@pytest.mark.parametrize("layout", [plain, gzipped, torchvisions, torchvisions_gzipped])
def test_every_layout_gives_the_images_that_torchvision_reads(
    official: Path, tmp_path: Path, layout: Callable[[Path, Path], None]
) -> None:
    layout(official, tmp_path / "given")
    torchvisions(official, tmp_path / "reference")
    arrays = files.load(tmp_path / "given", "t10k")
    reference = FashionMNIST(tmp_path / "reference", train=False)
    np.testing.assert_array_equal(arrays.images[:, 0], reference.data.numpy())
    np.testing.assert_array_equal(arrays.labels, reference.targets.numpy())


def test_class_names_are_torchvisions() -> None:
    assert list(files.CLASS_NAMES) == FashionMNIST.classes


def test_a_directory_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere does not exist"):
        files.find(tmp_path / "nowhere")


def test_a_file_given_as_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file is not a directory"):
        files.find(tmp_path / "file")


def test_the_missing_file_is_named_with_the_places_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no train-images-idx3-ubyte: .*\.gz.*FashionMNIST/raw"):
        files.find(tmp_path)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("damage", ["truncated", "flipped bit", "another file", "empty", "no gzip"])
def test_a_damaged_file_is_refused_by_name_and_kept(official: Path, tmp_path: Path, suffix: str, damage: str) -> None:
    good = (official / SMALL).read_bytes()
    content = gzip.compress(good) if suffix else good
    bad = {
        "truncated": content[:-100],
        "flipped bit": content[:500] + bytes([content[500] ^ 1]) + content[501:],
        "another file": (gzip.compress if suffix else bytes)((official / "train-labels-idx1-ubyte").read_bytes()),
        "empty": b"",
        "no gzip": b"<html>404 not found</html>",
    }[damage]
    path = tmp_path / f"{SMALL}{suffix}"
    path.write_bytes(bad)

    with pytest.raises(UserError) as error:
        files.read(path)
    assert str(path) in str(error.value)
    assert "replace it" in str(error.value)  # what to do
    assert path.read_bytes() == bad  # what the user put there stays


def test_the_message_shows_expected_and_found_hash(tmp_path: Path) -> None:
    path = tmp_path / SMALL
    path.write_bytes(b"wrong")
    with pytest.raises(UserError, match=f"expected SHA-256 {files.SHA256[SMALL][:12]}") as error:
        files.read(path)
    assert f"found {hashlib.sha256(b'wrong').hexdigest()[:12]}" in str(error.value)
    assert "5 bytes" in str(error.value)
