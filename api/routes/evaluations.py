"""Evaluations beside the curve."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter

from api.deps import BEARER, Database, Tenant
from core.broker import wake
from core.evaluations import on_demand
from core.schemas.evaluations import BacktrackingIn, EvaluationOut
from core.schemas.pages import Page

router = APIRouter(prefix="/v1", tags=["evaluations"], dependencies=[BEARER])


@router.post(
    "/jobs/{job_id}/backtracking", status_code=201, summary="Ask how near a generator comes to given pictures"
)
def create_backtracking(
    job_id: UUID, tenant: Tenant, database: Database, body: BacktrackingIn | None = None
) -> EvaluationOut:
    """Asking for the same again gives the same evaluation. It runs as other evaluations do, one at a time a worker."""
    row = on_demand.backtrack(database, body or BacktrackingIn(), tenant_id=tenant, job_id=job_id)
    database.commit()
    wake("metrics")
    database.refresh(row)
    return on_demand.described(row)


@router.get("/jobs/{job_id}/backtracking", summary="The job's backtrackings, the newest first")
def list_backtrackings(job_id: UUID, tenant: Tenant, database: Database) -> Page[EvaluationOut]:
    rows = on_demand.backtrackings(database, tenant_id=tenant, job_id=job_id)
    return Page(items=[on_demand.described(row) for row in rows])


@router.get("/evaluations/{evaluation_id}", summary="State and result of an evaluation")
def get_evaluation(evaluation_id: UUID, tenant: Tenant, database: Database) -> EvaluationOut:
    return on_demand.described(on_demand.get(database, tenant_id=tenant, evaluation_id=evaluation_id))
