"""Jobs side by side."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from api.deps import BEARER, Database, Tenant
from core.jobs import comparison
from core.schemas.jobs import ComparisonOut

router = APIRouter(prefix="/v1", tags=["jobs"], dependencies=[BEARER])


@router.get("/comparison", summary="Curves and best points of jobs under one protocol")
def get_comparison(
    job: Annotated[
        list[UUID], Query(min_length=2, max_length=8, description="A job; once for each to compare")
    ],
    tenant: Tenant,
    database: Database,
) -> ComparisonOut:
    return comparison.compare(database, tenant_id=tenant, job_ids=job)
