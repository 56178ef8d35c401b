"""Pictures of an upload: made by the decoding process, and judged here by what it answers."""

from __future__ import annotations

import struct
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from core.datasets.archives import kind_of
from core.datasets.decoder import Decoded, Decoder, NotTaken, TooDemanding
from core.datasets.facts import Facts
from core.errors import InfrastructureError
from core.files import sha256_of
from core.schemas.datasets import Rejection
from core.settings import settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from core.datasets.archives import Found
    from core.settings import Settings

SHEET_PICTURES = 64
# Signature, length and name of the first chunk, then the size.
_PNG_HEAD = struct.Struct(">16sII")
_PNG_BEGIN = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR"


@dataclass(frozen=True)
class Picture:
    """A normalised picture in the scratch folder."""

    name: str
    path: Path
    width: int
    height: int
    size_bytes: int
    sha256: str
    facts: Facts = field(default_factory=Facts)
    label: str | None = None


def normalise(found: Found, *, target: Path, decoder: Decoder, limits: Settings) -> Picture | Rejection:
    """Have a file decoded, converted, and saved as PNG.

    Args:
        found: the file, which may be anything.
        target: where the PNG goes.
        decoder: of this upload.
        limits: max_picture_bytes and max_picture_pixels.

    Returns:
        The picture, or why it is none.

    Raises:
        StoreFull: the scratch disk is full.
        InfrastructureError: pictures cannot be decoded at all.
    """
    try:
        answer = decoder.ask(
            "normalise",
            source=str(found.path),
            target=target,
            max_bytes=limits.max_picture_bytes,
            max_pixels=limits.max_picture_pixels,
        )
    except TooDemanding as error:
        target.unlink(missing_ok=True)
        reason = f"The picture could not be decoded within the limits: {error}."
        return Rejection(name=found.name, code="too_demanding", reason=reason)
    if isinstance(answer, NotTaken):
        target.unlink(missing_ok=True)
        reason = answer.reason
        if answer.code == "not_an_image" and kind_of(found.path):
            reason = "The file is an archive; archives inside archives are not unpacked."
        return Rejection(name=found.name, code=answer.code, reason=reason)
    # Looked at and hashed here, no link followed: a process that was taken over may answer anything.
    size = (answer.width, answer.height) if isinstance(answer, Decoded) else None
    if not isinstance(answer, Decoded) or size != _size_of(target, max_pixels=limits.max_picture_pixels):
        target.unlink(missing_ok=True)
        reason = "The process that decoded the picture did not do what it was asked."
        return Rejection(name=found.name, code="too_demanding", reason=reason)
    return Picture(
        name=found.name,
        path=target,
        width=answer.width,
        height=answer.height,
        size_bytes=target.stat().st_size,
        sha256=sha256_of(target),
        facts=answer.facts,
        label=found.label,
    )


def _size_of(path: Path, *, max_pixels: int) -> tuple[int, int] | None:
    """Width and height as a PNG's first bytes tell them; None if it is no such file, or has too many pixels."""
    if path.is_symlink() or not path.is_file():
        return None
    with path.open("rb") as file:
        head = file.read(_PNG_HEAD.size)
    if len(head) < _PNG_HEAD.size:
        return None
    begin, width, height = _PNG_HEAD.unpack(head)
    return (width, height) if begin == _PNG_BEGIN and width * height <= max_pixels else None


def contact_sheet(pictures: Iterable[Picture], *, target: Path) -> None:
    """Save a JPEG of the first 64 pictures, eight a row, each fitted into 128 x 128 on white.

    Args:
        pictures: normalised ones, in the folder of the target.
        target: the file to write.

    Raises:
        StoreFull: the scratch disk is full.
        InfrastructureError: the pictures cannot be read.
    """
    folder = target.parent
    with _small_pictures(folder) as decoder:
        small = []
        # One by one: 64 large pictures take longer than the time of one request.
        for number, picture in enumerate(list(pictures)[:SHEET_PICTURES]):
            small.append(folder / f"{target.stem}-{number:02d}.png")
            decoder.ask("small", source=str(picture.path), target=small[-1])
        decoder.ask("contact_sheet", sources=[str(path) for path in small], target=target)
    for path in small:
        path.unlink()


def thumbnail(source: Path, *, target: Path) -> None:
    """Save a WebP of a normalised picture, fitted into 128 x 128; as `contact_sheet`."""
    with _small_pictures(target.parent) as decoder:
        decoder.ask("thumbnail", source=str(source), target=target)


@contextmanager
def _small_pictures(folder: Path) -> Iterator[Decoder]:
    try:
        with Decoder(folder, limits=settings()) as decoder:
            yield decoder
    except TooDemanding as error:
        raise InfrastructureError(f"A small picture of stored ones cannot be made: {error}.") from error
