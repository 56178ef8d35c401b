"""The audit trail: who changed what, and when."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import CheckConstraint, ForeignKey, Index, func
from sqlalchemy.orm import Mapped, mapped_column

from core.db import Base


class AuditEntry(Base):
    """A change, written in its own transaction. A trigger refuses to alter it, and to delete it while it is young.

    What an operator did on the machine has no key, no request and no address; what concerns every tenant, no tenant.
    """

    __tablename__ = "audit_entries"
    __table_args__ = (
        CheckConstraint("actor in ('key', 'operator')", name="actor"),
        CheckConstraint("(actor = 'key') = (key_id is not null)", name="key_of_a_key"),
        CheckConstraint("num_nonnulls(key_id, request_id, method, path) in (0, 4)", name="request_whole"),
        Index(None, "tenant_id", "created_at", "id"),
        Index(None, "created_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    tenant_id: Mapped[UUID | None] = mapped_column(ForeignKey("tenants.id"))
    actor: Mapped[str]
    key_id: Mapped[UUID | None]
    action: Mapped[str]
    subject: Mapped[str | None]
    request_id: Mapped[str | None]
    method: Mapped[str | None]
    path: Mapped[str | None]
    address: Mapped[str | None]
