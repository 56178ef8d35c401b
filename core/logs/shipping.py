"""Lines leave the tail in the database for a chunk in the store: first the file, then, at once, its row and their end.

A chunk's file has a name of its own, and its row is written under the same fence as everything else of an attempt, so
that of two who move the same lines one succeeds and the other one's file goes again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar
from uuid import UUID, uuid4

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert

from core.db import sessions
from core.files import sha256_of
from core.garbage.names import clear
from core.jobs.tables import LogLine
from core.logs.chunks import write_chunk
from core.logs.reading import as_line
from core.logs.tables import LogChunk
from core.settings import settings
from core.storage import store

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from sqlalchemy.orm import Session

Result = TypeVar("Result")


class Transact(Protocol):
    """Does some work in a transaction of its own."""

    def __call__(self, work: Callable[[Session], Result], /) -> Result: ...


def ship_tail(
    job_id: UUID,
    *,
    run: int,
    attempt: int,
    hold: Callable[[Session], None],
    transact: Transact,
    folder: Path,
    at_least: int = 1,
) -> int:
    """Move the lines of a job's tail to the store, chunk by chunk; the middle of a long log is cut.

    Args:
        job_id: whose.
        run: of who moves them.
        attempt: of who moves them.
        hold: locks the job's row; raises where the job is another's by now.
        transact: does the transaction.
        folder: for the file on its way.
        at_least: so many lines make a chunk; fewer stay where they are.

    Returns:
        How many lines were moved; what was moved before an error stays moved.

    Raises:
        InfrastructureError: the store takes no file; the lines stay where they are.
        LeaseLost: as `hold` raises it.
    """
    moved = 0
    while len(lines := _oldest(job_id, limit=settings().log_chunk_lines)) >= at_least:
        first, last = lines[0].seq, lines[-1].seq
        path = folder / f"log-{uuid4().hex}"
        try:
            write_chunk([as_line(line) for line in lines], path)
            chunk = LogChunk(
                job_id=job_id,
                first_seq=first,
                last_seq=last,
                run=run,
                attempt=attempt,
                storage_key=f"jobs/{job_id}/{run}/log-{first:010d}-{attempt}-{uuid4().hex[:8]}.jsonl.gz",
                sha256=sha256_of(path),
                size_bytes=path.stat().st_size,
            )
            keys = [chunk.storage_key]
            try:
                store().put(chunk.storage_key, path)
                keys += transact(lambda session, chunk=chunk: _record(session, chunk, hold=hold))  # type: ignore[misc]
            finally:
                clear(keys)
        finally:
            path.unlink(missing_ok=True)
        moved += len(lines)
    return moved


def _oldest(job_id: UUID, *, limit: int) -> Sequence[LogLine]:
    with sessions()() as session:
        query = select(LogLine).where(LogLine.job_id == job_id)
        return session.scalars(query.order_by(LogLine.seq).limit(limit)).all()


def _record(session: Session, chunk: LogChunk, *, hold: Callable[[Session], None]) -> list[str]:
    """Give a chunk its row, and let its lines go from the tail; the same again does nothing.

    Returns:
        The keys of chunks that are cut, to be deleted after the commit.
    """
    hold(session)
    columns = {column.key: getattr(chunk, column.key) for column in LogChunk.__table__.columns}
    del columns["created_at"]
    added = session.execute(
        insert(LogChunk)
        .values(**columns)
        .on_conflict_do_nothing(index_elements=["job_id", "first_seq"])
        .returning(LogChunk.first_seq)
    ).scalar_one_or_none()
    if added is None:
        return []
    session.execute(
        delete(LogLine).where(
            LogLine.job_id == chunk.job_id, LogLine.seq.between(chunk.first_seq, chunk.last_seq)
        )
    )
    return _cut_middle(session, chunk.job_id, max_lines=settings().max_log_lines)


def _cut_middle(session: Session, job_id: UUID, *, max_lines: int) -> list[str]:
    """Forget chunks from the middle of a log until no more than so many lines are left in the store.

    The first half of what may stay is the log's beginning, the rest its end.
    """
    chunks = session.scalars(
        select(LogChunk).where(LogChunk.job_id == job_id).order_by(LogChunk.first_seq)
    ).all()
    surplus = sum(chunk.count for chunk in chunks) - max_lines
    cut = []
    for chunk in chunks[:-1]:
        if surplus <= 0:
            break
        if chunk.last_seq > max_lines // 2:
            surplus -= chunk.count
            cut.append(chunk.storage_key)
            session.delete(chunk)
    session.flush()
    return cut


def tail_length(session: Session, job_id: UUID, *, log_seq: int) -> int:
    """How many lines of a job have not left the database, of which the last has the number log_seq."""
    query = select(func.coalesce(func.max(LogChunk.last_seq), 0)).where(LogChunk.job_id == job_id)
    return log_seq - (session.scalar(query) or 0)
