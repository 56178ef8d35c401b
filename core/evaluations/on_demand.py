"""Evaluations that a tenant asks for, beside those that every snapshot gets."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from sqlalchemy import func, select, update

from core.audit import trail
from core.datasets import service as datasets
from core.datasets.files import DatasetFiles
from core.datasets.held_out import split
from core.errors import Conflict, InvalidRequest, NotFound
from core.evaluations.tables import PENDING, Evaluation
from core.jobs import generators, queries
from core.jobs.retention import forget_generators
from core.jobs.service import advance
from core.jobs.tables import Job
from core.metrics.backtracking_protocol import planned_backtracking
from core.schemas.evaluations import EvaluationOut
from core.schemas.families import parse_config

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from core.jobs.tables import Checkpoint
    from core.metrics.backtracking_protocol import BacktrackingProtocol
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
        Conflict: the job has no generator yet, its pictures are deleted, or too much is waiting already.
    """
    job = queries.get(session, tenant_id=tenant_id, job_id=job_id)
    try:
        datasets.hold(session, tenant_id=tenant_id, dataset_id=job.dataset_id)
    except NotFound as error:
        raise Conflict(
            f"The pictures of job {job_id} are deleted: there is nothing to come near to."
        ) from error
    session.refresh(job, with_for_update=True)
    generator = generators.chosen(session, job, asked.checkpoint_id)
    protocol = _planned(session, asked, job=job)
    found = session.scalar(
        select(Evaluation).where(
            Evaluation.job_id == job.id,
            Evaluation.run == job.run,
            Evaluation.images_seen == generator.images_seen,
            Evaluation.protocol_hash == protocol.hash(),
        )
    )
    if found is None or found.status in {"failed", "skipped"}:
        _check_room(session, job)
        found = _queued(session, found, generator=generator, protocol=protocol)
        payload = {"evaluation_id": str(found.id), "images_seen": generator.images_seen}
        advance(session, job.id, values={}, event="backtracking_queued", payload=payload)
    else:
        trail.unchanged(session)
    return found


def _planned(session: Session, asked: BacktrackingIn, *, job: Job) -> BacktrackingProtocol:
    config = parse_config(job.config)
    training, held_out = split(DatasetFiles.of(session, job.dataset_id), share=config.held_out)
    of = training if asked.of == "training" else held_out
    if of is None:
        raise InvalidRequest(
            "This job keeps no pictures from its training: ask for training, or train with config.held_out."
        )
    return planned_backtracking(config, asked, image_count=of.count)


def _queued(
    session: Session, found: Evaluation | None, *, generator: Checkpoint, protocol: BacktrackingProtocol
) -> Evaluation:
    """A new row, or one that ended without a result as if it were new."""
    if found is None:
        found = Evaluation(
            id=uuid4(),
            job_id=generator.job_id,
            run=generator.run,
            kind="backtracking",
            images_seen=generator.images_seen,
            checkpoint_id=generator.id,
            protocol=protocol.model_dump(mode="json"),
            protocol_hash=protocol.hash(),
        )
        session.add(found)
    else:
        found.status, found.checkpoint_id, found.attempts = "queued", generator.id, 0
        found.error = found.finished_at = found.worker = None
        found.created_at = func.clock_timestamp()
    session.flush()
    return found


def _check_room(session: Session, job: Job) -> None:
    pending = select(func.count()).where(
        Evaluation.job_id == job.id, Evaluation.kind == "backtracking", Evaluation.status.in_(PENDING)
    )
    if (waiting := session.scalar(pending) or 0) >= MAX_PENDING:
        raise Conflict(
            f"{waiting} backtrackings of this job are waiting already: ask again when one is done."
        )


def cancel(session: Session, *, tenant_id: UUID, evaluation_id: UUID) -> tuple[Evaluation, list[str]]:
    """Call a backtracking off that is not over; a running evaluator finds its lease gone. Twice is no error.

    Returns:
        The evaluation, and the keys of generators that were kept for it alone, to be deleted after the commit.

    Raises:
        NotFound: the tenant has no such evaluation.
        Conflict: it is a point of a job's curve, or it is over.
    """
    row = queries.evaluation(session, tenant_id=tenant_id, evaluation_id=evaluation_id)
    session.execute(select(Job.id).where(Job.id == row.job_id).with_for_update())
    changed = session.scalar(
        update(Evaluation)
        .where(Evaluation.id == row.id, Evaluation.kind == "backtracking", Evaluation.status.in_(PENDING))
        .values(
            status="skipped",
            lease_token=None,
            lease_expires_at=None,
            error={"code": "skipped", "message": "cancelled"},
            finished_at=func.clock_timestamp(),
        )
        .returning(Evaluation.id)
        .execution_options(synchronize_session=False)
    )
    session.refresh(row)
    if changed is not None:
        payload = {"evaluation_id": str(row.id), "images_seen": row.images_seen}
        advance(session, row.job_id, values={}, event="backtracking_cancelled", payload=payload)
        job = session.get_one(Job, row.job_id)
        rules = parse_config(job.config).retention
        return row, forget_generators(session, job, rules=rules)
    if row.kind != "backtracking":
        raise Conflict("A point of the curve cannot be called off by itself: cancel the job.")
    if row.status != "skipped":
        raise Conflict(f"The backtracking {row.id} is {row.status} already.")
    trail.unchanged(session)
    return row, []


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
