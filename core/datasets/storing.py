"""Pictures in the store, one file of each for a tenant.

An upload first claims its pictures, by their hashes: rows that are not there are made, each with a key of its own that
is never used again. Then it puts the files that no dataset holds yet. Last, in one transaction, it holds the rows, sees
that their keys are still those, and writes the dataset. A picture that no dataset holds may be forgotten at any
moment: its row goes first, then its file. So no picture of a dataset is without its file, whoever uploads, deletes and
collects at once, and no clock has a part in it:

- Forgetting takes a row for itself and then looks for datasets; an upload holds it before its dataset is written.
  Either the dataset is seen, or the upload finds the row gone, or with another key, and brings the picture again.
- A file is removed after its row, under a key that nobody is given again: it cannot be one that was just put.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, String, any_, delete, func, literal, select
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.exc import DBAPIError

from core.datasets.tables import DatasetImage, StoredPicture
from core.db import sessions
from core.errors import Conflict
from core.storage import remove

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from sqlalchemy.orm import Session

    from core.datasets.pictures import Picture
    from core.storage import Store

logger = logging.getLogger(__name__)
_TRIES = 5


class Forgotten(NamedTuple):
    """A picture whose row is gone: its file is nobody's."""

    key: str
    size_bytes: int


@contextmanager
def stored(
    session: Session,
    pictures: Sequence[Picture],
    *,
    beside: Mapping[str, Path],
    tenant_id: UUID,
    store: Store,
) -> Iterator[None]:
    """See that the store has some pictures; in the block, rows may refer to them. If it fails, nothing of it is left.

    Args:
        session: unused until all is stored, so that no connection waits for the store; the block writes with it. It is
            rolled back if the block fails.
        pictures: different ones.
        beside: more files by key, which belong to nobody else.
        tenant_id: whose pictures.
        store: the artifact store.

    Raises:
        StoreFull: the store is full.
        StoreUnavailable: the store cannot be reached.
        Conflict: the pictures were deleted, over and over, while they were stored.
    """
    try:
        _put(beside, store=store)
        _bring(session, pictures, tenant_id=tenant_id, store=store)
        yield
    except BaseException:
        with suppress(DBAPIError):  # A connection that is lost holds no row.
            session.rollback()
        remove(beside, store=store)
        _discard([picture.sha256 for picture in pictures], tenant_id=tenant_id, store=store)
        raise


def forget(session: Session, which: ColumnElement[bool], *, limit: int | None = None) -> list[Forgotten]:
    """Delete rows of pictures that no dataset holds; what others are busy with at this moment stays.

    Args:
        session: the caller commits, then removes the files.
        which: of the pictures to look at.
        limit: so many at most.
    """
    held = select(DatasetImage.dataset_id).where(
        DatasetImage.tenant_id == StoredPicture.tenant_id, DatasetImage.sha256 == StoredPicture.sha256
    )
    locked = session.execute(
        select(StoredPicture.tenant_id, StoredPicture.sha256)
        .where(which, ~held.exists())
        .order_by(StoredPicture.tenant_id, StoredPicture.sha256)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    by_tenant: dict[UUID, list[str]] = {}
    for tenant_id, sha256 in locked:
        by_tenant.setdefault(tenant_id, []).append(sha256)
    gone: list[Forgotten] = []
    for tenant_id, hashes in by_tenant.items():
        # Asked again, now that no new dataset can come to hold them: one may have come while the rows were locked.
        rows = session.execute(
            delete(StoredPicture)
            .where(StoredPicture.tenant_id == tenant_id, among(hashes), ~held.exists())
            .returning(StoredPicture.storage_key, StoredPicture.size_bytes)
            .execution_options(synchronize_session=False)
        )
        gone += [Forgotten(*row) for row in rows]
    return gone


def among(hashes: Collection[str]) -> ColumnElement[bool]:
    """Pictures of these hashes, however many: an array is one parameter."""
    return StoredPicture.sha256 == any_(literal(list(hashes), ARRAY(String)))


def _bring(session: Session, pictures: Sequence[Picture], *, tenant_id: UUID, store: Store) -> None:
    keys: dict[str, str] = {}
    missing = list(pictures)
    for _ in range(_TRIES):
        claimed, there = _claim(missing, tenant_id=tenant_id)
        _put(
            {claimed[picture.sha256]: picture.path for picture in missing if picture.sha256 not in there},
            store=store,
        )
        keys |= claimed
        held = _hold(session, keys, tenant_id=tenant_id)
        lost = {sha256: key for sha256, key in keys.items() if held.get(sha256) != key}
        if not lost:
            return
        remove(lost.values(), store=store)
        missing = [picture for picture in pictures if picture.sha256 in lost]
    raise Conflict(
        f"{len(missing)} of the pictures were deleted {_TRIES} times while they were stored: send the upload again "
        "when nobody deletes datasets that hold them."
    )


def _claim(pictures: Sequence[Picture], *, tenant_id: UUID) -> tuple[dict[str, str], set[str]]:
    """Have a row for each picture. Returns the keys by hash, and the hashes of those whose files are there."""
    rows = [
        {
            "tenant_id": tenant_id,
            "sha256": picture.sha256,
            "storage_key": f"pictures/{tenant_id}/{picture.sha256[:2]}/{picture.sha256}-{uuid4().hex[:16]}.png",
            "width": picture.width,
            "height": picture.height,
            "size_bytes": picture.size_bytes,
        }
        # All in one order, so that uploads at once cannot wait for each other.
        for picture in sorted(pictures, key=lambda picture: picture.sha256)
    ]
    if not rows:
        return {}, set()
    upsert = (
        insert(StoredPicture)
        .on_conflict_do_update(
            index_elements=["tenant_id", "sha256"], set_={"touched_at": func.clock_timestamp()}
        )
        .returning(StoredPicture.sha256, StoredPicture.storage_key)
    )
    hashes = literal([row["sha256"] for row in rows], ARRAY(String))
    known = select(DatasetImage.sha256).where(
        DatasetImage.tenant_id == tenant_id, DatasetImage.sha256 == any_(hashes)
    )
    with sessions().begin() as session:
        keys = {row.sha256: row.storage_key for row in session.execute(upsert, rows)}
        return keys, set(session.scalars(known.distinct()))


def _hold(session: Session, hashes: Collection[str], *, tenant_id: UUID) -> dict[str, str]:
    """The keys of pictures by hash; none of them can be forgotten before the transaction ends."""
    query = (
        select(StoredPicture.sha256, StoredPicture.storage_key)
        .where(StoredPicture.tenant_id == tenant_id, among(hashes))
        .order_by(StoredPicture.sha256)
        .with_for_update(read=True, key_share=True)
    )
    return {row.sha256: row.storage_key for row in session.execute(query)}


def _put(sources: Mapping[str, Path], *, store: Store) -> None:
    # The threads wait for the disk to sync, or for the network.
    with ThreadPoolExecutor(max_workers=8) as pool:
        puts = [pool.submit(store.put, key, path) for key, path in sources.items()]
        try:
            for put in puts:
                put.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _discard(hashes: Collection[str], *, tenant_id: UUID, store: Store) -> None:
    """Take out again what an upload has brought and no dataset holds; what this cannot, the garbage collection does."""
    try:
        with sessions().begin() as session:
            gone = forget(session, (StoredPicture.tenant_id == tenant_id) & among(hashes))
    except DBAPIError as error:
        logger.warning("Pictures of an upload that failed stay for the garbage collection: %s", error)
    else:
        remove([picture.key for picture in gone], store=store)
