"""Classify pictures with a trained network.

  python -m fmnist.predict run=runs/train/<date>/<time> images=shoe.jpg
  python -m fmnist.predict run=... images=[shoe.jpg,wardrobe,photos/*.png]   files, directories, patterns
  python -m fmnist.predict run=... index=[0,5] format=json                   images of the test set

Prints the most probable classes of each picture and draws the input of the network. Pictures of any size and colour are
first converted to the form of the images that the network was trained on. For Fashion-MNIST and its like these are
28 x 28 pixels, light on black: one object on a plain background works best.
"""

import io
import logging
import os
import sys
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from fmnist.cli import options
from fmnist.cli.options import option
from fmnist.config.errors import UserError, printable
from fmnist.data import pictures
from fmnist.data.spec import DataSpec
from fmnist.inference import picture_files, prediction
from fmnist.inference.pictures import prepare
from fmnist.inference.prediction import Picture, Prediction
from fmnist.runs import atomic
from fmnist.runs.run_directory import RunDirectory

FORMATS = {"table": prediction.as_table, "json": prediction.as_json, "csv": prediction.as_csv}
ROWS = 20  # pictures in the figure
THUMBNAIL = 260  # pixels: twice the size at which originals are drawn


@dataclass(frozen=True)
class Options:
    run: Path = option("the run directory, or a path in it", positional=True)
    images: tuple[str, ...] = option(
        "picture files, directories of them, patterns: images=[a.png,b.jpg]", positional=True, default=()
    )
    index: tuple[str, ...] = option("images of the test set, counted from 0: index=[0,5]", default=())
    checkpoint: Literal["best", "last"] = option("best or last", default="best")
    format: Literal["table", "json", "csv"] = option("format of the output: table, json or csv", default="table")
    data_dir: Path | None = option("directory of the data set, for index=, if it has moved", default=None)
    picture: Path | None = option("PNG file for the figure, if not <run>/predictions/<UTC time>.png", default=None)
    trust: tuple[str, ...] = option(options.TRUST, default=())


def main(options: Options) -> None:
    """Classifies every picture that can be read; exits with code 1 if there is one that cannot."""
    # Messages go to stderr, so that stdout holds the predictions only.
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr, force=True)
    paths, indices = picture_files.find(options.images), read_indices(options.index)
    if not paths and not indices:
        raise UserError("nothing to classify: after the run directory, give pictures or index=<test image>")
    check_unused(options.picture)
    run = RunDirectory(options.run)
    found = read_pictures(paths, data_spec(run))
    failed = len(found) < len(paths)
    if found or indices:
        # These import torch, which takes seconds: not before there is something to classify.
        import torch

        from fmnist.inference import trained

        network = trained.load_network(run, options.checkpoint, options.trust)
        found += read_test_images(indices, options)
        images = torch.stack([torch.from_numpy(picture.pixels) for picture in found])
        predictions = list(map(Prediction, found, trained.by_class(network, images)))
        print(FORMATS[options.format](predictions), flush=True)
        path = draw(predictions[:ROWS], options)
        note = f", the first {ROWS} of {len(predictions)} pictures" if len(predictions) > ROWS else ""
        logging.getLogger(__name__).info("drawn: %s%s", printable(str(path)), note)
    if failed:
        sys.exit(1)


def read_indices(texts: Iterable[str]) -> list[int]:
    """Indices of test images, each once.

    Raises:
        UserError: A text is not a whole number of at least 0.
    """
    for text in texts:
        if not (text.isascii() and text.isdigit()):
            raise UserError(f"index must be whole numbers of at least 0, got '{printable(text)}'")
    return list(dict.fromkeys(map(int, texts)))


def check_unused(figure: Path | None) -> None:
    """Makes sure, before any work, that the figure overwrites nothing.

    Raises:
        UserError: The path exists, or does not end in .png.
    """
    if figure and figure.suffix.lower() != ".png":
        raise UserError(f"picture must end in .png, got {figure}")
    if figure and os.path.lexists(figure):
        raise UserError(f"{figure} exists already and is not overwritten; name another file with picture=<file>")


def data_spec(run: RunDirectory) -> DataSpec:
    """The data set of a run, without torch.

    Raises:
        UserError: The run has no manifest, or one of another version.
    """
    run.read_configuration()  # reports a mistyped path
    try:
        return DataSpec.from_dict((run.read_manifest() or {})["data"])
    except (KeyError, TypeError) as error:
        raise UserError(f"{run.manifest} does not describe the data set: another version's?") from error


def read_pictures(paths: Sequence[Path], spec: DataSpec) -> list[Picture]:
    """Reads and converts pictures; prints one line for each that cannot be read and skips it."""
    read: list[Picture] = []
    for path in paths:
        try:
            read.append(read_picture(path, spec, with_thumbnail=len(read) < ROWS))
        except UserError as error:
            print(f"error: {printable(str(error))}", file=sys.stderr)
    return read


def read_picture(path: Path, spec: DataSpec, *, with_thumbnail: bool) -> Picture:
    if "," in str(path) and not path.exists():
        raise UserError(f"cannot read {path}: no such file; write several pictures as images=[a.png,b.png]")
    picture = pictures.read(path, at_least=spec.decoded_size)
    try:
        original = pictures.thumbnail(pictures.read(path, at_least=THUMBNAIL), THUMBNAIL) if with_thumbnail else None
        return Picture(str(path), original, prepare(picture, spec))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def read_test_images(indices: Sequence[int], options: Options) -> list[Picture]:
    """Reads images of the test set from where the run had it."""
    if not indices:
        return []
    from fmnist.inference import trained

    config = trained.configuration(RunDirectory(options.run), options.checkpoint, options.trust)
    data = trained.data(config, "test", options.data_dir)
    read = []
    for index in indices:
        if index >= len(data.test_set):
            raise UserError(f"index must be from 0 to {len(data.test_set) - 1}, got {index}")
        image, label = data.test_set[index]
        read.append(Picture(f"test image {index}", None, image.numpy(), data.spec.class_names[label]))
    return read


def draw(predictions: Sequence[Prediction], options: Options) -> Path:
    """Writes the figure to a new file.

    Raises:
        UserError: The file cannot be written.
    """
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # in a file name: matplotlib draws a box instead
        prediction.figure(predictions).savefig(content, format="png")
    name = f"{datetime.now(UTC):%Y-%m-%d_%H-%M-%S-%f}.png"
    path = options.picture or RunDirectory(options.run).predictions / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(exist_ok=False)  # of two processes, only one succeeds
        atomic.write(path, content.getvalue())
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; choose another file with picture=<file>") from error
    return path


if __name__ == "__main__":
    options.run(main, Options)
