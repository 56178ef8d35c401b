"""Answers that go on while a job runs: server-sent events out of a feed."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from fastapi.responses import StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from pydantic import BaseModel

from core.schemas.jobs import EventOut, LogOut

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from api.feed import Feed

Item = TypeVar("Item", EventOut, LogOut)


def event_stream(feed: Feed[Item], job_id: UUID, *, after: int) -> StreamingResponse:
    """Follow a job: every item under its number and, of an event, its type.

    Args:
        feed: of events, or of log lines.
        job_id: the caller has checked whose it is.
        after: the number of the last item that the client has.
    """
    # X-Accel-Buffering: nginx would hold events back.
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    body = _encoded(feed, job_id, after=after)
    return StreamingResponse(body, media_type="text/event-stream", headers=headers)


async def _encoded(feed: Feed[Item], job_id: UUID, *, after: int) -> AsyncIterator[bytes]:
    async for item in feed.follow(job_id, after=after):
        if item is None:
            yield KEEPALIVE_COMMENT
        else:
            assert isinstance(item, BaseModel)
            name = item.type if isinstance(item, EventOut) else "line"
            yield format_sse_event(data_str=item.model_dump_json(), event=name, id=str(item.seq))
