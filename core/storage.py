"""The artifact store: a local folder, or S3, GCS, Azure and their likes, behind one Protocol.

A key is a relative path of our own making (`datasets/<id>/00001.png`); nothing a user names enters it.
A put is complete or absent: a reader never sees half a file.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

from core.errors import InfrastructureError, StoreFull, StoreUnavailable
from core.files import atomic_path
from core.settings import settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

logger = logging.getLogger(__name__)
CHUNK_BYTES = 1024 * 1024
ABANDONED_S = 3600
# A store that is away is told of within seconds; whoever asked decides how long to go on trying. A transfer that moves
# may take its time. Waiting for an answer to an uploaded part counts as silence, so few parts go at once.
_CLIENT: Any = {
    "connect_timeout": timedelta(seconds=3),
    "read_timeout": timedelta(seconds=10),
    "timeout": timedelta(minutes=5),
    # These options replace those of the environment (AWS_ALLOW_HTTP): who names an endpoint with http:// means it.
    "allow_http": True,
}
_RETRIES: Any = {
    "max_retries": 2,
    "retry_timeout": timedelta(seconds=8),
    "backoff": {
        "init_backoff": timedelta(milliseconds=200),
        "max_backoff": timedelta(seconds=1),
        "base": 2,
    },
}
_PARTS_AT_ONCE = 4


class Entry(NamedTuple):
    """An artifact as a listing has it; modified_at is by the clock of the store."""

    key: str
    size_bytes: int
    modified_at: datetime


class Store(Protocol):
    """What the service asks of a store.

    Every method raises StoreUnavailable when the store cannot be reached, and `put` StoreFull when it is full.
    """

    def put(self, key: str, source: Path) -> None:
        """Store a file's bytes under a key, durably, over whatever was there."""

    def fetch(self, key: str, target: Path) -> None:
        """Copy an artifact to a local file."""

    def read(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Stream the bytes from start to end (exclusive)."""

    def delete(self, key: str) -> None:
        """Remove an artifact; an absent one is no error."""

    def keys(self, prefix: str) -> Iterator[str]:
        """Every key under a prefix folder."""

    def entries(self, prefix: str) -> Iterator[Entry]:
        """Every artifact under a prefix folder, with its size and age."""

    def unfinished(self) -> Iterator[Entry]:
        """What puts left half written that were killed, or are under way; `delete` takes the keys."""

    def check(self) -> None:
        """Raise when a put would fail now."""


class LocalStore:
    """A folder. Writes go to a temporary name in `.incoming/`, are fsynced, and renamed."""

    def __init__(self, root: Path, *, reserve_bytes: int) -> None:
        self._root = root
        self._reserve_bytes = reserve_bytes
        self._incoming = root / ".incoming"

    def _path(self, key: str) -> Path:
        path = self._root / key
        assert ".." not in path.parts, key
        return path

    def put(self, key: str, source: Path) -> None:
        try:
            self._require_space(source.stat().st_size)
            self._clear_abandoned()
            with (
                atomic_path(self._path(key), through=self._incoming) as temporary,
                source.open("rb") as reader,
                temporary.open("wb") as writer,
            ):
                shutil.copyfileobj(reader, writer, CHUNK_BYTES)
        except OSError as error:
            raise as_disk_error(error, self._root) from error

    def fetch(self, key: str, target: Path) -> None:
        try:
            shutil.copyfile(self._path(key), target)
        except OSError as error:
            raise as_disk_error(error, self._root) from error

    def read(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        try:
            with self._path(key).open("rb") as file:
                if start:
                    file.seek(start)
                left = None if end is None else end - start
                while chunk := file.read(CHUNK_BYTES if left is None else min(CHUNK_BYTES, left)):
                    left = None if left is None else left - len(chunk)
                    yield chunk
        except OSError as error:
            raise as_disk_error(error, self._root) from error

    def delete(self, key: str) -> None:
        path = self._path(key)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise as_disk_error(error, self._root) from error
        for folder in path.parents:
            if folder in (self._root, self._incoming):
                break
            try:
                folder.rmdir()
            except OSError:  # It is not empty, or gone.
                break

    def keys(self, prefix: str) -> Iterator[str]:
        for entry in self.entries(prefix):
            yield entry.key

    def entries(self, prefix: str) -> Iterator[Entry]:
        # Folders and files may go while this walks.
        for folder, folders, names in os.walk(self._path(prefix)):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                if not name.startswith(".") and (entry := self._entry(Path(folder) / name)):
                    yield entry

    def unfinished(self) -> Iterator[Entry]:
        for path in self._incoming.glob("*"):
            if entry := self._entry(path):
                yield entry

    def _entry(self, path: Path) -> Entry | None:
        try:
            facts = path.stat()
        except FileNotFoundError:
            return None
        modified_at = datetime.fromtimestamp(facts.st_mtime, tz=UTC)
        return Entry(path.relative_to(self._root).as_posix(), facts.st_size, modified_at)

    def check(self) -> None:
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            self._require_space(0)
            if not os.access(self._root, os.W_OK):
                raise StoreUnavailable(
                    f"The store folder {self._root} is not writable: give this user write access."
                )
        except OSError as error:
            raise as_disk_error(error, self._root) from error

    def _clear_abandoned(self) -> None:
        """Remove what killed processes left half written; a file that still grows is younger."""
        if self._incoming.is_dir():
            oldest = time.time() - ABANDONED_S
            for path in self._incoming.iterdir():
                with suppress(FileNotFoundError):  # Its owner finished this very moment.
                    if path.stat().st_mtime < oldest:
                        path.unlink()

    def _require_space(self, size_bytes: int) -> None:
        """Keep a reserve free: the embedded database shares the disk and must still record a failure."""
        self._root.mkdir(parents=True, exist_ok=True)
        free_bytes = shutil.disk_usage(self._root).free
        if free_bytes - size_bytes < self._reserve_bytes:
            raise StoreFull(
                f"The store has {free_bytes} bytes free; {size_bytes} bytes and a reserve of {self._reserve_bytes} "
                "are needed. Free some space, or delete old datasets and jobs.",
                free_bytes=free_bytes,
                needed_bytes=size_bytes,
                reserve_bytes=self._reserve_bytes,
            )


class ObjectStore:
    """S3, GCS, Azure … through obstore, which uploads large files in parts."""

    def __init__(self, url: str) -> None:
        # Imported here: a local store should not pay for it at every start.
        import obstore  # noqa: PLC0415
        from obstore.store import from_url  # noqa: PLC0415

        self._obstore: Any = obstore
        self._url = url
        self._store: Any = from_url(url, client_options=_CLIENT, retry_config=_RETRIES)

    def _failed(self, error: Exception) -> StoreUnavailable:
        return StoreUnavailable(f"The store {urlsplit(self._url).netloc} failed: {str(error)[:300]}")

    def put(self, key: str, source: Path) -> None:
        try:
            self._obstore.put(self._store, key, source, max_concurrency=_PARTS_AT_ONCE)
        except (self._obstore.exceptions.BaseError, OSError) as error:
            raise self._failed(error) from error

    def fetch(self, key: str, target: Path) -> None:
        with target.open("wb") as file:
            for chunk in self.read(key):
                file.write(chunk)

    def read(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        try:
            options: dict[str, Any] = {"range": (start, end) if end is not None else {"offset": start}}
            result = self._obstore.get(
                self._store, key, options=options if start or end is not None else None
            )
            for chunk in result.stream(min_chunk_size=CHUNK_BYTES):
                yield bytes(chunk)
        except (self._obstore.exceptions.BaseError, OSError) as error:
            raise self._failed(error) from error

    def delete(self, key: str) -> None:
        try:
            self._obstore.delete(self._store, key)
        except FileNotFoundError:
            return
        except (self._obstore.exceptions.BaseError, OSError) as error:
            raise self._failed(error) from error

    def keys(self, prefix: str) -> Iterator[str]:
        for entry in self.entries(prefix):
            yield entry.key

    def entries(self, prefix: str) -> Iterator[Entry]:
        try:
            for batch in self._obstore.list(self._store, prefix=prefix):
                for found in batch:
                    yield Entry(found["path"], found["size"], found["last_modified"])
        except (self._obstore.exceptions.BaseError, OSError) as error:
            raise self._failed(error) from error

    def unfinished(self) -> Iterator[Entry]:
        # Parts of uploads that never ended cannot be listed here: a lifecycle rule of the bucket ends them.
        return iter(())

    def check(self) -> None:
        try:
            self._obstore.put(self._store, "health/check", b"written to see that it can be")
        except (self._obstore.exceptions.BaseError, OSError) as error:
            raise self._failed(error) from error


def remove(keys: Iterable[str], *, store: Store) -> None:
    """Take artifacts that no row names out of the store; what cannot be removed now is logged and stays an orphan."""
    for key in keys:
        try:
            store.delete(key)
        except InfrastructureError as error:
            logger.warning("artifact %s stays behind: %s", key, error)


def as_disk_error(error: OSError, folder: Path) -> StoreFull | StoreUnavailable:
    """What an operating system's error on a folder of ours means to the people who run the service."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreFull(f"The disk of {folder} is full: free some space.")
    return StoreUnavailable(f"The folder {folder} cannot be used: {error}.")


def open_store(url: str, *, reserve_bytes: int) -> Store:
    """The store behind a URL: file:///folder, or any URL obstore knows (s3://bucket/prefix …)."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        return LocalStore(Path(unquote(parts.path)), reserve_bytes=reserve_bytes)
    return ObjectStore(url)


@cache
def store() -> Store:
    """The configured store of this process."""
    return open_store(settings().storage_url, reserve_bytes=settings().store_reserve_bytes)
