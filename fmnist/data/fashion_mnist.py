"""Fashion-MNIST, the default data set."""

from pathlib import Path
from typing import Any

import torch

from fmnist.config.errors import UserError
from fmnist.data import download, files
from fmnist.data.dataset import ImageDataset
from fmnist.data.image_data import ImageDataModule, Split
from fmnist.data.spec import DataSpec


class FashionMNIST(ImageDataModule):
    """The official 60,000 training and 10,000 test images of Fashion-MNIST, verified by their SHA-256.

    ``data_dir`` names a directory with the four official files, the only place to look; None uses the project's cache
    and fills it from the first source that has the files (see ``fmnist.data.download``).

    Args:
        options: As for every data set.

    Raises:
        ValueError: An argument is out of range, or ``data_dir`` does not hold the four files.
    """

    directory: Path
    spec = DataSpec("Fashion-MNIST", files.CLASS_NAMES)
    train_size = files.TRAIN_SIZE
    pixel_statistics = (72.94,), (90.02,)  # rounded, so that results do not depend on val_size

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        stems = {"train": "train", "test": "t10k"}
        self.sha256 = {  # which read verifies
            split: files.SHA256[f"{stem}-images-idx3-ubyte"] for split, stem in stems.items()
        }
        if self.data_dir is None:
            self.directory = download.CACHE
            return
        try:
            files.find(self.directory)  # their content is verified when they are read
        except UserError as error:
            raise ValueError(f"data_dir: {error}; for your own images add data=folder or data=idx") from error

    def prepare_data(self) -> None:
        if self.data_dir is None:
            download.fetch(self.directory)

    def read(self, split: Split) -> ImageDataset:
        arrays = files.load(self.directory, "t10k" if split == "test" else "train")
        return ImageDataset(torch.from_numpy(arrays.images), torch.from_numpy(arrays.labels))
