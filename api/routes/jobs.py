"""Jobs: submit, look at, cancel, pause, resume, retry, extend."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response

from api.deps import BEARER, Cursor, Database, Limit, Reading, Run, Tenant, answer, in_turn
from core.broker import wake
from core.datasets import service as datasets
from core.datasets.files import DatasetFiles
from core.datasets.held_out import split
from core.jobs import queries, requests, service
from core.jobs.tables import Job
from core.metrics import protocol
from core.schemas.jobs import ExtendIn, JobIn, JobOut, LossOut, Point, RetryIn, Status
from core.schemas.pages import Page
from core.schemas.training import SlaeganConfig
from core.settings import settings
from core.webhooks.addresses import check_url

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], dependencies=[BEARER])


@router.post("", status_code=201, summary="Submit a training")
def create_job(body: JobIn, tenant: Tenant, database: Database) -> JobOut:
    if body.webhook is not None:
        check_url(body.webhook.url, private=settings().webhook_private_addresses)
    datasets.hold(database, tenant_id=tenant, dataset_id=body.dataset_id)
    if body.config.held_out:
        # Refused now, not by the worker.
        split(DatasetFiles.of(database, body.dataset_id), share=body.config.held_out)
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
        max_queue_s=body.max_queue_s,
        max_run_s=body.max_run_s,
        max_queued=settings().max_queued_jobs,
        webhook=body.webhook,
    )
    return _queued(database, job)


@router.get("", summary="List jobs, the newest first", response_model=Page[JobOut])
async def list_jobs(
    tenant: Tenant,
    database: Reading,
    status: Annotated[Status | None, Query(description="Only jobs in this state")] = None,
    dataset_id: Annotated[UUID | None, Query(description="Only jobs on this dataset")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    def page() -> Response:
        rows, next_cursor = queries.page(
            database, tenant_id=tenant, status=status, dataset_id=dataset_id, limit=limit, cursor=cursor
        )
        return answer(Page[JobOut](items=queries.describe(database, rows), next_cursor=next_cursor))

    return await in_turn(page)


@router.get("/{job_id}", summary="State, progress and latest metrics of a job", response_model=JobOut)
async def get_job(job_id: UUID, tenant: Tenant, database: Reading) -> Response:
    def described() -> Response:
        job = queries.get(database, tenant_id=tenant, job_id=job_id)
        return answer(queries.describe(database, [job])[0])

    return await in_turn(described)


@router.post("/{job_id}/cancel", summary="Cancel a job that is not over")
def cancel_job(job_id: UUID, tenant: Tenant, database: Database) -> JobOut:
    return _changed(database, requests.cancel(database, tenant_id=tenant, job_id=job_id))


@router.post("/{job_id}/pause", summary="Pause a job that waits or trains; its state is saved first")
def pause_job(job_id: UUID, tenant: Tenant, database: Database) -> JobOut:
    return _changed(database, requests.pause(database, tenant_id=tenant, job_id=job_id))


@router.post("/{job_id}/resume", summary="Queue a paused job again, or take back a wish to pause")
def resume_job(job_id: UUID, tenant: Tenant, database: Database) -> JobOut:
    return _queued(database, requests.resume(database, tenant_id=tenant, job_id=job_id))


@router.post("/{job_id}/retry", summary="Begin a new run of a failed or cancelled job")
def retry_job(job_id: UUID, tenant: Tenant, database: Database, body: RetryIn | None = None) -> JobOut:
    """Goes on from the last state with the curve so far, or begins at zero where there is none, or with `fresh`."""
    fresh = body is not None and body.fresh
    limit = settings().max_queued_jobs
    job = requests.retry(database, tenant_id=tenant, job_id=job_id, fresh=fresh, max_queued=limit)
    return _queued(database, job)


@router.post("/{job_id}/extend", summary="Train a job that succeeded for longer")
def extend_job(job_id: UUID, body: ExtendIn, tenant: Tenant, database: Database) -> JobOut:
    """A new run goes on from the last state, to a larger total; the curve goes on with it."""
    job = requests.extend(
        database,
        tenant_id=tenant,
        job_id=job_id,
        total_images=body.total_images,
        stopping=body.stopping,
        max_queued=settings().max_queued_jobs,
    )
    return _queued(database, job)


def _changed(database: Database, job: Job) -> JobOut:
    database.commit()
    return queries.describe(database, [job])[0]


def _queued(database: Database, job: Job) -> JobOut:
    database.commit()
    wake("train")
    database.refresh(job)
    return queries.describe(database, [job])[0]


@router.get("/{job_id}/metrics", summary="The curve: a point a snapshot and protocol")
def list_metrics(job_id: UUID, tenant: Tenant, database: Database, run: Run = None) -> Page[Point]:
    return Page(items=queries.curve(database, tenant_id=tenant, job_id=job_id, run=run))


@router.get("/{job_id}/losses", summary="Training losses, averaged into at most `points` points")
def list_losses(
    job_id: UUID,
    tenant: Tenant,
    database: Database,
    points: Annotated[int, Query(ge=1, le=5000)] = 500,
    run: Run = None,
) -> Page[LossOut]:
    return Page(items=queries.losses(database, tenant_id=tenant, job_id=job_id, points=points, run=run))


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
