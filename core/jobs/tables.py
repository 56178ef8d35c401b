"""Jobs and everything that a run leaves behind. The schema holds what the state machine promises."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, UniqueConstraint, false, func, text
from sqlalchemy.orm import Mapped, mapped_column

from core.db import Base


class Job(Base):
    """A training, and where it is. A trigger holds the table of transitions, and that each has its event.

    `run` counts what retry and extend began; `attempt` counts claims; `run_s` is the time, in seconds, that the run's
    ended attempts held a device; which evaluation is the latest and which the best is set whenever one is done;
    `queued_at` is the job's place in the queue, which a lost worker does not cost it; `not_before` keeps it from being
    tried again at once; `origin` says which request asked for the run.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint(
            "status in ('queued', 'running', 'evaluating', 'paused', 'succeeded', 'failed', 'cancelled')",
            name="status",
        ),
        CheckConstraint("(status = 'running') = (lease_token is not null)", name="leased_while_running"),
        CheckConstraint("(lease_token is null) = (lease_expires_at is null)", name="lease_whole"),
        CheckConstraint("(lease_token is null) = (claimed_at is null)", name="claimed_while_leased"),
        CheckConstraint(
            "(status in ('succeeded', 'failed', 'cancelled')) = (finished_at is not null)", name="finished"
        ),
        CheckConstraint("(status = 'failed') = (error is not null)", name="failed_with_reason"),
        CheckConstraint("event_seq >= 1", name="events_from_the_start"),
        # Each filter of a tenant's list has its index, which gives a page in its order.
        Index(None, "tenant_id", "created_at", "id"),
        Index(None, "tenant_id", "status", "created_at", "id"),
        Index(None, "dataset_id", "created_at", "id"),
        Index(
            "ix_jobs_queue",
            "tenant_id",
            text("priority desc"),
            "queued_at",
            postgresql_where=text("status = 'queued'"),
        ),
        Index("ix_jobs_waiting", "queued_at", postgresql_where=text("status = 'queued'")),
        Index("ix_jobs_paused", "id", postgresql_where=text("status = 'paused'")),
        Index("ix_jobs_running", "tenant_id", postgresql_where=text("status = 'running'")),
        Index("ix_jobs_leased", "lease_expires_at", postgresql_where=text("status = 'running'")),
        Index("ix_jobs_evaluating", "id", postgresql_where=text("status = 'evaluating'")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"))
    dataset_id: Mapped[UUID] = mapped_column(ForeignKey("datasets.id"))
    dataset_version: Mapped[int] = mapped_column(server_default=text("1"))
    name: Mapped[str]
    family: Mapped[str]
    config: Mapped[dict[str, Any]]
    status: Mapped[str] = mapped_column(default="queued")
    priority: Mapped[int] = mapped_column(default=0)
    run: Mapped[int] = mapped_column(default=1)
    attempt: Mapped[int] = mapped_column(default=0)
    infrastructure_failures: Mapped[int] = mapped_column(default=0)
    out_of_memory: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    pause_requested: Mapped[bool] = mapped_column(default=False, server_default=false())
    stop_reason: Mapped[str | None]
    alarms: Mapped[list[Any]] = mapped_column(default=list, server_default=text("'[]'"))
    init_from: Mapped[UUID | None] = mapped_column(
        ForeignKey("checkpoints.id", ondelete="SET NULL", use_alter=True), index=True
    )
    webhook: Mapped[dict[str, Any] | None]
    origin: Mapped[dict[str, Any] | None]
    lease_token: Mapped[UUID | None]
    lease_expires_at: Mapped[datetime | None]
    claimed_at: Mapped[datetime | None]
    run_s: Mapped[float] = mapped_column(default=0.0, server_default=text("0"))
    max_queue_s: Mapped[int | None]
    max_run_s: Mapped[int | None]
    worker: Mapped[str | None]
    event_seq: Mapped[int] = mapped_column(default=1)
    log_seq: Mapped[int] = mapped_column(BigInteger, default=0, server_default=text("0"))
    # No foreign keys: a job's evaluations go with it alone, and each would search all jobs for its id.
    latest_evaluation_id: Mapped[UUID | None]
    best_evaluation_id: Mapped[UUID | None]
    best_reason: Mapped[str | None]
    images_seen: Mapped[int] = mapped_column(BigInteger, default=0)
    total_images: Mapped[int] = mapped_column(BigInteger)
    images_per_s: Mapped[float | None]
    losses: Mapped[dict[str, Any]] = mapped_column(default=dict)
    error: Mapped[dict[str, Any] | None]
    facts: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    queued_at: Mapped[datetime] = mapped_column(server_default=func.now())
    not_before: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class JobAttempt(Base):
    """The time that one attempt held a device: of the job's training, or at one of its evaluations.

    `id` is the token of its lease. A training's row is begun and ended in the transactions that claim and release the
    job; `number` counts as the job's, or the evaluation's, attempts do.
    """

    __tablename__ = "job_attempts"
    __table_args__ = (
        CheckConstraint("kind in ('training', 'metrics', 'backtracking')", name="kind"),
        CheckConstraint("(kind = 'training') = (evaluation_id is null)", name="evaluation_of_an_evaluation"),
        CheckConstraint("(ended_at is null) = (outcome is null)", name="ended_somehow"),
        CheckConstraint("ended_at >= started_at", name="ended_after_its_start"),
        Index(None, "job_id", "started_at", "id"),
        Index(None, "tenant_id", "started_at"),
        Index(
            "uq_job_attempts_number",
            "job_id",
            "number",
            unique=True,
            postgresql_where=text("kind = 'training'"),
        ),
        Index("ix_job_attempts_open", "job_id", postgresql_where=text("ended_at is null")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"))
    kind: Mapped[str]
    evaluation_id: Mapped[UUID | None]
    run: Mapped[int]
    number: Mapped[int]
    worker: Mapped[str]
    device: Mapped[str | None]
    started_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    ended_at: Mapped[datetime | None]
    outcome: Mapped[str | None]


class JobEvent(Base):
    """Append-only; `seq` is taken in the UPDATE that locks the job's row, so it has no gaps."""

    __tablename__ = "job_events"
    __table_args__ = (
        Index(
            None,
            "at",
            postgresql_using="brin",
            postgresql_with={"autosummarize": "on", "pages_per_range": "32"},
        ),
    )

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    type: Mapped[str]
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    payload: Mapped[dict[str, Any]] = mapped_column(default=dict)


class Checkpoint(Base):
    """One file in the store: a deployable generator, or a complete training state."""

    __tablename__ = "checkpoints"
    __table_args__ = (
        UniqueConstraint("job_id", "run", "kind", "images_seen"),
        CheckConstraint("kind in ('generator', 'state')", name="kind"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    run: Mapped[int]
    attempt: Mapped[int]
    kind: Mapped[str]
    images_seen: Mapped[int] = mapped_column(BigInteger)
    storage_key: Mapped[str] = mapped_column(unique=True)
    sha256: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    pinned: Mapped[bool] = mapped_column(default=False, server_default=false())
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Sample(Base):
    """A picture of a snapshot: the grid of the same latents, or what else its family shows of it, by kind."""

    __tablename__ = "samples"
    __table_args__ = (UniqueConstraint("job_id", "run", "images_seen", "kind"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    run: Mapped[int]
    kind: Mapped[str] = mapped_column(server_default="grid")
    images_seen: Mapped[int] = mapped_column(BigInteger)
    storage_key: Mapped[str] = mapped_column(unique=True)
    sha256: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Loss(Base):
    """Training losses; a resumed attempt writes its repeated stretch over the lost one's."""

    __tablename__ = "losses"

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    run: Mapped[int] = mapped_column(primary_key=True)
    images_seen: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    losses: Mapped[dict[str, Any]]


class LogLine(Base):
    """The tail of a log; what came before lies in chunks. `seq` comes from the job's `log_seq`, so it has no gaps."""

    __tablename__ = "log_lines"

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    attempt: Mapped[int]
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    line: Mapped[str]


class Worker(Base):
    """A worker process that has been seen; alive while its heartbeat is young. What it works on, jobs say.

    One that drains takes nothing new; with `hand_back` it also gives back what it trains.
    """

    __tablename__ = "workers"
    __table_args__ = (CheckConstraint("drain in ('finish', 'hand_back')", name="drain"),)

    name: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    device: Mapped[str]
    host: Mapped[str]
    pid: Mapped[int]
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_heartbeat_at: Mapped[datetime] = mapped_column(server_default=func.now())
    drain: Mapped[str | None]
