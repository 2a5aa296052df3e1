"""A folder of your own pictures, with a sub-folder per class."""

import csv
import hashlib
import io
import json
import logging
import math
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from fmnist.config.errors import UserError, printable
from fmnist.config.paths import data_cache
from fmnist.data import picture_listing, pictures
from fmnist.data.dataset import ImageDataset
from fmnist.data.image_data import ImageDataModule, Split
from fmnist.data.picture_listing import TEST, VAL, Entry
from fmnist.data.spec import DataSpec, Fit
from fmnist.runs import atomic

log = logging.getLogger(__name__)


class Folder(ImageDataModule):
    """Pictures of any size and format, made into images of one size once, and kept in the cache.

    The folder holds a sub-folder per class; or ``train`` and ``test``, and ``val`` if you like, with the classes below.
    Without ``test``, a part of each class is put aside for the test; it depends on the names of the files and on
    ``test_seed`` alone. With ``val``, these pictures are the validation set, unless ``val_size`` is 0.

    A run directory gets ``pictures.csv``: the set, index, class and file of every picture.

    Args:
        image_size: Height and width of the images, in pixels, at least 8.
        channels: 1 for grey, 3 for colour.
        fit: How a picture becomes square, see ``fmnist.data.pictures.resize``.
        test_size: Share of each class to put aside for the test, above 0 and below 1.
        test_seed: Seed of the choice.
        options: As for every data set; ``data_dir`` must be given.

    Raises:
        ValueError: An argument is out of range, or the folder is not one of such folders.
    """

    directory: Path

    def __init__(
        self,
        *,
        image_size: int = 28,
        channels: Literal[1, 3] = 1,
        fit: Fit = "pad",
        test_size: float = 0.15,
        test_seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if self.data_dir is None:
            raise ValueError("data_dir must be given: the directory of the pictures")
        if image_size < 8:
            raise ValueError(f"image_size must be at least 8, got {image_size}")
        if not 0 < test_size < 1:
            raise ValueError(f"test_size must be above 0 and below 1, got {test_size}")
        self.test_size = test_size
        self.test_seed = test_seed
        try:
            self.sets = picture_listing.find_sets(self.directory)
            names = picture_listing.class_names(self.sets)
        except UserError as error:
            raise ValueError(f"data_dir: {error}") from error
        resolved = self.directory.resolve()
        self.spec = DataSpec(resolved.name, names, channels, image_size, fit)
        version = os.fsencode(f"{resolved}\n{self.spec}\n{test_size} {test_seed}")
        self.cache = data_cache() / "folders" / f"{resolved.name}-{hashlib.sha256(version).hexdigest()[:12]}"

    def prepare_data(self) -> None:
        """Reads all pictures, unless the cache has them as they are now."""
        if self.sha256:  # Lightning asks once more before the test
            return
        try:
            entries = picture_listing.list_pictures(self.sets, self.spec.class_names, self.directory)
        except OSError as error:
            raise UserError(f"cannot read {error.filename}: {error.strerror}") from error
        try:
            self.cache.mkdir(parents=True, exist_ok=True)
            with FileLock(self.cache / ".lock"):
                index = _read_index(self.cache)
                if index is None or index["listed"] != [list(entry) for entry in entries]:
                    index = self._fill(entries)
        except OSError as error:
            raise UserError(f"cannot write the data cache {self.cache}: {error.strerror or error}") from error
        for warning in index["warnings"]:
            log.warning("data: %s", printable(warning))

    def _fill(self, entries: Sequence[Entry]) -> dict[str, Any]:
        """Makes the images and writes them to the cache, the index last."""
        (self.cache / "index.json").unlink(missing_ok=True)
        check_memory(len(entries) * math.prod(self.spec.image_shape))
        images, errors = pictures.read_many([self.directory / entry.path for entry in entries], self.spec)
        readable = [number for number, error in enumerate(errors) if error is None]
        images, kept = images[readable], [entries[number] for number in readable]
        left_out = [entry.path for entry, error in zip(entries, errors, strict=True) if error]
        warnings = picture_listing.warning("left out, no readable pictures", left_out)
        if TEST not in self.sets:
            kept = picture_listing.put_aside(kept, self.test_size, self.test_seed)
        in_test = np.array([entry.part == TEST for entry in kept])
        warnings += picture_listing.check_classes(kept, self.spec.class_names)
        warnings += picture_listing.find_copies(images, kept)
        parts, hashes = {}, {}
        for split, chosen in (("train", ~in_test), ("test", in_test)):
            parts[split] = [list(entry)[:3] for entry, use in zip(kept, chosen, strict=True) if use]
            part, content = images[chosen], io.BytesIO()
            np.save(content, part)
            atomic.write(self.cache / f"{split}.npy", content.getbuffer())
            hashes[split] = hashlib.sha256(part.data).hexdigest()
        listed = [list(entry) for entry in entries]
        index = {"listed": listed, "parts": parts, "sha256": hashes, "warnings": warnings}
        atomic.write(self.cache / "index.json", json.dumps(index).encode())
        return index

    def setup(self, stage: str) -> None:
        self.sha256 = dict(self._index["sha256"])  # of both sets
        super().setup(stage)
        if self.trainer and self.trainer.is_global_zero and stage == "fit":
            self._write_list(Path(self.trainer.default_root_dir) / "pictures.csv")

    def _write_list(self, path: Path) -> None:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["set", "index", "class", "file"])
        in_val = set(self.val_indices.tolist())
        for split, parts in self._index["parts"].items():
            for number, (_, label, file) in enumerate(parts):
                name = VAL if split == "train" and number in in_val else split
                writer.writerow([name, number, self.spec.class_names[label], file])
        atomic.write(path, os.fsencode(text.getvalue()))  # a file's name may be no valid text

    def read(self, split: Split) -> ImageDataset:
        index = self._index
        try:
            images = np.load(self.cache / f"{split}.npy", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"cannot read {self.cache / f'{split}.npy'}: {error}; {self._remedy}") from error
        if hashlib.sha256(images.data).hexdigest() != index["sha256"][split]:
            raise UserError(f"{self.cache / f'{split}.npy'} is damaged; {self._remedy}")
        labels = torch.tensor([label for _, label, _ in index["parts"][split]])
        return ImageDataset(torch.from_numpy(images), labels)

    def split_train(self) -> tuple[Tensor, Tensor]:
        in_val = torch.tensor([part == VAL for part, _, _ in self._index["parts"]["train"]])
        if VAL in self.sets and self.val_size:
            return (~in_val).nonzero().flatten(), in_val.nonzero().flatten()
        return super().split_train()

    def file_names(self, split: Split) -> list[str]:
        return [file for _, _, file in self._index["parts"][split]]

    @cached_property
    def _index(self) -> dict[str, Any]:
        index = _read_index(self.cache)
        if index is None:
            raise UserError(f"the data cache {self.cache} has disappeared; start again")
        return index

    @property
    def _remedy(self) -> str:
        return f"delete {self.cache}, and the pictures are read again"


def check_memory(needed: int) -> None:
    """Checks that images of so many bytes fit into the memory, three times: they are copied.

    Raises:
        UserError: They do not.
    """
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return  # not Linux
    available = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), None)
    if available is not None and 3 * needed > available:
        raise UserError(
            f"the images need {3 * needed / 1e9:.1f} GB of memory, and {available / 1e9:.1f} GB are free: take a "
            "smaller data.image_size, or fewer pictures"
        )


def _read_index(cache: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads((cache / "index.json").read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None  # there is none, or it is damaged
