"""Which queued job is next: the highest priority, then the tenant with the fewest running, then the oldest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from sqlalchemy import Select, func, select, true

from core.jobs import accounting
from core.jobs.lease import Attempt, expiry
from core.jobs.service import advance
from core.jobs.tables import Job
from core.jobs.workers import drain_of
from core.keys import Tenant

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from sqlalchemy.orm import InstrumentedAttribute, Session

Query = TypeVar("Query", bound="Select[*tuple[Any, ...]]")


def claim(session: Session, *, worker: str, lease_s: float, max_running: int = 0) -> Attempt | None:
    """Take the best queued job; None when there is none for this worker.

    Two workers never get the same job: the row is locked until the commit, and others skip it.

    Args:
        session: the caller commits.
        worker: its name; one that drains gets nothing.
        lease_s: how long the claim lives without a heartbeat.
        max_running: jobs of one tenant that may run at a time; 0: any number.
    """
    if drain_of(session, worker) is not None:
        return None
    for tenant_id in _tenants_in_turn(session):
        with session.begin_nested() as looking:
            job_id = None
            if not max_running or _has_room(session, tenant_id, max_running=max_running):
                job_id = _best(session, tenant_id)
            if job_id is None:
                # Gives the tenant's lock back: who held two could wait for another that holds two.
                looking.rollback()
        if job_id is not None:
            return _taken(session, job_id, worker=worker, lease_s=lease_s)
    return None


def _best(session: Session, tenant_id: UUID) -> UUID | None:
    """A tenant's best job, locked; others skip it."""
    return session.scalar(_first(select(Job.id), tenant_id).with_for_update(skip_locked=True))


def _first(query: Query, tenant_id: UUID | InstrumentedAttribute[UUID]) -> Query:
    """Of a tenant's jobs that may begin now the next one."""
    may_begin = Job.not_before.is_(None) | (Job.not_before <= func.clock_timestamp())
    query = query.where(Job.tenant_id == tenant_id, Job.status == "queued", may_begin)
    return query.order_by(Job.priority.desc(), Job.queued_at).limit(1)


def _tenants_in_turn(session: Session) -> Sequence[UUID]:
    """The tenants with something to run; for each its best job is found by one look into the queue's index."""
    running = (
        select(func.count()).where(Job.tenant_id == Tenant.id, Job.status == "running").scalar_subquery()
    )
    best = _first(select(Job.priority, Job.queued_at), Tenant.id).lateral()
    query = select(Tenant.id).join(best, true())
    return session.scalars(query.order_by(best.c.priority.desc(), running, best.c.queued_at)).all()


def _has_room(session: Session, tenant_id: UUID, *, max_running: int) -> bool:
    running = select(func.count()).where(Job.tenant_id == tenant_id, Job.status == "running")
    if (session.scalar(running) or 0) >= max_running:
        return False
    # The lock is held until the claim's commit: two workers cannot both take a tenant's last place.
    session.execute(select(Tenant.id).where(Tenant.id == tenant_id).with_for_update(key_share=True))
    return (session.scalar(running) or 0) < max_running


def _taken(session: Session, job_id: UUID, *, worker: str, lease_s: float) -> Attempt:
    token = uuid4()
    advance(
        session,
        job_id,
        Job.status == "queued",
        values={
            "status": "running",
            "lease_token": token,
            "lease_expires_at": expiry(lease_s),
            "claimed_at": func.clock_timestamp(),
            "not_before": None,
            "attempt": Job.attempt + 1,
            "worker": worker,
            "started_at": func.coalesce(Job.started_at, func.clock_timestamp()),
        },
        event="running",
        payload={"worker": worker},
    )
    job = session.get_one(Job, job_id)
    accounting.begin(session, token, job=job, kind="training", run=job.run, number=job.attempt, worker=worker)
    return Attempt(
        job_id=job.id,
        token=token,
        tenant_id=job.tenant_id,
        dataset_id=job.dataset_id,
        run=job.run,
        number=job.attempt,
        infrastructure_failures=job.infrastructure_failures,
        out_of_memory=job.out_of_memory,
        config=job.config,
        origin=job.origin,
    )
