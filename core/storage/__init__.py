"""The artifact store: a local folder, or S3, GCS, Azure and their likes, behind one Protocol.

A key is a relative path of our own making (`datasets/<id>/preview.jpg`); nothing a user names enters it.
A put is complete or absent: a reader never sees half a file.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from core.errors import InfrastructureError
from core.once import Once
from core.settings import settings
from core.storage.local import LocalStore, as_disk_error
from core.storage.protocol import CHUNK_BYTES, Entry, Store

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["CHUNK_BYTES", "Entry", "LocalStore", "Store", "as_disk_error", "open_store", "remove", "store"]

_logger = logging.getLogger(__name__)


def remove(keys: Iterable[str], *, store: Store) -> None:
    """Take artifacts that no row names out of the store; what cannot be removed now is logged and stays an orphan."""
    for key in keys:
        try:
            store.delete(key)
        except InfrastructureError as error:
            _logger.warning("artifact %s stays behind: %s", key, error)


def open_store(url: str, *, reserve_bytes: int) -> Store:
    """The store behind a URL: file:///folder, or any URL obstore knows (s3://bucket/prefix …)."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        return LocalStore(Path(unquote(parts.path)), reserve_bytes=reserve_bytes)
    # Imported here: a local store should not pay for it at every start.
    from core.storage.objects import ObjectStore  # noqa: PLC0415

    return ObjectStore(url)


@Once
def store() -> Store:
    """The configured store of this process."""
    return open_store(settings().storage_url, reserve_bytes=settings().store_reserve_bytes)
