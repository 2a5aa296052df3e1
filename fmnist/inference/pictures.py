"""Converts pictures to the form of the images that a network was trained on."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fmnist.config.errors import UserError
from fmnist.data.pictures import resize, upright
from fmnist.data.spec import DataSpec

WORKING_SIDE = 512  # pixels: larger pictures are first averaged down to this size, which removes camera noise
TOLERANCE = 0.05 * 255  # from the background: 5 %, as in the paper
CORNER = 14  # the background is measured in a square in each corner; its side is the shorter edge divided by this
BLACK = 3  # all but two of the 70,000 images of the data set have a corner pixel this dark
ALMOST_WHITE = 220  # a lighter garment on a transparent background would be lost on white


def prepare(picture: Image.Image, spec: DataSpec) -> NDArray[np.uint8]:
    """Converts a picture as the training images were converted, or to their form if they were no pictures.

    Args:
        picture: Of any mode and size. It may be changed.
        spec: The data set that the network was trained on.

    Returns:
        uint8 [channels, size, size].

    Raises:
        UserError: See ``isolate``.
    """
    if spec.fit is not None:
        return resize(picture, spec)
    return isolate(picture, spec.size)[None]


def isolate(picture: Image.Image, size: int = 28) -> NDArray[np.uint8]:
    """Converts a picture to the form of MNIST-like data sets: one light object, centred on black.

    The steps follow those that made Fashion-MNIST from a shop's photographs (Xiao, Rasul, Vollgraf 2017,
    "Fashion-MNIST", figure 1), extended for photographs of other origin:

    1. Rotate it according to its EXIF data and convert it to 8-bit grey. Average it down to 512 pixels if it is larger.
    2. Make transparent pixels white, like the shop's background; or black around a garment that is almost white.
    3. The background is the median of the four corners. If it is light, invert the picture.
    4. If the picture is now of the wanted size, on black, return it: images of the data set are not changed at all.
    5. Trim edges that are within 5 % of the background.
    6. Replace each pixel by its distance from the background, scaled so that white on black stays 255. A backdrop of
       any grey becomes black.
    7. Scale the longer edge to the wanted size and pad the shorter one with black, the object in the centre. An odd row
       of padding goes to the top and an odd column to the left, as in Fashion-MNIST.

    This differs from the paper in two points. In step 7 the paper skips rows and columns and sharpens the result; here
    pixels are averaged, since a photograph has a hundred times more pixels than the shop's thumbnails, and skipping
    would turn any fabric into noise. And the paper trims by colour, here by grey, which is all that the network sees.

    Args:
        picture: Of any mode and size. It is not changed.
        size: Height and width of the result, in pixels.

    Returns:
        uint8 [size, size], 0 is the background.

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
        raise UserError(f"the picture ({width} x {height}) shows nothing: in grey it has one colour, or almost")
    if luminance.shape == (size, size) and corners.min() <= BLACK:
        return _to_8_bits(luminance)
    rows, columns = (np.flatnonzero(visible.any(axis=axis)) for axis in (1, 0))
    garment = distance[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return _centred(garment * (255 / (255 - np.median(corners))), size)


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


def _centred(garment: NDArray[np.float64], side: int) -> NDArray[np.uint8]:
    height, width = garment.shape
    scale = side / max(height, width)
    scaled = max(1, round(width * scale)), max(1, round(height * scale))
    small = np.asarray(Image.fromarray(garment.astype(np.float32)).resize(scaled, Image.Resampling.BOX))
    result = np.zeros((side, side), np.uint8)
    top, left = ((side - length + 1) // 2 for length in small.shape)
    result[top : top + small.shape[0], left : left + small.shape[1]] = _to_8_bits(small)
    return result


def _to_8_bits(values: NDArray[np.float32] | NDArray[np.float64]) -> NDArray[np.uint8]:
    return values.round().clip(0, 255).astype(np.uint8)
