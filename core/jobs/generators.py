"""Which generator of a job somebody means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from core.errors import Conflict, NotFound
from core.jobs import queries
from core.jobs.tables import Checkpoint

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.orm import Session

    from core.jobs.tables import Job


def chosen(session: Session, job: Job, checkpoint_id: UUID | None) -> Checkpoint:
    """The generator of the job's current run that is asked for; else the best one; else the newest.

    Raises:
        NotFound: the job has no such generator.
        Conflict: it has none at all yet.
    """
    generators = {
        row.id: row
        for row in session.scalars(
            select(Checkpoint)
            .where(Checkpoint.job_id == job.id, Checkpoint.run == job.run, Checkpoint.kind == "generator")
            .order_by(Checkpoint.images_seen)
        )
    }
    if checkpoint_id is not None:
        if checkpoint_id not in generators:
            raise NotFound(f"Job {job.id} has no generator {checkpoint_id}.")
        return generators[checkpoint_id]
    if not generators:
        raise Conflict(f"Job {job.id} ({job.status}) has no generator yet: ask when it has made a snapshot.")
    (described,) = queries.describe(session, [job])
    best = described.best.checkpoint_id if described.best else None
    return generators[best] if best in generators else list(generators.values())[-1]
