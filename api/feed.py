"""What jobs say, for all streams of this process: one poller asks the database, whatever the number of streams."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from fastapi.concurrency import run_in_threadpool
from sqlalchemy.exc import SQLAlchemyError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from uuid import UUID

# A client this far behind is cut off; it comes back with Last-Event-ID and loses nothing.
BACKLOG = 1_000
_logger = logging.getLogger("slaegan.api")


class Numbered(Protocol):
    """One thing that a job says; a job's numbers rise."""

    @property
    def seq(self) -> int: ...


Item = TypeVar("Item", bound=Numbered)


@dataclass
class News(Generic[Item]):
    """What jobs have said: the items by job, in order, and the jobs that are over and have said all of it."""

    items: dict[UUID, list[Item]]
    over: set[UUID]


class Source(Protocol[Item]):
    """Where items come from. Each call asks the database anew, in a thread, and holds no connection afterwards."""

    def newest(self, job_id: UUID) -> int:
        """The number of a job's last item; 0 where it has none."""

    def history(self, job_id: UUID, after: int) -> list[Item]:
        """The next items with greater numbers, a page of them; none at the end."""

    def news(self, positions: dict[UUID, int]) -> News[Item]:
        """What came after these numbers, by job: a query or two, whatever the number of jobs."""


@dataclass
class _Channel(Generic[Item]):
    """A followed job: the number of the last item handed out, and who listens.

    None in a queue ends its stream: the job is over and its last item was delivered.
    """

    seq: int
    queues: set[asyncio.Queue[Item | None]] = field(default_factory=set)


class Feed(Generic[Item]):
    """Hands what jobs say to streams.

    Args:
        source: where it comes from.
        poll_s: how often the database is asked while anyone listens.
        heartbeat_s: how long a stream may be silent.
    """

    def __init__(self, source: Source[Item], *, poll_s: float, heartbeat_s: float) -> None:
        self._source = source
        self._poll_s = poll_s
        self._heartbeat_s = heartbeat_s
        self._channels: dict[UUID, _Channel[Item]] = {}
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

    def open_streams(self) -> int:
        """How many streams listen at this moment."""
        return sum(len(channel.queues) for channel in list(self._channels.values()))

    async def follow(self, job_id: UUID, *, after: int) -> AsyncIterator[Item | None]:
        """Items of a job with a greater number, each once and in order, until the job is over.

        Args:
            job_id: the caller has checked whose it is.
            after: the number of the last item that the client has.

        Yields:
            Items, and None whenever a heartbeat is due.
        """
        newest = await run_in_threadpool(self._source.newest, job_id)
        with self._joined(job_id, at=newest) as (queue, start):
            while after < start:
                page = await run_in_threadpool(self._source.history, job_id, after)
                if not page:
                    break
                for item in page:
                    yield item
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
    def _joined(self, job_id: UUID, *, at: int) -> Iterator[tuple[asyncio.Queue[Item | None], int]]:
        """Listen to a job; what comes after the number given beside the queue will be in the queue."""
        channel = self._channels.setdefault(job_id, _Channel(seq=at))
        queue: asyncio.Queue[Item | None] = asyncio.Queue(BACKLOG)
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
                news = await run_in_threadpool(self._source.news, positions)
            except SQLAlchemyError as error:
                # The streams stay open and silent: what is new waits in the database.
                _logger.warning("Streams cannot be fed, trying again: %s", error)
                continue
            for job_id, items in news.items.items():
                self._deliver(job_id, items)
            for job_id in news.over:
                self._finish(job_id)

    def _deliver(self, job_id: UUID, items: list[Item]) -> None:
        channel = self._channels.get(job_id)
        for item in items:
            # A channel may have been left and opened anew, further on, while the database was asked.
            if channel is None or item.seq <= channel.seq:
                continue
            channel.seq = item.seq
            for queue in list(channel.queues):
                if queue.full():
                    channel.queues.discard(queue)
                    _cut_off(queue)
                else:
                    queue.put_nowait(item)

    def _finish(self, job_id: UUID) -> None:
        channel = self._channels.pop(job_id, None)
        for queue in channel.queues if channel else ():
            if queue.full():
                _cut_off(queue)
            else:
                queue.put_nowait(None)


def _cut_off(queue: asyncio.Queue[Item | None]) -> None:
    while not queue.empty():
        queue.get_nowait()
    queue.put_nowait(None)
