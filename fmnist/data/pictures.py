"""Reads picture files, and makes pictures of any size into images of one size. Imported without torch."""

import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

from fmnist.config.cores import usable_cores
from fmnist.config.errors import UserError, one_line
from fmnist.data.spec import DataSpec

# Formats and file name suffixes. Pillow knows more formats; some of them start other programs.
FORMATS = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg", ".jfif"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
}
SUFFIXES = [suffix for suffixes in FORMATS.values() for suffix in suffixes]

MANY = 1000  # pictures for which it is worth starting processes
PART = 50  # pictures that a process reads at a time

# Pillow only warns about pictures from 89 to 179 million pixels: reject them. Its other warnings are harmless.
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


def read(path: Path, *, at_least: int | None = None) -> Image.Image:
    """Decodes a picture file; the first frame of an animation.

    Args:
        path: The file.
        at_least: A height and width that suffice: a JPEG decoder then leaves out what it can, which is faster.

    Raises:
        UserError: The file does not exist, is not a regular file or cannot be read, or see ``decode``.
    """
    try:
        if path.exists() and not path.is_file():  # opening a pipe would wait for a writer
            raise UserError(f"{path} is {'a directory' if path.is_dir() else 'not a file'}")
        with path.open("rb") as file:
            return decode(file, str(path), at_least=at_least)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error


def decode(file: BinaryIO, name: str, *, at_least: int | None = None) -> Image.Image:
    """Decodes a picture from an open file or from bytes in memory, which messages call ``name``. See also ``read``.

    Raises:
        UserError: It is empty, not a picture, damaged, or so large that decoding it could exhaust the memory.
    """
    if not file.read(1):
        raise UserError(f"{name} is empty")
    file.seek(0)
    try:
        picture = Image.open(file, formats=list(FORMATS))
        if at_least is not None:
            picture.draft(None, (at_least, at_least))
        picture.load()
    except UnidentifiedImageError as error:
        raise UserError(f"{name} is not a picture in a supported format ({', '.join(FORMATS)})") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UserError(f"{name} is rejected: it has more than {Image.MAX_IMAGE_PIXELS:,} pixels") from error
    except Exception as error:  # Pillow raises almost any exception for a damaged file
        raise UserError(f"{name} is damaged: {one_line(error) or type(error).__name__}") from error
    return picture


def read_resized(path: Path, spec: DataSpec) -> NDArray[np.uint8]:
    """Reads a picture as for a data set from a folder of pictures, see ``resize``.

    Raises:
        UserError: As ``read`` does.
    """
    return resize(read(path, at_least=spec.decoded_size), spec)


def read_many(paths: Sequence[Path], spec: DataSpec) -> tuple[NDArray[np.uint8], list[str | None]]:
    """Reads pictures as ``read_resized`` does, on all cores, with a progress bar on a terminal.

    Returns:
        The images, uint8 [N, C, H, W], and for each what is wrong with it, or None.
    """
    from joblib import Parallel, delayed

    images = np.zeros((len(paths), *spec.image_shape), np.uint8)
    errors: list[str | None] = []
    # Processes, since threads would wait for each other between the short steps of decoding. A few pictures need none.
    work = Parallel(usable_cores() if len(paths) >= MANY else 1, return_as="generator", batch_size=1)
    parts = (paths[start : start + PART] for start in range(0, len(paths), PART))
    with tqdm(total=len(paths), desc="reading pictures", leave=False, disable=None) as bar:
        for part in work(delayed(_read_part)(part, spec) for part in parts):
            for pixels, error in part:
                if pixels is not None:
                    images[len(errors)] = pixels
                errors.append(error)
            bar.update(len(part))
    return images, errors


def _read_part(paths: Sequence[Path], spec: DataSpec) -> list[tuple[NDArray[np.uint8] | None, str | None]]:
    read: list[tuple[NDArray[np.uint8] | None, str | None]] = []
    for path in paths:
        try:
            read.append((read_resized(path, spec), None))
        except UserError as error:
            read.append((None, str(error)))
    return read


def resize(picture: Image.Image, spec: DataSpec) -> NDArray[np.uint8]:
    """Makes a picture square and scales it.

    Args:
        picture: Of any mode and size. Transparent pixels become white.
        spec: Its ``fit``: ``pad`` keeps the whole picture and fills the shorter side with black; ``crop`` cuts the
            longer side; ``stretch`` changes the aspect ratio.

    Returns:
        uint8 [channels, size, size].
    """
    size = spec.size, spec.size
    picture = upright(picture)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    picture = picture.convert("L" if spec.channels == 1 else "RGB")
    if spec.fit == "pad":
        picture = ImageOps.pad(picture, size, Image.Resampling.BICUBIC)
    elif spec.fit == "crop":
        picture = ImageOps.fit(picture, size, Image.Resampling.BICUBIC)
    else:
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    pixels = np.array(picture)  # a copy, since torch warns of arrays that cannot be written
    return pixels[None] if spec.channels == 1 else pixels.transpose(2, 0, 1)


def upright(picture: Image.Image) -> Image.Image:
    """The picture as a viewer shows it: rotated according to its EXIF data, in an 8-bit mode."""
    with suppress(Exception):  # Pillow raises almost any exception for damaged EXIF data: ignore them
        picture = ImageOps.exif_transpose(picture)
    if picture.mode == "LAB":
        return picture.getchannel("L")
    if not picture.mode.startswith(("I", "F")):
        return picture
    # 16 or 32 bits, with an unknown level of white: take the first usual level that no pixel exceeds.
    values = np.nan_to_num(np.asarray(picture, np.float32)).astype(np.float64)
    largest = values.max()
    white = next((usual for usual in (1, 255, 4095, 65535) if usual >= largest), largest)
    return Image.fromarray((values * (255 / white)).round().clip(0, 255).astype(np.uint8))


def thumbnail(picture: Image.Image, side: int) -> NDArray[np.uint8]:
    """A copy of at most ``side`` pixels in height and width: [H, W, 3], or [H, W, 4] with transparency."""
    small = upright(picture)
    small = small.convert("RGBA" if small.has_transparency_data else "RGB")
    small.thumbnail((side, side))
    return np.asarray(small)


def as_image(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pixels [C, H, W] as [H, W] or [H, W, 3]."""
    return pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
