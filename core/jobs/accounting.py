"""The record of the time that attempts hold devices, on the database's clock; core.jobs.usage sums it up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from sqlalchemy import ColumnElement, func, insert, select, update

from core.evaluations.tables import Evaluation
from core.jobs.tables import Job, JobAttempt, Worker

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.orm import Session

Outcome = Literal["finished", "requeued", "paused", "cancelled", "failed", "lost", "dropped"]


def begin(
    session: Session,
    token: UUID,
    *,
    job: Job,
    kind: str,
    run: int,
    number: int,
    worker: str,
    evaluation_id: UUID | None = None,
) -> None:
    """Begin an attempt's row, in the transaction of its claim.

    Args:
        session: the caller commits.
        token: of the lease.
        job: whose attempt it is.
        kind: training, or the evaluation's.
        run: of the job.
        number: of the attempt.
        worker: its name; the device is that of the worker's row.
        evaluation_id: which, unless it is a training.
    """
    device = select(Worker.device).where(Worker.name == worker).scalar_subquery()
    session.execute(
        insert(JobAttempt).values(
            id=token,
            job_id=job.id,
            tenant_id=job.tenant_id,
            kind=kind,
            evaluation_id=evaluation_id,
            run=run,
            number=number,
            worker=worker,
            device=device,
        )
    )


def outcome_of(status: str) -> str:
    """How an attempt ended, by the state that its job went to."""
    return {"evaluating": "finished", "queued": "requeued"}.get(status, status)


def end_training(session: Session, job_id: UUID, *, outcome: str) -> None:
    """End the row of a job's training, in the transaction that releases the job; none is open: nothing happens."""
    _end(session, JobAttempt.job_id == job_id, JobAttempt.kind == "training", outcome=outcome)


def end_evaluation(session: Session, token: UUID, *, outcome: str) -> None:
    """End the row of one evaluator's hold, in the transaction that ends the hold."""
    _end(session, JobAttempt.id == token, outcome=outcome)


def end_dropped_evaluations(session: Session) -> None:
    """End the rows of evaluations that were taken from their evaluators: by a lost lease, or with their job.

    Those evaluators go on until they notice, which takes them about as long as the next sweep takes to come.
    """
    held = select(Evaluation.id).where(Evaluation.lease_token == JobAttempt.id).exists()
    dropped = (JobAttempt.ended_at.is_(None), JobAttempt.kind != "training", ~held)
    # Another sweep may be ending some of them.
    free = select(JobAttempt.id).where(*dropped).with_for_update(skip_locked=True)
    _end(session, JobAttempt.id.in_(free), outcome="dropped")


def _end(session: Session, *which: ColumnElement[bool], outcome: str) -> None:
    # A clock that was set back in between must not keep the job, and the sweep, from going on.
    ended_at = func.greatest(func.clock_timestamp(), JobAttempt.started_at)
    session.execute(
        update(JobAttempt)
        .where(JobAttempt.ended_at.is_(None), *which)
        .values(ended_at=ended_at, outcome=outcome)
        .execution_options(synchronize_session=False)
    )
