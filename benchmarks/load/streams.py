"""Hundreds of event streams at once: how old an event is when its client has it, and whether all come, once."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from typing import TYPE_CHECKING

import httpx
from sqlalchemy.orm import Session

from benchmarks.load.figures import MeasurementFailed, Row, lost_and_doubled, percentile
from benchmarks.load.traffic import client, submit
from core.db import make_engine
from core.jobs.service import advance

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from uuid import UUID

    from benchmarks.load.rig import Rig

EVENTS_PER_S = 100
# Every so many streams one is cut in the middle, and opened again where it was.
CUT_EVERY = 2
_OPEN_S = 60


def streams(rig: Rig, *, count: int, seconds: float) -> Iterator[Row]:
    """Follow as many jobs as there are streams while events are written to all of them in turn."""
    names = [f"stream-{number}" for number in range(count)]
    submit(rig, names)
    jobs = list(_newest(rig))
    readers = _Readers(rig, jobs)
    asyncio.run(readers.follow(seconds=seconds))
    lost, doubled = lost_and_doubled(readers.received, _newest(rig))
    yield Row(f"{count} streams, commit to client, p50 s", percentile(readers.ages_s, 50), 1)
    yield Row(f"{count} streams, commit to client, p99 s", percentile(readers.ages_s, 99), 1)
    yield Row(f"{count} streams, half of them opened anew, events lost", lost, 0)
    yield Row(f"{count} streams, half of them opened anew, events doubled", doubled, 0)
    rig.forget_jobs()


def _newest(rig: Rig) -> dict[UUID, int]:
    """The number of each job's last event."""
    rows = rig.rows("select id, event_seq from jobs where name like 'stream-%%'")
    return {row["id"]: row["event_seq"] for row in rows}


class _Readers:
    """The clients, and what they have got."""

    def __init__(self, rig: Rig, jobs: Sequence[UUID]) -> None:
        self.received: dict[UUID, list[int]] = defaultdict(list)
        self.ages_s: list[float] = []
        self._rig = rig
        self._jobs = jobs
        self._committed: dict[tuple[UUID, int], float] = {}
        self._arrived: dict[tuple[UUID, int], float] = {}
        self._cut = {job: asyncio.Event() for job in jobs[::CUT_EVERY]}

    async def follow(self, *, seconds: float) -> None:
        """Open all streams, write events for a while, and stay until every one has arrived."""
        async with client(self._rig, connections=len(self._jobs)) as api:
            tasks = [asyncio.create_task(self._read(api, job)) for job in self._jobs]
            try:
                await self._until(tasks, lambda: len(self.received) == len(self._jobs))
                writing = asyncio.to_thread(self._write, seconds)
                cutting = asyncio.create_task(self._cut_all(after_s=seconds / 2))
                newest = await writing
                await cutting
                await self._until(
                    tasks, lambda: all(self.received[job][-1] >= seq for job, seq in newest.items())
                )
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
        self.ages_s = [self._arrived[place] - at for place, at in self._committed.items()]

    async def _read(self, api: httpx.AsyncClient, job: UUID) -> None:
        cut = self._cut.get(job)
        while True:
            last = self.received[job][-1] if job in self.received else 0
            headers = {"Last-Event-ID": str(last)}
            async with api.stream("GET", f"/v1/jobs/{job}/events/stream", headers=headers) as answer:
                if answer.status_code != httpx.codes.OK:
                    raise MeasurementFailed(f"A stream was answered with {answer.status_code}.")
                async for line in answer.aiter_lines():
                    if line.startswith("id: "):
                        seq = int(line.removeprefix("id: "))
                        self._arrived.setdefault((job, seq), time.perf_counter())
                        self.received[job].append(seq)
                    if cut is not None and cut.is_set():
                        cut = None
                        break

    def _write(self, seconds: float) -> dict[UUID, int]:
        """Write events to all jobs in turn, by the service's own function; gives each job's newest number."""
        newest: dict[UUID, int] = {}
        engine = make_engine(self._rig.database_url)
        began = time.perf_counter()
        for number in range(int(seconds * EVENTS_PER_S)):
            job = self._jobs[number % len(self._jobs)]
            with Session(engine) as session, session.begin():
                advance(session, job, values={}, event="warning", payload={"number": number})
                seq = newest[job] = newest.get(job, 1) + 1
                # Before the commit: what it takes counts too.
                self._committed[job, seq] = time.perf_counter()
            time.sleep(max(0.0, began + (number + 1) / EVENTS_PER_S - time.perf_counter()))
        engine.dispose()
        return newest

    async def _cut_all(self, *, after_s: float) -> None:
        await asyncio.sleep(after_s)
        for cut in self._cut.values():
            cut.set()

    async def _until(self, tasks: Sequence[asyncio.Task[None]], condition: object) -> None:
        deadline = time.perf_counter() + _OPEN_S
        while not condition():  # type: ignore[operator]
            for task in tasks:
                if task.done():
                    task.result()
            if time.perf_counter() > deadline:
                raise MeasurementFailed(f"Streams were not opened, or events did not come, in {_OPEN_S} s.")
            await asyncio.sleep(0.05)
