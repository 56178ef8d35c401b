"""The file of a chunk: a JSON object a line (seq, attempt, at, line), packed with gzip."""

from __future__ import annotations

import gzip
import hashlib
from typing import TYPE_CHECKING

from core.errors import StoreUnavailable
from core.schemas.jobs import LogOut

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from core.logs.tables import LogChunk
    from core.storage import Store


def write_chunk(lines: Sequence[LogOut], path: Path) -> None:
    """Write lines, in order, to a new file."""
    with gzip.open(path, "wt", encoding="utf-8", newline="\n") as file:
        file.writelines(line.model_dump_json() + "\n" for line in lines)


def read_chunk(chunk: LogChunk, *, store: Store) -> list[LogOut]:
    """The lines of a chunk; some thousands at most, so they fit into memory.

    Raises:
        StoreUnavailable: the store does not give the file, or gives another one.
    """
    packed = b"".join(store.read(chunk.storage_key))
    if hashlib.sha256(packed).hexdigest() != chunk.sha256:
        raise StoreUnavailable(
            f"The stored log lines {chunk.first_seq} to {chunk.last_seq} of job {chunk.job_id} are damaged: their "
            "sha256 differs. Restore the file from a backup of the store.",
            storage_key=chunk.storage_key,
        )
    return [LogOut.model_validate_json(line) for line in gzip.decompress(packed).split(b"\n") if line]
