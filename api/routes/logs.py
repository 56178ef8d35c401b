"""What a training printed: as pages, as one text, and as a stream while it prints."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import PlainTextResponse, StreamingResponse

from api.deps import BEARER, After, Cursor, Database, Tenant, position
from api.feed import Feed
from api.streams import event_stream
from core.db import sessions
from core.jobs import queries
from core.logs.reading import read_lines
from core.schemas.jobs import LogOut, Status
from core.schemas.pages import Page

router = APIRouter(prefix="/v1/jobs/{job_id}/logs", tags=["logs"], dependencies=[BEARER])
PAGE = 200
MAX_TAIL = 100_000


@router.get(
    "",
    summary="What the training printed; kept after its worker is gone",
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    response_model=Page[LogOut],
)
def list_logs(
    job_id: UUID,
    request: Request,
    tenant: Tenant,
    database: Database,
    after: After = 0,
    tail: Annotated[int | None, Query(ge=1, le=MAX_TAIL, description="Only the last so many lines")] = None,
    limit: Annotated[int | None, Query(ge=1, le=1000, description=f"Lines a page; {PAGE} in JSON")] = None,
    cursor: Cursor = None,
    accept: Annotated[str, Header()] = "application/json",
) -> Page[LogOut] | Response:
    """The page's next_cursor leads on, or the last line's `seq` as `after`.

    `Accept: text/plain` gives bare lines: all of them, unless `limit` says how many. Of a long log the middle is cut:
    one line says how many lines are missing there.
    """
    job = queries.get(database, tenant_id=tenant, job_id=job_id)
    if tail is not None:
        after = max(after, job.log_seq - tail)
    database.close()
    lines = read_lines(job_id, after=position(cursor, after))
    if accept.startswith("text/plain"):
        if request.state.head:
            return PlainTextResponse("")
        # The first lines now: a store that is away gives a 503 rather than a text cut short.
        text = _text(islice(lines, limit))
        return StreamingResponse(chain([next(text, "")], text), media_type="text/plain; charset=utf-8")
    limit = limit or PAGE
    items = list(islice(lines, limit))
    return Page(items=items, next_cursor=str(items[-1].seq) if len(items) == limit else None)


def _text(lines: Iterator[LogOut]) -> Iterator[str]:
    # Not line by line: each step is one of a thread.
    while some := list(islice(lines, PAGE)):
        yield "".join(f"{line.line}\n" for line in some)


@router.get(
    "/stream",
    summary="The lines as they are printed (server-sent events)",
    response_class=StreamingResponse,
    responses={
        200: {"description": "Lines; `id` is the line's number", "content": {"text/event-stream": {}}},
        204: {"description": "The job is over, and you have all its lines: do not reconnect"},
    },
)
async def stream_logs(
    job_id: UUID,
    tenant: Tenant,
    request: Request,
    last_event_id: Annotated[int, Header(ge=0, lt=2**63, description="The last line that you have")] = 0,
) -> Response:
    """Replays what came after `Last-Event-ID`, then follows the job; ends when the job is over, or with its key."""
    if await run_in_threadpool(_has_all, job_id, tenant=tenant, after=last_event_id):
        return Response(status_code=204)
    feed: Feed[LogOut] = request.app.state.log_feed
    return event_stream(request, feed, job_id, after=last_event_id)


def _has_all(job_id: UUID, *, tenant: UUID, after: int) -> bool:
    with sessions()() as session:
        job = queries.get(session, tenant_id=tenant, job_id=job_id)
        return Status(job.status).final and after >= job.log_seq
