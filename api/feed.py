"""Job events for all streams of this process: one poller asks the database, whatever the number of streams."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fastapi.concurrency import run_in_threadpool
from sqlalchemy import Integer, Uuid, column, func, select
from sqlalchemy.dialects.postgresql import array
from sqlalchemy.exc import SQLAlchemyError

from core.db import sessions
from core.jobs import queries
from core.jobs.tables import Job, JobEvent
from core.schemas.jobs import EventOut, Status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from uuid import UUID

PAGE = 500
# A client this far behind is cut off; it comes back with Last-Event-ID and loses nothing.
BACKLOG = 1_000
_logger = logging.getLogger("slaegan.api")

# None ends a stream: the job is over and its last event was delivered.
Delivery = EventOut | None


@dataclass
class _Channel:
    """A followed job: the number of the last event handed out, and who listens."""

    seq: int
    queues: set[asyncio.Queue[Delivery]] = field(default_factory=set)


@dataclass
class _News:
    events: dict[UUID, list[EventOut]]
    over: set[UUID]


class Feed:
    """Hands events to streams.

    Args:
        poll_s: how often the database is asked while anyone listens.
        heartbeat_s: how long a stream may be silent.
    """

    def __init__(self, *, poll_s: float, heartbeat_s: float) -> None:
        self._poll_s = poll_s
        self._heartbeat_s = heartbeat_s
        self._channels: dict[UUID, _Channel] = {}
        self._closed = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Poll while the block runs."""
        poller = asyncio.create_task(self._poll())
        try:
            yield
        finally:
            poller.cancel()
            await asyncio.wait([poller])

    def close(self) -> None:
        """End all streams, and those to come, at once: the process is about to stop."""
        self._closed = True
        for job_id in list(self._channels):
            self._finish(job_id)

    async def follow(self, job_id: UUID, *, after: int) -> AsyncIterator[EventOut | None]:
        """Events of a job with a greater number, each once and in order, until the job is over.

        Args:
            job_id: the caller has checked whose it is.
            after: the number of the last event that the client has.

        Yields:
            Events, and None whenever a heartbeat is due.
        """
        newest = await run_in_threadpool(_newest, job_id)
        with self._joined(job_id, at=newest) as (queue, start):
            while after < start:
                page = await run_in_threadpool(_history, job_id, after)
                if not page:
                    break
                for event in page:
                    yield event
                after = page[-1].seq
            while not self._closed:
                try:
                    async with asyncio.timeout(self._heartbeat_s):
                        news = await queue.get()
                except TimeoutError:
                    yield None
                    continue
                if news is None:
                    return
                if news.seq > after:
                    after = news.seq
                    yield news

    @contextmanager
    def _joined(self, job_id: UUID, *, at: int) -> Iterator[tuple[asyncio.Queue[Delivery], int]]:
        """Listen to a job; what comes after the number given beside the queue will be in the queue."""
        channel = self._channels.setdefault(job_id, _Channel(seq=at))
        queue: asyncio.Queue[Delivery] = asyncio.Queue(BACKLOG)
        channel.queues.add(queue)
        try:
            yield queue, channel.seq
        finally:
            channel.queues.discard(queue)
            if not channel.queues and self._channels.get(job_id) is channel:
                del self._channels[job_id]

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(self._poll_s)
            if not self._channels:
                continue
            positions = {job_id: channel.seq for job_id, channel in self._channels.items()}
            try:
                news = await run_in_threadpool(_read_news, positions)
            except SQLAlchemyError as error:
                # The streams stay open and silent: the events wait in the database.
                _logger.warning("events cannot be read, trying again: %s", error)
                continue
            for job_id, events in news.events.items():
                self._deliver(job_id, events)
            for job_id in news.over:
                self._finish(job_id)

    def _deliver(self, job_id: UUID, events: list[EventOut]) -> None:
        channel = self._channels.get(job_id)
        for event in events:
            # A channel may have been left and opened anew, further on, while the database was asked.
            if channel is None or event.seq <= channel.seq:
                continue
            channel.seq = event.seq
            for queue in list(channel.queues):
                if queue.full():
                    channel.queues.discard(queue)
                    _cut_off(queue)
                else:
                    queue.put_nowait(event)

    def _finish(self, job_id: UUID) -> None:
        channel = self._channels.pop(job_id, None)
        for queue in channel.queues if channel else ():
            if queue.full():
                _cut_off(queue)
            else:
                queue.put_nowait(None)


def _cut_off(queue: asyncio.Queue[Delivery]) -> None:
    while not queue.empty():
        queue.get_nowait()
    queue.put_nowait(None)


def _newest(job_id: UUID) -> int:
    with sessions()() as session:
        return session.execute(select(Job.event_seq).where(Job.id == job_id)).scalar_one()


def _history(job_id: UUID, after: int) -> list[EventOut]:
    with sessions()() as session:
        return [as_event(row) for row in queries.events(session, job_id=job_id, after=after, limit=PAGE)]


def _read_news(positions: dict[UUID, int]) -> _News:
    """What happened since, in all followed jobs: one query for the jobs, one for the events of those that moved."""
    news = _News({}, set())
    with sessions()() as session:
        rows = session.execute(select(Job.id, Job.event_seq, Job.status).where(Job.id.in_(positions))).all()
        moved = {row.id: positions[row.id] for row in rows if row.event_seq > positions[row.id]}
        if moved:
            ids = func.unnest(array(moved.keys(), type_=Uuid), array(moved.values(), type_=Integer))
            place = ids.table_valued(
                column("job_id", Uuid), column("seq", Integer), name="place"
            ).render_derived()
            query = select(JobEvent).join(
                place, (JobEvent.job_id == place.c.job_id) & (JobEvent.seq > place.c.seq)
            )
            for event in session.scalars(query.order_by(JobEvent.job_id, JobEvent.seq)):
                news.events.setdefault(event.job_id, []).append(as_event(event))
    news.over = {row.id for row in rows if Status(row.status).final}
    return news


def as_event(row: JobEvent) -> EventOut:
    """An event as the API tells it."""
    return EventOut(seq=row.seq, type=row.type, at=row.at, payload=row.payload)
