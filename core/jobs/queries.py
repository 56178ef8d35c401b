"""Every read of jobs and what they left behind, bound to the tenant here and nowhere else."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Double, Select, bindparam, cast, func, select, true

from core.errors import NotFound
from core.evaluations.tables import Evaluation
from core.jobs.best import Evaluated
from core.jobs.best import best as best_of
from core.jobs.records import StoredFile
from core.jobs.tables import Checkpoint, Job, JobEvent, Loss, Sample, Worker
from core.metrics.selection import JUDGED
from core.pages import newest_first
from core.schemas.jobs import METRICS, Alarm, JobOut, LossOut, PictureOut, Point, Status, WorkerOut
from core.schemas.webhooks import Webhook

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta
    from uuid import UUID

    from sqlalchemy.orm import Session

Row = TypeVar("Row")


def get(session: Session, *, tenant_id: UUID, job_id: UUID) -> Job:
    """A job of this tenant.

    Raises:
        NotFound: there is none, or it is another tenant's: the answer is the same.
    """
    job = session.scalar(select(Job).where(Job.id == job_id, Job.tenant_id == tenant_id))
    if job is None:
        raise NotFound(f"There is no job {job_id}.")
    return job


def page(
    session: Session,
    *,
    tenant_id: UUID,
    status: Status | None,
    dataset_id: UUID | None,
    limit: int,
    cursor: str | None,
) -> tuple[list[Job], str | None]:
    """The tenant's jobs, the newest first."""
    query = select(Job).where(Job.tenant_id == tenant_id)
    if status is not None:
        query = query.where(Job.status == status)
    if dataset_id is not None:
        query = query.where(Job.dataset_id == dataset_id)
    return newest_first(session, query, table=Job, limit=limit, cursor=cursor)


def describe(session: Session, jobs: Sequence[Job]) -> list[JobOut]:
    """What the API says of jobs; two queries for their curves, however many jobs there are."""
    curves: dict[UUID, list[Evaluated]] = {}
    # A job that no worker has taken yet has no curve.
    taken = [job.id for job in jobs if job.attempt > 0]
    if taken:
        for job_id, *facts in session.execute(_done(), {"ids": taken}):
            curves.setdefault(job_id, []).append(Evaluated(*facts))
    best = {job.id: best_of(curves.get(job.id, []), config=job.config) for job in jobs}
    ids = {curve[-1].id for curve in curves.values()} | {found.id for found in best.values() if found}
    # Only those that are shown are read whole: a protocol is many times larger than its numbers.
    rows = session.scalars(select(Evaluation).where(Evaluation.id.in_(ids))).all() if ids else []
    points = {row.id: point(row) for row in rows}
    return [
        _described(
            job,
            latest=points.get(curves[job.id][-1].id) if job.id in curves else None,
            best=points.get(found.id) if (found := best[job.id]) else None,
            best_reason=found and found.reason,
        )
        for job in jobs
    ]


@cache
def _done() -> Select[UUID, UUID, str, dict[str, Any] | None]:
    """The numbers of all done evaluations of the jobs in `ids`, by images seen. Built once: that costs a while."""
    # What the rule of selection looks at, of some twenty numbers.
    pairs = [part for name in JUDGED for part in (name, Evaluation.metrics[name])]
    judged = func.jsonb_build_object(*pairs)
    return (
        select(Evaluation.job_id, Evaluation.id, Evaluation.protocol_hash, func.jsonb_strip_nulls(judged))
        .join(Job, (Job.id == Evaluation.job_id) & (Job.run == Evaluation.run))
        .where(Evaluation.job_id.in_(bindparam("ids", expanding=True)), Evaluation.status == "done")
        .where(Evaluation.kind == "metrics")
        .order_by(Evaluation.job_id, Evaluation.images_seen, Evaluation.created_at)
    )


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
    """The losses of one of the job's runs, averaged in the database into at most so many points."""
    job = get(session, tenant_id=tenant_id, job_id=job_id)
    bucket = func.ntile(points).over(order_by=Loss.images_seen).label("bucket")
    rows = (
        select(Loss.images_seen, Loss.losses, bucket)
        .where(Loss.job_id == job.id, Loss.run == (run or job.run))
        .subquery()
    )
    each = func.jsonb_each_text(rows.c.losses).table_valued("key", "value").lateral()
    means = (
        select(
            rows.c.bucket,
            func.max(rows.c.images_seen).label("images_seen"),
            each.c.key,
            func.avg(cast(each.c.value, Double)).label("mean"),
        )
        .join_from(rows, each, true())
        .group_by(rows.c.bucket, each.c.key)
        .subquery()
    )
    images_seen = func.max(means.c.images_seen).label("images_seen")
    query = (
        select(images_seen, func.jsonb_object_agg(means.c.key, means.c.mean).label("losses"))
        .group_by(means.c.bucket)
        .order_by(means.c.bucket)
    )
    return [LossOut(images_seen=row.images_seen, losses=row.losses) for row in session.execute(query)]


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


def samples(session: Session, *, tenant_id: UUID, job_id: UUID, run: int | None = None) -> Sequence[Sample]:
    """The grids of one of the job's runs, by images seen."""
    job = get(session, tenant_id=tenant_id, job_id=job_id)
    query = select(Sample).where(Sample.job_id == job.id, Sample.run == (run or job.run))
    return session.scalars(query.order_by(Sample.images_seen)).all()


def checkpoint(session: Session, *, tenant_id: UUID, checkpoint_id: UUID) -> Checkpoint:
    """One file of a job of this tenant; raises NotFound as `get` does."""
    query = select(Checkpoint).join(Job, Job.id == Checkpoint.job_id)
    return _one(
        session,
        query.where(Checkpoint.id == checkpoint_id, Job.tenant_id == tenant_id),
        f"checkpoint {checkpoint_id}",
    )


def sample(session: Session, *, tenant_id: UUID, sample_id: UUID) -> Sample:
    """One grid of a job of this tenant; raises NotFound as `get` does."""
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


def _described(job: Job, *, latest: Point | None, best: Point | None, best_reason: str | None) -> JobOut:
    eta_s = None
    if job.status == Status.RUNNING and job.images_per_s:
        eta_s = max(0, job.total_images - job.images_seen) / job.images_per_s
    return JobOut(
        id=job.id,
        name=job.name,
        dataset_id=job.dataset_id,
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
        latest=latest,
        best=best,
        best_reason=best_reason,
        error=job.error,
        facts=job.facts,
        worker=job.worker,
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
    )
