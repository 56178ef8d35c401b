"""What has happened to a job: as a page, and as a stream while it happens."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from api.deps import BEARER, After, Cursor, Database, Tenant, position
from api.feed import Feed
from api.sources import as_event
from api.streams import event_stream
from core.db import sessions
from core.jobs import queries
from core.schemas.jobs import EventOut, Status
from core.schemas.pages import Page

router = APIRouter(prefix="/v1/jobs/{job_id}/events", tags=["events"], dependencies=[BEARER])


@router.get("", summary="The job's events in order")
def list_events(
    job_id: UUID,
    tenant: Tenant,
    database: Database,
    after: After = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
    cursor: Cursor = None,
) -> Page[EventOut]:
    queries.get(database, tenant_id=tenant, job_id=job_id)
    rows = queries.events(database, job_id=job_id, after=position(cursor, after), limit=limit)
    next_cursor = str(rows[-1].seq) if len(rows) == limit else None
    return Page(items=[as_event(row) for row in rows], next_cursor=next_cursor)


@router.get(
    "/stream",
    summary="The job's events as they happen (server-sent events)",
    response_class=StreamingResponse,
    responses={
        200: {"description": "Events; `id` is the event's number", "content": {"text/event-stream": {}}},
        204: {"description": "The job is over, and you have all its events: do not reconnect"},
    },
)
async def stream_events(
    job_id: UUID,
    tenant: Tenant,
    request: Request,
    last_event_id: Annotated[int, Header(ge=0, lt=2**31, description="The last event that you have")] = 0,
) -> Response:
    """Replays what came after `Last-Event-ID`, then follows the job; ends when the job is over, or with its key."""
    if await run_in_threadpool(_has_all, job_id, tenant=tenant, after=last_event_id):
        return Response(status_code=204)
    feed: Feed[EventOut] = request.app.state.feed
    return event_stream(request, feed, job_id, after=last_event_id)


def _has_all(job_id: UUID, *, tenant: UUID, after: int) -> bool:
    with sessions()() as session:
        job = queries.get(session, tenant_id=tenant, job_id=job_id)
        return Status(job.status).final and after >= job.event_seq
