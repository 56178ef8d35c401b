"""Every read of jobs and what they left behind, bound to the tenant here and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import ColumnElement, Double, Select, cast, func, select, true
from sqlalchemy.orm import aliased

from core.errors import NotFound
from core.evaluations.tables import Evaluation
from core.jobs.records import StoredFile
from core.jobs.tables import Checkpoint, Job, JobEvent, Loss, Sample, Worker
from core.pages import newest_first
from core.schemas.jobs import METRICS, PER_CLASS, Alarm, JobOut, LossOut, PictureOut, Point, Status, WorkerOut
from core.schemas.webhooks import Webhook

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import timedelta
    from uuid import UUID

    from sqlalchemy.orm import Session

    from core.schemas.jobs import JobFilter

Row = TypeVar("Row")


def get(session: Session, *, tenant_id: UUID, job_id: UUID) -> Job:
    """A job of this tenant.

    Raises:
        NotFound: there is none, or it is another tenant's: the answer is the same.
    """
    job = session.scalar(select(Job).where(Job.id == job_id, Job.tenant_id == tenant_id))
    if job is None:
        raise _no_job(job_id)
    return job


def _no_job(job_id: UUID) -> NotFound:
    return NotFound(f"There is no job {job_id}.")


def look(session: Session, *, tenant_id: UUID, job_id: UUID, curves_too: bool = True) -> JobOut:
    """What the API says of one job, asked for in one query: it is what clients ask most.

    Args:
        session: for one read.
        tenant_id: who asks.
        job_id: of the job.
        curves_too: as for `describe`.

    Raises:
        NotFound: as `get` does.
    """
    if not curves_too:
        return describe(session, [get(session, tenant_id=tenant_id, job_id=job_id)], curves_too=False)[0]
    latest, best = aliased(Evaluation), aliased(Evaluation)
    query = (
        select(Job, latest, best)
        .outerjoin(latest, latest.id == Job.latest_evaluation_id)
        .outerjoin(best, best.id == Job.best_evaluation_id)
        .where(Job.id == job_id, Job.tenant_id == tenant_id)
    )
    found = session.execute(query).one_or_none()
    if found is None:
        raise _no_job(job_id)
    job, *rows = found
    newest, chosen = (None if row is None else point(row) for row in rows)
    return _described(job, latest=newest, best=chosen)


def page(
    session: Session, *, tenant_id: UUID, which: JobFilter, limit: int, cursor: str | None
) -> tuple[list[Job], str | None]:
    """The tenant's jobs that pass a filter, the newest first."""
    query = select(Job).where(Job.tenant_id == tenant_id, *_conditions(which))
    return newest_first(session, query, table=Job, limit=limit, cursor=cursor)


def _conditions(which: JobFilter) -> Iterator[ColumnElement[bool]]:
    # Each an equality where it can be, so that an index gives the page in its order.
    if len(which.status) == 1:
        yield Job.status == which.status[0]
    elif which.status:
        yield Job.status.in_(which.status)
    if which.dataset_id is not None:
        yield Job.dataset_id == which.dataset_id
    if which.family is not None:
        yield Job.family == which.family
    if which.text is not None:
        yield Job.name.icontains(which.text, autoescape=True)
    if which.created_after is not None:
        yield Job.created_at >= which.created_after
    if which.created_before is not None:
        yield Job.created_at < which.created_before


def describe(session: Session, jobs: Sequence[Job], *, curves_too: bool = True) -> list[JobOut]:
    """What the API says of jobs; one query for what their curves tell, however many jobs there are.

    Args:
        session: for reads.
        jobs: of one tenant.
        curves_too: False where nobody asked for `latest` and `best`, which then are null.
    """
    shown = {found for job in jobs for found in (job.latest_evaluation_id, job.best_evaluation_id) if found}
    points: dict[UUID | None, Point] = {}
    if shown and curves_too:
        rows = session.scalars(select(Evaluation).where(Evaluation.id.in_(shown)))
        points = {row.id: point(row) for row in rows}
    return [
        _described(job, latest=points.get(job.latest_evaluation_id), best=points.get(job.best_evaluation_id))
        for job in jobs
    ]


def curve(session: Session, *, tenant_id: UUID, job_id: UUID, run: int | None = None) -> list[Point]:
    """Every evaluation of one of the job's runs (by default the current one), by images seen."""
    job = get(session, tenant_id=tenant_id, job_id=job_id)
    query = (
        select(Evaluation)
        .where(Evaluation.job_id == job.id, Evaluation.run == (run or job.run), Evaluation.kind == "metrics")
        .order_by(Evaluation.images_seen, Evaluation.created_at)
    )
    return [point(row) for row in session.scalars(query)]


def losses(
    session: Session, *, tenant_id: UUID, job_id: UUID, points: int, run: int | None = None
) -> list[LossOut]:
    """The losses of one of the job's runs, put together in the database into at most so many points.

    A point tells of its stretch the mean and, so that no spike is lost, the lowest and the highest.
    """
    job = get(session, tenant_id=tenant_id, job_id=job_id)
    bucket = func.ntile(points).over(order_by=Loss.images_seen).label("bucket")
    rows = (
        select(Loss.images_seen, Loss.losses, bucket)
        .where(Loss.job_id == job.id, Loss.run == (run or job.run))
        .subquery()
    )
    each = func.jsonb_each_text(rows.c.losses).table_valued("key", "value").lateral()
    value = cast(each.c.value, Double)
    kinds = {"losses": func.avg(value), "lowest": func.min(value), "highest": func.max(value)}
    stretches = (
        select(
            rows.c.bucket,
            func.max(rows.c.images_seen).label("images_seen"),
            each.c.key,
            *(kind.label(name) for name, kind in kinds.items()),
        )
        .join_from(rows, each, true())
        .group_by(rows.c.bucket, each.c.key)
        .subquery()
    )
    query = (
        select(
            func.max(stretches.c.images_seen).label("images_seen"),
            *(func.jsonb_object_agg(stretches.c.key, stretches.c[name]).label(name) for name in kinds),
        )
        .group_by(stretches.c.bucket)
        .order_by(stretches.c.bucket)
    )
    return [LossOut.model_validate(row, from_attributes=True) for row in session.execute(query)]


def events(session: Session, *, job_id: UUID, after: int, limit: int) -> Sequence[JobEvent]:
    """Events with a greater number, in order. The caller has checked whose job it is."""
    query = select(JobEvent).where(JobEvent.job_id == job_id, JobEvent.seq > after)
    return session.scalars(query.order_by(JobEvent.seq).limit(limit)).all()


def checkpoints(
    session: Session, *, tenant_id: UUID, job_id: UUID, kind: str | None = None, run: int | None = None
) -> Sequence[Checkpoint]:
    """The files of one of the job's runs, of one kind or of all, by images seen."""
    job = get(session, tenant_id=tenant_id, job_id=job_id)
    query = select(Checkpoint).where(Checkpoint.job_id == job.id, Checkpoint.run == (run or job.run))
    if kind is not None:
        query = query.where(Checkpoint.kind == kind)
    return session.scalars(query.order_by(Checkpoint.images_seen, Checkpoint.kind)).all()


def samples(
    session: Session, *, tenant_id: UUID, job_id: UUID, kind: str | None = None, run: int | None = None
) -> Sequence[Sample]:
    """The pictures of one of the job's runs, of one kind or of all, by images seen; of each age the grid is first."""
    job = get(session, tenant_id=tenant_id, job_id=job_id)
    query = select(Sample).where(Sample.job_id == job.id, Sample.run == (run or job.run))
    if kind is not None:
        query = query.where(Sample.kind == kind)
    # A client from before there were kinds takes the first picture of an age for its grid.
    return session.scalars(query.order_by(Sample.images_seen, Sample.kind != "grid", Sample.kind)).all()


def checkpoint(session: Session, *, tenant_id: UUID, checkpoint_id: UUID) -> Checkpoint:
    """One file of a job of this tenant; raises NotFound as `get` does."""
    query = select(Checkpoint).join(Job, Job.id == Checkpoint.job_id)
    return _one(
        session,
        query.where(Checkpoint.id == checkpoint_id, Job.tenant_id == tenant_id),
        f"checkpoint {checkpoint_id}",
    )


def sample(session: Session, *, tenant_id: UUID, sample_id: UUID) -> Sample:
    """One picture of a job of this tenant; raises NotFound as `get` does."""
    query = select(Sample).join(Job, Job.id == Sample.job_id)
    return _one(
        session, query.where(Sample.id == sample_id, Job.tenant_id == tenant_id), f"sample {sample_id}"
    )


def evaluation(session: Session, *, tenant_id: UUID, evaluation_id: UUID) -> Evaluation:
    """An evaluation of a job of this tenant; raises NotFound as `get` does."""
    query = select(Evaluation).join(Job, Job.id == Evaluation.job_id)
    return _one(
        session,
        query.where(Evaluation.id == evaluation_id, Job.tenant_id == tenant_id),
        f"evaluation {evaluation_id}",
    )


def backtrackings(
    session: Session, *, tenant_id: UUID, job_id: UUID, limit: int, cursor: str | None
) -> tuple[list[Evaluation], str | None]:
    """Those of the job's current run, the newest first."""
    job = get(session, tenant_id=tenant_id, job_id=job_id)
    query = select(Evaluation).where(
        Evaluation.job_id == job.id, Evaluation.run == job.run, Evaluation.kind == "backtracking"
    )
    return newest_first(session, query, table=Evaluation, limit=limit, cursor=cursor)


def picture(session: Session, *, tenant_id: UUID, evaluation_id: UUID) -> tuple[Evaluation, StoredFile]:
    """An evaluation of a job of this tenant, and its picture; raises NotFound also where it has none."""
    row = evaluation(session, tenant_id=tenant_id, evaluation_id=evaluation_id)
    if row.picture_key is None or row.picture_sha256 is None or row.picture_size_bytes is None:
        raise NotFound(
            f"The evaluation {evaluation_id} ({row.status}) has left no picture: it is not done, searched for no "
            "copies, or its picture could not be stored."
        )
    return row, StoredFile(row.picture_key, sha256=row.picture_sha256, size_bytes=row.picture_size_bytes)


def workers(session: Session, *, tenant_id: UUID, alive_within: timedelta) -> list[WorkerOut]:
    """All workers, which tenants share; but of their jobs, only this tenant's are named.

    Args:
        session: for one read.
        tenant_id: who asks.
        alive_within: the age, by the database's clock, that the last heartbeat of a living worker may have.
    """
    alive = (Worker.last_heartbeat_at > func.now() - alive_within).label("alive")
    query = (
        select(Worker, Job.id, alive)
        .outerjoin(
            Job, (Job.worker == Worker.name) & (Job.status == Status.RUNNING) & (Job.tenant_id == tenant_id)
        )
        .order_by(Worker.name)
    )
    return [
        WorkerOut(
            name=worker.name,
            kind=worker.kind,
            device=worker.device,
            host=worker.host,
            pid=worker.pid,
            current_job_id=job_id,
            alive=is_alive,
            drain=worker.drain,
            started_at=worker.started_at,
            last_heartbeat_at=worker.last_heartbeat_at,
        )
        for worker, job_id, is_alive in session.execute(query)
    ]


def _one(session: Session, query: Select[Row], what: str) -> Row:
    row = session.scalar(query)
    if row is None:
        raise NotFound(f"There is no {what}.")
    return row


def point(row: Evaluation) -> Point:
    """An evaluation as a point of its curve."""
    metrics: dict[str, Any] = row.metrics or {}
    return Point(
        evaluation_id=row.id,
        images_seen=row.images_seen,
        status=row.status,
        **{name: metrics.get(name) for name in METRICS},
        protocol_hash=row.protocol_hash,
        protocol=row.protocol,
        checkpoint_id=row.checkpoint_id,
        picture=picture_of(row),
        error=row.error,
    )


def picture_of(row: Evaluation) -> PictureOut | None:
    """Where its picture is to be had, if it left one."""
    if row.picture_sha256 is None or row.picture_size_bytes is None:
        return None
    url = f"/v1/evaluations/{row.id}/picture.png"
    return PictureOut(url=url, size_bytes=row.picture_size_bytes, sha256=row.picture_sha256)


def _without_classes(point: Point | None) -> Point | None:
    return None if point is None else point.model_copy(update=dict.fromkeys(PER_CLASS))


def _described(job: Job, *, latest: Point | None, best: Point | None) -> JobOut:
    eta_s = None
    if job.status == Status.RUNNING and job.images_per_s:
        eta_s = max(0, job.total_images - job.images_seen) / job.images_per_s
    return JobOut(
        id=job.id,
        name=job.name,
        dataset_id=job.dataset_id,
        dataset_version=job.dataset_version,
        family=job.family,
        config=job.config,
        status=Status(job.status),
        priority=job.priority,
        run=job.run,
        attempt=job.attempt,
        cancel_requested=job.cancel_requested,
        pause_requested=job.pause_requested,
        max_queue_s=job.max_queue_s,
        max_run_s=job.max_run_s,
        run_s=job.run_s,
        not_before=job.not_before,
        stop_reason=job.stop_reason,
        alarms=[Alarm.model_validate(alarm) for alarm in job.alarms],
        init_from=job.init_from,
        # As it was accepted: it is not judged again.
        webhook=Webhook.model_construct(**job.webhook) if job.webhook is not None else None,
        images_seen=job.images_seen,
        total_images=job.total_images,
        progress=min(1.0, job.images_seen / job.total_images),
        images_per_s=job.images_per_s,
        eta_s=eta_s,
        losses=job.losses,
        latest=_without_classes(latest),
        best=_without_classes(best),
        best_reason=job.best_reason,
        error=job.error,
        facts=job.facts,
        worker=job.worker,
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
    )
