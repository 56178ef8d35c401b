"""The outbox: written with a job's event, claimed under a lease, settled by whoever holds the lease.

Times are the database's clock. A delivery is sent at least once: the receiver tells repetitions by the id.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, event, func, select, true, update
from sqlalchemy.orm import Session

from core.broker import wake
from core.jobs.tables import Job, JobEvent
from core.keys import Tenant
from core.webhooks import signing
from core.webhooks.tables import WebhookDelivery

if TYPE_CHECKING:
    from collections.abc import Sequence

_WRITTEN = "webhooks written"
OPEN = ("pending", "delivering")


def write(
    session: Session, *, tenant_id: UUID, job_id: UUID, seq: int, kind: str, webhook: dict[str, Any] | None
) -> None:
    """Put an event that the session has just written into the outbox, if the job's webhook asks for its kind."""
    if webhook is None or kind not in webhook["events"]:
        return
    session.add(
        WebhookDelivery(tenant_id=tenant_id, job_id=job_id, event_seq=seq, event=kind, url=webhook["url"])
    )
    session.flush()
    session.info[_WRITTEN] = True


@event.listens_for(Session, "after_commit")
def _hint(session: Session) -> None:
    if session.info.pop(_WRITTEN, False):
        wake("deliver_webhooks")


@event.listens_for(Session, "after_rollback")
def _forget(session: Session) -> None:
    session.info.pop(_WRITTEN, None)


@dataclass(frozen=True)
class Claim:
    """One attempt at one delivery."""

    delivery_id: UUID
    token: UUID
    attempt: int
    url: str
    body: str
    keys: Sequence[str]


@dataclass(frozen=True)
class Outcome:
    """What became of an attempt; without an error it was a success."""

    status_code: int | None = None
    error: str | None = None
    retry_after_s: float = 0
    final: bool = False


def claim(session: Session, *, limit: int, per_tenant: int, lease_s: float, overlap_s: float) -> list[Claim]:
    """Take deliveries that are due; the first of every tenant before the second of any.

    Args:
        session: the caller commits.
        limit: how many at most.
        per_tenant: how many of one tenant may be on their way at once, over all workers.
        lease_s: after which a delivery whose worker was lost is due again.
        overlap_s: how long a rotated secret goes on signing.
    """
    ids = _candidates(session, limit=limit, per_tenant=per_tenant)
    if not ids:
        return []
    rows = session.scalars(
        select(WebhookDelivery)
        .where(WebhookDelivery.id.in_(ids), _due())
        .order_by(WebhookDelivery.next_attempt_at)
        .with_for_update(skip_locked=True)
    ).all()
    now = session.scalars(select(func.clock_timestamp())).one()
    for row in rows:
        row.status, row.lease_token, row.attempts = "delivering", uuid4(), row.attempts + 1
        row.next_attempt_at = now + timedelta(seconds=lease_s)
    session.flush()
    keys = {
        tenant_id: signing.valid_keys(signing.secret_of(session, tenant_id), now=now, overlap_s=overlap_s)
        for tenant_id in sorted({row.tenant_id for row in rows})
    }
    return [_claimed(session, row, keys=keys[row.tenant_id]) for row in rows]


def settle(session: Session, claim: Claim, outcome: Outcome, *, retries_s: Sequence[float]) -> bool:
    """Write what became of an attempt.

    Args:
        session: the caller commits.
        claim: the lease.
        outcome: of the attempt.
        retries_s: the pauses after each failed attempt; after one more failure the delivery is dead.

    Returns:
        Whether the lease was still held. If not, nothing was changed.
    """
    values: dict[str, Any] = {
        "lease_token": None,
        "next_attempt_at": None,
        "last_status_code": outcome.status_code,
        "last_error": outcome.error,
    }
    if outcome.error is None:
        values |= {"status": "delivered", "delivered_at": func.clock_timestamp()}
    elif outcome.final or claim.attempt > len(retries_s):
        values["status"] = "dead"
    else:
        # No endpoint can put a delivery off for longer than the longest pause of ours.
        pause_s = max(retries_s[claim.attempt - 1], min(outcome.retry_after_s, max(retries_s)))
        values |= {
            "status": "pending",
            "next_attempt_at": func.clock_timestamp() + timedelta(seconds=pause_s),
        }
    changed = session.execute(
        update(WebhookDelivery)
        .where(WebhookDelivery.id == claim.delivery_id, WebhookDelivery.lease_token == claim.token)
        .values(values)
        .execution_options(synchronize_session=False)
    )
    return bool(changed.rowcount)  # type: ignore[attr-defined]  # an UPDATE's result is a CursorResult


def _due() -> ColumnElement[bool]:
    # A delivery under way whose lease ran out is due like any other. The statement's time, which does not change while
    # it runs, can be searched for in the index; the clock's could not.
    open_ones = WebhookDelivery.status.in_(OPEN)
    return open_ones & (WebhookDelivery.next_attempt_at <= func.statement_timestamp())


def _candidates(session: Session, *, limit: int, per_tenant: int) -> Sequence[UUID]:
    """A look into the index for each tenant, however long the queue of any is."""
    place = func.row_number().over(order_by=WebhookDelivery.next_attempt_at).label("place")
    waiting = (
        select(WebhookDelivery.id, WebhookDelivery.next_attempt_at, place)
        .where(WebhookDelivery.tenant_id == Tenant.id, _due())
        .order_by(WebhookDelivery.next_attempt_at)
        .limit(per_tenant)
        .lateral("waiting")
    )
    under_way = (
        select(func.count())
        .where(WebhookDelivery.tenant_id == Tenant.id, WebhookDelivery.status == "delivering")
        .where(WebhookDelivery.next_attempt_at > func.statement_timestamp())
        .scalar_subquery()
    )
    return session.scalars(
        select(waiting.c.id)
        .select_from(Tenant)
        .join(waiting, true())
        .where(waiting.c.place + under_way <= per_tenant)
        .order_by(waiting.c.place, waiting.c.next_attempt_at)
        .limit(limit)
    ).all()


def _claimed(session: Session, row: WebhookDelivery, *, keys: Sequence[str]) -> Claim:
    assert row.lease_token is not None
    said = session.get_one(JobEvent, (row.job_id, row.event_seq))
    name = session.scalars(select(Job.name).where(Job.id == row.job_id)).one()
    body = _body(said, job_name=name)
    return Claim(row.id, token=row.lease_token, attempt=row.attempts, url=row.url, body=body, keys=keys)


def _body(said: JobEvent, *, job_name: str) -> str:
    """What is sent: an event never changes, so every attempt sends the same bytes."""
    at: datetime = said.at
    data = {"job_id": str(said.job_id), "job_name": job_name, "seq": said.seq, "payload": said.payload}
    return json.dumps({"type": f"job.{said.type}", "timestamp": at.isoformat(), "data": data})
