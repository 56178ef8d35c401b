"""A job's log as one sequence of numbered lines, wherever they lie: chunks in the store, the tail in the database.

No connection is held while the store is read, or while a caller takes its time with a line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from core.db import sessions
from core.errors import StoreUnavailable
from core.jobs.tables import LogLine
from core.logs.chunks import read_chunk
from core.logs.tables import LogChunk
from core.schemas.jobs import LogOut
from core.storage import store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from sqlalchemy.orm import Session

PAGE = 500


def read_lines(job_id: UUID, *, after: int) -> Iterator[LogOut]:
    """Lines with a greater number, in order, up to the last one there is now; the caller has checked whose they are.

    Where lines were cut, one line tells how many, under the number of the last of them: who goes on after that number
    misses nothing more.

    Raises:
        StoreUnavailable: the store does not give a chunk.
    """
    while True:
        # The tail is read before the chunks: a line on its way from one to the other is then seen in the chunks.
        with sessions()() as session:
            chunk, tail = _next_chunk(session, job_id, after=after), []
            if chunk is None:
                tail = _tail(session, job_id, after=after)
                chunk = _next_chunk(session, job_id, after=after)
        if chunk is None:
            lines = tail
        else:
            try:
                lines = read_chunk(chunk, store=store())
            except StoreUnavailable:
                if _is_cut(chunk):
                    continue
                raise
            if chunk.first_seq > after + 1:
                yield _cut(count=chunk.first_seq - after - 1, before=lines[0])
        if not lines:
            return
        for line in lines:
            if line.seq > after:
                yield line
        after = lines[-1].seq


def _next_chunk(session: Session, job_id: UUID, *, after: int) -> LogChunk | None:
    query = select(LogChunk).where(LogChunk.job_id == job_id, LogChunk.last_seq > after)
    return session.scalar(query.order_by(LogChunk.first_seq).limit(1))


def _tail(session: Session, job_id: UUID, *, after: int) -> list[LogOut]:
    query = select(LogLine).where(LogLine.job_id == job_id, LogLine.seq > after)
    return [as_line(row) for row in session.scalars(query.order_by(LogLine.seq).limit(PAGE))]


def _is_cut(chunk: LogChunk) -> bool:
    """Whether a chunk has been forgotten since it was found."""
    with sessions()() as session:
        return session.get(LogChunk, (chunk.job_id, chunk.first_seq)) is None


def _cut(*, count: int, before: LogOut) -> LogOut:
    text = "1 line is cut here" if count == 1 else f"{count:,} lines are cut here"
    return LogOut(seq=before.seq - 1, attempt=before.attempt, at=before.at, line=f"… {text}")


def as_line(row: LogLine) -> LogOut:
    """A line of the tail as the API tells it."""
    return LogOut(seq=row.seq, attempt=row.attempt, at=row.at, line=row.line)
