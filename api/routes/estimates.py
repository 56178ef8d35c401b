"""How long a training would take."""

from __future__ import annotations

from fastapi import APIRouter

from api.deps import BEARER, Reading, Tenant, in_turn
from core.jobs import estimate
from core.schemas.estimates import EstimateIn, EstimateOut

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], dependencies=[BEARER])


@router.post("/estimate", summary="Check a configuration, and tell how long its training would take")
async def estimate_job(body: EstimateIn, tenant: Tenant, database: Reading) -> EstimateOut:
    """Nothing is submitted. The times come from your earlier jobs; where none is near enough, there are none."""
    return await in_turn(lambda: estimate.estimate(database, tenant_id=tenant, config=body.config))
