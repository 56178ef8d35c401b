"""The best snapshots of a run, for what is shown and for what is kept: one rule, one protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import select

from core.evaluations.tables import Evaluation
from core.metrics import selection
from core.schemas.judging import AlarmConfig

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from sqlalchemy.orm import Session

    from core.jobs.tables import Job


class Evaluated(NamedTuple):
    """What the rule needs to know of an evaluated snapshot."""

    id: UUID
    protocol_hash: str
    metrics: dict[str, Any]


class Best(NamedTuple):
    """The id of the best snapshot's evaluation, and why it is the best."""

    id: UUID
    reason: str


def best(curve: Sequence[Evaluated], *, config: dict[str, Any]) -> Best | None:
    """The best snapshot under the newest one's protocol: numbers of other protocols cannot be compared with it.

    Args:
        curve: of one run, by images seen.
        config: of the job.

    Returns:
        None where there is nothing to choose from.
    """
    if not curve:
        return None
    comparable = _comparable(curve)
    choice = selection.choose([row.metrics for row in comparable], copy_limit=_copy_limit(config))
    return Best(comparable[choice.index].id, choice.reason) if choice else None


def best_few(curve: Sequence[Evaluated], *, count: int, config: dict[str, Any]) -> list[UUID]:
    """The ids of the best snapshots' evaluations, the best first; `best` is the first of them."""
    comparable = _comparable(curve)
    ranks = selection.ranked([row.metrics for row in comparable], count=count, copy_limit=_copy_limit(config))
    return [comparable[index].id for index in ranks]


def _comparable(curve: Sequence[Evaluated]) -> list[Evaluated]:
    return [row for row in curve if row.protocol_hash == curve[-1].protocol_hash]


def _copy_limit(config: dict[str, Any]) -> float | None:
    # Of the configuration only what is needed: an old one that is no longer valid in other places can still be shown.
    return AlarmConfig.model_validate(config.get("alarms", {})).copy_rate


def shown(session: Session, job: Job) -> dict[str, Any]:
    """The values of a job's row that tell the newest and the best of its run's done evaluations.

    Args:
        session: holds the lock of the job's row.
        job: its id, run and configuration count.
    """
    query = (
        select(Evaluation.id, Evaluation.protocol_hash, Evaluation.metrics)
        .where(Evaluation.job_id == job.id, Evaluation.run == job.run, Evaluation.status == "done")
        .where(Evaluation.kind == "metrics")
        .order_by(Evaluation.images_seen, Evaluation.created_at)
    )
    curve = [Evaluated(row.id, row.protocol_hash, row.metrics or {}) for row in session.execute(query)]
    chosen = best(curve, config=job.config)
    return {
        "latest_evaluation_id": curve[-1].id if curve else None,
        "best_evaluation_id": chosen and chosen.id,
        "best_reason": chosen and chosen.reason,
    }
