"""A worker's hold on a job: its lease, what is wanted of it meanwhile, and writes that carry its token.

Times are the database's clock. Zero rows changed means that the lease is gone: LeaseLost, and the caller stops.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from sqlalchemy import ColumnElement, func, select, update

from core.errors import LeaseLost
from core.jobs.service import advance
from core.jobs.tables import Job, Worker

if TYPE_CHECKING:
    from uuid import UUID

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
    out_of_memory: int
    config: dict[str, Any]
    origin: dict[str, Any] | None = None

    def held(self) -> ColumnElement[bool]:
        """The condition that every write of this attempt carries."""
        return (Job.status == "running") & (Job.lease_token == self.token)


def expiry(lease_s: float) -> ColumnElement[Any]:
    """The database's time at which a lease taken now runs out."""
    return func.clock_timestamp() + timedelta(seconds=lease_s)


def taken(token: UUID, *, worker: str, lease_s: float) -> dict[str, Any]:
    """The columns of a row that a worker takes from the queue."""
    return {"status": "running", "worker": worker, "lease_token": token, "lease_expires_at": expiry(lease_s)}


def returned() -> dict[str, Any]:
    """The columns of a row that goes back to the queue."""
    return {"status": "queued", "lease_token": None, "lease_expires_at": None}


def put_off(*, attempt: int, pause_s: float) -> dict[str, Any]:
    """The columns of a row whose next try comes after a while: under a lease that nobody holds, until the sweep.

    Args:
        attempt: the number of the one that failed, from 1.
        pause_s: the while after the first; it doubles with each further one.
    """
    return {"lease_token": uuid4(), "lease_expires_at": expiry(pause_s * 2 ** (attempt - 1)), "worker": None}


def ended(status: str) -> dict[str, Any]:
    """The columns of a row that is over."""
    over = {"lease_token": None, "lease_expires_at": None, "finished_at": func.clock_timestamp()}
    return {"status": status, **over}


def heartbeat(session: Session, attempt: Attempt, *, lease_s: float) -> None:
    """Extend the lease. Raises LeaseLost."""
    fenced(session, attempt, lease_expires_at=expiry(lease_s))


class Wish(Enum):
    """What is wanted of a running training."""

    GO_ON = "go on"
    FINISH = "finish"
    PAUSE = "pause"
    HAND_BACK = "hand back"
    CANCEL = "cancel"


def wish(session: Session, attempt: Attempt) -> Wish:
    """What the tenant asks, a rule has found, or the worker's operator wants. Raises LeaseLost."""
    row = session.execute(
        select(Job.cancel_requested, Job.pause_requested, Job.stop_reason, Worker.drain)
        .outerjoin(Worker, Worker.name == Job.worker)
        .where(Job.id == attempt.job_id, attempt.held())
    ).one_or_none()
    if row is None:
        raise lost(attempt)
    if row.cancel_requested:
        return Wish.CANCEL
    if row.stop_reason is not None:
        return Wish.FINISH
    if row.pause_requested:
        return Wish.PAUSE
    return Wish.HAND_BACK if row.drain == "hand_back" else Wish.GO_ON


def fenced(session: Session, attempt: Attempt, **values: Any) -> None:
    """Write to the job's row (or only lock it) under the lease. Raises LeaseLost."""
    held = session.execute(
        update(Job)
        .where(Job.id == attempt.job_id, attempt.held())
        .values(**(values or {"event_seq": Job.event_seq}))
        .execution_options(synchronize_session=False)
    )
    if held.rowcount == 0:  # type: ignore[attr-defined]  # an UPDATE's result is a CursorResult
        raise lost(attempt)


def say(session: Session, attempt: Attempt, event: str, payload: dict[str, Any], **values: Any) -> None:
    """Change the job and write an event, under the lease. Raises LeaseLost."""
    said = {"attempt": attempt.number, **payload}
    if not advance(session, attempt.job_id, attempt.held(), values=values, event=event, payload=said):
        raise lost(attempt)


def lost(attempt: Attempt) -> LeaseLost:
    """The error of an attempt whose job another one has, or nobody."""
    return LeaseLost(f"Attempt {attempt.number} of job {attempt.job_id} no longer holds its lease.")
