"""Finding, reading and verifying the four official files."""

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import FashionMNIST

from fmnist.config.errors import UserError
from fmnist.data import files

pytestmark = pytest.mark.real_data

SMALL = "t10k-labels-idx1-ubyte"  # 10 kB


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("folder", ["", "FashionMNIST/raw"])
def test_every_layout_gives_the_images_that_torchvision_reads(
    official: Path, tmp_path: Path, folder: str, suffix: str
) -> None:
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    for name in files.SHA256:
        content = (official / name).read_bytes() if name.startswith("t10k") else b"not read"
        content = gzip.compress(content, compresslevel=1) if suffix else content
        (tmp_path / folder / f"{name}{suffix}").write_bytes(content)
    arrays = files.load(tmp_path, "t10k")
    reference = FashionMNIST(official.parents[1], train=False)
    np.testing.assert_array_equal(arrays.images[:, 0], reference.data.numpy())
    np.testing.assert_array_equal(arrays.labels, reference.targets.numpy())


def test_class_names_are_torchvisions() -> None:
    assert list(files.CLASS_NAMES) == FashionMNIST.classes


def test_missing_directory_and_missing_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere does not exist"):
        files.find(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file is not a directory"):
        files.find(tmp_path / "file")
    with pytest.raises(UserError, match=r"holds no train-images-idx3-ubyte: .*\.gz.*FashionMNIST/raw"):
        files.find(tmp_path)


@pytest.mark.parametrize(
    ("suffix", "damage", "message"),
    [
        (
            "",
            lambda good: good[:-100],
            "is not .* expected SHA-256 0402a96d92fd..., found [0-9a-f]{12}... over 9,908 bytes",
        ),
        ("", lambda _good: b"", "is not the official file"),
        (".gz", lambda _good: gzip.compress(b"another file"), "is not the official file"),
        (".gz", lambda good: good[:-100], "is damaged: not a complete gzip file"),
        (".gz", lambda good: good[:500] + bytes([good[500] ^ 1]) + good[501:], "is damaged"),
        (".gz", lambda _good: b"<html>404 not found</html>", "is damaged"),
    ],
    ids=["truncated", "empty", "another file, gzipped", "truncated gzip", "flipped bit in gzip", "no gzip"],
)
def test_damaged_file_is_rejected_by_name_and_kept(
    official: Path, tmp_path: Path, suffix: str, damage: Callable[[bytes], bytes], message: str
) -> None:
    good = (official / SMALL).read_bytes()
    bad = damage(gzip.compress(good) if suffix else good)
    path = tmp_path / f"{SMALL}{suffix}"
    path.write_bytes(bad)
    with pytest.raises(UserError, match=f"{path} {message}.*; replace it"):
        files.read(path)
    assert path.read_bytes() == bad  # the user's file


def test_unreadable_file_is_named_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"cannot read {tmp_path}/.*: No such file or directory"):
        files.read(tmp_path / SMALL)
