from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image, ImageCms

from core.datasets.archives import Found
from core.datasets.pictures import Picture, contact_sheet, normalise
from core.schemas.datasets import Rejection
from tests.picture_files import encoded, png

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from core.datasets.decoder import Decoder
    from core.settings import Settings

SIZE = (40, 36)
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


@pytest.fixture
def run(decoder: Decoder, limits: Callable[..., Settings]) -> Callable[..., Picture | Rejection]:
    def normalise_bytes(data: bytes, **values: Any) -> Picture | Rejection:
        source = decoder.folder / "source"
        source.write_bytes(data)
        found = Found("name.png", source)
        return normalise(
            found, target=decoder.folder / "target.png", decoder=decoder, limits=limits(**values)
        )

    return normalise_bytes


@pytest.fixture
def pixels(run: Callable[..., Picture | Rejection]) -> Callable[..., Image.Image]:
    def accepted(data: bytes) -> Image.Image:
        picture = run(data)
        assert isinstance(picture, Picture), picture
        with Image.open(picture.path) as image:
            image.load()
        assert (image.format, image.mode, image.size) == ("PNG", "RGB", (picture.width, picture.height))
        assert not image.info, "metadata was kept"
        return image

    return accepted


@pytest.fixture
def rejected(run: Callable[..., Picture | Rejection]) -> Callable[..., Rejection]:
    def refused(data: bytes, **values: Any) -> Rejection:
        rejection = run(data, **values)
        assert isinstance(rejection, Rejection), rejection
        assert rejection.name == "name.png"
        return rejection

    return refused


def two_tone(left: Any, right: Any, *, mode: str = "RGB", size: tuple[int, int] = SIZE) -> Image.Image:
    image = Image.new(mode, size, left)
    image.paste(right, (size[0] // 2, 0, *size))
    return image


def near(image: Image.Image, at: tuple[int, int], color: tuple[int, int, int], *, within: int = 4) -> bool:
    """Whether a pixel has about this colour: JPEG and colour spaces round."""
    got = image.getpixel(at)
    assert isinstance(got, tuple)
    return all(abs(a - b) <= within for a, b in zip(got, color, strict=True))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_each_format_is_taken(kind: str, pixels: Callable[..., Image.Image]) -> None:
    image = pixels(encoded(two_tone(RED, BLUE), kind))
    assert near(image, (5, 5), RED)
    assert near(image, (35, 5), BLUE)


def test_cmyk_is_converted(pixels: Callable[..., Image.Image]) -> None:
    cmyk = two_tone((0, 255, 255, 0), (255, 255, 0, 0), mode="CMYK")
    image = pixels(encoded(cmyk, "TIFF"))
    assert (image.getpixel((5, 5)), image.getpixel((35, 5))) == (RED, BLUE)
    # Adobe's JPEGs hold CMYK inverted; Pillow writes and reads them so.
    image = pixels(encoded(cmyk, "JPEG", quality=100))
    assert near(image, (5, 5), RED)
    assert near(image, (35, 5), BLUE)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_and_not_clipped(kind: str, pixels: Callable[..., Image.Image]) -> None:
    values = [0, 128, 129, 256, 257, 32767, 32768, 40000, 65535]
    wide = Image.new("I;16", SIZE)
    for x, value in enumerate(values):
        wide.putpixel((x, 0), value)
    image = pixels(encoded(wide, kind))
    grey = [(value + 128) // 257 for value in values]
    assert [image.getpixel((x, 0)) for x in range(len(values))] == [(value, value, value) for value in grey]


def test_16_bit_rgb_png(pixels: Callable[..., Image.Image]) -> None:
    # Pillow writes no 16-bit RGB, so the file is made by hand.
    row = b"\0" + struct.pack(">3H", 65535, 32896, 0) * SIZE[0]
    header = struct.pack(">2I5B", *SIZE, 16, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(row * SIZE[1])), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    assert pixels(data).getpixel((0, 0)) == (255, 128, 0)


def test_palette_with_and_without_transparency(pixels: Callable[..., Image.Image]) -> None:
    palette = two_tone(RED, BLUE).quantize(2)
    image = pixels(encoded(palette, "PNG"))
    assert (image.getpixel((5, 5)), image.getpixel((35, 5))) == (RED, BLUE)
    index = palette.getpixel((5, 5))
    image = pixels(encoded(palette, "PNG", transparency=index))
    assert (image.getpixel((5, 5)), image.getpixel((35, 5))) == (WHITE, BLUE)


def test_transparent_pixels_are_put_on_white(pixels: Callable[..., Image.Image]) -> None:
    rgba = two_tone((255, 0, 0, 0), (0, 0, 255, 128), mode="RGBA")
    image = pixels(encoded(rgba, "PNG"))
    assert image.getpixel((5, 5)) == WHITE
    assert image.getpixel((35, 5)) == (127, 127, 255)
    grey = pixels(encoded(two_tone((0, 0), (0, 255), mode="LA"), "PNG"))
    assert (grey.getpixel((5, 5)), grey.getpixel((35, 5))) == (WHITE, (0, 0, 0))


def test_grey_and_one_bit(pixels: Callable[..., Image.Image]) -> None:
    image = pixels(encoded(two_tone(0, 200, mode="L"), "PNG"))
    assert (image.getpixel((5, 5)), image.getpixel((35, 5))) == ((0, 0, 0), (200, 200, 200))
    image = pixels(encoded(two_tone(0, 1, mode="1"), "PNG"))
    assert (image.getpixel((5, 5)), image.getpixel((35, 5))) == ((0, 0, 0), WHITE)


@pytest.mark.parametrize(("mode", "low", "high"), [("F", -3.5, 0.25), ("I", -1_000_000, 2_000_000)])
def test_32_bit_values_are_stretched(
    mode: str, low: float, high: float, pixels: Callable[..., Image.Image]
) -> None:
    wide = two_tone(low, high, mode=mode)
    wide.putpixel((0, 0), (low + high) / 2 if mode == "F" else int(low + high) // 2)
    image = pixels(encoded(wide, "TIFF"))
    assert (image.getpixel((5, 5)), image.getpixel((35, 5))) == ((0, 0, 0), WHITE)
    assert image.getpixel((0, 0)) in {(127, 127, 127), (128, 128, 128)}


def test_lab_and_ycbcr(pixels: Callable[..., Image.Image]) -> None:
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    source = ImageCms.profileToProfile(two_tone((180, 60, 60), (60, 60, 180)), srgb, lab, outputMode="LAB")
    assert source is not None
    image = pixels(encoded(source, "TIFF"))
    assert near(image, (5, 5), (180, 60, 60))
    assert near(image, (35, 5), (60, 60, 180))
    image = pixels(encoded(two_tone(RED, BLUE).convert("YCbCr"), "TIFF"))
    assert near(image, (5, 5), RED)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied(kind: str, pixels: Callable[..., Image.Image]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # To be shown turned clockwise by a quarter.
    exif[0x010E] = "where I live"
    image = pixels(
        encoded(two_tone(RED, BLUE), kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    )
    assert image.size == (SIZE[1], SIZE[0])
    assert near(image, (18, 5), RED)
    assert near(image, (18, 35), BLUE)


def test_metadata_is_dropped(run: Callable[..., Picture | Rejection]) -> None:
    exif = Image.Exif()
    exif[0x010E] = "where I live"
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = run(encoded(two_tone(RED, BLUE), "PNG", exif=exif, icc_profile=icc, dpi=(300, 300)))
    assert isinstance(picture, Picture)
    data = picture.path.read_bytes()
    assert not any(chunk in data for chunk in (b"eXIf", b"iCCP", b"pHYs", b"tEXt", b"where I live"))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_of_an_animation_counts(kind: str, pixels: Callable[..., Image.Image]) -> None:
    first, second = Image.new("RGB", SIZE, RED), Image.new("RGB", SIZE, BLUE)
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(first, kind, save_all=True, append_images=[second], **options)
    with Image.open(io.BytesIO(data)) as animation:
        assert getattr(animation, "n_frames", 1) == 2, "the test's own file has one frame only"
    assert pixels(data).getpixel((5, 5)) == RED


def test_large_pictures_are_reduced_by_their_shorter_side(pixels: Callable[..., Image.Image]) -> None:
    assert pixels(png(size=(1400, 2800))).size == (1024, 2048)
    assert pixels(png(size=(3000, 1024))).size == (3000, 1024), "what fits stays as it is"


def test_too_many_pixels_are_refused_by_the_header(rejected: Callable[..., Rejection]) -> None:
    assert rejected(encoded(Image.new("1", (10_000, 10_000)), "PNG")).code == "too_many_pixels"
    # The header alone: were the pixels looked at first, the file would be truncated.
    header = encoded(Image.new("1", (9_000, 9_000)), "PNG")[:100]
    assert rejected(header).code == "too_many_pixels"
    assert rejected(png(size=(50, 50)), max_picture_pixels=2_499).code == "too_many_pixels"


def test_what_is_above_the_limit_of_pillow_is_told_in_our_words(rejected: Callable[..., Rejection]) -> None:
    plain = png()
    size = b"IHDR" + struct.pack(">II", 20_000, 20_000) + plain[24:29]
    told = rejected(plain[:12] + size + struct.pack(">I", zlib.crc32(size)) + plain[33:])
    assert told.code == "too_many_pixels"
    assert told.reason == "The picture has 400000000 pixels; 64000000 are allowed."


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_truncated_files_are_refused(kind: str, rejected: Callable[..., Rejection]) -> None:
    noise = Image.effect_noise((128, 128), 90).convert("RGB")
    data = encoded(noise, kind)
    assert rejected(data[: len(data) * 2 // 3]).code in {"truncated", "broken", "not_an_image"}


def test_a_truncated_jpeg_is_named_so(rejected: Callable[..., Rejection]) -> None:
    data = encoded(Image.effect_noise((128, 128), 90).convert("RGB"), "JPEG")
    rejection = rejected(data[: len(data) // 2])
    assert (rejection.code, "cut off" in rejection.reason) == ("truncated", True)


def test_what_is_no_picture_is_named_so(rejected: Callable[..., Rejection]) -> None:
    assert rejected(b"").code == "empty"
    assert rejected(b"<svg xmlns='http://www.w3.org/2000/svg'/>").code == "not_an_image"
    assert rejected(encoded(Image.new("RGB", SIZE), "PPM")).code == "not_an_image", (
        "a format that is not listed"
    )
    assert rejected(encoded(Image.new("RGB", SIZE), "PDF")).code == "not_an_image"
    assert "archives inside archives" in rejected(b"PK\x03\x04" + bytes(100)).reason


def test_small_sides_and_large_files_are_refused(rejected: Callable[..., Rejection]) -> None:
    assert rejected(png(size=(31, 400))).code == "too_small"
    assert rejected(png(), max_picture_bytes=50).code == "too_large"


def test_not_a_number_is_refused(rejected: Callable[..., Rejection]) -> None:
    wide = Image.new("F", SIZE, 1.0)
    wide.putpixel((3, 3), float("inf"))
    assert rejected(encoded(wide, "TIFF")).code == "broken"


def test_contact_sheet_shows_pictures_in_order(tmp_path: Path) -> None:
    pictures = []
    for index, color in enumerate([RED, GREEN, BLUE] * 3):
        path = tmp_path / f"{index}.png"
        Image.new("RGB", (64, 128), color).save(path)
        pictures.append(Picture(path.name, path, 64, 128, 1, ""))
    contact_sheet(pictures, target=tmp_path / "sheet.jpg")
    with Image.open(tmp_path / "sheet.jpg") as sheet:
        assert sheet.size == (8 * 128, 2 * 128)
        for at, expected in (((64, 64), RED), ((3 * 128 + 64, 64), RED), ((64, 192), BLUE), ((2, 64), WHITE)):
            assert near(sheet, at, expected, within=12), at


def test_where_a_photograph_was_taken_is_gone(run: Callable[..., Picture | Rejection]) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 51.0, 29.0), 3: "E", 4: (2.0, 17.0, 40.0)})
    photo = encoded(two_tone(RED, BLUE), "JPEG", exif=exif)
    with Image.open(io.BytesIO(photo)) as image:
        assert image.getexif().get_ifd(0x8825)[2] == (48.0, 51.0, 29.0), "the test's own file has no place"
    picture = run(photo)
    assert isinstance(picture, Picture)
    with Image.open(picture.path) as image:
        assert (dict(image.getexif()), image.info) == ({}, {})
    chunks = {kind for kind in (b"eXIf", b"tEXt", b"zTXt", b"iTXt") if kind in picture.path.read_bytes()}
    assert not chunks
