"""Decode a file that may be anything into an upright RGB picture. This runs in the child process alone.

It imports neither settings nor schemas: the child starts the faster, and knows nothing worth stealing.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, BinaryIO

from PIL import Image, ImageCms, ImageMath, ImageOps, UnidentifiedImageError

if TYPE_CHECKING:
    from pathlib import Path

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
MIN_SIDE = 32
MAX_SHORTER_SIDE = 1024
SHEET_COLUMNS = 8
THUMBNAIL_SIDE = 128
# Levels above cost up to four times the time of this one, for a tenth of the size.
PNG_LEVEL = 2
HASH_SIDE = 16
# Channels of a grey picture that was saved as JPEG in colour may differ by so much.
GREY_WITHIN = 3
_GREY_MODES = ("1", "L", "LA", "La", "I", "F")


class Refused(Exception):
    """The file is no picture that is taken: a code, and a sentence for a person."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def normalise(source: Path, target: Path, *, max_bytes: int, max_pixels: int) -> dict[str, Any]:
    """Decode a file, convert it, and save it as PNG.

    Args:
        source: the file, which may be anything.
        target: where the PNG goes.
        max_bytes: of the file.
        max_pixels: of the picture, as its header tells.

    Returns:
        width, height, and facts as core.datasets.facts has them.

    Raises:
        Refused: it is no usable picture.
        OSError: of the disk, when the PNG is written.
    """
    picture, traits = _decode(source, max_bytes=max_bytes, max_pixels=max_pixels)
    facts = _facts(picture, traits)
    picture.save(target, "PNG", compress_level=PNG_LEVEL)
    return {"width": picture.width, "height": picture.height, "facts": facts}


def contact_sheet(sources: list[Path], target: Path) -> None:
    """Save a JPEG of normalised pictures, eight a row, each fitted into 128 x 128 on white."""
    columns = min(SHEET_COLUMNS, len(sources))
    rows = math.ceil(len(sources) / columns)
    sheet = Image.new("RGB", (columns * THUMBNAIL_SIDE, rows * THUMBNAIL_SIDE), "white")
    for index, source in enumerate(sources):
        image = _reduced_to_thumbnail(source)
        left = index % columns * THUMBNAIL_SIDE + (THUMBNAIL_SIDE - image.width) // 2
        top = index // columns * THUMBNAIL_SIDE + (THUMBNAIL_SIDE - image.height) // 2
        sheet.paste(image, (left, top))
    sheet.save(target, "JPEG", quality=85)


def thumbnail(source: Path | BinaryIO, target: Path | BinaryIO) -> None:
    """Save a WebP of a normalised picture, fitted into 128 x 128."""
    _reduced_to_thumbnail(source).save(target, "WEBP", quality=80)


def small(source: Path, target: Path) -> None:
    """Save a PNG of a normalised picture, fitted into 128 x 128, for a contact sheet."""
    _reduced_to_thumbnail(source).save(target, "PNG", compress_level=PNG_LEVEL)


def _reduced_to_thumbnail(source: Path | BinaryIO) -> Image.Image:
    with Image.open(source, formats=("PNG",)) as image:
        image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
        return image.copy()


def _decode(path: Path, *, max_bytes: int, max_pixels: int) -> tuple[Image.Image, list[str]]:
    size_bytes = path.stat().st_size
    if size_bytes == 0:
        raise Refused("empty", "The file is empty.")
    if size_bytes > max_bytes:
        raise Refused("too_large", f"The file has {size_bytes} bytes; a picture may have {max_bytes}.")
    try:
        with Image.open(path, formats=FORMATS) as image:
            _check_size(image, max_pixels=max_pixels)
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            return _reduced(to_rgb(image)), _traits(image)
    except (Refused, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise Refused(
            "not_an_image", f"The file is no picture that is taken here; these are: {', '.join(FORMATS)}."
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        # Pillow has a limit of its own, which it does not leave to us before a header is read.
        pixels = re.search(r"\((\d+) pixels\)", str(error))
        told = f"{pixels[1]} pixels" if pixels else "too many pixels"
        raise Refused("too_many_pixels", f"The picture has {told}; {max_pixels} are allowed.") from error
    except Exception as error:
        # Hostile bytes make Pillow's decoders raise nearly any type, and only they run in this block.
        if isinstance(error, EOFError) or "truncated" in str(error).lower():
            raise Refused("truncated", "The file ends before the picture does: it was cut off.") from error
        raise Refused(
            "broken", f"The picture cannot be decoded ({str(error)[:200] or type(error).__name__})."
        ) from error


def _check_size(image: Image.Image, *, max_pixels: int) -> None:
    """Judge by the header, before a single pixel is decoded."""
    width, height = image.size
    if width * height > max_pixels:
        raise Refused(
            "too_many_pixels", f"The picture has {width} x {height} pixels; {max_pixels} are allowed."
        )
    if min(width, height) < MIN_SIDE:
        raise Refused(
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
        raise Refused("broken", "The picture holds values that are no finite numbers.")
    scale = 255 / (high - low) if high > low else 0.0
    return wide.point(lambda value: value * scale + (0.5 - low * scale)).convert("L")


def _reduced(image: Image.Image) -> Image.Image:
    """Bring the shorter side down to 1024, the largest resolution of training; smaller pictures stay as they are."""
    shorter = min(image.size)
    if shorter <= MAX_SHORTER_SIDE:
        return image
    width, height = (round(side * MAX_SHORTER_SIDE / shorter) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def _traits(image: Image.Image) -> list[str]:
    """What the lint calls mixed modes; of a decoded picture, before it became RGB."""
    traits = []
    if image.mode.startswith(("I;16", "I", "F")):
        traits.append("16_bit")
    if image.mode == "CMYK":
        traits.append("cmyk")
    if image.has_transparency_data and _lets_through(image):
        traits.append("transparent")
    if image.mode in _GREY_MODES or image.mode.startswith("I;16"):
        traits.append("grey")
    return traits


def _lets_through(image: Image.Image) -> bool:
    """Whether any pixel is not opaque: an alpha channel alone says nothing."""
    with_alpha = image if "A" in image.getbands() else image.convert("RGBA")
    darkest, _ = with_alpha.getchannel("A").getextrema()
    assert isinstance(darkest, int | float), "a single band has two extremes"
    return darkest < 255  # noqa: PLR2004  # opaque


def _facts(picture: Image.Image, traits: list[str]) -> dict[str, Any]:
    import numpy as np  # noqa: PLC0415  # contact sheets do without it

    small = picture.resize((HASH_SIDE + 1, HASH_SIDE), Image.Resampling.LANCZOS, reducing_gap=2.0)
    levels = np.asarray(small).astype(np.int16)
    if "grey" not in traits and np.ptp(levels, axis=2).max() <= GREY_WITHIN:
        traits = [*traits, "grey"]
    light = small.convert("L")
    return {
        "hash": _hash(light),
        "mirror": _hash(ImageOps.mirror(light)),
        "contrast": int(np.ptp(levels, axis=(0, 1)).max()),
        "traits": traits,
    }


def _hash(light: Image.Image) -> str:
    import numpy as np  # noqa: PLC0415
    from imagehash import dhash  # noqa: PLC0415

    return np.packbits(dhash(light, HASH_SIDE).hash).tobytes().hex()
