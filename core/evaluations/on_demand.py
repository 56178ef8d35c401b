"""Evaluations that a tenant asks for, beside those that every snapshot gets."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from sqlalchemy import func, select

from core.datasets.files import DatasetFiles
from core.datasets.held_out import split
from core.errors import Conflict, InvalidRequest, NotFound
from core.evaluations.tables import Evaluation
from core.jobs import queries
from core.jobs.service import advance
from core.jobs.tables import Checkpoint, Job
from core.metrics.backtracking_protocol import planned_backtracking
from core.schemas.evaluations import EvaluationOut
from core.schemas.training import SlaeganConfig

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from core.schemas.evaluations import BacktrackingIn

MAX_PENDING = 8


def backtrack(session: Session, asked: BacktrackingIn, *, tenant_id: UUID, job_id: UUID) -> Evaluation:
    """Queue the backtracking of a generator; asking for the same again gives the same evaluation.

    One that failed, or was skipped, is queued again.

    Args:
        session: the caller commits, then wakes the queue.
        asked: of which generator, and how.
        tenant_id: who asks.
        job_id: whose generator.

    Raises:
        NotFound: the tenant has no such job, or the job no such generator.
        InvalidRequest: the job keeps no pictures from its training.
        Conflict: the job has no generator yet, or too much is waiting already.
    """
    job = queries.get(session, tenant_id=tenant_id, job_id=job_id)
    session.refresh(job, with_for_update=True)
    config = SlaeganConfig.model_validate(job.config)
    if asked.of == "held_out" and config.held_out == 0:
        raise InvalidRequest(
            "This job keeps no pictures from its training: ask for training, or train with config.held_out."
        )
    generator = _generator(session, job, asked.checkpoint_id)
    training, held_out = split(DatasetFiles.of(session, job.dataset_id), share=config.held_out)
    of = training if asked.of == "training" or held_out is None else held_out
    protocol = planned_backtracking(config, asked, image_count=of.count)
    found = session.scalar(
        select(Evaluation).where(
            Evaluation.job_id == job.id,
            Evaluation.run == job.run,
            Evaluation.images_seen == generator.images_seen,
            Evaluation.protocol_hash == protocol.hash(),
        )
    )
    if found is not None and found.status not in {"failed", "skipped"}:
        return found
    _check_room(session, job)
    if found is None:
        found = Evaluation(
            id=uuid4(),
            job_id=job.id,
            run=job.run,
            kind="backtracking",
            images_seen=generator.images_seen,
            checkpoint_id=generator.id,
            protocol=protocol.model_dump(mode="json"),
            protocol_hash=protocol.hash(),
        )
        session.add(found)
    else:
        found.status, found.checkpoint_id, found.attempts = "queued", generator.id, 0
        found.error = found.finished_at = None
    session.flush()
    payload = {"evaluation_id": str(found.id), "images_seen": generator.images_seen}
    advance(session, job.id, values={}, event="backtracking_queued", payload=payload)
    return found


def _check_room(session: Session, job: Job) -> None:
    pending = select(func.count()).where(
        Evaluation.job_id == job.id,
        Evaluation.kind == "backtracking",
        Evaluation.status.in_(("queued", "running")),
    )
    if (waiting := session.scalar(pending) or 0) >= MAX_PENDING:
        raise Conflict(
            f"{waiting} backtrackings of this job are waiting already: ask again when one is done."
        )


def _generator(session: Session, job: Job, checkpoint_id: UUID | None) -> Checkpoint:
    """The generator that is asked for; else the best one; else the newest."""
    generators = {
        row.id: row
        for row in session.scalars(
            select(Checkpoint)
            .where(Checkpoint.job_id == job.id, Checkpoint.run == job.run, Checkpoint.kind == "generator")
            .order_by(Checkpoint.images_seen)
        )
    }
    if checkpoint_id is not None:
        if checkpoint_id not in generators:
            raise NotFound(f"Job {job.id} has no generator {checkpoint_id}.")
        return generators[checkpoint_id]
    if not generators:
        raise Conflict(f"Job {job.id} ({job.status}) has no generator yet: ask when it has made a snapshot.")
    (described,) = queries.describe(session, [job])
    best = described.best.checkpoint_id if described.best else None
    return generators[best] if best in generators else list(generators.values())[-1]


def get(session: Session, *, tenant_id: UUID, evaluation_id: UUID) -> Evaluation:
    """An evaluation of a job of this tenant.

    Raises:
        NotFound: there is none, or it is another tenant's: the answer is the same.
    """
    query = select(Evaluation).join(Job, Job.id == Evaluation.job_id)
    row = session.scalar(query.where(Evaluation.id == evaluation_id, Job.tenant_id == tenant_id))
    if row is None:
        raise NotFound(f"There is no evaluation {evaluation_id}.")
    return row


def backtrackings(session: Session, *, tenant_id: UUID, job_id: UUID) -> list[Evaluation]:
    """Those of the job's current run, the newest first."""
    job = queries.get(session, tenant_id=tenant_id, job_id=job_id)
    query = select(Evaluation).where(
        Evaluation.job_id == job.id, Evaluation.run == job.run, Evaluation.kind == "backtracking"
    )
    return list(session.scalars(query.order_by(Evaluation.created_at.desc(), Evaluation.id)))


def described(row: Evaluation) -> EvaluationOut:
    """What the API says of it."""
    return EvaluationOut(
        id=row.id,
        job_id=row.job_id,
        kind=row.kind,
        images_seen=row.images_seen,
        checkpoint_id=row.checkpoint_id,
        status=row.status,
        metrics=row.metrics,
        protocol_hash=row.protocol_hash,
        protocol=row.protocol,
        picture=queries.picture_of(row),
        error=row.error,
        created_at=row.created_at,
        finished_at=row.finished_at,
    )
