"""Evaluations: work of its own, with a lease of its own, unique by what is measured."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from core.db import Base

PENDING = ("queued", "running")


class Evaluation(Base):
    __tablename__ = "evaluations"
    __table_args__ = (
        UniqueConstraint("job_id", "run", "images_seen", "protocol_hash"),
        CheckConstraint("kind in ('metrics', 'backtracking')", name="kind"),
        CheckConstraint("status in ('queued', 'running', 'done', 'failed', 'skipped')", name="status"),
        CheckConstraint("(status = 'running') = (lease_token is not null)", name="leased_while_running"),
        CheckConstraint("(status = 'done') = (metrics is not null)", name="done_with_metrics"),
        CheckConstraint(
            "num_nonnulls(picture_key, picture_sha256, picture_size_bytes) in (0, 3)", name="picture_whole"
        ),
        Index("ix_evaluations_queue", "created_at", postgresql_where=text("status in ('queued', 'running')")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    run: Mapped[int]
    kind: Mapped[str] = mapped_column(default="metrics", server_default=text("'metrics'"))
    images_seen: Mapped[int] = mapped_column(BigInteger)
    checkpoint_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("checkpoints.id", ondelete="SET NULL"), index=True
    )
    protocol: Mapped[dict[str, Any]]
    protocol_hash: Mapped[str]
    status: Mapped[str] = mapped_column(default="queued")
    worker: Mapped[str | None]
    attempts: Mapped[int] = mapped_column(default=0)
    lease_token: Mapped[UUID | None]
    lease_expires_at: Mapped[datetime | None]
    metrics: Mapped[dict[str, Any] | None]
    error: Mapped[dict[str, Any] | None]
    picture_key: Mapped[str | None] = mapped_column(unique=True)
    picture_sha256: Mapped[str | None]
    picture_size_bytes: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    finished_at: Mapped[datetime | None]
