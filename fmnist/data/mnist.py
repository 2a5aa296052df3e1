"""MNIST and its relatives. torchvision downloads them and verifies the download."""

import tempfile
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock
from torchvision import datasets

from fmnist.config.errors import UserError
from fmnist.config.paths import data_cache
from fmnist.data import idx
from fmnist.data.dataset import ImageDataset
from fmnist.data.download import download_errors
from fmnist.data.image_data import ImageDataModule, Split
from fmnist.data.spec import DataSpec


class MNIST(ImageDataModule):
    """MNIST: handwritten digits (LeCun et al. 1998). A subclass has the name of another of torchvision's data sets.

    ``data_dir`` names a directory with the four files, the only place to look; None uses the project's cache and
    downloads them when they are missing.

    Args:
        options: As for every data set.

    Raises:
        ValueError: An argument is out of range, or ``data_dir`` does not hold the files.
    """

    directory: Path
    prefix = ""  # of the names of the files
    first_label = 0

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.dataset = getattr(datasets, type(self).__name__)
        names = tuple(name.partition(" - ")[0] for name in self.dataset.classes)
        self.spec = DataSpec(self.dataset.__name__, names)
        if self.data_dir is None:
            self.directory = data_cache() / self.dataset.__name__ / "raw"
            return
        try:
            self._find()
        except UserError as error:
            raise ValueError(f"data_dir: {error}") from error

    def prepare_data(self) -> None:
        if self.data_dir is not None:
            return
        cache = data_cache()
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with FileLock(cache / f".{self.dataset.__name__}.lock"):
                try:
                    self._find()
                except UserError:
                    self._download(cache)
        except OSError as error:
            raise UserError(f"cannot write the data cache {cache}: {error.strerror or error}") from error

    def read(self, split: Split) -> ImageDataset:
        return idx.read_set(self._find()[split], self.spec, first_label=self.first_label)

    def download(self, root: str) -> None:
        """Downloads the files to ``<root>/<name>/raw``."""
        for train in (True, False):
            self.dataset(root, train=train, download=True)

    def _find(self) -> dict[Split, idx.Files]:
        return {split: idx.find(self.directory, split, self.prefix) for split in ("train", "test")}

    def _download(self, cache: Path) -> None:
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache) as workspace:
            try:
                with download_errors():
                    self.download(workspace)
            except UserError as error:
                raise UserError(
                    f"{self.spec.name} could not be downloaded: {error}; put its files into a directory and name it "
                    "with data.data_dir=<directory>"
                ) from error
            self.directory.mkdir(parents=True, exist_ok=True)
            for path in Path(workspace, self.dataset.__name__, "raw").iterdir():
                if path.suffix not in (".gz", ".zip"):  # what torchvision has unpacked
                    path.replace(self.directory / path.name)


class KMNIST(MNIST):
    """KMNIST: cursive Japanese characters (Clanuwat et al. 2018, https://arxiv.org/abs/1812.01718)."""


class QMNIST(MNIST):
    """QMNIST: MNIST with 60,000 test images (Yadav and Bottou 2019, https://arxiv.org/abs/1905.10498)."""

    prefix = "qmnist-"


class EMNIST(MNIST):
    """EMNIST: handwritten letters and digits (Cohen et al. 2017, https://arxiv.org/abs/1702.05373).

    Args:
        split: ``balanced`` (47 classes), ``letters`` (26), ``digits`` (10), ``byclass`` (62) or ``bymerge`` (47).
        options: As for ``MNIST``.
    """

    def __init__(
        self,
        *,
        split: Literal["balanced", "letters", "digits", "byclass", "bymerge"] = "balanced",
        **options: Any,
    ) -> None:
        self.split = split
        self.prefix = f"emnist-{split}-"
        super().__init__(**options)
        names = datasets.EMNIST.classes_split_dict[split]
        self.first_label = names.count("N/A")  # the letters count from 1
        self.spec = DataSpec(f"EMNIST {split}", tuple(names[self.first_label :]))

    def read(self, split: Split) -> ImageDataset:
        stored = super().read(split)
        return ImageDataset(stored.images.mT.contiguous(), stored.labels)  # rows and columns are exchanged in the files

    def download(self, root: str) -> None:
        self.dataset(root, split=self.split, download=True)  # one archive with all splits
