"""Writing to an upload so that a crash at any moment loses little and corrupts nothing.

The row says how much of the file counts. Bytes are written behind that, synced to the disk, and only then counted. So
whatever lies beyond the count was never told to anybody, and the next writer cuts it off.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import update

from core.datasets.scratch import disk_errors, require_space
from core.db import sessions
from core.errors import ChecksumMismatch, Conflict, NotFound, TooLarge
from core.files import fsync
from core.settings import MIB
from core.uploads import files
from core.uploads.service import get, gone, renewed
from core.uploads.tables import Upload

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

SYNC_BYTES = 4 * MIB
ALGORITHMS = ("sha1", "sha256")


@dataclass(frozen=True)
class Checksum:
    """What the bytes of one request must hash to."""

    algorithm: str
    digest: bytes


class Appending:
    """One request's turn at an upload. Its methods block: call them in a thread, one at a time.

    Args:
        descriptor: the upload's file, locked.
        upload: its row, as it is now.
        checksum: with one, all bytes of the turn count, or none.
    """

    def __init__(self, descriptor: int, upload: Upload, *, checksum: Checksum | None) -> None:
        self._descriptor = descriptor
        self._upload = upload
        self._checksum = checksum
        self._hash = hashlib.new(checksum.algorithm, usedforsecurity=False) if checksum else None
        self._end = upload.received_bytes

    def write(self, data: bytes) -> None:
        """Take the next bytes; every few MiB they are made to count.

        Raises:
            TooLarge: they would go beyond the upload's length; none of them is taken.
            StoreFull: the disk is full.
            NotFound: the upload was deleted meanwhile.
        """
        require_fit(self._upload, end=self._end + len(data))
        require_space(files.home(), len(data))
        with disk_errors():
            rest = memoryview(data)
            while rest:
                written = os.pwrite(self._descriptor, rest, self._end)
                rest, self._end = rest[written:], self._end + written
        if self._hash is not None:
            self._hash.update(data)
        elif self._end - self._upload.received_bytes >= SYNC_BYTES:
            self._count()

    def finish(self) -> Upload:
        """Make all that was written count, and give the row as it is then.

        Raises:
            ChecksumMismatch: the bytes are not those that the client hashed; none of them counts.
            NotFound: the upload was deleted meanwhile.
        """
        if self._checksum is not None and self._hash is not None:
            if self._hash.digest() != self._checksum.digest:
                raise ChecksumMismatch(
                    f"The {self._checksum.algorithm} of the bytes received is {self._hash.hexdigest()}, not "
                    f"{self._checksum.digest.hex()}: none of them was kept. Send them again from offset "
                    f"{self._upload.received_bytes}.",
                    found=self._hash.hexdigest(),
                    expected=self._checksum.digest.hex(),
                    offset=self._upload.received_bytes,
                )
            self._checksum = None
        self._count()
        return self._upload

    def leave(self) -> None:
        """End the turn, however it went: without a checksum what was written counts, else what did not count goes."""
        if self._checksum is not None:
            with disk_errors():
                os.ftruncate(self._descriptor, self._upload.received_bytes)
        elif self._end > self._upload.received_bytes:
            self._count()

    def _count(self) -> None:
        # Until it is known to have worked there is nothing that `leave` could count: a lost answer is no answer.
        end, self._end = self._end, self._upload.received_bytes
        with disk_errors():
            os.fdatasync(self._descriptor)
            if self._upload.received_bytes == 0:
                fsync(files.home())
        with sessions().begin() as session:
            row = session.scalar(
                update(Upload)
                .where(
                    Upload.id == self._upload.id,
                    Upload.received_bytes == self._upload.received_bytes,
                    Upload.dataset_id.is_(None),
                )
                .values(received_bytes=end, expires_at=renewed())
                .returning(Upload)
            )
        if row is None:
            raise gone(self._upload.id)
        self._upload, self._end = row, end


@contextmanager
def appending(
    *, tenant_id: UUID, upload_id: UUID, offset: int, size_bytes: int, checksum: Checksum | None
) -> Iterator[Appending]:
    """Take a turn at writing to an upload, from where it is.

    Args:
        tenant_id: the owner.
        upload_id: the upload.
        offset: where the client believes it is.
        size_bytes: how much the client says it will send; 0 where it does not say.
        checksum: of all that it will send in this turn.

    Raises:
        NotFound: there is no such upload, or its bytes are not on this machine.
        Locked: it is somebody else's turn.
        Conflict: the upload is somewhere else, or is a dataset already.
        TooLarge: what comes would go beyond its length.
        StoreFull: the disk has no room.
    """
    with sessions()() as session:
        get(session, tenant_id=tenant_id, upload_id=upload_id)
    with files.locked(upload_id) as descriptor:
        # Read under the lock: nobody but the holder moves the count.
        upload = _found(descriptor, tenant_id=tenant_id, upload_id=upload_id)
        if offset != upload.received_bytes:
            raise Conflict(
                f"The upload {upload_id} is at offset {upload.received_bytes}, not {offset}: go on from there.",
                offset=upload.received_bytes,
            )
        require_fit(upload, end=offset + size_bytes)
        require_space(files.home(), size_bytes)
        with disk_errors():
            os.ftruncate(descriptor, upload.received_bytes)
        turn = Appending(descriptor, upload, checksum=checksum)
        try:
            yield turn
        finally:
            turn.leave()


def _found(descriptor: int, *, tenant_id: UUID, upload_id: UUID) -> Upload:
    with sessions()() as session:
        try:
            upload = get(session, tenant_id=tenant_id, upload_id=upload_id)
        except NotFound:
            files.forget(upload_id)  # It was deleted between two looks, and the lock made its file again.
            raise
    if upload.dataset_id is not None:
        files.forget(upload_id)
        raise Conflict(
            f"The upload {upload_id} is the dataset {upload.dataset_id} already.",
            dataset_id=str(upload.dataset_id),
        )
    require_here(upload, os.fstat(descriptor).st_size)
    return upload


def require_fit(upload: Upload, *, end: int) -> None:
    """Refuse what would go beyond an upload's length.

    Raises:
        TooLarge: with the length.
    """
    if end > upload.length_bytes:
        raise TooLarge(
            f"The upload {upload.id} is to have {upload.length_bytes} bytes, and these would reach to {end}: send no "
            "more than the Upload-Length that it was begun with.",
            size_bytes=end,
            limit_bytes=upload.length_bytes,
        )


def require_here(upload: Upload, size_bytes: int) -> None:
    """Refuse an upload that this machine has less of than counts.

    Args:
        upload: its row.
        size_bytes: of its file here.

    Raises:
        NotFound: its bytes are on another machine, or lost.
    """
    if size_bytes < upload.received_bytes:
        raise NotFound(
            f"The upload {upload.id} has {upload.received_bytes} bytes, but this machine has {size_bytes} of them. "
            "Machines of the API must share their data folder, or get each upload's requests at one of them. If they "
            "do, the bytes are lost: begin anew."
        )
