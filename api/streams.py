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

    from fastapi import Request
    from starlette.types import Receive, Scope, Send

    from api.feed import Feed
    from api.listeners import Listener, Listeners
    from core.keys import Identity

Item = TypeVar("Item", EventOut, LogOut)


def event_stream(request: Request, feed: Feed[Item], job_id: UUID, *, after: int) -> StreamingResponse:
    """Follow a job: every item under its number and, of an event, its type.

    Args:
        request: its key must stay live.
        feed: of events, or of log lines.
        job_id: the caller has checked whose it is.
        after: the number of the last item that the client has.
    """
    # X-Accel-Buffering: nginx would hold events back.
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    items = feed.follow(job_id, after=after)
    return _Stream(items, media_type="text/event-stream", headers=headers, request=request)


class _Stream(StreamingResponse):
    """A stream that counts as open from its head to its end, however it ends; one too many is refused instead."""

    def __init__(
        self,
        items: AsyncIterator[EventOut | None] | AsyncIterator[LogOut | None],
        *,
        media_type: str,
        headers: dict[str, str],
        request: Request,
    ) -> None:
        super().__init__((), media_type=media_type, headers=headers)
        self._items = items
        self._listeners: Listeners = request.app.state.listeners
        self._identity: Identity = request.state.identity

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._listeners.joined(self._identity) as listener:
            self.body_iterator = _encoded(self._items, listener)
            await super().__call__(scope, receive, send)


async def _encoded(
    items: AsyncIterator[EventOut | None] | AsyncIterator[LogOut | None], listener: Listener
) -> AsyncIterator[bytes]:
    async for item in items:
        if not listener.may_listen:
            return
        if item is None:
            yield KEEPALIVE_COMMENT
        else:
            assert isinstance(item, BaseModel)
            name = item.type if isinstance(item, EventOut) else "line"
            yield format_sse_event(data_str=item.model_dump_json(), event=name, id=str(item.seq))
