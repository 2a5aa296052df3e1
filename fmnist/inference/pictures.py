"""Reads pictures and converts them to the form of the data set: uint8 [28, 28], a light garment on black.

The steps follow those that made the data set from a shop's photographs (Xiao, Rasul, Vollgraf 2017, "Fashion-MNIST",
figure 1), extended for photographs of other origin; see ``prepare``.
"""

import warnings
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from fmnist.config.errors import UserError, one_line

SIDE = 28  # pixels
WORKING_SIDE = 512  # pixels: larger pictures are first averaged down to this size, which removes camera noise
TOLERANCE = 0.05 * 255  # from the background: 5 %, as in the paper
CORNER = 14  # the background is measured in a square in each corner; its side is the shorter edge divided by this
BLACK = 3  # all but two of the 70,000 images of the data set have a corner pixel this dark
ALMOST_WHITE = 220  # a lighter garment on a transparent background would be lost on white

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

# Pillow only warns about pictures from 89 to 179 million pixels: reject them. Its other warnings are harmless.
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


def read(path: Path) -> Image.Image:
    """Decodes a picture file; the first frame of an animation.

    Raises:
        UserError: The file does not exist, is not a regular file or cannot be read, or see ``decode``.
    """
    try:
        if path.exists() and not path.is_file():  # opening a pipe would wait for a writer
            raise UserError(f"{path} is {'a directory' if path.is_dir() else 'not a file'}")
        with path.open("rb") as file:
            return decode(file, str(path))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error


def decode(file: BinaryIO, name: str) -> Image.Image:
    """Decodes a picture from an open file or from bytes in memory. Messages call it ``name``.

    Raises:
        UserError: It is empty, not a picture, damaged, or so large that decoding it could exhaust the memory.
    """
    if not file.read(1):
        raise UserError(f"{name} is empty")
    file.seek(0)
    try:
        picture = Image.open(file, formats=list(FORMATS))
        picture.load()
    except UnidentifiedImageError as error:
        raise UserError(f"{name} is not a picture in a supported format ({', '.join(FORMATS)})") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UserError(f"{name} is rejected: it has more than {Image.MAX_IMAGE_PIXELS:,} pixels") from error
    except Exception as error:  # Pillow raises almost any exception for a damaged file
        raise UserError(f"{name} is damaged: {one_line(error) or type(error).__name__}") from error
    return picture


def prepare(picture: Image.Image) -> NDArray[np.uint8]:
    """Converts a picture to the form of the data set.

    1. Rotate it according to its EXIF data and convert it to 8-bit grey. Average it down to 512 pixels if it is larger.
    2. Make transparent pixels white, like the shop's background; or black around a garment that is almost white.
    3. The background is the median of the four corners. If it is light, invert the picture.
    4. If the picture is now 28 x 28 pixels on black, return it: images of the data set are not changed at all.
    5. Trim edges that are within 5 % of the background.
    6. Replace each pixel by its distance from the background, scaled so that white on black stays 255. A backdrop of
       any grey becomes black.
    7. Scale the longer edge to 28 pixels and pad the shorter one with black, the garment in the centre. An odd row of
       padding goes to the top and an odd column to the left, as in the data set.

    This differs from the paper in two points. In step 7 the paper skips rows and columns and sharpens the result; here
    pixels are averaged, since a photograph has a hundred times more pixels than the shop's thumbnails, and skipping
    would turn any fabric into noise. And the paper trims by colour, here by grey, which is all that the network sees.

    Args:
        picture: Of any mode and size. It is not changed.

    Returns:
        uint8 [28, 28], 0 is the background.

    Raises:
        UserError: No pixel differs from the background.
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
    return Image.fromarray(_to_8_bits(values * (255 / white)))


def thumbnail(picture: Image.Image, side: int) -> NDArray[np.uint8]:
    """A copy of at most ``side`` pixels in height and width: [H, W, 3], or [H, W, 4] with transparency."""
    small = upright(picture)
    small = small.convert("RGBA" if small.has_transparency_data else "RGB")
    small.thumbnail((side, side))
    return np.asarray(small)


def _luminance(picture: Image.Image) -> NDArray[np.float64]:
    """Grey levels without transparency, at most 512 pixels high and wide: float64 [H, W] from 0 to 255."""
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
