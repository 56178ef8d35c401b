"""What a tenant may see of its deliveries, and ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select

from core.errors import Conflict, NotFound
from core.jobs import queries
from core.pages import newest_first
from core.webhooks.tables import WebhookDelivery

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.orm import Session


def page(
    session: Session, *, tenant_id: UUID, job_id: UUID, limit: int, cursor: str | None
) -> tuple[list[WebhookDelivery], str | None]:
    """The deliveries of a job's events, the newest first; raises NotFound where the tenant has no such job."""
    job = queries.get(session, tenant_id=tenant_id, job_id=job_id)
    query = select(WebhookDelivery).where(WebhookDelivery.job_id == job.id)
    return newest_first(session, query, table=WebhookDelivery, limit=limit, cursor=cursor)


def redeliver(session: Session, *, tenant_id: UUID, delivery_id: UUID) -> WebhookDelivery:
    """Make a delivery due now, under the same id, with as many attempts as a new one; the caller commits, then wakes.

    Raises:
        NotFound: the tenant has no such delivery.
        Conflict: it is being delivered at this moment.
    """
    row = session.scalar(
        select(WebhookDelivery)
        .where(WebhookDelivery.id == delivery_id, WebhookDelivery.tenant_id == tenant_id)
        .with_for_update()
    )
    if row is None:
        raise NotFound(f"There is no delivery {delivery_id}.")
    now = session.scalars(select(func.clock_timestamp())).one()
    if row.status == "delivering" and row.next_attempt_at is not None and row.next_attempt_at > now:
        raise Conflict(
            f"Delivery {delivery_id} is on its way at this moment: look at it again in a few seconds."
        )
    row.status, row.next_attempt_at, row.attempts = "pending", now, 0
    row.lease_token, row.delivered_at = None, None
    session.flush()
    return row
