"""Jobs side by side, under one protocol and on the same pictures, or else the reason why they cannot be compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from core.datasets.tables import Dataset
from core.errors import Conflict, InvalidRequest
from core.evaluations.tables import Evaluation
from core.jobs import queries
from core.jobs.best import Evaluated, best
from core.jobs.tables import Job
from core.metrics.protocol import differing_fields
from core.schemas.jobs import ComparedJob, ComparisonOut, Status

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from sqlalchemy.orm import Session

Curves = dict["UUID", list[Evaluation]]


def compare(session: Session, *, tenant_id: UUID, job_ids: Sequence[UUID]) -> ComparisonOut:
    """The curves of some jobs' current runs, with the best and the last point of each.

    Of several protocols that all of them share, the one of the newest evaluation is taken.

    Args:
        session: for one read.
        tenant_id: who asks.
        job_ids: which jobs; one named twice is meant once.

    Raises:
        InvalidRequest: they are one job.
        NotFound: one of the jobs is not the tenant's.
        Conflict: one has no metrics yet, or no protocol or not the pictures are common to all; `differing` in its
            details has each field that differs, with its value by job.
    """
    if len(set(job_ids)) < 2:  # noqa: PLR2004  # a comparison has two sides
        raise InvalidRequest("A comparison needs two different jobs; these are one.")
    jobs = [queries.get(session, tenant_id=tenant_id, job_id=job_id) for job_id in dict.fromkeys(job_ids)]
    curves = _curves(session, jobs)
    for job in jobs:
        if not curves[job.id]:
            raise Conflict(
                f"Job {job.id} ({job.status}) has no metrics yet: compare it when a snapshot is evaluated."
            )
    _check_pictures(session, jobs, curves)
    common = set.intersection(*({row.protocol_hash for row in curve} for curve in curves.values()))
    if not common:
        raise _conflict(_protocols(curves))
    shared = [row for curve in curves.values() for row in curve if row.protocol_hash in common]
    newest = max(shared, key=lambda row: row.created_at)
    return ComparisonOut(
        protocol_hash=newest.protocol_hash,
        protocol=newest.protocol,
        jobs=[
            _compared(job, [row for row in curves[job.id] if row.protocol_hash == newest.protocol_hash])
            for job in jobs
        ],
    )


def _curves(session: Session, jobs: Sequence[Job]) -> Curves:
    """The done evaluations of each job's current run, by images seen."""
    curves: Curves = {job.id: [] for job in jobs}
    query = (
        select(Evaluation)
        .join(Job, (Job.id == Evaluation.job_id) & (Job.run == Evaluation.run))
        .where(Evaluation.job_id.in_(curves), Evaluation.status == "done", Evaluation.kind == "metrics")
        .order_by(Evaluation.images_seen, Evaluation.created_at)
    )
    for row in session.scalars(query):
        curves[row.job_id].append(row)
    return curves


def _check_pictures(session: Session, jobs: Sequence[Job], curves: Curves) -> None:
    """A protocol counts the real pictures, but only the dataset's hash says that they are the same."""
    ids = [job.dataset_id for job in jobs]
    hashes = {
        row.id: row.content_hash
        for row in session.execute(select(Dataset.id, Dataset.content_hash).where(Dataset.id.in_(ids)))
    }
    by_job = {str(job.id): hashes[job.dataset_id] for job in jobs}
    if len(set(by_job.values())) > 1:
        raise _conflict({"dataset": by_job} | _protocols(curves))


def _protocols(curves: Curves) -> dict[str, dict[str, Any]]:
    """How the protocols of the jobs' newest evaluations differ."""
    return differing_fields({str(job_id): curve[-1].protocol for job_id, curve in curves.items()})


def _conflict(differing: dict[str, dict[str, Any]]) -> Conflict:
    listed = "; ".join(
        f"{field} is {', '.join(f'{value!r} in job {job_id}' for job_id, value in values.items())}"
        for field, values in differing.items()
    )
    return Conflict(
        f"These jobs' numbers do not compare: {listed}. Numbers compare only under one protocol and on the same "
        "pictures; submit the jobs with the same dataset, resolution, fit and config.evaluation.",
        differing=differing,
    )


def _compared(job: Job, curve: Sequence[Evaluation]) -> ComparedJob:
    points = {row.id: queries.point(row) for row in curve}
    chosen = best(
        [Evaluated(row.id, row.protocol_hash, row.metrics or {}) for row in curve], config=job.config
    )
    return ComparedJob(
        id=job.id,
        name=job.name,
        status=Status(job.status),
        dataset_id=job.dataset_id,
        best=chosen and points[chosen.id],
        best_reason=chosen and chosen.reason,
        latest=points[curve[-1].id],
        points=list(points.values()),
    )
