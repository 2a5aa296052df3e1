"""The files of a folder of pictures: their classes, their sets, and warnings about them."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fmnist.config.errors import UserError, printable

TRAIN, VAL, TEST = "train", "val", "test"
SET_NAMES = {"train": TRAIN, "val": VAL, "valid": VAL, "validation": VAL, "test": TEST}  # sub-folders
SHOWN = 5  # names in a message


class Entry(NamedTuple):
    """A picture file, as it was when it was listed."""

    part: str  # train, val or test
    label: int
    path: str  # below the folder
    size: int  # bytes
    modified: int  # nanoseconds


def find_sets(folder: Path) -> dict[str, Path]:
    """The directories whose sub-directories are classes, by ``train``, ``val`` and ``test``.

    Raises:
        UserError: The folder does not exist, has no sub-directories, or two validation sets.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} " + ("is not a directory" if folder.exists() else "does not exist"))
    below = _subdirectories(folder)
    if "train" in below and set(below) <= set(SET_NAMES) and _subdirectories(folder / "train"):
        sets = {SET_NAMES[name]: folder / name for name in below}
        if len(sets) < len(below):
            raise UserError(f"{folder} must hold one validation set, and has {_listed(below)}")
        return sets
    if not below:
        raise UserError(f"{folder} must hold a sub-directory of pictures for each class, and has no sub-directory")
    return {TRAIN: folder}


def class_names(sets: dict[str, Path]) -> tuple[str, ...]:
    """The names of the classes, sorted.

    Raises:
        UserError: There is one class alone, or a class that is not in the training set.
    """
    names = _subdirectories(sets[TRAIN])
    if len(names) < 2:
        raise UserError(f"{sets[TRAIN]} must hold at least two classes, and has {', '.join(names) or 'none'}")
    if odd := [name for name in names if not name.isprintable()]:
        raise UserError(f"rename {printable(odd[0])} in {sets[TRAIN]}: a class must have a printable name")
    for directory in sets.values():
        if unknown := [name for name in _subdirectories(directory) if name not in names]:
            raise UserError(f"{directory} has {_listed(unknown)}, and {sets[TRAIN]} has no such class")
    return tuple(names)


def _subdirectories(directory: Path) -> list[str]:
    try:
        return sorted(path.name for path in directory.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise UserError(f"cannot read {directory}: {error.strerror}") from error


def list_pictures(sets: dict[str, Path], names: Sequence[str], folder: Path) -> list[Entry]:
    """All files below the classes, sorted by set, class and path; hidden ones are left out."""
    entries = []
    for part, directory in sets.items():
        for label, name in enumerate(names):
            found = sorted(_files(directory / name), key=lambda file: file.path)
            for file in found:
                status, path = file.stat(), file.path.removeprefix(f"{folder}{os.sep}")
                entries.append(Entry(part, label, path, status.st_size, status.st_mtime_ns))
    return entries


def _files(directory: Path | str) -> Iterator[os.DirEntry[str]]:
    """The files below a directory that are not hidden; none if it does not exist."""
    with suppress(FileNotFoundError), os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _files(entry.path)
            elif entry.is_file():
                yield entry


def put_aside(entries: Sequence[Entry], share: float, seed: int) -> list[Entry]:
    """Moves a share of each class to the test set, but not its last picture.

    The hash of each file's name with the seed decides, so that a new picture moves few others.
    """
    chosen = set()
    for label in {entry.label for entry in entries}:
        paths = [entry.path for entry in entries if entry.label == label]
        paths.sort(key=lambda path: hashlib.sha256(os.fsencode(f"{seed}/{path}")).digest())
        chosen |= set(paths[: min(round(share * len(paths)) or 1, len(paths) - 1)])
    return [entry._replace(part=TEST) if entry.path in chosen else entry for entry in entries]


def check_classes(entries: Sequence[Entry], names: Sequence[str]) -> list[str]:
    """A warning if the test set lacks classes.

    Raises:
        UserError: A class has no training picture, or there is no test picture at all.
    """
    in_train = {entry.label for entry in entries if entry.part != TEST}
    in_test = {entry.label for entry in entries if entry.part == TEST}
    if missing := [name for label, name in enumerate(names) if label not in in_train]:
        raise UserError(f"there is no readable training picture of {_listed(missing)}")
    if not in_test:
        raise UserError("there is no readable test picture")
    missing = [name for label, name in enumerate(names) if label not in in_test]
    return [f"the test set has no picture of {_listed(missing)}"] if missing else []


def find_copies(images: NDArray[np.uint8], entries: Sequence[Entry]) -> list[str]:
    """A warning if test pictures are also training pictures, after the scaling."""
    digests = [hashlib.sha256(image.data).digest() for image in np.ascontiguousarray(images)]
    seen = {digest: entry.path for digest, entry in zip(digests, entries, strict=True) if entry.part != TEST}
    copies = [
        f"{entry.path} = {seen[digest]}"
        for digest, entry in zip(digests, entries, strict=True)
        if entry.part == TEST and digest in seen
    ]
    return warning("test pictures that are also training pictures, which makes the test too easy", copies)


def warning(what: str, names: Sequence[str]) -> list[str]:
    """A warning with the number of names and the first of them; empty without names."""
    return [f"{what} ({len(names)}): {_listed(names)}"] if names else []


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
