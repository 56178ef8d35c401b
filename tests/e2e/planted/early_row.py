"""A worker with a planted bug: a file reaches the store a while after its row."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from core.files import sha256_of
from core.jobs.records import StoredFile
from core.storage import store
from worker import effects
from worker.app import main

if TYPE_CHECKING:
    from pathlib import Path

_LATE_S = 1.5


def _put_later(source: Path, *, key: str, filename: str) -> StoredFile:
    file = StoredFile(key=key, sha256=sha256_of(source), size_bytes=source.stat().st_size)
    kept = source.with_name(f"late-{source.name}")
    source.rename(kept)
    late = threading.Timer(_LATE_S, lambda: store().put(key, kept, filename=filename))
    late.daemon = True
    late.start()
    return file


effects.put = _put_later

if __name__ == "__main__":
    main()
