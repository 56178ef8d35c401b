"""What a new point on its curve means for a job: it may end early, alarms may be raised or cleared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from core.evaluations.tables import Evaluation
from core.jobs.alarms import alarms
from core.jobs.service import advance
from core.jobs.stopping import reason_to_stop
from core.jobs.tables import Job

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.orm import Session

    from core.schemas.training import TrainingConfig


def judge(session: Session, evaluation: Evaluation, *, config: TrainingConfig) -> None:
    """Apply the rules of a job's configuration to its curve.

    Args:
        session: holds the lock of the job's row; the caller commits.
        evaluation: done a moment ago.
        config: of its job.
    """
    curve = session.execute(
        select(Evaluation.id, Evaluation.images_seen, Evaluation.metrics)
        .where(
            Evaluation.job_id == evaluation.job_id,
            Evaluation.run == evaluation.run,
            Evaluation.protocol_hash == evaluation.protocol_hash,
            Evaluation.status == "done",
            Evaluation.images_seen >= config.judged_from,
        )
        .order_by(Evaluation.images_seen)
    ).all()
    if not curve:
        return
    metrics = [row.metrics or {} for row in curve]
    _stop_early(session, evaluation.job_id, reason_to_stop(metrics, rules=config.stopping))
    # Evaluations may end in another order than they began: it is the newest snapshot that counts.
    newest = {"images_seen": curve[-1].images_seen, "evaluation_id": str(curve[-1].id)}
    _tell_alarms(session, evaluation.job_id, alarms(metrics, rules=config.alarms), newest=newest)


def _stop_early(session: Session, job_id: UUID, reason: str | None) -> None:
    if reason is not None:
        advance(
            session,
            job_id,
            Job.status == "running",
            Job.stop_reason.is_(None),
            values={"stop_reason": reason},
            event="stopping_early",
            payload={"reason": reason},
        )


def _tell_alarms(session: Session, job_id: UUID, found: dict[str, str], *, newest: dict[str, Any]) -> None:
    """Keep on the job which alarms are raised; an event where one is raised, and one where it is cleared."""
    raised = session.scalars(select(Job.alarms).where(Job.id == job_id)).one()
    for alarm in list(raised):
        if alarm["kind"] not in found:
            raised = [other for other in raised if other is not alarm]
            payload = {"kind": alarm["kind"], **newest}
            advance(session, job_id, values={"alarms": raised}, event="alarm_cleared", payload=payload)
    known = {alarm["kind"] for alarm in raised}
    for kind, message in found.items():
        if kind not in known:
            payload = {"kind": kind, "message": message, **newest}
            raised = [*raised, payload]
            advance(session, job_id, values={"alarms": raised}, event="alarm", payload=payload)
