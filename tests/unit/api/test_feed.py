from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from uuid import uuid4

from api.feed import BACKLOG, Feed
from api.sources import Events
from core.schemas.jobs import EventOut


def event(seq: int) -> EventOut:
    return EventOut(seq=seq, type="note", at=datetime.now(UTC), payload={})


def test_a_client_that_does_not_read_is_cut_off_and_others_are_not() -> None:
    async def run() -> None:
        feed, job_id = Feed(Events(), poll_s=1, heartbeat_s=1), uuid4()
        with feed._joined(job_id, at=0) as (stalled, start), feed._joined(job_id, at=0) as (reading, _):
            assert start == 0
            seen = []
            for seq in range(1, BACKLOG + 11):
                feed._deliver(job_id, [event(seq)])
                seen.append(reading.get_nowait())
            assert [news.seq for news in seen if news] == list(range(1, BACKLOG + 11))
            assert (stalled.get_nowait(), stalled.empty()) == (None, True), (
                "the stream ends; the client comes back"
            )
        assert feed._channels == {}

    asyncio.run(run())


def test_old_news_is_not_told_again() -> None:
    async def run() -> None:
        feed, job_id = Feed(Events(), poll_s=1, heartbeat_s=1), uuid4()
        with feed._joined(job_id, at=5) as (queue, start):
            feed._deliver(job_id, [event(4), event(5), event(6)])
            news = queue.get_nowait()
            assert news is not None
            assert (start, news.seq, queue.empty()) == (5, 6, True)

    asyncio.run(run())


def test_a_feed_that_closes_ends_all_streams() -> None:
    async def run() -> None:
        feed = Feed(Events(), poll_s=1, heartbeat_s=1)
        with feed._joined(uuid4(), at=1) as (one, _), feed._joined(uuid4(), at=1) as (other, _):
            feed.close()
            assert (one.get_nowait(), other.get_nowait()) == (None, None)

    asyncio.run(run())
