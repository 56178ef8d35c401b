"""How workers hold jobs: claim, heartbeat and endings, all fenced by the attempt's lease token.

Times are the database's clock. Zero rows changed means that the lease is gone: LeaseLost, and the caller stops.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, func, select, update

from core.errors import LeaseLost, SlaeganError
from core.evaluations.tables import PENDING, Evaluation
from core.jobs.service import ENDED, advance, drop_evaluations
from core.jobs.tables import Job

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


@dataclass(frozen=True)
class Attempt:
    """One worker's hold on one job."""

    job_id: UUID
    token: UUID
    tenant_id: UUID
    dataset_id: UUID
    run: int
    number: int
    infrastructure_failures: int
    config: dict[str, Any]
    init_from: UUID | None

    def held(self) -> ColumnElement[bool]:
        """The condition that every write of this attempt carries."""
        return (Job.status == "running") & (Job.lease_token == self.token)


def expiry(lease_s: float) -> ColumnElement[Any]:
    """The database's time at which a lease taken now runs out."""
    return func.clock_timestamp() + timedelta(seconds=lease_s)


def claim(session: Session, *, worker: str, lease_s: float) -> Attempt | None:
    """Take the best queued job; None when there is none.

    Two workers never get the same job: the row is locked until the commit, and others skip it.
    """
    job_id = session.scalar(
        select(Job.id)
        .where(Job.status == "queued")
        .order_by(Job.priority.desc(), Job.queued_at)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    if job_id is None:
        return None
    token = uuid4()
    advance(
        session,
        job_id,
        Job.status == "queued",
        values={
            "status": "running",
            "lease_token": token,
            "lease_expires_at": expiry(lease_s),
            "attempt": Job.attempt + 1,
            "worker": worker,
            "started_at": func.coalesce(Job.started_at, func.clock_timestamp()),
        },
        event="running",
        payload={"worker": worker},
    )
    job = session.get_one(Job, job_id)
    return Attempt(
        job_id=job.id,
        token=token,
        tenant_id=job.tenant_id,
        dataset_id=job.dataset_id,
        run=job.run,
        number=job.attempt,
        infrastructure_failures=job.infrastructure_failures,
        config=job.config,
        init_from=job.init_from,
    )


def heartbeat(session: Session, attempt: Attempt, *, lease_s: float) -> None:
    """Extend the lease. Raises LeaseLost."""
    fenced(session, attempt, lease_expires_at=expiry(lease_s))


class Wish(Enum):
    """What is wanted of a running training."""

    GO_ON = "go on"
    FINISH = "finish"
    CANCEL = "cancel"


def wish(session: Session, attempt: Attempt) -> Wish:
    """Whether the tenant wants the job cancelled, or a rule has found that it may end. Raises LeaseLost."""
    row = session.execute(
        select(Job.cancel_requested, Job.stop_reason).where(Job.id == attempt.job_id, attempt.held())
    ).one_or_none()
    if row is None:
        raise LeaseLost(f"Attempt {attempt.number} of job {attempt.job_id} no longer holds its lease.")
    if row.cancel_requested:
        return Wish.CANCEL
    return Wish.GO_ON if row.stop_reason is None else Wish.FINISH


def finish(session: Session, attempt: Attempt) -> None:
    """Training is done: wait for the evaluations still open, or succeed; or be cancelled. Raises LeaseLost."""
    if _ends_cancelled(session, attempt):
        return
    say(
        session,
        attempt,
        "evaluating",
        {},
        status="evaluating",
        lease_token=None,
        lease_expires_at=None,
        images_per_s=None,
    )
    settle(session, attempt.job_id)


def settle(session: Session, job_id: UUID) -> bool:
    """Let a job succeed whose last evaluation has ended; harmless at any other time.

    The job's row is locked first: of two evaluations that end at once, the later one sees the earlier.
    """
    session.execute(select(Job.id).where(Job.id == job_id).with_for_update())
    open_evaluations = select(Evaluation.id).where(
        Evaluation.job_id == job_id,
        Evaluation.kind == "metrics",
        Evaluation.status.in_(PENDING),
    )
    return advance(
        session,
        job_id,
        Job.status == "evaluating",
        ~open_evaluations.exists(),
        values={"status": "succeeded", **ENDED},
        event="succeeded",
    )


def fail(session: Session, attempt: Attempt, error: SlaeganError) -> None:
    """End the run with the reason. Raises LeaseLost."""
    say(session, attempt, "failed", error.as_record(), status="failed", error=error.as_record(), **ENDED)
    drop_evaluations(session, attempt.job_id, reason="The job failed.")


def end_cancelled(session: Session, attempt: Attempt) -> None:
    """Confirm that a cancelled job's training has stopped. Raises LeaseLost."""
    say(session, attempt, "cancelled", {}, status="cancelled", **ENDED)
    drop_evaluations(session, attempt.job_id, reason="The job was cancelled.")


def _ends_cancelled(session: Session, attempt: Attempt) -> bool:
    """Cancel instead, where the wish to cancel came while the attempt ended; the row is locked before the look."""
    fenced(session, attempt)
    if wish(session, attempt) is not Wish.CANCEL:
        return False
    end_cancelled(session, attempt)
    return True


def hand_back(session: Session, attempt: Attempt, *, reason: str, counts: bool) -> None:
    """Give the job back to the queue, for another attempt from its last checkpoint. Raises LeaseLost.

    Args:
        session: the caller commits.
        attempt: the lease.
        reason: for the event.
        counts: whether it counts against the infrastructure budget (a lost child does, a preemption does not).
    """
    if _ends_cancelled(session, attempt):
        return
    say(session, attempt, "queued", {"reason": reason}, **requeued(counts=counts))


def requeued(*, counts: bool) -> dict[str, Any]:
    """The values of a job that goes back to the queue, keeping its place by age."""
    return {
        "status": "queued",
        "lease_token": None,
        "lease_expires_at": None,
        "worker": None,
        "images_per_s": None,
        "infrastructure_failures": Job.infrastructure_failures + int(counts),
    }


def fenced(session: Session, attempt: Attempt, **values: Any) -> None:
    """Write to the job's row (or only lock it) under the lease. Raises LeaseLost."""
    held = session.execute(
        update(Job)
        .where(Job.id == attempt.job_id, attempt.held())
        .values(**(values or {"event_seq": Job.event_seq}))
        .execution_options(synchronize_session=False)
    )
    if held.rowcount == 0:  # type: ignore[attr-defined]  # an UPDATE's result is a CursorResult
        raise LeaseLost(f"Attempt {attempt.number} of job {attempt.job_id} no longer holds its lease.")


def say(session: Session, attempt: Attempt, event: str, payload: dict[str, Any], **values: Any) -> None:
    """Change the job and write an event, under the lease. Raises LeaseLost."""
    said = {"attempt": attempt.number, **payload}
    if not advance(session, attempt.job_id, attempt.held(), values=values, event=event, payload=said):
        raise LeaseLost(f"Attempt {attempt.number} of job {attempt.job_id} no longer holds its lease.")
