"""What a tenant may do to a job. Every change of state is one conditional UPDATE and one event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, func, select, update

from core.errors import Conflict, NotFound
from core.evaluations.tables import Evaluation
from core.jobs.tables import Job, JobEvent
from core.schemas.jobs import Status

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from core.schemas.training import SlaeganConfig

ENDED: dict[str, Any] = {
    "finished_at": func.clock_timestamp(),
    "lease_token": None,
    "lease_expires_at": None,
}


def create(
    session: Session, *, tenant_id: UUID, dataset_id: UUID, config: SlaeganConfig, name: str, priority: int
) -> Job:
    """Queue a training; the caller has checked that the dataset is the tenant's.

    Args:
        session: the caller commits, then wakes the queue.
        tenant_id: owner of job and dataset.
        dataset_id: the pictures to train on.
        config: resolved, as it will run.
        name: for people; may be empty.
        priority: higher runs first.
    """
    job = Job(
        id=uuid4(),
        tenant_id=tenant_id,
        dataset_id=dataset_id,
        name=name,
        family=config.family,
        config=config.model_dump(mode="json"),
        priority=priority,
        total_images=config.total_images,
    )
    session.add(job)
    session.flush()
    session.add(JobEvent(job_id=job.id, seq=1, type="queued", payload={"reason": "created"}))
    return job


def advance(  # all of a transition stands in one call
    session: Session,
    job_id: UUID,
    *where: ColumnElement[bool],
    values: dict[str, Any],
    event: str,
    payload: dict[str, Any] | None = None,
) -> bool:
    """Change a job if it is still as expected, and say so in its events; the UPDATE hands out the event's number.

    Returns:
        Whether the job was as `where` expects. If not, nothing was changed.
    """
    seq = session.execute(
        update(Job)
        .where(Job.id == job_id, *where)
        .values(event_seq=Job.event_seq + 1, **values)
        .returning(Job.event_seq)
        .execution_options(synchronize_session=False)
    ).scalar_one_or_none()
    if seq is None:
        return False
    session.add(JobEvent(job_id=job_id, seq=seq, type=event, payload=payload or {}))
    session.flush()
    return True


def drop_evaluations(session: Session, job_id: UUID, *, reason: str) -> None:
    """Skip what is still to be evaluated of a job that ended; a running evaluator finds its lease gone."""
    session.execute(
        update(Evaluation)
        .where(Evaluation.job_id == job_id, Evaluation.status.in_(("queued", "running")))
        .values(
            status="skipped",
            lease_token=None,
            lease_expires_at=None,
            error={"code": "skipped", "message": reason},
            finished_at=func.clock_timestamp(),
        )
    )


def cancel(session: Session, *, tenant_id: UUID, job_id: UUID) -> Job:
    """Cancel a job: at once when no worker trains it, else its supervisor is asked to. Asking twice is no error.

    Raises:
        NotFound: no such job of this tenant.
        Conflict: the job has succeeded or failed already.
    """
    job = session.scalar(
        select(Job)
        .where(Job.id == job_id, Job.tenant_id == tenant_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if job is None:
        raise NotFound(f"There is no job {job_id}.")
    match job.status:
        case Status.QUEUED | Status.EVALUATING:
            drop_evaluations(session, job_id, reason="The job was cancelled.")
            advance(
                session,
                job_id,
                values={"status": "cancelled", "cancel_requested": True, **ENDED},
                event="cancelled",
            )
        case Status.RUNNING if not job.cancel_requested:
            advance(session, job_id, values={"cancel_requested": True}, event="cancel_requested")
        case Status.SUCCEEDED | Status.FAILED:
            raise Conflict(
                f"Job {job_id} has {job.status} already; only a job that is not over can be cancelled."
            )
    session.refresh(job)
    return job
