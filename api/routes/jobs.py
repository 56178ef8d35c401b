"""Jobs: submit, look at, cancel, pause, resume, retry, extend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

from fastapi import APIRouter, BackgroundTasks, Query, Request, Response
from starlette.background import BackgroundTask

from api.deps import (
    BEARER,
    UNCHANGED,
    WRITES,
    Database,
    Reading,
    Run,
    Tenant,
    answer,
    in_turn,
    writing,
)
from api.idempotency import Idempotency, Once
from core.audit import trail
from core.broker import wake
from core.datasets import service as datasets
from core.datasets.conditional import require_labels
from core.datasets.files import DatasetFiles
from core.datasets.held_out import split
from core.jobs import queries, requests, service
from core.jobs.tables import Job
from core.metrics import protocol
from core.schemas.families import parse_config
from core.schemas.jobs import ExtendIn, Fields, JobIn, JobOut, JobPart, JobsQuery, LossOut, Point, RetryIn
from core.schemas.pages import Page
from core.settings import settings
from core.webhooks.addresses import check_url

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], dependencies=[BEARER])


@router.post("", status_code=201, summary="Submit a training", response_model=JobOut)
async def create_job(request: Request, body: JobIn, tenant: Tenant, once: Once) -> Response:
    def create() -> Response:
        with writing(request) as database:
            return _create(database, body, tenant=tenant, once=once)

    return await in_turn(create, turns=WRITES)


def _create(database: Session, body: JobIn, *, tenant: UUID, once: Idempotency) -> Response:
    once.begin(database)
    if body.webhook is not None:
        check_url(body.webhook.url, private=settings().webhook_private_addresses)
    datasets.hold(database, tenant_id=tenant, dataset_id=body.dataset_id)
    if body.config.held_out or body.config.needs_labels:
        # Refused now, not by the worker.
        files = DatasetFiles.of(database, body.dataset_id)
        require_labels(files, config=body.config)
        split(files, share=body.config.held_out)
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
    trail.about(database, job.id)
    return _begun(database, job, once)


@router.get(
    "",
    summary="List jobs, the newest first",
    response_model=Page[JobOut] | Page[JobPart],
    responses=UNCHANGED,
)
async def list_jobs(
    request: Request, tenant: Tenant, database: Reading, asked: Annotated[JobsQuery, Query()]
) -> Response:
    def page() -> Response:
        rows, next_cursor = queries.page(
            database, tenant_id=tenant, which=asked, limit=asked.limit, cursor=asked.cursor
        )
        items = queries.describe(database, rows, curves_too=asked.curves_too)
        fields = {"items": {"__all__": asked.chosen}, "next_cursor": True} if asked.chosen else None
        return answer(request, Page[JobOut](items=items, next_cursor=next_cursor), include=fields)

    return await in_turn(page)


@router.get(
    "/{job_id}",
    summary="State, progress and latest metrics of a job",
    response_model=JobOut | JobPart,
    responses=UNCHANGED,
)
async def get_job(
    job_id: UUID, request: Request, tenant: Tenant, database: Reading, asked: Annotated[Fields, Query()]
) -> Response:
    """Its ETag changes with what it tells: with If-None-Match, asking again costs few bytes."""

    def described() -> Response:
        told = queries.look(database, tenant_id=tenant, job_id=job_id, curves_too=asked.curves_too)
        return answer(request, told, include=asked.chosen)

    return await in_turn(described)


@router.post("/{job_id}/cancel", summary="Cancel a job that is not over")
def cancel_job(job_id: UUID, tenant: Tenant, database: Database) -> JobOut:
    return _changed(database, requests.cancel(database, tenant_id=tenant, job_id=job_id))


@router.post("/{job_id}/pause", summary="Pause a job that waits or trains; its state is saved first")
def pause_job(job_id: UUID, tenant: Tenant, database: Database) -> JobOut:
    return _changed(database, requests.pause(database, tenant_id=tenant, job_id=job_id))


@router.post("/{job_id}/resume", summary="Queue a paused job again, or take back a wish to pause")
def resume_job(job_id: UUID, tenant: Tenant, database: Database, later: BackgroundTasks) -> JobOut:
    later.add_task(wake, "train")
    return _changed(database, requests.resume(database, tenant_id=tenant, job_id=job_id))


@router.post("/{job_id}/retry", summary="Begin a new run of a failed or cancelled job", response_model=JobOut)
def retry_job(
    job_id: UUID, tenant: Tenant, database: Database, once: Once, body: RetryIn | None = None
) -> Response:
    """Goes on from the last state with the curve so far, or begins at zero where there is none, or with `fresh`."""
    once.begin(database)
    fresh = body is not None and body.fresh
    limit = settings().max_queued_jobs
    job = requests.retry(database, tenant_id=tenant, job_id=job_id, fresh=fresh, max_queued=limit)
    return _begun(database, job, once, status=200)


@router.post("/{job_id}/extend", summary="Train a job that succeeded for longer", response_model=JobOut)
def extend_job(job_id: UUID, body: ExtendIn, tenant: Tenant, database: Database, once: Once) -> Response:
    """A new run goes on from the last state, to a larger total; the curve goes on with it."""
    once.begin(database)
    job = requests.extend(
        database,
        tenant_id=tenant,
        job_id=job_id,
        total_images=body.total_images,
        stopping=body.stopping,
        max_queued=settings().max_queued_jobs,
    )
    return _begun(database, job, once, status=200)


def _changed(database: Session, job: Job) -> JobOut:
    database.commit()
    return queries.describe(database, [job])[0]


def _begun(database: Session, job: Job, once: Idempotency, *, status: int = 201) -> Response:
    """Answer for a run that waits now; then tell the workers, by a broker that may take its time."""
    response = once.commit(
        database, queries.describe(database, [job])[0], status=status, location=f"/v1/jobs/{job.id}"
    )
    response.background = BackgroundTask(wake, "train")
    return response


@router.get(
    "/{job_id}/metrics",
    summary="The curve: a point a snapshot and protocol",
    response_model=Page[Point],
    responses=UNCHANGED,
)
def list_metrics(
    job_id: UUID, request: Request, tenant: Tenant, database: Database, run: Run = None
) -> Response:
    points = queries.curve(database, tenant_id=tenant, job_id=job_id, run=run)
    return answer(request, Page[Point](items=points))


@router.get("/{job_id}/losses", summary="Training losses: means and extremes of at most `points` stretches")
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
    copy_limit = parse_config(job.config).alarms.copy_rate
    picture = draw(points, title=job.name or f"job {job.id}", copy_limit=copy_limit)
    return Response(picture, media_type="image/png")
