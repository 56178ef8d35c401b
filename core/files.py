"""Files that are either whole or not there."""

from __future__ import annotations

import hashlib
import os
import uuid
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def atomic_path(path: Path, *, through: Path | None = None) -> Iterator[Path]:
    """Give a temporary name; what was written there takes the place of `path` when the block ends well.

    The file and its folder are fsynced: a file under its real name is complete even after a power cut. A
    block that raises leaves nothing behind; a killed process leaves a file whose name starts with a dot.

    Args:
        path: where the file belongs; its folder is made if missing.
        through: the folder for the temporary name, on the same file system; by default that of `path`.
    """
    folder = through or path.parent
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{path.name}.{uuid.uuid4().hex}"
    try:
        yield temporary
        fsync(temporary)
        _move(temporary, path)
        # Where the folder is gone, somebody has removed the file that just came.
        with suppress(FileNotFoundError):
            fsync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _move(temporary: Path, path: Path, *, tries: int = 20) -> None:
    # Whoever removes the last file of a folder may remove the folder between the two calls.
    for left in reversed(range(tries)):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.replace(path)
        except (
            FileNotFoundError,
            FileExistsError,
        ):  # The second is mkdir's, when the folder goes while it looks.
            if not left:
                raise
        else:
            return


def fsync(path: Path) -> None:
    """Have what was written to a file, or the entries of a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """The sha256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
