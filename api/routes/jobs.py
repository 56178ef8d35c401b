"""Jobs: submit, look at, cancel."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response

from api.deps import BEARER, Cursor, Database, Limit, Tenant
from core.broker import wake
from core.datasets import service as datasets
from core.datasets.files import DatasetFiles
from core.datasets.held_out import split
from core.jobs import queries, service
from core.metrics import protocol
from core.schemas.jobs import JobIn, JobOut, LossOut, Point, Status
from core.schemas.pages import Page
from core.schemas.training import SlaeganConfig
from core.settings import settings

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], dependencies=[BEARER])


@router.post("", status_code=201, summary="Submit a training")
def create_job(body: JobIn, tenant: Tenant, database: Database) -> JobOut:
    datasets.hold(database, tenant_id=tenant, dataset_id=body.dataset_id)
    split(
        DatasetFiles.of(database, body.dataset_id), share=body.config.held_out
    )  # refused now, not by the worker
    job = service.create(
        database,
        tenant_id=tenant,
        dataset_id=body.dataset_id,
        # What `auto` means is settled, and stored, now.
        config=body.config.model_copy(
            update={
                "evaluation": protocol.resolve(body.config.evaluation, weights_dir=settings().weights_dir)
            }
        ),
        name=body.name,
        priority=body.priority,
        init_from=body.init_from,
    )
    database.commit()
    wake("train")
    database.refresh(job)
    return queries.describe(database, [job])[0]


@router.get("", summary="List jobs, the newest first")
def list_jobs(
    tenant: Tenant,
    database: Database,
    status: Annotated[Status | None, Query(description="Only jobs in this state")] = None,
    dataset_id: Annotated[UUID | None, Query(description="Only jobs on this dataset")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[JobOut]:
    rows, next_cursor = queries.page(
        database, tenant_id=tenant, status=status, dataset_id=dataset_id, limit=limit, cursor=cursor
    )
    return Page(items=queries.describe(database, rows), next_cursor=next_cursor)


@router.get("/{job_id}", summary="State, progress and latest metrics of a job")
def get_job(job_id: UUID, tenant: Tenant, database: Database) -> JobOut:
    return queries.describe(database, [queries.get(database, tenant_id=tenant, job_id=job_id)])[0]


@router.post("/{job_id}/cancel", summary="Cancel a job that is not over")
def cancel_job(job_id: UUID, tenant: Tenant, database: Database) -> JobOut:
    job = service.cancel(database, tenant_id=tenant, job_id=job_id)
    database.commit()
    return queries.describe(database, [job])[0]


@router.get("/{job_id}/metrics", summary="The curve: a point a snapshot and protocol")
def list_metrics(job_id: UUID, tenant: Tenant, database: Database) -> Page[Point]:
    return Page(items=queries.curve(database, tenant_id=tenant, job_id=job_id))


@router.get("/{job_id}/losses", summary="Training losses, averaged into at most `points` points")
def list_losses(
    job_id: UUID, tenant: Tenant, database: Database, points: Annotated[int, Query(ge=1, le=5000)] = 500
) -> Page[LossOut]:
    return Page(items=queries.losses(database, tenant_id=tenant, job_id=job_id, points=points))


@router.get(
    "/{job_id}/curve.png",
    summary="The FID curve as a picture",
    response_class=Response,
    responses={200: {"content": {"image/png": {}}}},
)
def get_curve(job_id: UUID, tenant: Tenant, database: Database) -> Response:
    # Matplotlib takes a third of the API's start: only who asks for a picture waits for it, once.
    from api.curve import draw  # noqa: PLC0415

    job = queries.get(database, tenant_id=tenant, job_id=job_id)
    points = queries.curve(database, tenant_id=tenant, job_id=job_id)
    database.close()
    copy_limit = SlaeganConfig.model_validate(job.config).alarms.copy_rate
    picture = draw(points, title=job.name or f"job {job.id}", copy_limit=copy_limit)
    return Response(picture, media_type="image/png")
