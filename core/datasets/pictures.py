"""Make any accepted picture the one thing that training reads: an upright RGB PNG without metadata."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image, ImageCms, ImageMath, ImageOps, UnidentifiedImageError

from core.datasets.scratch import disk_errors
from core.files import sha256_of
from core.schemas.datasets import Rejection

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from core.datasets.archives import Found
    from core.settings import Settings

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
MIN_SIDE = 32
MAX_SHORTER_SIDE = 1024
SHEET_COLUMNS = 8
SHEET_PICTURES = 64
THUMBNAIL_SIDE = 128
# Levels above cost up to four times the time of this one, for a tenth of the size.
PNG_LEVEL = 2
# A picture at the limit takes some 500 MB while it is converted; so many at once in a process, and no more.
_DECODING = threading.BoundedSemaphore(2)


@dataclass(frozen=True)
class Picture:
    """A normalised picture in the scratch folder."""

    name: str
    path: Path
    width: int
    height: int
    size_bytes: int
    sha256: str


class _Refused(Exception):
    """Never leaves this module; a Rejection does."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.rejection = code, reason


def normalise(found: Found, *, target: Path, limits: Settings) -> Picture | Rejection:
    """Decode a file, convert it, and save it as PNG.

    Args:
        found: the file, which may be anything.
        target: where the PNG goes.
        limits: max_picture_bytes and max_picture_pixels.

    Returns:
        The picture, or why it is none.
    """
    try:
        with _DECODING:
            picture = _decode(found.path, limits=limits)
            with disk_errors():
                picture.save(target, "PNG", compress_level=PNG_LEVEL)
    except _Refused as refused:
        code, reason = refused.rejection
        return Rejection(name=found.name, code=code, reason=reason)
    return Picture(
        name=found.name,
        path=target,
        width=picture.width,
        height=picture.height,
        size_bytes=target.stat().st_size,
        sha256=sha256_of(target),
    )


def contact_sheet(pictures: Iterable[Picture], *, target: Path) -> None:
    """Save a JPEG of the first 64 pictures, eight a row, each fitted into 128 x 128 on white."""
    shown = list(pictures)[:SHEET_PICTURES]
    columns = min(SHEET_COLUMNS, len(shown))
    rows = math.ceil(len(shown) / columns)
    sheet = Image.new("RGB", (columns * THUMBNAIL_SIDE, rows * THUMBNAIL_SIDE), "white")
    for index, picture in enumerate(shown):
        with Image.open(picture.path) as image:
            image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
            left = index % columns * THUMBNAIL_SIDE + (THUMBNAIL_SIDE - image.width) // 2
            top = index // columns * THUMBNAIL_SIDE + (THUMBNAIL_SIDE - image.height) // 2
            sheet.paste(image, (left, top))
    with disk_errors():
        sheet.save(target, "JPEG", quality=85)


def _decode(path: Path, *, limits: Settings) -> Image.Image:
    size_bytes = path.stat().st_size
    if size_bytes == 0:
        raise _Refused("empty", "The file is empty.")
    if size_bytes > limits.max_picture_bytes:
        raise _Refused(
            "too_large", f"The file has {size_bytes} bytes; a picture may have {limits.max_picture_bytes}."
        )
    try:
        with Image.open(path, formats=FORMATS) as image:
            _check_size(image, max_pixels=limits.max_picture_pixels)
            image.load()
            return _reduced(to_rgb(ImageOps.exif_transpose(image)))
    except _Refused:
        raise
    except UnidentifiedImageError as error:
        raise _Refused("not_an_image", _what_it_is(path)) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _Refused("too_many_pixels", f"The picture is too large: {error}.") from error
    except Exception as error:
        # Hostile bytes make Pillow's decoders raise nearly any type, and only they run in this block.
        if isinstance(error, EOFError) or "truncated" in str(error).lower():
            raise _Refused("truncated", "The file ends before the picture does: it was cut off.") from error
        raise _Refused(
            "broken", f"The picture cannot be decoded ({str(error)[:200] or type(error).__name__})."
        ) from error


def _check_size(image: Image.Image, *, max_pixels: int) -> None:
    """Judge by the header, before a single pixel is decoded."""
    width, height = image.size
    if width * height > max_pixels:
        raise _Refused(
            "too_many_pixels", f"The picture has {width} x {height} pixels; {max_pixels} are allowed."
        )
    if min(width, height) < MIN_SIDE:
        raise _Refused(
            "too_small", f"The picture has {width} x {height} pixels; each side needs at least {MIN_SIDE}."
        )


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a decoded picture of any mode to RGB, as documented in docs/api.md.

    Args:
        image: of any mode that the accepted formats decode to.

    Returns:
        An RGB picture of the same size that carries no metadata.
    """
    rgb: Image.Image
    if image.mode.startswith("I;16"):
        # 65535 is white: divided by 257 and rounded, where Pillow's own conversion would clip at 255.
        grey = ImageMath.lambda_eval(
            lambda args: args["convert"]((args["wide"] + 128) / 257, "L"), wide=image.convert("I")
        )
        rgb = grey.convert("RGB")
    elif image.mode in ("I", "F"):
        rgb = _stretched(image).convert("RGB")
    elif image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        assert converted is not None, "profileToProfile returns None only when asked to work in place"
        rgb = converted
    elif image.has_transparency_data:
        rgba = image.convert("RGBA")
        rgb = Image.new("RGB", image.size, "white")
        rgb.paste(rgba, mask=rgba.getchannel("A"))
    else:
        rgb = image.convert("RGB")
    rgb.info.clear()
    return rgb


def _stretched(image: Image.Image) -> Image.Image:
    """32-bit integers and floats agree on no white: the picture's own darkest and brightest become 0 and 255."""
    wide = image.convert("F")
    low, high = wide.getextrema()
    assert isinstance(low, float) and isinstance(high, float), image.mode  # noqa: PT018  # one fact: a single band
    if not (math.isfinite(low) and math.isfinite(high)):
        raise _Refused("broken", "The picture holds values that are no finite numbers.")
    scale = 255 / (high - low) if high > low else 0.0
    return wide.point(lambda value: value * scale + (0.5 - low * scale)).convert("L")


def _reduced(image: Image.Image) -> Image.Image:
    """Bring the shorter side down to 1024, the largest resolution of training; smaller pictures stay as they are."""
    shorter = min(image.size)
    if shorter <= MAX_SHORTER_SIDE:
        return image
    width, height = (round(side * MAX_SHORTER_SIDE / shorter) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def _what_it_is(path: Path) -> str:
    from core.datasets.archives import kind_of  # noqa: PLC0415

    if kind_of(path):
        return "The file is an archive; archives inside archives are not unpacked."
    return f"The file is no picture that is taken here; these are: {', '.join(FORMATS)}."
