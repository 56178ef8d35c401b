"""What the service asks of a store, whichever it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from core.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

CHUNK_BYTES = 1024 * 1024


class Entry(NamedTuple):
    """An artifact as a listing has it; modified_at is by the clock of the store."""

    key: str
    size_bytes: int
    modified_at: datetime


class Store(Protocol):
    """What the service asks of a store.

    Every method raises StoreUnavailable when the store cannot be reached, and `put` StoreFull when it is full.
    """

    def put(self, key: str, source: Path, *, filename: str | None = None) -> None:
        """Store a file's bytes under a key, durably, over whatever was there.

        Args:
            key: where.
            source: the file.
            filename: what a browser is to call it that follows a signed URL; of our own making.
        """

    def fetch(self, key: str, target: Path) -> None:
        """Copy an artifact to a local file; StoreUnavailable, naming the key, where there is none."""

    def read(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Stream the bytes from start to end (exclusive); StoreUnavailable where there are not so many."""

    def signed_url(self, key: str, *, expires_s: int) -> str | None:
        """A URL under which anybody may read an artifact for a while, existing or not.

        Args:
            key: of the artifact.
            expires_s: for how long.

        Returns:
            None when this kind of store has no such thing.
        """

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


def cut_short(key: str, *, missing_bytes: int) -> StoreUnavailable:
    """What every store raises that has less of a file than is asked for."""
    return StoreUnavailable(f"The file {key} in the store ends {missing_bytes} bytes early: it is damaged.")


def missing(key: str) -> StoreUnavailable:
    """What every store raises that is asked for an artifact it does not have."""
    return StoreUnavailable(
        f"The store has no file {key}: somebody removed it, or STORAGE_URL names another store."
    )
