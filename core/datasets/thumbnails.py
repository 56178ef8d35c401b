"""Small versions of stored pictures, made when they are asked for."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from core.datasets.pictures import thumbnail
from core.datasets.scratch import scratch_folder

if TYPE_CHECKING:
    from core.datasets.contents import Image
    from core.storage import Store

# Of our own making, so that this process may decode it, unless that takes much memory: 12 MB, and the file.
_PIXELS_HERE = 4_000_000
_BYTES_HERE = 4 * 1024 * 1024


def thumbnail_of(image: Image, *, store: Store) -> bytes:
    """A WebP of a stored picture, fitted into 128 x 128; the caller sees to it that few are made at a time.

    Args:
        image: the picture's row.
        store: the artifact store.

    Raises:
        StoreUnavailable: the store does not give the picture.
    """
    if image.width * image.height > _PIXELS_HERE or image.size_bytes > _BYTES_HERE:
        return _in_a_process(image, store)
    from core.datasets.decoding import thumbnail as save_thumbnail  # noqa: PLC0415  # Pillow, only when needed

    picture = io.BytesIO(b"".join(store.read(image.storage_key)))
    small = io.BytesIO()
    save_thumbnail(picture, small)
    return small.getvalue()


def _in_a_process(image: Image, store: Store) -> bytes:
    with scratch_folder() as folder:
        store.fetch(image.storage_key, folder / "picture.png")
        thumbnail(folder / "picture.png", target=folder / "small.webp")
        return (folder / "small.webp").read_bytes()
