"""Scratch folders for uploads: they hold all that is temporary, and they always go away."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import time
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from core.errors import StoreFull, StoreUnavailable
from core.settings import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# A folder this old has its lock, if its process lives.
NEW_UPLOAD_S = 60


def _home(data_dir: Path | None = None) -> Path:
    return (data_dir or settings().data_dir) / "uploads"


def _clear(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for one upload, removed at the end whatever happens.

    It is locked while it lives, so that `clear_abandoned` can tell it from one whose process was killed.

    Raises:
        StoreFull: the disk of the data folder is full.
        StoreUnavailable: the data folder cannot be written.
    """
    with disk_errors():
        _home().mkdir(parents=True, exist_ok=True, mode=0o700)
        folder = TemporaryDirectory(dir=_home(), prefix="upload-")
    with folder as name:
        lock = os.open(name, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield Path(name)
        finally:
            os.close(lock)


def require_space(folder: Path, size_bytes: int) -> None:
    """Refuse what would eat into the reserve: the embedded database may share this disk.

    Args:
        folder: where size_bytes are about to be written.
        size_bytes: how much.

    Raises:
        StoreFull: less than the reserve would stay free.
    """
    free_bytes = shutil.disk_usage(folder).free
    reserve_bytes = settings().store_reserve_bytes
    if free_bytes - size_bytes < reserve_bytes:
        raise StoreFull(
            f"The scratch disk has {free_bytes} bytes free; {size_bytes} bytes and a reserve of {reserve_bytes} are "
            "needed. Free some space, or send a smaller upload.",
            free_bytes=free_bytes,
            needed_bytes=size_bytes,
            reserve_bytes=reserve_bytes,
        )


def clear_abandoned(
    data_dir: Path | None = None, *, older_than_s: float = 0, clear: Callable[[Path], None] = _clear
) -> None:
    """Remove the folders of uploads whose process was killed; those in use are locked and stay.

    Args:
        data_dir: that of the settings, if not given.
        older_than_s: 0 where no other process makes such folders now: a new one has no lock yet.
        clear: removes one.
    """
    for folder in _home(data_dir).glob("upload-*"):
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue  # Its owner finished this very moment.
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(lock).st_mtime <= time.time() - older_than_s:
                clear(folder)
        except BlockingIOError:
            continue
        finally:
            os.close(lock)


@contextmanager
def disk_errors() -> Iterator[None]:
    """Turn what goes wrong with the scratch disk into errors of the service, not of the upload."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreFull("The scratch disk is full: free some space, or send a smaller upload.") from error
        raise StoreUnavailable(f"The scratch folder cannot be used: {error}.") from error
