"""Evaluations: planned with the snapshot, claimed under a lease of their own, posted once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.dialects.postgresql import insert

from core.errors import LeaseLost, SlaeganError
from core.evaluations.judgement import judge
from core.evaluations.tables import Evaluation
from core.jobs import accounting, endings, lease
from core.jobs.best import shown
from core.jobs.retention import forget_generators
from core.jobs.service import advance
from core.jobs.tables import Checkpoint, Job
from core.jobs.workers import drain_of
from core.schemas.families import parse_config
from core.schemas.jobs import PER_CLASS

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from core.jobs.records import StoredFile
    from core.schemas.training import TrainingConfig


@dataclass(frozen=True)
class Claim:
    """One evaluator's hold on one evaluation, and what it needs to know."""

    evaluation_id: UUID
    token: UUID
    attempt: int
    job_id: UUID
    run: int
    kind: str
    dataset_id: UUID
    images_seen: int
    config: dict[str, Any]
    protocol: dict[str, Any]
    generator_key: str
    generator_sha256: str
    origin: dict[str, Any] | None = None

    def held(self) -> ColumnElement[bool]:
        """The condition that every write of this claim carries."""
        return (Evaluation.id == self.evaluation_id) & (Evaluation.lease_token == self.token)


def plan(  # the unique key and what it stands for
    session: Session,
    *,
    job_id: UUID,
    run: int,
    images_seen: int,
    checkpoint_id: UUID,
    protocol: dict[str, Any],
    protocol_hash: str,
) -> None:
    """Ask for a snapshot's evaluation; asking twice for the same is one evaluation."""
    session.execute(
        insert(Evaluation)
        .values(
            id=uuid4(),
            job_id=job_id,
            run=run,
            images_seen=images_seen,
            checkpoint_id=checkpoint_id,
            protocol=protocol,
            protocol_hash=protocol_hash,
        )
        .on_conflict_do_nothing(index_elements=["job_id", "run", "images_seen", "protocol_hash"])
    )


def skip_overtaken(session: Session, *, job_id: UUID, run: int, config: TrainingConfig) -> list[str]:
    """Skip the oldest of a run's queued evaluations where more wait than its configuration allows, never the newest.

    An evaluator that is slower than the training would else fall behind ever further.

    Args:
        session: holds the lock of the job's row; the caller commits.
        job_id: whose.
        run: which.
        config: of the job.

    Returns:
        The keys of generators that need not be kept any longer, to be deleted after the commit.
    """
    if config.evaluation_backlog is None:
        return []
    # One that is being claimed at this moment waits no longer.
    waiting = session.scalars(
        select(Evaluation)
        .where(Evaluation.job_id == job_id, Evaluation.run == run, Evaluation.status == "queued")
        .where(Evaluation.kind == "metrics")
        .order_by(Evaluation.images_seen, Evaluation.created_at)
        .with_for_update(skip_locked=True)
    ).all()
    overtaken = waiting[: -config.evaluation_backlog]
    for evaluation in overtaken:
        evaluation.status = "skipped"
        evaluation.error = {"code": "skipped", "message": "overtaken by newer snapshots"}
        evaluation.finished_at = func.clock_timestamp()
        payload = {"images_seen": evaluation.images_seen, "error": evaluation.error}
        advance(session, job_id, values={}, event="evaluation_skipped", payload=payload)
    if not overtaken:
        return []
    return forget_generators(session, session.get_one(Job, job_id), rules=config.retention)


def claim(session: Session, *, worker: str, lease_s: float) -> Claim | None:
    """Take the oldest queued evaluation, of a curve first; None when there is none for this worker."""
    if drain_of(session, worker) is not None:
        return None
    found = session.execute(
        select(Evaluation, Checkpoint)
        .join(Checkpoint, Checkpoint.id == Evaluation.checkpoint_id)
        .where(Evaluation.status == "queued")
        .order_by(Evaluation.kind == "backtracking", Evaluation.created_at)
        .limit(1)
        .with_for_update(of=Evaluation, skip_locked=True)
    ).one_or_none()
    if found is None:
        return None
    evaluation, checkpoint = found
    token = uuid4()
    session.execute(
        update(Evaluation)
        .where(Evaluation.id == evaluation.id)
        .values(
            **lease.taken(token, worker=worker, lease_s=lease_s),
            attempts=Evaluation.attempts + 1,
        )
        .execution_options(synchronize_session=False)
    )
    job = session.get_one(Job, evaluation.job_id)
    accounting.begin(
        session,
        token,
        job=job,
        kind=evaluation.kind,
        evaluation_id=evaluation.id,
        run=evaluation.run,
        number=evaluation.attempts + 1,
        worker=worker,
    )
    return Claim(
        evaluation_id=evaluation.id,
        token=token,
        attempt=evaluation.attempts + 1,
        job_id=job.id,
        run=evaluation.run,
        kind=evaluation.kind,
        dataset_id=job.dataset_id,
        images_seen=evaluation.images_seen,
        config=job.config,
        protocol=evaluation.protocol,
        generator_key=checkpoint.storage_key,
        generator_sha256=checkpoint.sha256,
        origin=job.origin,
    )


def heartbeat(session: Session, held: Claim, *, lease_s: float) -> None:
    """Extend the lease. Raises LeaseLost, also when the job was cancelled meanwhile."""
    _fenced(session, held, lease_expires_at=lease.expiry(lease_s))


def post(
    session: Session, held: Claim, metrics: dict[str, Any], picture: StoredFile | None = None
) -> list[str]:
    """Write the metrics to the job's record, once; raise alarms and ask for an early stop where the curve calls for it.

    Args:
        session: the caller commits.
        held: the claim.
        metrics: by name; of backtracking also a list, by picture.
        picture: of generated pictures beside their nearest training pictures; in the store already.

    Returns:
        The keys of generators that need not be kept any longer, to be deleted after the commit.

    Raises:
        LeaseLost: the evaluation is another worker's by now, or its job has ended.
    """
    _end(session, held, status="done", metrics=metrics, **_named(picture))
    payload: dict[str, Any] = {
        "images_seen": held.images_seen,
        "evaluation_id": str(held.evaluation_id),
        "metrics": {name: value for name, value in metrics.items() if name not in PER_CLASS},
    }
    if held.kind == "metrics":
        payload["extractor"] = held.protocol.get("extractor")
        values = shown(session, session.get_one(Job, held.job_id))
        advance(session, held.job_id, values=values, event="evaluated", payload=payload)
        evaluation = session.get_one(Evaluation, held.evaluation_id)
        judge(session, evaluation, config=parse_config(held.config))
    else:
        advance(session, held.job_id, values={}, event="backtracked", payload=payload)
    return _settle(session, held)


def _named(picture: StoredFile | None) -> dict[str, Any]:
    if picture is None:
        return {}
    return {
        "picture_key": picture.key,
        "picture_sha256": picture.sha256,
        "picture_size_bytes": picture.size_bytes,
    }


def _settle(session: Session, held: Claim) -> list[str]:
    endings.settle(session, held.job_id)
    job = session.get_one(Job, held.job_id)
    return forget_generators(session, job, rules=parse_config(held.config).retention)


def give_up(session: Session, held: Claim, error: SlaeganError) -> list[str]:
    """End an evaluation that cannot succeed: a warning on the job, which is not failed by it.

    Returns:
        As `post`.

    Raises:
        LeaseLost: as `post`.
    """
    _end(session, held, status="failed", error=error.as_record())
    warn(session, session.get_one(Evaluation, held.evaluation_id), error=error)
    return _settle(session, held)


def lose(
    session: Session, held: Claim, error: SlaeganError, *, max_attempts: int, pause_s: float
) -> list[str]:
    """An evaluator failed for no fault of the snapshot: another try, while the budget lasts; then as `give_up`.

    The next try comes after a while: under a lease that nobody holds, and that the sweep takes back when it ends.

    Args:
        session: the caller commits.
        held: the claim.
        error: what happened.
        max_attempts: the budget.
        pause_s: the while after the first try; it doubles with each further one.
    """
    if held.attempt >= max_attempts:
        return give_up(session, held, error)
    _fenced(session, held, **lease.put_off(attempt=held.attempt, pause_s=pause_s))
    accounting.end_evaluation(session, held.token, outcome="requeued")
    return []


def hand_back(session: Session, held: Claim) -> None:
    """Give an evaluation back to the queue uncounted (the worker is told to stop). Raises LeaseLost."""
    _fenced(session, held, **lease.returned(), attempts=Evaluation.attempts - 1)
    accounting.end_evaluation(session, held.token, outcome="requeued")


def warn(session: Session, evaluation: Evaluation, *, error: SlaeganError) -> None:
    """Say on the job that an evaluation has no result, and why."""
    payload = {
        "images_seen": evaluation.images_seen,
        "evaluation_id": str(evaluation.id),
        "error": error.as_record(),
    }
    event = "evaluation_failed" if evaluation.kind == "metrics" else "backtracking_failed"
    advance(session, evaluation.job_id, values={}, event=event, payload=payload)


def _end(session: Session, held: Claim, *, status: str, **values: Any) -> None:
    # The job's row is locked before the evaluation's, here and in the sweep: one order, no deadlock.
    session.execute(select(Job.id).where(Job.id == held.job_id).with_for_update())
    _fenced(session, held, **lease.ended(status), **values)
    accounting.end_evaluation(session, held.token, outcome="finished" if status == "done" else status)


def _fenced(session: Session, held: Claim, **values: Any) -> None:
    changed = session.execute(
        update(Evaluation).where(held.held()).values(**values).execution_options(synchronize_session=False)
    )
    if changed.rowcount == 0:  # type: ignore[attr-defined]  # an UPDATE's result is a CursorResult
        raise LeaseLost(f"The evaluation {held.evaluation_id} is no longer held.")
