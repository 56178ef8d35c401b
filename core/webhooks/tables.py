"""The outbox of webhooks: a row is written in its event's transaction, and stays as the record of its delivery."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import CheckConstraint, ForeignKey, ForeignKeyConstraint, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from core.db import Base


class WebhookDelivery(Base):
    """One event on its way to one URL. While it is being delivered, `next_attempt_at` is when the lease runs out."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        UniqueConstraint("job_id", "event_seq"),
        ForeignKeyConstraint(
            ["job_id", "event_seq"], ["job_events.job_id", "job_events.seq"], ondelete="CASCADE"
        ),
        CheckConstraint("status in ('pending', 'delivering', 'delivered', 'dead')", name="status"),
        CheckConstraint(
            "(status = 'delivering') = (lease_token is not null)", name="leased_while_delivering"
        ),
        CheckConstraint(
            "(status in ('pending', 'delivering')) = (next_attempt_at is not null)", name="open_with_a_time"
        ),
        CheckConstraint("(status = 'delivered') = (delivered_at is not null)", name="delivered_at_a_time"),
        CheckConstraint("attempts >= 0", name="attempts"),
        Index(
            "ix_webhook_deliveries_open",
            "tenant_id",
            "next_attempt_at",
            postgresql_where=text("status in ('pending', 'delivering')"),
        ),
        Index("ix_webhook_deliveries_dead", "id", postgresql_where=text("status = 'dead'")),
        Index("ix_webhook_deliveries_under_way", "tenant_id", postgresql_where=text("status = 'delivering'")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    job_id: Mapped[UUID]
    event_seq: Mapped[int]
    event: Mapped[str]
    url: Mapped[str]
    status: Mapped[str] = mapped_column(default="pending")
    attempts: Mapped[int] = mapped_column(default=0)
    next_attempt_at: Mapped[datetime | None] = mapped_column(default=func.clock_timestamp())
    lease_token: Mapped[UUID | None]
    last_status_code: Mapped[int | None]
    last_error: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    delivered_at: Mapped[datetime | None]


class WebhookSecret(Base):
    """What a tenant's webhooks are signed with: it signs, so it is kept as it is, not as a hash."""

    __tablename__ = "webhook_secrets"

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"), primary_key=True)
    secret: Mapped[str]
    previous_secret: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
