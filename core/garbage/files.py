"""Files in the store that no row names.

Why nothing is lost that a row names, or will name:

- A key is used once: it holds the id of a dataset that is being made, the number of an attempt and random digits, or,
  of a picture, such digits that were made with its row.
  A file that had a row and lost it never gets one again.
- A new file gets its row soon: an upload's within its request, an attempt's or an evaluation's while the lease lasts,
  since no writer goes on trying for longer. Files younger than the grace age stay, which is far longer than both. A
  worker that slept through it finds its lease taken by the sweep when it wakes, and writes no row.
- Rows are asked for when a file was found, and once more right before it is removed.
- A store belongs to one database, whose id it holds (`service/<id>`): with another one nothing is removed.
"""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from sqlalchemy import select

from core.db import sessions
from core.errors import InfrastructureError
from core.garbage.names import FOLDERS, nameless
from core.garbage.tables import Service
from core.storage import store

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from core.garbage.report import Bounds, Found
    from core.storage import Entry

BATCH = 500
_MARKS = "service"


def collect_files(bounds: Bounds, found: Found) -> None:
    """Remove old files without a row.

    Raises:
        InfrastructureError: the store is away, or is another database's; what was removed stays removed.
    """
    orphans: list[Entry] = []
    for batch in _batches(before=bounds.before):
        orphans += _nameless(batch)
        if len(orphans) > bounds.limit:
            break
    if orphans or not bounds.dry_run:
        _check_owner(bounds)
    found.more = len(orphans) > bounds.limit
    entries = iter(orphans[: bounds.limit])
    while batch := list(islice(entries, BATCH)):
        for entry in _nameless(batch):
            if not bounds.dry_run:
                store().delete(entry.key)
            found.add(entry.size_bytes)


def collect_unfinished(bounds: Bounds, found: Found) -> None:
    """Remove what processes that were killed left half written in a local store."""
    for entry in list(store().unfinished()):
        if entry.modified_at < bounds.before:
            if not bounds.dry_run:
                store().delete(entry.key)
            found.add(entry.size_bytes)


def _batches(*, before: datetime) -> Iterator[list[Entry]]:
    """The service's files that are older, some at a time."""
    old = (entry for folder in FOLDERS for entry in store().entries(folder) if entry.modified_at < before)
    while batch := list(islice(old, BATCH)):
        yield batch


def _nameless(entries: Sequence[Entry]) -> list[Entry]:
    with sessions()() as session:
        found = set(nameless(session, [entry.key for entry in entries]))
    return [entry for entry in entries if entry.key in found]


def _check_owner(bounds: Bounds) -> None:
    """Hold the store's mark against the database's; a store without one, empty or seen to be its own, gets it.

    Args:
        bounds: a dry run leaves no mark.
    """
    with sessions()() as session:
        mine = f"{_MARKS}/{session.scalars(select(Service.id)).one()}"
    marks = {entry.key for entry in store().entries(_MARKS)}
    if marks == {mine}:
        return
    if marks or not _is_empty_or_known():
        what = f"It is marked by {', '.join(sorted(marks))}" if marks else "No row names any of its files"
        raise InfrastructureError(
            f"The store is not this database's, so none of its files is removed. {what}, and this database's mark is "
            f"{mine}. Check DATABASE_URL and STORAGE_URL; if they belong together, put an empty file {mine} into the "
            "store, and delete other marks.",
        )
    if not bounds.dry_run:
        with TemporaryDirectory() as folder:
            (Path(folder) / "mark").write_text("The files here belong to the database of this id.\n")
            store().put(mine, Path(folder) / "mark")


def _is_empty_or_known() -> bool:
    """Whether the store holds none of the service's files, of whatever age, or one that a row names."""
    later = datetime.max.replace(tzinfo=UTC)
    empty = True
    for batch in _batches(before=later):
        empty = False
        if len(_nameless(batch)) < len(batch):
            return True
    return empty
