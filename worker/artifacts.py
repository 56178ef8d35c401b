"""Files on their way from a child's work folder to the store: first the file, then its row, and no file without one."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from core.errors import StoreUnavailable
from core.files import sha256_of
from core.jobs.records import StoredFile
from core.storage import store

if TYPE_CHECKING:
    from pathlib import Path

logger = logging.getLogger(__name__)
PUT_ATTEMPTS = 4


def put(source: Path, *, key: str, filename: str) -> StoredFile:
    """Move a file to the store; an unreachable store gets a few chances.

    Args:
        source: the file.
        key: where it goes.
        filename: what it is called where somebody downloads it.

    Raises:
        InfrastructureError: the store is full, or stays unreachable.
    """
    file = StoredFile(key=key, sha256=sha256_of(source), size_bytes=source.stat().st_size)
    for tried in range(1, PUT_ATTEMPTS + 1):
        try:
            store().put(key, source, filename=filename)
            break
        except StoreUnavailable as error:
            if tried == PUT_ATTEMPTS:
                raise
            logger.warning("Try %d of %d to store %s failed: %s", tried, PUT_ATTEMPTS, key, error)
            time.sleep(2 ** (tried - 1))
    source.unlink()
    return file
