"""Log lines of jobs that are over which still lie in the database: their worker was lost, or the store was away."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import func, select

from core.db import sessions
from core.errors import LeaseLost
from core.jobs.tables import Job, LogLine
from core.logs.shipping import ship_tail

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from sqlalchemy.orm import Session

    from core.garbage.report import Bounds, Found

Result = TypeVar("Result")


def collect_tails(bounds: Bounds, found: Found) -> None:
    """Move the tails of such jobs' logs to the store; nothing of a log is lost by it.

    Raises:
        InfrastructureError: the store takes none.
    """
    with sessions()() as session:
        tails = session.execute(
            select(
                Job.id, Job.run, Job.attempt, func.count().label("lines"), func.sum(func.octet_length(LogLine.line))
            )
            .join(LogLine, LogLine.job_id == Job.id)
            .where(Job.finished_at.is_not(None))
            .group_by(Job.id)
            .limit(bounds.limit + 1)
        ).all()  # fmt: skip
    found.more = len(tails) > bounds.limit
    for job_id, run, attempt, lines, size_bytes in tails[: bounds.limit]:
        if bounds.dry_run or _shipped(job_id, run=run, attempt=attempt):
            found.count += lines
            found.size_bytes += size_bytes


def _shipped(job_id: UUID, *, run: int, attempt: int) -> bool:
    def hold(session: Session) -> None:
        over = select(Job.id).where(Job.id == job_id, Job.finished_at.is_not(None)).with_for_update()
        if session.scalar(over) is None:
            raise LeaseLost(f"The job {job_id} is not over any more: its next attempt moves the log.")

    try:
        with TemporaryDirectory() as folder:
            ship_tail(job_id, run=run, attempt=attempt, hold=hold, transact=_transact, folder=Path(folder))
    except LeaseLost:
        return False
    return True


def _transact(work: Callable[[Session], Result]) -> Result:
    with sessions().begin() as session:
        return work(session)
