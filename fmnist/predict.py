"""Classify pictures with a trained network.

  python -m fmnist.predict run=runs/train/<date>/<time> images=shoe.jpg
  python -m fmnist.predict run=... images=[shoe.jpg,wardrobe,photos/*.png]   files, directories, patterns
  python -m fmnist.predict run=... index=[0,5] format=json                   images of the test set

Prints the most probable classes of each picture and draws the input of the network. Pictures of any size and colour are
first converted to the form of the data set: 28 x 28 pixels, light on black. One garment on a plain background works
best.
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
from fmnist.config.errors import UserError
from fmnist.data import files
from fmnist.inference import picture_files, pictures, prediction
from fmnist.inference.prediction import Picture, Prediction, printable
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
    index: tuple[str, ...] = option("images of the test set, from 0 to 9999: index=[0,5]", default=())
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
    found = read_pictures(paths)
    failed = len(found) < len(paths)
    if found or indices:
        # These import torch, which takes seconds: not before there is something to classify.
        import torch

        from fmnist.inference import trained

        network = trained.load(options.run, options.checkpoint, options.trust)
        found += read_test_images(indices, options)
        images = torch.stack([torch.from_numpy(picture.pixels)[None] for picture in found])
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
        UserError: There is no such image.
    """
    allowed = {str(index): index for index in range(files.TEST_SIZE)}
    for text in texts:
        if text not in allowed:
            raise UserError(f"index must be whole numbers from 0 to {files.TEST_SIZE - 1}, got '{printable(text)}'")
    return list(dict.fromkeys(allowed[text] for text in texts))


def check_unused(figure: Path | None) -> None:
    """Makes sure, before any work, that the figure overwrites nothing.

    Raises:
        UserError: The path exists, or does not end in .png.
    """
    if figure and figure.suffix.lower() != ".png":
        raise UserError(f"picture must end in .png, got {figure}")
    if figure and os.path.lexists(figure):
        raise UserError(f"{figure} exists already and is not overwritten; name another file with picture=<file>")


def read_pictures(paths: Sequence[Path]) -> list[Picture]:
    """Reads and converts pictures; prints one line for each that cannot be read and skips it."""
    read: list[Picture] = []
    for path in paths:
        try:
            read.append(read_picture(path, with_thumbnail=len(read) < ROWS))
        except UserError as error:
            print(f"error: {printable(str(error))}", file=sys.stderr)
    return read


def read_picture(path: Path, *, with_thumbnail: bool) -> Picture:
    if "," in str(path) and not path.exists():
        raise UserError(f"cannot read {path}: no such file; write several pictures as images=[a.png,b.png]")
    picture = pictures.read(path)
    try:
        pixels = pictures.prepare(picture)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return Picture(str(path), pictures.thumbnail(picture, THUMBNAIL) if with_thumbnail else pixels, pixels)


def read_test_images(indices: Sequence[int], options: Options) -> list[Picture]:
    """Reads images of the test set from where the run had it."""
    if not indices:
        return []
    from fmnist.inference import trained

    config = trained.configuration(RunDirectory(options.run), options.checkpoint, options.trust)
    test_set = trained.data(config, "test", options.data_dir).test_set
    read = []
    for index in indices:
        image, label = test_set[index]
        pixels = image[0].numpy()
        read.append(Picture(f"test image {index}", pixels, pixels, files.CLASS_NAMES[label]))
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
