"""Small pictures in every form, for tests of uploads."""

from __future__ import annotations

import io
import tarfile
import zipfile
from typing import TYPE_CHECKING, Any

from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Mapping


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """A picture's file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(color: tuple[int, int, int] | str = "red", *, size: tuple[int, int] = (40, 36)) -> bytes:
    """A picture of one colour."""
    return encoded(Image.new("RGB", size, color), "PNG")


def pngs(count: int) -> dict[str, bytes]:
    """So many different pictures by their names."""
    return {f"{i:04d}.png": png((i % 256, i // 256, 7)) for i in range(count)}


def zipped(files: Mapping[str, bytes]) -> bytes:
    """An honest zip."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def form(files: Mapping[str, bytes]) -> list[tuple[str, tuple[str, bytes]]]:
    """Files as fields of an upload."""
    return [("files", item) for item in files.items()]


def tarred(files: dict[str, bytes], *members: tarfile.TarInfo) -> bytes:
    """A tar of files, and of members that have only a header."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for member in members:
            archive.addfile(member)
    return buffer.getvalue()
