"""Pictures of any kind are converted to the form of the data set."""

import io
import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image

from fmnist.config.errors import UserError
from fmnist.data.dataset import ImageDataset
from fmnist.data.pictures import FORMATS, decode, read, thumbnail
from fmnist.inference.pictures import isolate

Pixels = NDArray[np.uint8]


def box(level: int, background: int) -> Pixels:
    """A box of 20 by 30 pixels."""
    return np.pad(np.full((30, 20), level, np.uint8), 10, constant_values=background)


DARK = Image.fromarray(box(40, 250))
BLACK = Image.fromarray(box(0, 255))


def in_mode(mode: str) -> Image.Image:
    """A black box on white in one of Pillow's modes, some of which have no grey."""
    if mode == "LAB":  # Pillow has no conversion to it
        grey = Image.new("L", BLACK.size, 128)
        return Image.merge("LAB", [BLACK, grey, grey])
    if mode in ("I;16", "I", "F"):
        return BLACK.convert(mode)
    return BLACK.convert("RGBA" if mode in ("RGBa", "PA") else "RGB").convert(mode)


@st.composite
def garments(draw: st.DrawFn, most: int = 255) -> tuple[Pixels, int]:
    """A rectangle with any pattern, surrounded by a background that it stands out from; and the background's level."""
    background = draw(st.integers(0, 255))
    visible = [level for level in range(most + 1) if abs(level - background) >= 20]
    shape = draw(st.tuples(st.integers(1, 30), st.integers(1, 30)))
    garment = draw(arrays.arrays(np.uint8, shape, elements=st.sampled_from(visible)))
    margins = draw(st.tuples(*[st.tuples(st.integers(3, 9), st.integers(3, 9))] * 2))
    picture = np.pad(garment, margins, constant_values=background)
    assume(picture.shape != (28, 28))  # which is not changed
    return picture, background


@given(garments())
def test_garment_fills_the_longer_side_and_is_centred(drawn: tuple[Pixels, int]) -> None:
    picture, background = drawn
    result = isolate(Image.fromarray(picture))
    assert result.dtype == np.uint8
    assert result.shape == (28, 28)
    size = np.ptp(np.argwhere(picture != background), axis=0) + 1
    for axis, expected in enumerate(28 * size / size.max()):
        found = np.flatnonzero(result.any(axis=1 - axis))
        assert len(found) == max(1, round(expected))
        assert found[0] - (27 - found[-1]) in (0, 1)  # the odd one is above, and on the left


@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 60), st.integers(1, 60))))
def test_any_picture_with_content_is_converted(pixels: Pixels) -> None:
    assume(int(pixels.max()) - int(pixels.min()) > 26)  # more than 5 % from any background on one side or the other
    result = isolate(Image.fromarray(pixels))
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
    np.testing.assert_array_equal(isolate(Image.fromarray(wider)), isolate(Image.fromarray(picture)))


@given(garments())
def test_negative_gives_the_same_result(drawn: tuple[Pixels, int]) -> None:
    picture, negative = (isolate(Image.fromarray(pixels)).astype(int) for pixels in (drawn[0], 255 - drawn[0]))
    np.testing.assert_allclose(negative, picture, atol=1)


@given(garments(), st.sampled_from(range(1, 9)))
def test_exif_orientation_is_applied(drawn: tuple[Pixels, int], orientation: int) -> None:
    picture, _ = drawn
    # What a camera held this way writes, from 1 to 8, by the definition of the tag (TIFF 6.0, page 36).
    p, t = picture, picture.T
    stored = [p, p[:, ::-1], p[::-1, ::-1], p[::-1], t, t[::-1], t[::-1, ::-1], t[:, ::-1]][orientation - 1]
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(stored)).save(file, "PNG", exif=exif)
    turned = decode(io.BytesIO(file.getvalue()), "a picture")
    np.testing.assert_array_equal(isolate(turned), isolate(Image.fromarray(picture)))
    np.testing.assert_array_equal(thumbnail(turned, 100)[..., 0], picture)


@given(garments(most=200), st.integers(0, 255))
def test_transparent_background_counts_as_white(drawn: tuple[Pixels, int], hidden: int) -> None:
    picture, background = drawn
    opaque = picture != background
    on_white = np.where(opaque, picture, 255).astype(np.uint8)
    cut_out = np.dstack([np.where(opaque, picture, hidden), opaque * 255]).astype(np.uint8)
    np.testing.assert_array_equal(isolate(Image.fromarray(cut_out)), isolate(Image.fromarray(on_white)))


@pytest.mark.parametrize(("level", "shown"), [(220, 35), (221, 221), (250, 250)])
def test_almost_white_garment_is_put_on_black_instead_of_white(level: int, shown: int) -> None:
    assert isolate(Image.fromarray(np.dstack([box(level, level), box(255, 0)]))).max() == shown


@pytest.mark.parametrize(
    ("level", "background", "shown"),
    [
        (200, 0, 200),
        (55, 255, 200),
        (40, 200, (200 - 40) * 255 // 200),  # a grey backdrop becomes black
        (40, 127, round((127 - 40) * 255 / (255 - 127))),
        (40, 128, round((128 - 40) * 255 / 128)),  # light: inverted
        (13, 0, 13),  # 5 % of 255 is 12.75
    ],
)
def test_result_is_light_on_black(level: int, background: int, shown: int) -> None:
    result = isolate(Image.fromarray(box(level, background)))
    assert np.unique(result).tolist() == [0, shown]
    assert result[:, 14].tolist() == [shown] * 28


def test_background_is_the_median_of_the_corners() -> None:
    picture = np.full((182, 364), 200, np.uint8)
    for rows in (slice(10), slice(-10, None)):
        picture[rows, :9] = picture[rows, -9:] = 20  # more than half of a corner, which is 182 / 14 = 13 pixels wide
    assert isolate(Image.fromarray(picture)).max() == (200 - 20) * 255 // (255 - 20)


def test_camera_noise_is_not_part_of_the_garment() -> None:
    noise = np.random.default_rng(0).normal(0, 8, (1500, 2000))
    picture = np.full((1500, 2000), 215.0)
    picture[300:1300, 700:1200] = 60
    result = isolate(Image.fromarray((picture + noise).clip(0, 255).astype(np.uint8)))
    np.testing.assert_array_equal(result > 100, np.pad(np.ones((28, 14), bool), ((0, 0), (7, 7))))


@pytest.mark.parametrize("mode", ["PA", "RGBa", "RGBX", "HSV", "YCbCr"])
def test_modes_that_no_file_has_give_the_same_result(mode: str) -> None:
    picture = in_mode(mode)
    assert picture.mode == mode
    np.testing.assert_array_equal(isolate(picture) > 128, isolate(DARK) > 128)


@pytest.mark.parametrize(
    ("mode", "kind", "white"),
    [("I;16", "<u2", 4095), ("I;16B", ">u2", 65535), ("I", "<i4", 255), ("I", "<i4", 99_999), ("F", "<f4", 1)],
)
def test_16_and_32_bit_modes_give_the_same_result_for_any_white_level(mode: str, kind: str, white: int) -> None:
    values = np.asarray(BLACK) / 255 * white
    values[20, 20] = white / 2
    picture = Image.fromarray(values.astype(kind))
    assert picture.mode == mode
    expected = np.asarray(BLACK).copy()
    expected[20, 20] = 127
    np.testing.assert_allclose(isolate(picture).astype(int), isolate(Image.fromarray(expected)), atol=1)


def test_nan_and_infinity_count_as_black() -> None:
    values = np.pad(np.ones((30, 20), np.float32), 10)
    values[0, :20], values[-1, :20] = np.nan, -np.inf
    assert np.unique(isolate(Image.fromarray(values))).tolist() == [0, 255]


@pytest.mark.parametrize(
    ("kind", "modes"),
    [
        *(("PNG", "1 L LA P RGB RGBA I;16"), ("JPEG", "L RGB CMYK YCbCr"), ("WEBP", "RGB RGBA"), ("GIF", "1 P RGBA")),
        *(("BMP", "1 P RGB RGBA"), ("TIFF", "1 L LA P RGBA CMYK LAB I;16 I F"), ("AVIF", "RGBA"), ("PPM", "1 RGB I")),
    ],
)
def test_every_format_is_read_under_any_file_name(tmp_path: Path, kind: str, modes: str) -> None:
    for mode in modes.split():
        path = tmp_path / f"picture, of=any [kind] {mode}.data"
        in_mode(mode).save(path, kind, quality=95)
        np.testing.assert_array_equal(isolate(read(path)) > 128, isolate(DARK) > 128, err_msg=mode)


def test_first_frame_of_an_animation_counts(tmp_path: Path) -> None:
    DARK.save(tmp_path / "film.gif", save_all=True, append_images=[Image.new("L", DARK.size)])
    np.testing.assert_array_equal(isolate(read(tmp_path / "film.gif")) > 128, isolate(DARK) > 128)


def test_damaged_exif_data_is_ignored() -> None:
    picture = DARK.copy()
    picture.info["exif"] = b"Exif\0\0nonsense"
    np.testing.assert_array_equal(isolate(picture), isolate(DARK))


def test_input_picture_is_not_changed() -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (600, 700, 4), np.uint8))
    before = picture.tobytes(), picture.size, picture.mode
    isolate(picture)
    assert thumbnail(picture, 50).shape == (43, 50, 4)
    assert (picture.tobytes(), picture.size, picture.mode) == before


@pytest.mark.real_data
def test_image_of_the_data_set_and_its_negative_give_the_image(test_set: ImageDataset) -> None:
    images = test_set.images[:1000, 0].numpy()
    for image in images:
        np.testing.assert_array_equal(isolate(Image.fromarray(image)), image)
        np.testing.assert_array_equal(isolate(Image.fromarray(255 - image)), image)
    for mode in ("RGB", "RGBA", "LA"):
        np.testing.assert_array_equal(isolate(Image.fromarray(images[0]).convert(mode)), images[0])
    np.testing.assert_array_equal(isolate(Image.fromarray(images[0].astype(np.uint16) * 257)), images[0])


def test_picture_of_the_size_of_the_data_set_is_kept_if_a_corner_is_black() -> None:
    for corner, kept in ((3, True), (4, False)):
        picture = np.pad(np.full((20, 10), 200, np.uint8), ((4, 4), (9, 9)), constant_values=corner)
        assert np.array_equal(isolate(Image.fromarray(picture)), picture) == kept


@pytest.mark.parametrize(
    "picture",
    [
        Image.new("RGB", (1, 50)),
        Image.new("F", (28, 28)),
        Image.fromarray(box(12, 0)),  # almost of one colour
        Image.fromarray(np.dstack([box(9, 200), box(0, 0)])),
    ],
    ids=["one pixel wide", "as the data set", "faint", "transparent"],
)
def test_picture_that_shows_nothing_is_rejected(picture: Image.Image) -> None:
    size = f"{picture.width} x {picture.height}"
    with pytest.raises(UserError, match=rf"^the picture \({size}\) shows nothing: in grey it has one colour, "):
        isolate(picture)


def test_unreadable_file_is_named_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "a picture.png"
    DARK.save(path)
    for content, reason in (
        (b"", "is empty$"),
        (b"hello", r"is not a picture in a supported format \(PNG, "),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not a picture"),  # Pillow would start Ghostscript
        (path.read_bytes()[:-60], "is damaged: "),
        (b"P6 9500 9500 255\n", "is rejected: it has more than 89,478,485 pixels$"),  # Pillow would only warn
        (b"P6 60000 60000 255\n", "is rejected: it has more than 89,478,485 pixels$"),
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match=f"a picture.png {reason}") as error:
            read(path)
        assert len(str(error.value).splitlines()) == 1


def test_missing_file_directory_and_pipe_are_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for name, message in (
        ("nowhere.png", r"^cannot read .*nowhere.png: No such file or directory$"),
        ("x" * 300, "File name too long$"),
        (".", " is a directory$"),
        ("pipe.png", "pipe.png is not a file$"),  # without waiting for a writer
    ):
        with pytest.raises(UserError, match=message):
            read(tmp_path / name)


@settings(max_examples=60)
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
        isolate(decode(io.BytesIO(content[: int(len(content) * kept**0.1)]), "a picture"))
