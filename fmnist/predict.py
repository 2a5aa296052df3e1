"""Asks a trained network what is on pictures.

  python -m fmnist.predict run=runs/train/<date>/<time> images=shoe.jpg
  python -m fmnist.predict run=... images=[shoe.jpg,wardrobe,photos/*.png]   files, directories, patterns
  python -m fmnist.predict run=... index=[0,5] format=json                   images of the test set

Prints the most probable classes of each picture and draws what the network saw. Any picture will do: it is brought to
the form of the data set first, 28 x 28 pixels, light on black. One garment on a plain background works best.
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
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fmnist.cli import options
from fmnist.cli.options import option
from fmnist.config.errors import UserError
from fmnist.data import files
from fmnist.inference import picture_files, pictures, prediction
from fmnist.inference.prediction import Inspection, printable
from fmnist.runs import atomic
from fmnist.runs.run_directory import RunDirectory

if TYPE_CHECKING:
    from torch import nn

FORMATS = {"table": prediction.table, "json": prediction.as_json, "csv": prediction.as_csv}
ROWS = 20  # pictures that are drawn: more would make an image that nobody can look at
THUMBNAIL = 260  # pixels: twice the size at which originals are drawn


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    run: Path = option("the run directory")
    images: tuple[str, ...] = option("picture files, directories of them, patterns: images=[a.png,b.jpg]", default=())
    index: tuple[str, ...] = option("images of the test set, from 0 to 9999: index=[0,5]", default=())
    checkpoint: Literal["best", "last"] = option("best or last", default="best")
    format: Literal["table", "json", "csv"] = option("of what is printed: table, json or csv", default="table")
    data_dir: Path | None = option("directory of the data set, for index=, if it has moved since", default=None)
    picture: Path | None = option("the PNG to draw; left out: <run>/predictions/<UTC time>.png", default=None)
    trust: tuple[str, ...] = option(options.TRUST, default=())


class Question(NamedTuple):
    """What the network is asked about; see ``Inspection``."""

    name: str
    original: NDArray[np.uint8]
    seen: NDArray[np.uint8]
    true_class: str | None = None


def main(options: Options) -> None:
    """Answers for every picture that can be read; ends with exit code 1 if there is one that cannot."""
    # Messages go to stderr, so that stdout holds the answers alone.
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr, force=True)
    paths, indices = picture_files.find(options.images), numbers(options.index)
    if not paths and not indices:
        raise UserError("nothing to look at: give images=<file, directory or pattern> or index=<test image>")
    check_free(options.picture)
    questions, failed = about_files(paths)
    if questions or indices:
        # torch takes seconds to import: not before there is something to ask.
        from fmnist.inference import trained

        network = trained.load(options.run, options.checkpoint, options.trust)
        questions += about_test_images(options, indices)
        inspections = ask(network, questions)
        print(FORMATS[options.format](inspections), flush=True)
        path = draw(inspections[:ROWS], options)
        note = f", the first {ROWS} of {len(inspections)} pictures" if len(inspections) > ROWS else ""
        logging.getLogger(__name__).info("drawn: %s%s", printable(str(path)), note)
    if failed:
        sys.exit(1)


def numbers(index: Iterable[str]) -> list[int]:
    """The numbers of test images that are meant, each once.

    Raises:
        UserError: There is no such image.
    """
    allowed = {str(number): number for number in range(files.TEST_SIZE)}
    for text in index:
        if text not in allowed:
            raise UserError(f"index must be whole numbers from 0 to {files.TEST_SIZE - 1}, got '{printable(text)}'")
    return list(dict.fromkeys(allowed[text] for text in index))


def check_free(picture: Path | None) -> None:
    """Makes sure that nothing is overwritten, before work is done in vain.

    Raises:
        UserError: The path is taken, or is not called like a PNG.
    """
    if picture and picture.suffix.lower() != ".png":
        raise UserError(f"picture must end in .png, got {picture}")
    if picture and os.path.lexists(picture):
        raise UserError(f"{picture} exists already and is not overwritten; name another file with picture=<file>")


def about_files(paths: Sequence[Path]) -> tuple[list[Question], bool]:
    """Reads pictures, prints one line for each that cannot be read, and says whether there was one."""
    questions: list[Question] = []
    for path in paths:
        try:
            questions.append(_about_file(path, to_be_drawn=len(questions) < ROWS))
        except UserError as error:
            print(f"error: {printable(str(error))}", file=sys.stderr)
    return questions, len(questions) < len(paths)


def _about_file(path: Path, *, to_be_drawn: bool) -> Question:
    if "," in str(path) and not path.exists():
        raise UserError(f"cannot read {path}: no such file; several pictures are written images=[a.png,b.png]")
    picture = pictures.read(path)
    try:
        seen = pictures.prepare(picture)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return Question(str(path), pictures.thumbnail(picture, THUMBNAIL) if to_be_drawn else seen, seen)


def about_test_images(options: Options, indices: Sequence[int]) -> list[Question]:
    """Takes images from the official test set, from where the run had it."""
    if not indices:
        return []
    from fmnist.inference import trained

    config = trained.configuration(RunDirectory(options.run), options.checkpoint, options.trust)
    dataset = trained.data(config, "test", options.data_dir).test_set
    questions = []
    for index in indices:
        image, label = dataset[index]
        pixels = image[0].numpy()
        questions.append(Question(f"test image {index}", pixels, pixels, files.CLASS_NAMES[label]))
    return questions


def ask(network: "nn.Module", questions: Sequence[Question]) -> list[Inspection]:
    """Puts the questions to the network."""
    import torch

    from fmnist.inference import trained

    images = torch.from_numpy(np.stack([question.seen for question in questions]))[:, None]
    return [
        Inspection(*question, dict(zip(files.CLASS_NAMES, row, strict=True)))
        for question, row in zip(questions, trained.probabilities(network, images).tolist(), strict=True)
    ]


def draw(inspections: Sequence[Inspection], options: Options) -> Path:
    """Writes the figure to a file that was not there before.

    Raises:
        UserError: It cannot be written.
    """
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # of a file's name: a box is drawn instead
        prediction.figure(inspections).savefig(content, format="png")
    name = f"{datetime.now(UTC):%Y-%m-%d_%H-%M-%S-%f}.png"
    path = options.picture or RunDirectory(options.run).predictions / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(exist_ok=False)  # takes the name: of two processes, one
        atomic.write(path, content.getvalue())
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; picture=<file> puts it elsewhere") from error
    return path


if __name__ == "__main__":
    options.run(main, Options)
