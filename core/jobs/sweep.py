"""What heals the queue: leases and times that ran out, jobs whose last evaluation ended, hints that were lost."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, func, select, update

from core.errors import InfrastructureError, TimeLimit, WorkersLost
from core.evaluations import service as evaluations
from core.evaluations.tables import Evaluation
from core.jobs import accounting, endings
from core.jobs.service import ENDED, advance, drop_evaluations
from core.jobs.tables import Job, Worker
from core.renderings import service as renderings
from core.renderings.tables import Rendering

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from core.errors import SlaeganError


@dataclass(frozen=True)
class Hints:
    """How many wake-ups to send, so that each live worker with work to do has one."""

    train: int
    metrics: int
    generate: int


def sweep(session: Session, *, lease_s: float, max_failures: int, max_evaluation_attempts: int) -> Hints:
    """Take back what lost workers held, and count the hints to send. The caller commits, then sends.

    Args:
        session: in a transaction of its own.
        lease_s: a worker unseen for so long counts as dead.
        max_failures: infrastructure failures after which a job fails.
        max_evaluation_attempts: lost workers after which an evaluation, or a rendering, fails.
    """
    for job in session.scalars(
        select(Job)
        .where(Job.status == "running", Job.lease_expires_at < func.clock_timestamp())
        .with_for_update(skip_locked=True)
    ).all():
        _take_back(session, job, max_failures=max_failures)
    _end_late(session)
    for evaluation in session.scalars(
        select(Evaluation).where(
            Evaluation.status == "running", Evaluation.lease_expires_at < func.clock_timestamp()
        )
    ).all():
        _take_back_evaluation(session, evaluation, max_attempts=max_evaluation_attempts)
    accounting.end_dropped_evaluations(session)
    renderings.take_back(session, max_attempts=max_evaluation_attempts)
    for job_id in session.scalars(select(Job.id).where(endings.evaluated()).order_by(Job.id)).all():
        endings.settle(session, job_id)
    return _hints(session, lease_s=lease_s)


def _take_back(session: Session, job: Job, *, max_failures: int) -> None:
    lost = {"attempt": job.attempt, "worker": job.worker}
    accounting.end_training(session, job.id, outcome="lost")
    failures = job.infrastructure_failures + 1
    requeued = endings.requeued(infrastructure_failures=failures)
    if job.cancel_requested:
        drop_evaluations(session, job.id, reason="The job was cancelled.")
        advance(session, job.id, values={"status": "cancelled", **ENDED}, event="cancelled", payload=lost)
    elif job.pause_requested:
        advance(session, job.id, values={"status": "paused", **requeued}, event="paused", payload=lost)
    elif failures >= max_failures:
        error = WorkersLost(
            f"{max_failures} attempts of this job were lost; the last with its worker, {job.worker}."
        )
        _fail(session, job, error, payload=lost, infrastructure_failures=failures)
    else:
        payload = {"reason": f"worker {job.worker} was lost", "infrastructure_failures": failures, **lost}
        advance(session, job.id, values={"status": "queued", **requeued}, event="queued", payload=payload)


def _fail(session: Session, job: Job, error: SlaeganError, *, payload: dict[str, Any], **values: Any) -> None:
    record = endings.failure(error)
    drop_evaluations(session, job.id, reason="The job failed.")
    values |= {"status": "failed", "error": record, **ENDED}
    advance(session, job.id, values=values, event="failed", payload={**payload, **record})


def _end_late(session: Session) -> None:
    """Fail what has waited too long for a worker; have end, as finished, what has trained for long enough."""
    waited = func.extract("epoch", func.clock_timestamp() - Job.queued_at)
    for job in session.scalars(
        select(Job)
        .where(Job.status == "queued", Job.started_at.is_(None), waited > Job.max_queue_s)
        .with_for_update(skip_locked=True)
    ).all():
        error = TimeLimit(f"No worker was free within the job's max_queue_s of {job.max_queue_s} s.")
        _fail(session, job, error, payload={})
    trained = Job.run_s + func.extract("epoch", func.clock_timestamp() - Job.claimed_at)
    for job in session.scalars(
        select(Job)
        .where(Job.status == "running", Job.stop_reason.is_(None), trained > Job.max_run_s)
        .with_for_update(skip_locked=True)
    ).all():
        reason = f"its max_run_s of {job.max_run_s} s is over"
        advance(
            session,
            job.id,
            values={"stop_reason": reason},
            event="stopping_early",
            payload={"reason": reason},
        )


def _take_back_evaluation(session: Session, evaluation: Evaluation, *, max_attempts: int) -> None:
    # The job's row first, then the evaluation's: the order that an evaluator keeps too.
    session.execute(select(Job.id).where(Job.id == evaluation.job_id).with_for_update())
    gave_up = evaluation.attempts >= max_attempts
    error = InfrastructureError(f"{evaluation.attempts} evaluators were lost over this snapshot.")
    values = {"status": "failed", "error": error.as_record(), "finished_at": func.clock_timestamp()}
    changed = session.execute(
        update(Evaluation)
        .where(Evaluation.id == evaluation.id, Evaluation.lease_token == evaluation.lease_token)
        .where(Evaluation.lease_expires_at < func.clock_timestamp())
        .values(lease_token=None, lease_expires_at=None, **(values if gave_up else {"status": "queued"}))
        .execution_options(synchronize_session=False)
    )
    if gave_up and changed.rowcount:  # type: ignore[attr-defined]  # an UPDATE's result is a CursorResult
        evaluations.warn(session, evaluation, error=error)


def _hints(session: Session, *, lease_s: float) -> Hints:
    def waiting(column: type[Job | Evaluation | Rendering]) -> int:
        return session.scalar(select(func.count()).where(column.status == "queued")) or 0

    def idle(kind: str, held: ColumnElement[bool]) -> int:
        alive = Worker.last_heartbeat_at > func.clock_timestamp() - timedelta(seconds=lease_s)
        free = (Worker.kind == kind, Worker.drain.is_(None), alive, ~held)
        return session.scalar(select(func.count()).where(*free)) or 0

    training = select(Job.id).where(Job.status == "running", Job.worker == Worker.name).exists()
    evaluating = (
        select(Evaluation.id).where(Evaluation.status == "running", Evaluation.worker == Worker.name).exists()
    )
    rendering = (
        select(Rendering.id).where(Rendering.status == "running", Rendering.worker == Worker.name).exists()
    )
    return Hints(
        train=min(waiting(Job), idle("train", training)),
        metrics=min(waiting(Evaluation), idle("metrics", evaluating)),
        generate=min(waiting(Rendering), idle("generate", rendering)),
    )
