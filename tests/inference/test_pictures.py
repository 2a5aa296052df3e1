"""Pictures of any kind are converted to the form of the data set."""

import io
import os
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image

from fmnist.config.errors import UserError
from fmnist.data.dataset import ImageDataset
from fmnist.inference.pictures import FORMATS, decode, prepare, read, thumbnail

Pixels = NDArray[np.uint8]

DARK = Image.fromarray(np.pad(np.full((30, 20), 40, np.uint8), 10, constant_values=250))  # a box of 20 by 30 pixels
BLACK = Image.fromarray(np.pad(np.full((30, 20), 0, np.uint8), 10, constant_values=255))


def in_mode(mode: str) -> Image.Image:
    """A black box on white in one of Pillow's modes, some of which have no grey."""
    if mode == "LAB":  # Pillow has no conversion to it
        grey = Image.new("L", BLACK.size, 128)
        return Image.merge("LAB", [BLACK, grey, grey])
    if mode in ("I;16", "I", "F"):
        return BLACK.convert(mode)
    return BLACK.convert("RGBA" if mode in ("RGBa", "PA") else "RGB").convert(mode)


@st.composite
def garments(draw: st.DrawFn, least: int = 0, most: int = 255) -> tuple[Pixels, int]:
    """A rectangle with any pattern, surrounded by a background that it stands out from; and the background's level."""
    background = draw(st.integers(0, 255))
    visible = [level for level in range(least, most + 1) if abs(level - background) >= 20]
    assume(visible)
    shape = draw(st.tuples(st.integers(1, 30), st.integers(1, 30)))
    garment = draw(arrays.arrays(np.uint8, shape, elements=st.sampled_from(visible)))
    margins = draw(st.tuples(*[st.tuples(st.integers(3, 9), st.integers(3, 9))] * 2))
    picture = np.pad(garment, margins, constant_values=background)
    assume(picture.shape != (28, 28))  # which is not changed
    return picture, background


@given(garments())
def test_garment_fills_the_longer_side_and_is_centred(drawn: tuple[Pixels, int]) -> None:
    picture, background = drawn
    result = prepare(Image.fromarray(picture))
    assert result.dtype == np.uint8
    assert result.shape == (28, 28)
    visible = np.argwhere(picture != background)
    height, width = np.ptp(visible, axis=0) + 1
    rows, columns = (np.flatnonzero(result.any(axis=axis)) for axis in (1, 0))
    longest = max(height, width)
    assert len(rows) == max(1, round(28 * height / longest))
    assert len(columns) == max(1, round(28 * width / longest))
    for found in (rows, columns):
        assert found[0] - (27 - found[-1]) in (0, 1)  # the odd one is above, and on the left


@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 60), st.integers(1, 60))))
def test_any_picture_with_content_is_converted(pixels: Pixels) -> None:
    assume(int(pixels.max()) - int(pixels.min()) > 26)  # more than 5 % from any background on one side or the other
    result = prepare(Image.fromarray(pixels))
    assert result.dtype == np.uint8
    assert result.shape == (28, 28)
    assert result.any()


@given(garments(), st.tuples(*[st.tuples(st.integers(0, 20), st.integers(0, 20))] * 2))
def test_more_background_changes_nothing(
    drawn: tuple[Pixels, int], margins: tuple[tuple[int, int], tuple[int, int]]
) -> None:
    picture, background = drawn
    wider = np.pad(picture, margins, constant_values=background)
    assume(wider.shape != (28, 28))
    np.testing.assert_array_equal(prepare(Image.fromarray(wider)), prepare(Image.fromarray(picture)))


@given(garments())
def test_negative_gives_the_same_result(drawn: tuple[Pixels, int]) -> None:
    picture, _ = drawn
    negative = prepare(Image.fromarray(255 - picture))
    np.testing.assert_allclose(negative.astype(int), prepare(Image.fromarray(picture)), atol=1)


@given(garments(), st.sampled_from(range(1, 9)))
def test_exif_orientation_is_applied(drawn: tuple[Pixels, int], orientation: int) -> None:
    picture, _ = drawn
    # What a camera held this way writes, by the definition of the tag (TIFF 6.0, page 36).
    stored = {
        1: picture,
        2: picture[:, ::-1],
        3: picture[::-1, ::-1],
        4: picture[::-1],
        5: picture.T,
        6: picture.T[::-1],
        7: picture.T[::-1, ::-1],
        8: picture.T[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(stored)).save(file, "PNG", exif=exif)
    turned = decode(io.BytesIO(file.getvalue()), "a picture")
    np.testing.assert_array_equal(prepare(turned), prepare(Image.fromarray(picture)))
    np.testing.assert_array_equal(thumbnail(turned, 100)[..., 0], picture)


@given(garments(most=200), st.integers(0, 255))
def test_transparent_background_counts_as_white(drawn: tuple[Pixels, int], hidden: int) -> None:
    picture, background = drawn
    opaque = picture != background
    on_white = np.where(opaque, picture, 255).astype(np.uint8)
    cut_out = np.dstack([np.where(opaque, picture, hidden), opaque * 255]).astype(np.uint8)
    np.testing.assert_array_equal(prepare(Image.fromarray(cut_out)), prepare(Image.fromarray(on_white)))


def test_white_garment_on_a_transparent_background_is_not_lost() -> None:
    opaque = np.asarray(DARK) < 128
    result = prepare(Image.fromarray(np.dstack([np.full(opaque.shape, 250), opaque * 255]).astype(np.uint8)))
    assert result.max() == 250


@given(garments())
def test_fully_opaque_alpha_changes_nothing(drawn: tuple[Pixels, int]) -> None:
    picture, _ = drawn
    with_alpha = np.dstack([picture, np.full_like(picture, 255)])
    np.testing.assert_array_equal(prepare(Image.fromarray(with_alpha)), prepare(Image.fromarray(picture)))


def test_result_is_light_on_black() -> None:
    dark_on_white = np.pad(np.full((30, 20), 55, np.uint8), 10, constant_values=255)
    light_on_black = 255 - dark_on_white
    for picture in (dark_on_white, light_on_black):
        result = prepare(Image.fromarray(picture))
        assert np.unique(result).tolist() == [0, 200]
        assert result[:, 14].tolist() == [200] * 28


def test_a_grey_backdrop_becomes_black() -> None:
    on_grey = np.pad(np.full((30, 20), 40, np.uint8), 10, constant_values=200)
    assert np.unique(prepare(Image.fromarray(on_grey))).tolist() == [0, 160 * 255 // 200]


def test_camera_noise_is_not_part_of_the_garment() -> None:
    noise = np.random.default_rng(0).normal(0, 8, (2000, 3000))
    picture = np.full((2000, 3000), 215.0)
    picture[500:1500, 1200:1700] = 60
    result = prepare(Image.fromarray((picture + noise).clip(0, 255).astype(np.uint8)))
    filled = result > 100
    assert filled.sum() == 28 * 14
    assert filled[:, 7:21].all()


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"]
)
def test_every_8_bit_mode_gives_the_same_result(mode: str) -> None:
    picture = in_mode(mode)
    assert picture.mode == mode
    np.testing.assert_array_equal(prepare(picture) > 128, prepare(DARK) > 128)


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I", "F"])
@pytest.mark.parametrize("white", [255, 4095, 65535])
def test_16_and_32_bit_modes_give_the_same_result_for_any_white_level(mode: str, white: int) -> None:
    values = np.asarray(DARK) / 255 * white
    kind = {"I;16": "<u2", "I;16B": ">u2", "I": "<i4", "F": "<f4"}[mode]
    picture = Image.fromarray(values.round().astype(kind))
    assert picture.mode == mode
    np.testing.assert_allclose(prepare(picture).astype(int), prepare(DARK), atol=1)


def test_nan_and_infinity_count_as_black() -> None:
    values = np.pad(np.ones((30, 20), np.float32), 10)
    values[0, :20], values[-1, :20] = np.nan, -np.inf
    assert np.unique(prepare(Image.fromarray(values))).tolist() == [0, 255]


@pytest.mark.parametrize(
    ("kind", "modes"),
    {
        "PNG": ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"],
        "JPEG": ["1", "L", "RGB", "CMYK", "YCbCr"],
        "WEBP": ["L", "RGB", "RGBA"],
        "GIF": ["1", "L", "P", "RGB", "RGBA"],
        "BMP": ["1", "L", "P", "RGB", "RGBA"],
        "TIFF": ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "LAB", "I;16", "I", "F"],
        "AVIF": ["L", "RGB", "RGBA"],
        "PPM": ["1", "L", "RGB", "I;16", "I"],
    }.items(),
)
def test_every_format_is_read_under_any_file_name(tmp_path: Path, kind: str, modes: list[str]) -> None:
    for mode in modes:
        path = tmp_path / f"picture, of=any [kind] {mode}.data"
        in_mode(mode).save(path, kind, quality=95)
        np.testing.assert_array_equal(prepare(read(path)) > 128, prepare(DARK) > 128, err_msg=mode)


def test_first_frame_of_an_animation_counts(tmp_path: Path) -> None:
    DARK.save(tmp_path / "film.gif", save_all=True, append_images=[Image.new("L", DARK.size)])
    np.testing.assert_array_equal(prepare(read(tmp_path / "film.gif")) > 128, prepare(DARK) > 128)


def test_damaged_exif_data_is_ignored() -> None:
    picture = DARK.copy()
    picture.info["exif"] = b"Exif\0\0nonsense"
    np.testing.assert_array_equal(prepare(picture), prepare(DARK))


def test_input_picture_is_not_changed() -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (600, 700, 4), np.uint8))
    before = picture.tobytes(), picture.size, picture.mode
    prepare(picture)
    thumbnail(picture, 50)
    assert (picture.tobytes(), picture.size, picture.mode) == before


@pytest.mark.real_data
def test_image_of_the_data_set_and_its_negative_give_the_image(test_set: ImageDataset) -> None:
    images = test_set.images[:, 0].numpy()
    for image in images:
        np.testing.assert_array_equal(prepare(Image.fromarray(image)), image)
        np.testing.assert_array_equal(prepare(Image.fromarray(255 - image)), image)
    for mode in ("RGB", "RGBA", "LA"):
        np.testing.assert_array_equal(prepare(Image.fromarray(images[0]).convert(mode)), images[0])
    np.testing.assert_array_equal(prepare(Image.fromarray(images[0].astype(np.uint16) * 257)), images[0])


@pytest.mark.real_data
def test_image_of_the_data_set_is_recovered_from_a_larger_canvas(test_set: ImageDataset) -> None:
    # Nine of ten are recovered; the others have edges so dark that they count as background.
    images = test_set.images[:2000, 0].numpy()
    same = [np.array_equal(prepare(Image.fromarray(np.pad(image, 6))), image) for image in images]
    assert np.mean(same) > 0.8


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (28, 28), (300, 200)])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "I;16", "F"])
def test_picture_of_one_colour_is_rejected(size: tuple[int, int], mode: str) -> None:
    with pytest.raises(UserError, match=rf"{size[0]} x {size[1]}.* shows nothing"):
        prepare(Image.new(mode, size))


def test_fully_transparent_picture_is_rejected() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (50, 50, 4), np.uint8)
    pixels[..., 3] = 0
    with pytest.raises(UserError, match="shows nothing"):
        prepare(Image.fromarray(pixels))


def _png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def _bomb() -> bytes:
    """A small PNG that claims to have 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"hello", "is not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not a picture"),  # Pillow would start Ghostscript
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is not a picture"),
        (_png(DARK)[:-60], "is damaged"),
        (_bomb(), "is rejected: it has more than .* pixels"),
    ],
    ids=["empty", "text", "PostScript", "SVG", "truncated", "decompression bomb"],
)
def test_unreadable_file_is_named_with_the_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "a picture.png"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"a picture.png {reason}") as error:
        read(path)
    assert len(str(error.value).splitlines()) == 1


def test_missing_file_directory_and_pipe_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read .*nowhere.png: No such file"):
        read(tmp_path / "nowhere.png")
    with pytest.raises(UserError, match="is a directory"):
        read(tmp_path)
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(UserError, match="is not a file"):  # without waiting for a writer
        read(tmp_path / "pipe.png")
    with pytest.raises(UserError, match="File name too long"):
        read(tmp_path / ("x" * 300))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_file_without_permission_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch(mode=0)
    with pytest.raises(UserError, match=r"cannot read .*a.png: Permission denied"):
        read(tmp_path / "a.png")


@given(
    st.sampled_from(list(FORMATS)),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=5),
    st.floats(0, 1),
)
def test_damaged_file_is_read_or_rejected(kind: str, damage: list[tuple[float, int]], kept: float) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    DARK.convert("RGB").save(file, kind, exif=exif.tobytes())
    content = bytearray(file.getvalue())
    for place, value in damage:
        content[int(place**4 * len(content))] = value  # most of them near the beginning, where it matters
    with suppress(UserError):
        prepare(decode(io.BytesIO(content[: int(len(content) * kept**0.1)]), "a picture"))
