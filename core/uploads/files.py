"""The bytes of resumable uploads: a file each in the data folder of this machine, and whose turn it is to write it."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import select

from core.datasets.scratch import disk_errors
from core.db import sessions
from core.errors import Locked
from core.settings import settings
from core.uploads.tables import Upload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def home(data_dir: Path | None = None) -> Path:
    """The folder of all of them; that of the settings' data folder, if none is given."""
    return (data_dir or settings().data_dir) / "resumable"


def path_of(upload_id: UUID) -> Path:
    """Where the bytes of an upload lie, if there are any on this machine."""
    return home() / str(upload_id)


@contextmanager
def locked(upload_id: UUID) -> Iterator[int]:
    """Have an upload's file to oneself, made if it is not there; the lock goes with the process, however that ends.

    Only who has seen the upload's row may ask for its file: so a file without a row is nobody's.

    Yields:
        Its descriptor, open for reading and writing.

    Raises:
        Locked: somebody else has it. Nothing waits here.
        StoreFull, StoreUnavailable: the disk takes no file.
    """
    with disk_errors():
        home().mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path_of(upload_id), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Locked(
                f"Another request is writing to the upload {upload_id}, or makes a dataset of it: ask where it is "
                "(HEAD) when that is over."
            ) from None
        yield descriptor
    finally:
        os.close(descriptor)


def forget(upload_id: UUID) -> None:
    """Remove the bytes of an upload that needs none any more."""
    path_of(upload_id).unlink(missing_ok=True)


def clear_needless(data_dir: Path | None = None, *, clear: Callable[[Path], None] | None = None) -> None:
    """Remove the files of uploads that are no more, or that a dataset was made of.

    They need no grace: a row is there before its file, and never comes back.

    Args:
        data_dir: that of the settings, if not given.
        clear: removes one.
    """
    found: dict[UUID, Path] = {}
    with suppress(FileNotFoundError):
        for path in home(data_dir).iterdir():
            with suppress(ValueError):  # It is none of ours.
                found[UUID(path.name)] = path
    if not found:
        return
    with sessions()() as session:
        open_ones = set(
            session.scalars(select(Upload.id).where(Upload.id.in_(found), Upload.dataset_id.is_(None)))
        )
    for upload_id in found.keys() - open_ones:
        if clear is None:
            found[upload_id].unlink(missing_ok=True)
        else:
            clear(found[upload_id])
