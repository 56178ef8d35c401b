"""What killed processes left in the data folder of this machine, and caches that nobody has used for long."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from core.datasets.scratch import NEW_UPLOAD_S, clear_abandoned
from core.db import sessions
from core.garbage.rows import WORKER_ROWS
from core.jobs.tables import Worker
from core.uploads.files import clear_needless

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from core.garbage.report import Bounds, Found

CACHE_UNUSED_S = timedelta(days=7).total_seconds()
# Made from a dataset's pictures: each is made again when it is needed.
_CACHES = ("pictures-*.npy", "*.safetensors")


def collect_uploads(bounds: Bounds, found: Found, *, data_dir: Path) -> None:
    """Remove the folders of uploads whose process was killed."""
    clear_abandoned(data_dir, older_than_s=NEW_UPLOAD_S, clear=_clearer(bounds, found))


def collect_resumable(bounds: Bounds, found: Found, *, data_dir: Path) -> None:
    """Remove the files of uploads that have expired, were given up, or became a dataset.

    Of those that expire in this run, too; not in a dry one, where their rows stay.
    """
    clear_needless(data_dir, clear=_clearer(bounds, found))


def collect_scratch(bounds: Bounds, found: Found, *, data_dir: Path) -> None:
    """Remove the work folders of workers that are no more; a live one clears its own."""
    with sessions()() as session:
        seen = Worker.last_heartbeat_at > func.clock_timestamp() - WORKER_ROWS
        alive = set(session.scalars(select(Worker.name).where(seen)))
    clear = _clearer(bounds, found)
    for folder in (data_dir / "scratch").glob("*"):
        with suppress(FileNotFoundError):
            if folder.name not in alive and folder.stat().st_mtime < time.time() - bounds.grace_s:
                clear(folder)


def collect_caches(bounds: Bounds, found: Found, *, data_dir: Path) -> None:
    """Remove files that were made of datasets' pictures and that nobody has read or written for a week."""
    clear = _clearer(bounds, found)
    for pattern in _CACHES:
        for path in (data_dir / "cache").glob(pattern):
            with suppress(FileNotFoundError):
                facts = path.stat()
                if max(facts.st_mtime, facts.st_atime) < time.time() - CACHE_UNUSED_S:
                    clear(path)


def _clearer(bounds: Bounds, found: Found) -> Callable[[Path], None]:
    """Counts a file or a folder, and removes it unless the run is dry."""

    def clear(path: Path) -> None:
        found.add(_size_bytes(path))
        if bounds.dry_run:
            return
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)

    return clear


def _size_bytes(path: Path) -> int:
    total = 0
    for file in [path, *path.rglob("*")]:
        with suppress(OSError):
            if file.is_file():
                total += file.stat().st_size
    return total
