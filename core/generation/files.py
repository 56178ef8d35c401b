"""Pictures as files that are the same bytes whenever they are written.

Shapes: H height, W width.
"""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING, Literal

from PIL import Image

from core.files import atomic_path, sha256_of
from core.schemas.ticks import RenderedFile

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from torch import Tensor

    Role = Literal["main", "preview", "picture", "latent"]

_COMPRESSION = 6  # zlib's own default, named so that no other one takes its place
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first date that a zip can hold
_MODE = 0o644 << 16
_UNIX = 3

MEDIA_TYPES = {
    "png": "image/png",
    "zip": "application/zip",
    "gif": "image/gif",
    "webp": "image/webp",
    "mp4": "video/mp4",
    "safetensors": "application/octet-stream",
    "pt2": "application/octet-stream",
    "onnx": "application/octet-stream",
}


def as_image(picture_3HW: Tensor) -> Image.Image:
    """An RGB image of uint8 on the CPU."""
    return Image.fromarray(picture_3HW.permute(1, 2, 0).contiguous().numpy())


def as_png(image: Image.Image) -> bytes:
    """A PNG of fixed settings, without a date or any other text."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=_COMPRESSION)
    return buffer.getvalue()


def write(path: Path, content: bytes) -> None:
    """A whole file of some bytes."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_zip(path: Path, members: Iterable[tuple[str, bytes]]) -> None:
    """An archive of files by their names, in the order given, with one date; PNGs are packed already."""
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members:
            entry = zipfile.ZipInfo(name, date_time=_EPOCH)
            entry.external_attr, entry.create_system = _MODE, _UNIX
            archive.writestr(entry, content)


def told(path: Path, role: Role) -> RenderedFile:
    """What is told of a file that is complete."""
    return RenderedFile(
        name=path.name,
        media_type=MEDIA_TYPES[path.suffix.removeprefix(".")],
        size_bytes=path.stat().st_size,
        sha256=sha256_of(path),
        role=role,
    )
