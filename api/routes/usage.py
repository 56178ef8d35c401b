"""For how long a tenant's jobs held devices."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query

from api.deps import BEARER, Cursor, Database, Limit, Tenant
from core.jobs import usage
from core.schemas.pages import Page
from core.schemas.sent import Moment
from core.schemas.usage import AttemptOut, UsageOut

router = APIRouter(prefix="/v1", tags=["usage"], dependencies=[BEARER])


@router.get("/usage", summary="Seconds that the tenant's jobs held devices: in total, and by job or by day")
def get_usage(
    tenant: Tenant,
    database: Database,
    since: Annotated[Moment | None, Query(description="By default 30 days before until")] = None,
    until: Annotated[Moment | None, Query(description="By default now")] = None,
    group: Annotated[Literal["job", "day"], Query(description="What an item is the sum of")] = "job",
    limit: Limit = 50,
    cursor: Cursor = None,
) -> UsageOut:
    """Pages of jobs fit together only with `since` and `until` given; days have no pages."""
    period = usage.Period.of(database, since=since, until=until)
    facts = {
        "since": period.since,
        "until": period.until,
        "total": usage.total(database, period, tenant_id=tenant),
    }
    if group == "day":
        return UsageOut(**facts, items=usage.by_day(database, period, tenant_id=tenant))
    items, next_cursor = usage.by_job(database, period, tenant_id=tenant, limit=limit, cursor=cursor)
    return UsageOut(**facts, items=items, next_cursor=next_cursor)


@router.get("/jobs/{job_id}/attempts", summary="Each time that the job held a device, and how that ended")
def list_attempts(job_id: UUID, tenant: Tenant, database: Database) -> Page[AttemptOut]:
    return Page(items=usage.attempts(database, tenant_id=tenant, job_id=job_id))
