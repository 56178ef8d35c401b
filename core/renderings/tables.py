"""What is made from generators when somebody asks: pictures, films, projections, exports. Work of its own."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from core.db import Base

PENDING = ("queued", "running")


class Rendering(Base):
    """One request to one generator; the same request to the same bytes gives the same row.

    `request` is as it will be rendered, `picture` the file of a user's that it begins with, kept until it is over;
    `generator_sha256` tells the generator also after its checkpoint was deleted.
    """

    __tablename__ = "renderings"
    __table_args__ = (
        UniqueConstraint("job_id", "generator_sha256", "request_hash"),
        CheckConstraint("what in ('generation', 'export')", name="what"),
        CheckConstraint("status in ('queued', 'running', 'done', 'failed', 'cancelled')", name="status"),
        CheckConstraint("(status = 'running') = (lease_token is not null)", name="leased_while_running"),
        CheckConstraint("(lease_token is null) = (lease_expires_at is null)", name="lease_whole"),
        CheckConstraint("(status = 'done') = (facts is not null)", name="done_with_facts"),
        CheckConstraint("(status = 'failed') = (error is not null)", name="failed_with_reason"),
        CheckConstraint("(status in ('queued', 'running')) = (finished_at is null)", name="finished"),
        CheckConstraint(
            "picture is null or status in ('queued', 'running')", name="picture_only_while_needed"
        ),
        Index(None, "job_id", "what", "created_at", "id"),
        Index("ix_renderings_queue", "tenant_id", "created_at", postgresql_where=text("status = 'queued'")),
        Index("ix_renderings_running", "tenant_id", postgresql_where=text("status = 'running'")),
        Index("ix_renderings_leased", "lease_expires_at", postgresql_where=text("status = 'running'")),
        Index(None, "tenant_id", "started_at"),
        Index(None, "finished_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"))
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    checkpoint_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("checkpoints.id", ondelete="SET NULL"), index=True
    )
    images_seen: Mapped[int] = mapped_column(BigInteger)
    generator_sha256: Mapped[str]
    what: Mapped[str]
    request: Mapped[dict[str, Any]]
    request_hash: Mapped[str]
    picture: Mapped[bytes | None]
    status: Mapped[str] = mapped_column(default="queued")
    worker: Mapped[str | None]
    attempts: Mapped[int] = mapped_column(default=0)
    lease_token: Mapped[UUID | None]
    lease_expires_at: Mapped[datetime | None]
    facts: Mapped[dict[str, Any] | None]
    error: Mapped[dict[str, Any] | None]
    origin: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class RenderedFile(Base):
    """A file of a rendering that is done; its `main` one is what was asked for, as one file."""

    __tablename__ = "rendered_files"
    __table_args__ = (UniqueConstraint("rendering_id", "position"),)

    rendering_id: Mapped[UUID] = mapped_column(
        ForeignKey("renderings.id", ondelete="CASCADE"), primary_key=True
    )
    name: Mapped[str] = mapped_column(primary_key=True)
    position: Mapped[int]
    role: Mapped[str]
    media_type: Mapped[str]
    storage_key: Mapped[str] = mapped_column(unique=True)
    sha256: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
