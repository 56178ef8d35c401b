"""Which generators of a run stay: the best, the last, those that are pinned, and those still needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from core.evaluations.tables import PENDING, Evaluation
from core.jobs.best import Evaluated, best_few
from core.jobs.tables import Checkpoint, Job
from core.renderings.tables import PENDING as RENDERING
from core.renderings.tables import Rendering

# Of a run that is not over: the newest, and the one before in case that one is damaged.
KEPT_STATES = 2

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from sqlalchemy.orm import Session

    from core.schemas.judging import RetentionConfig


def forget_generators(session: Session, job: Job, *, rules: RetentionConfig) -> list[str]:
    """Remove the rows of generators that no rule keeps; their evaluations stay, so that the curve is whole.

    Args:
        session: holds the lock of the job's row; the caller commits.
        job: of whose current run.
        rules: of its configuration.

    Returns:
        The keys of their files, to be deleted after the commit.
    """
    generators = session.scalars(
        select(Checkpoint)
        .where(Checkpoint.job_id == job.id, Checkpoint.run == job.run, Checkpoint.kind == "generator")
        .order_by(Checkpoint.images_seen)
    ).all()
    evaluations = session.scalars(
        select(Evaluation)
        .where(Evaluation.job_id == job.id, Evaluation.run == job.run)
        .order_by(Evaluation.images_seen, Evaluation.created_at)
    ).all()
    kept = (
        {generator.id for generator in generators[-rules.last :]}
        | {row.checkpoint_id for row in evaluations if row.status in PENDING}
        | _best(evaluations, count=rules.best, config=job.config)
        | pinned_or_needed(session, generators)
    )
    expendable = [generator for generator in generators if generator.id not in kept]
    for generator in expendable:
        session.delete(generator)
    session.flush()
    return [generator.storage_key for generator in expendable]


def pinned_or_needed(session: Session, checkpoints: Sequence[Checkpoint]) -> set[UUID]:
    """Which of some checkpoints are pinned, or needed by a job or a rendering that is not over; others may be deleted.

    All are locked until the transaction ends: a job that is being submitted now holds its checkpoint, so it is waited
    for and then found, as a pin is, and one that is submitted later does not find what was deleted.
    """
    ids = [checkpoint.id for checkpoint in checkpoints]
    locked = session.execute(
        select(Checkpoint.id, Checkpoint.pinned)
        .where(Checkpoint.id.in_(ids))
        .order_by(Checkpoint.id)
        .with_for_update()
    )
    pinned = {row.id for row in locked if row.pinned}
    live = select(Job.init_from).where(Job.init_from.in_(ids), Job.finished_at.is_(None))
    rendered = select(Rendering.checkpoint_id).where(
        Rendering.checkpoint_id.in_(ids), Rendering.status.in_(RENDERING)
    )
    needed = [*session.scalars(live), *session.scalars(rendered)]
    return pinned | {found for found in needed if found is not None}


def _best(evaluations: Sequence[Evaluation], *, count: int, config: dict[str, Any]) -> set[UUID | None]:
    """The checkpoints of the best snapshots."""
    done = {row.id: row for row in evaluations if row.status == "done" and row.kind == "metrics"}
    curve = [Evaluated(row.id, row.protocol_hash, row.metrics or {}) for row in done.values()]
    return {done[found].checkpoint_id for found in best_few(curve, count=count, config=config)}
