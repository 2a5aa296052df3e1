"""Pictures that people have, brought to the form of the data set: uint8 [28, 28], a light garment on black.

The steps are those by which the data set was made of a shop's photographs (Xiao, Rasul, Vollgraf 2017,
"Fashion-MNIST", figure 1), and what photographs of other origin need besides; see ``prepare``.
"""

import warnings
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from fmnist.config.errors import UserError

SIDE = 28  # pixels
WORKING_SIDE = 512  # pixels: larger pictures are averaged down to it first, which takes the noise of a camera out
TOLERANCE = 0.05 * 255  # what is within 5 % of the background counts as background, the figure of the paper
CORNER = 14  # the background is looked for in four squares, whose side is the shorter edge divided by this
BLACK = 3  # the darkest corner pixel of an image of the data set; of 70,000 two are without such a one
ALMOST_WHITE = 220  # a garment without background that is lighter than this would be lost on white

# What is decoded, and how such files are called. Pillow knows more, some of which starts other programs.
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

# Pillow only warns of pictures from 89 to 179 million pixels: refused, too. What else it warns of it can read.
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


def read(path: Path) -> Image.Image:
    """Decodes a picture file; of several frames, the first.

    Raises:
        UserError: See ``decode``; or the file is not there, is none, or may not be read.
    """
    try:
        if path.exists() and not path.is_file():  # opening a pipe would wait for someone to write into it
            raise UserError(f"{path} is {'a directory' if path.is_dir() else 'no file'}")
        with path.open("rb") as file:
            return decode(file, str(path))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error


def decode(file: BinaryIO, name: str) -> Image.Image:
    """Decodes a picture from an open file or from bytes in memory; ``name`` is what messages call it.

    Raises:
        UserError: It is empty, no picture, damaged, or so large that decoding it could exhaust the memory.
    """
    if not file.read(1):
        raise UserError(f"{name} is empty")
    file.seek(0)
    try:
        picture = Image.open(file, formats=list(FORMATS))
        picture.load()
    except UnidentifiedImageError as error:
        raise UserError(
            f"{name} is no picture, or of a kind that is not read here ({', '.join(FORMATS)} are)"
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UserError(f"{name} is refused: it has more than {Image.MAX_IMAGE_PIXELS:,} pixels") from error
    except Exception as error:  # damaged files make Pillow raise errors of almost every class
        raise UserError(f"{name} is damaged: {' '.join(str(error).split()) or type(error).__name__}") from error
    return picture


def prepare(picture: Image.Image) -> NDArray[np.uint8]:
    """Brings a picture to the form of the data set.

    1. It is turned upright as its EXIF data say, made grey, and brought to 8 bits. Larger pictures than 512 pixels are
       averaged down to that.
    2. What is transparent becomes white, as the shop's background was; or black around a garment that is almost white.
    3. The background is the median of the four corners. If it is light the picture is negated.
    4. A picture of 28 x 28 pixels on black is in the form of the data set then, and nothing else is done: an image of
       the data set stays what it is, to the last bit.
    5. Edges that are within 5 % of the background are trimmed.
    6. Each pixel becomes its distance from the background, scaled so that white on black stays 255: a backdrop of any
       grey becomes black.
    7. The longer edge is brought to 28 pixels and the shorter one extended with black, the garment in the centre.
       Where the garment cannot be centred the odd row is above and the odd column on the left, as in the data set.

    In two things this differs from the paper. There, step 7 skips rows and columns and sharpens afterwards; here pixels
    are averaged, since a photograph has a hundred times the pixels of the shop's thumbnails, and skipping would make
    noise of any fabric. And the paper trims by colour; here it is by grey, which is all that the network sees.

    Args:
        picture: Of any mode and size. It is not changed.

    Returns:
        uint8 [28, 28], 0 is the background.

    Raises:
        UserError: There is nothing to see: no pixel differs from the background.
    """
    luminance = _luminance(picture)
    if np.median(_corners(luminance)) > 127.5:
        luminance = 255 - luminance
    corners = _corners(luminance)
    distance = np.abs(luminance - np.median(corners))
    visible = distance > TOLERANCE
    if not visible.any():
        width, height = picture.size
        raise UserError(f"the picture ({width} x {height}) shows nothing: it has one colour, or almost")
    if luminance.shape == (SIDE, SIDE) and corners.min() <= BLACK:
        return _to_8_bits(luminance)
    rows, columns = (np.flatnonzero(visible.any(axis=axis)) for axis in (1, 0))
    garment = distance[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return _centred(garment * (255 / (255 - np.median(corners))))


def upright(picture: Image.Image) -> Image.Image:
    """The picture as a viewer shows it: turned as its EXIF data say, in a mode of 8 bits."""
    with suppress(Exception):  # damaged EXIF data make Pillow raise errors of almost every class: they say nothing
        picture = ImageOps.exif_transpose(picture)
    if picture.mode == "LAB":
        return picture.getchannel("L")
    if not picture.mode.startswith(("I", "F")):
        return picture
    # 16 or 32 bits, and nothing says which number is white: it is the first usual one that no pixel exceeds.
    values = np.nan_to_num(np.asarray(picture, np.float32)).astype(np.float64)
    largest = values.max()
    white = next((usual for usual in (1, 255, 4095, 65535) if usual >= largest), largest)
    return Image.fromarray(_to_8_bits(values * (255 / white)))


def thumbnail(picture: Image.Image, side: int) -> NDArray[np.uint8]:
    """A copy to look at, at most so many pixels high and wide: [H, W, 3], or [H, W, 4] if it has transparency."""
    small = upright(picture)
    small = small.convert("RGBA" if small.has_transparency_data else "RGB")
    small.thumbnail((side, side))
    return np.asarray(small)


def _luminance(picture: Image.Image) -> NDArray[np.float64]:
    """Grey without transparency, at most 512 pixels high and wide: float64 [H, W] from 0 to 255."""
    grey = upright(picture)
    grey = grey.convert("RGBA").convert("LA") if grey.has_transparency_data else grey.convert("L")
    grey.thumbnail((WORKING_SIDE, WORKING_SIDE), Image.Resampling.BOX)
    values = np.asarray(grey, np.float64)
    if grey.mode == "L":
        return values
    colour, opacity = values[..., 0], values[..., 1] / 255
    seen = (colour * opacity).sum() / max(opacity.sum(), 1e-30)
    return colour * opacity + (0 if seen > ALMOST_WHITE else 255) * (1 - opacity)


def _corners(luminance: NDArray[np.float64]) -> NDArray[np.float64]:
    side = max(1, min(luminance.shape) // CORNER)
    ends = (slice(None, side), slice(-side, None))
    return np.stack([luminance[rows, columns] for rows in ends for columns in ends])


def _centred(garment: NDArray[np.float64]) -> NDArray[np.uint8]:
    height, width = garment.shape
    scale = SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = np.asarray(Image.fromarray(garment.astype(np.float32)).resize(size, Image.Resampling.BOX))
    result = np.zeros((SIDE, SIDE), np.uint8)
    top, left = ((SIDE - length + 1) // 2 for length in small.shape)
    result[top : top + small.shape[0], left : left + small.shape[1]] = _to_8_bits(small)
    return result


def _to_8_bits(values: NDArray[np.float32] | NDArray[np.float64]) -> NDArray[np.uint8]:
    return values.round().clip(0, 255).astype(np.uint8)
