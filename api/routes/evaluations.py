"""Evaluations beside the curve."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter, Response

from api.deps import BEARER, Cursor, Database, Limit, Tenant
from api.idempotency import Once
from core.audit import trail
from core.broker import wake
from core.evaluations import on_demand
from core.jobs import queries
from core.schemas.evaluations import BacktrackingIn, EvaluationOut
from core.schemas.pages import Page
from core.storage import remove, store

router = APIRouter(prefix="/v1", tags=["evaluations"], dependencies=[BEARER])


@router.post(
    "/jobs/{job_id}/backtracking",
    status_code=201,
    summary="Ask how near a generator comes to given pictures",
    response_model=EvaluationOut,
)
def create_backtracking(
    job_id: UUID, tenant: Tenant, database: Database, once: Once, body: BacktrackingIn | None = None
) -> Response:
    """Asking for the same again gives the same evaluation. It runs as other evaluations do, one at a time a worker."""
    once.begin(database)
    row = on_demand.backtrack(database, body or BacktrackingIn(), tenant_id=tenant, job_id=job_id)
    database.flush()
    trail.about(database, row.id)
    database.refresh(row)
    response = once.commit(database, on_demand.described(row), location=f"/v1/evaluations/{row.id}")
    wake("metrics")
    return response


@router.get("/jobs/{job_id}/backtracking", summary="The job's backtrackings, the newest first")
def list_backtrackings(
    job_id: UUID, tenant: Tenant, database: Database, limit: Limit = 50, cursor: Cursor = None
) -> Page[EvaluationOut]:
    rows, next_cursor = queries.backtrackings(
        database, tenant_id=tenant, job_id=job_id, limit=limit, cursor=cursor
    )
    return Page(items=[on_demand.described(row) for row in rows], next_cursor=next_cursor)


@router.get("/evaluations/{evaluation_id}", summary="State and result of an evaluation")
def get_evaluation(evaluation_id: UUID, tenant: Tenant, database: Database) -> EvaluationOut:
    return on_demand.described(queries.evaluation(database, tenant_id=tenant, evaluation_id=evaluation_id))


@router.delete("/evaluations/{evaluation_id}", summary="Call a backtracking off that is not over")
def cancel_evaluation(evaluation_id: UUID, tenant: Tenant, database: Database) -> EvaluationOut:
    row, keys = on_demand.cancel(database, tenant_id=tenant, evaluation_id=evaluation_id)
    database.commit()
    database.refresh(row)
    answer = on_demand.described(row)
    database.close()  # The store may be slow: the connection goes back first.
    remove(keys, store=store())
    return answer
