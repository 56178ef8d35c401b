"""Chunks of jobs' logs: lines that have left the database for the store."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, func
from sqlalchemy.orm import Mapped, mapped_column

from core.db import Base


class LogChunk(Base):
    """The lines first_seq to last_seq of a job's log, in one file. What lies between two chunks has been cut.

    `run` and `attempt` are those that moved the lines; each line in the file has its own attempt.
    """

    __tablename__ = "log_chunks"
    __table_args__ = (CheckConstraint("first_seq between 1 and last_seq", name="lines"),)

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    first_seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    last_seq: Mapped[int] = mapped_column(BigInteger)
    run: Mapped[int]
    attempt: Mapped[int]
    storage_key: Mapped[str] = mapped_column(unique=True)
    sha256: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    @property
    def count(self) -> int:
        """How many lines."""
        return self.last_seq - self.first_seq + 1
