"""A local folder as the artifact store."""

from __future__ import annotations

import errno
import os
import shutil
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import StoreFull, StoreUnavailable
from core.files import atomic_path
from core.storage.protocol import CHUNK_BYTES, Entry, cut_short, missing

if TYPE_CHECKING:
    from collections.abc import Iterator

ABANDONED_S = 3600


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

    def put(self, key: str, source: Path, *, filename: str | None = None) -> None:  # noqa: ARG002  # the API names it
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
            if not self._path(key).exists():
                raise missing(key) from None
            raise as_disk_error(error, self._root) from error

    def read(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        left = None if end is None else end - start
        try:
            with self._path(key).open("rb") as file:
                if start:
                    file.seek(start)
                while chunk := file.read(CHUNK_BYTES if left is None else min(CHUNK_BYTES, left)):
                    left = None if left is None else left - len(chunk)
                    yield chunk
        except FileNotFoundError:
            raise missing(key) from None
        except OSError as error:
            raise as_disk_error(error, self._root) from error
        if left:
            raise cut_short(key, missing_bytes=left)

    def signed_url(self, key: str, *, expires_s: int) -> str | None:  # noqa: ARG002  # as the Protocol has them
        return None

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


def as_disk_error(error: OSError, folder: Path) -> StoreFull | StoreUnavailable:
    """What an operating system's error on a folder of ours means to the people who run the service."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreFull(f"The disk of {folder} is full: free some space.")
    return StoreUnavailable(f"The folder {folder} cannot be used: {error}.")
