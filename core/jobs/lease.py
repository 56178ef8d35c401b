"""How workers hold jobs: claim, heartbeat, effects and endings, all fenced by the attempt's lease token.

Times are the database's clock. Zero rows changed means that the lease is gone: LeaseLost, and the caller stops.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from core.errors import LeaseLost, SlaeganError
from core.evaluations.tables import PENDING, Evaluation
from core.jobs.retention import needed_to_begin_from
from core.jobs.service import ENDED, advance, drop_evaluations
from core.jobs.tables import Checkpoint, Job, LogLine, Loss, Sample

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from core.schemas.ticks import WarningTick


@dataclass(frozen=True)
class Attempt:
    """One worker's hold on one job."""

    job_id: UUID
    token: UUID
    tenant_id: UUID
    dataset_id: UUID
    run: int
    number: int
    infrastructure_failures: int
    config: dict[str, Any]
    init_from: UUID | None

    def held(self) -> ColumnElement[bool]:
        """The condition that every write of this attempt carries."""
        return (Job.status == "running") & (Job.lease_token == self.token)


@dataclass(frozen=True)
class StoredFile:
    """An artifact that is in the store already, about to get its row."""

    key: str
    sha256: str
    size_bytes: int


def expiry(lease_s: float) -> ColumnElement[Any]:
    """The database's time at which a lease taken now runs out."""
    return func.clock_timestamp() + timedelta(seconds=lease_s)


def claim(session: Session, *, worker: str, lease_s: float) -> Attempt | None:
    """Take the best queued job; None when there is none.

    Two workers never get the same job: the row is locked until the commit, and others skip it.
    """
    job_id = session.scalar(
        select(Job.id)
        .where(Job.status == "queued")
        .order_by(Job.priority.desc(), Job.queued_at)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    if job_id is None:
        return None
    token = uuid4()
    advance(
        session,
        job_id,
        Job.status == "queued",
        values={
            "status": "running",
            "lease_token": token,
            "lease_expires_at": expiry(lease_s),
            "attempt": Job.attempt + 1,
            "worker": worker,
            "started_at": func.coalesce(Job.started_at, func.clock_timestamp()),
        },
        event="running",
        payload={"worker": worker},
    )
    job = session.get_one(Job, job_id)
    return Attempt(
        job_id=job.id,
        token=token,
        tenant_id=job.tenant_id,
        dataset_id=job.dataset_id,
        run=job.run,
        number=job.attempt,
        infrastructure_failures=job.infrastructure_failures,
        config=job.config,
        init_from=job.init_from,
    )


def heartbeat(session: Session, attempt: Attempt, *, lease_s: float) -> None:
    """Extend the lease. Raises LeaseLost."""
    _fenced(session, attempt, lease_expires_at=expiry(lease_s))


class Wish(Enum):
    """What is wanted of a running training."""

    GO_ON = "go on"
    FINISH = "finish"
    CANCEL = "cancel"


def wish(session: Session, attempt: Attempt) -> Wish:
    """Whether the tenant wants the job cancelled, or a rule has found that it may end. Raises LeaseLost."""
    row = session.execute(
        select(Job.cancel_requested, Job.stop_reason).where(Job.id == attempt.job_id, attempt.held())
    ).one_or_none()
    if row is None:
        raise LeaseLost(f"Attempt {attempt.number} of job {attempt.job_id} no longer holds its lease.")
    if row.cancel_requested:
        return Wish.CANCEL
    return Wish.GO_ON if row.stop_reason is None else Wish.FINISH


def record_progress(
    session: Session,
    attempt: Attempt,
    *,
    images_seen: int,
    images_per_s: float,
    losses: dict[int, dict[str, float]],
) -> None:
    """Write the clock, the speed and the losses by images seen. Raises LeaseLost."""
    latest = losses[max(losses)] if losses else {}
    _fenced(session, attempt, images_seen=images_seen, images_per_s=images_per_s, losses=latest)
    if losses:
        rows = [
            {"job_id": attempt.job_id, "run": attempt.run, "images_seen": seen, "losses": values}
            for seen, values in losses.items()
        ]
        statement = insert(Loss).values(rows)
        session.execute(
            statement.on_conflict_do_update(
                index_elements=["job_id", "run", "images_seen"], set_={"losses": statement.excluded.losses}
            )
        )


def record_facts(session: Session, attempt: Attempt, facts: dict[str, Any]) -> None:
    """Keep what is needed to reproduce the attempt. Raises LeaseLost."""
    _say(session, attempt, "training", {"device": facts.get("device")}, facts=facts)


def record_warning(session: Session, attempt: Attempt, warning: WarningTick) -> list[str]:
    """Say on the job what went wrong and was mended. Where the clock went back, what came later has not been.

    Returns:
        The keys of files from after that time, whose rows are gone: to be deleted after the commit.

    Raises:
        LeaseLost: another attempt holds the job.
    """
    payload = warning.model_dump(mode="json", exclude={"tick"})
    raised = session.scalars(select(Job.alarms).where(Job.id == attempt.job_id).with_for_update()).one()
    stay = [alarm for alarm in raised if alarm["images_seen"] <= warning.images_seen]
    _say(session, attempt, "warning", payload, images_seen=warning.images_seen, alarms=stay)
    for alarm in raised:
        if alarm not in stay:
            cleared = {"kind": alarm["kind"], "images_seen": warning.images_seen}
            advance(session, attempt.job_id, values={}, event="alarm_cleared", payload=cleared)
    keys: list[str] = []
    for table, file in (
        (Evaluation, Evaluation.picture_key),
        (Loss, None),
        (Sample, Sample.storage_key),
        (Checkpoint, Checkpoint.storage_key),
    ):
        gone = delete(table).where(
            table.job_id == attempt.job_id,
            table.run == attempt.run,
            table.images_seen > warning.images_seen,
        )
        if file is None:
            session.execute(gone)
        else:
            keys += [key for key in session.scalars(gone.returning(file)) if key is not None]
    return keys


def record_resume(session: Session, attempt: Attempt, state: Checkpoint) -> None:
    """Say that the attempt goes on from a state; the clock goes back to it. Raises LeaseLost."""
    payload = {"images_seen": state.images_seen, "checkpoint_id": str(state.id)}
    _say(session, attempt, "resumed", payload, images_seen=state.images_seen)


def record_checkpoint(
    session: Session, attempt: Attempt, file: StoredFile, *, kind: str, images_seen: int
) -> UUID | None:
    """Give a stored file its row and its event. Raises LeaseLost.

    Returns:
        The checkpoint's id; None where an earlier attempt left the same one, so that this file is superfluous.
    """
    _fenced(session, attempt, images_seen=images_seen)
    checkpoint_id = session.scalar(
        insert(Checkpoint)
        .values(
            id=uuid4(),
            job_id=attempt.job_id,
            run=attempt.run,
            attempt=attempt.number,
            kind=kind,
            images_seen=images_seen,
            storage_key=file.key,
            sha256=file.sha256,
            size_bytes=file.size_bytes,
        )
        .on_conflict_do_nothing(index_elements=["job_id", "run", "kind", "images_seen"])
        .returning(Checkpoint.id)
    )
    if checkpoint_id is not None:
        payload = {"checkpoint_id": str(checkpoint_id), "kind": kind, "images_seen": images_seen}
        _say(session, attempt, "checkpoint", payload)
    return checkpoint_id


def record_sample(session: Session, attempt: Attempt, file: StoredFile, *, images_seen: int) -> bool:
    """Give a stored grid its row; False where an earlier attempt left the same one. Raises LeaseLost."""
    _fenced(session, attempt)
    added = session.scalar(
        insert(Sample)
        .values(
            id=uuid4(),
            job_id=attempt.job_id,
            run=attempt.run,
            images_seen=images_seen,
            storage_key=file.key,
            sha256=file.sha256,
            size_bytes=file.size_bytes,
        )
        .on_conflict_do_nothing(index_elements=["job_id", "run", "images_seen"])
        .returning(Sample.id)
    )
    return added is not None


def record_log(session: Session, attempt: Attempt, lines: list[str]) -> None:
    """Append to the job's log. Raises LeaseLost."""
    _fenced(session, attempt)
    last = (
        session.scalar(
            select(func.coalesce(func.max(LogLine.seq), 0)).where(LogLine.job_id == attempt.job_id)
        )
        or 0
    )
    session.add_all(
        LogLine(job_id=attempt.job_id, seq=last + n, attempt=attempt.number, line=line)
        for n, line in enumerate(lines, start=1)
    )
    session.flush()


def finish(session: Session, attempt: Attempt) -> None:
    """Training is done: wait for the evaluations still open, or succeed; or be cancelled. Raises LeaseLost."""
    if _ends_cancelled(session, attempt):
        return
    _say(
        session,
        attempt,
        "evaluating",
        {},
        status="evaluating",
        lease_token=None,
        lease_expires_at=None,
        images_per_s=None,
    )
    settle(session, attempt.job_id)


def settle(session: Session, job_id: UUID) -> bool:
    """Let a job succeed whose last evaluation has ended; harmless at any other time.

    The job's row is locked first: of two evaluations that end at once, the later one sees the earlier.
    """
    session.execute(select(Job.id).where(Job.id == job_id).with_for_update())
    open_evaluations = select(Evaluation.id).where(
        Evaluation.job_id == job_id,
        Evaluation.kind == "metrics",
        Evaluation.status.in_(PENDING),
    )
    return advance(
        session,
        job_id,
        Job.status == "evaluating",
        ~open_evaluations.exists(),
        values={"status": "succeeded", **ENDED},
        event="succeeded",
    )


def fail(session: Session, attempt: Attempt, error: SlaeganError) -> None:
    """End the run with the reason. Raises LeaseLost."""
    _say(session, attempt, "failed", error.as_record(), status="failed", error=error.as_record(), **ENDED)
    drop_evaluations(session, attempt.job_id, reason="The job failed.")


def end_cancelled(session: Session, attempt: Attempt) -> None:
    """Confirm that a cancelled job's training has stopped. Raises LeaseLost."""
    _say(session, attempt, "cancelled", {}, status="cancelled", **ENDED)
    drop_evaluations(session, attempt.job_id, reason="The job was cancelled.")


def _ends_cancelled(session: Session, attempt: Attempt) -> bool:
    """Cancel instead, where the wish to cancel came while the attempt ended; the row is locked before the look."""
    _fenced(session, attempt)
    if wish(session, attempt) is not Wish.CANCEL:
        return False
    end_cancelled(session, attempt)
    return True


def hand_back(session: Session, attempt: Attempt, *, reason: str, counts: bool) -> None:
    """Give the job back to the queue, for another attempt from its last checkpoint. Raises LeaseLost.

    Args:
        session: the caller commits.
        attempt: the lease.
        reason: for the event.
        counts: whether it counts against the infrastructure budget (a lost child does, a preemption does not).
    """
    if _ends_cancelled(session, attempt):
        return
    _say(session, attempt, "queued", {"reason": reason}, **requeued(counts=counts))


def requeued(*, counts: bool) -> dict[str, Any]:
    """The values of a job that goes back to the queue, keeping its place by age."""
    return {
        "status": "queued",
        "lease_token": None,
        "lease_expires_at": None,
        "worker": None,
        "images_per_s": None,
        "infrastructure_failures": Job.infrastructure_failures + int(counts),
    }


def nameless(session: Session, keys: list[str]) -> list[str]:
    """Those of some keys in the store that no row names."""
    found = set(keys)
    for column in (Checkpoint.storage_key, Sample.storage_key, Evaluation.picture_key):
        found.difference_update(session.scalars(select(column).where(column.in_(keys))))
    return sorted(found)


def latest_states(session: Session, job_id: UUID, *, run: int) -> list[Checkpoint]:
    """The complete training states of a run, newest first."""
    return list(
        session.scalars(
            select(Checkpoint)
            .where(Checkpoint.job_id == job_id, Checkpoint.run == run, Checkpoint.kind == "state")
            .order_by(Checkpoint.images_seen.desc())
        )
    )


def forget_states(session: Session, attempt: Attempt, *, keep: int) -> list[str]:
    """Remove the rows of all but the newest training states.

    Returns:
        The keys of their files, to be deleted after the commit.
    """
    old = latest_states(session, attempt.job_id, run=attempt.run)[keep:]
    needed = needed_to_begin_from(session, old)
    return _drop(session, [state for state in old if not state.pinned and state.id not in needed])


def _drop(session: Session, checkpoints: list[Checkpoint]) -> list[str]:
    for checkpoint in checkpoints:
        session.delete(checkpoint)
    session.flush()
    return [checkpoint.storage_key for checkpoint in checkpoints]


def discard_damaged(session: Session, attempt: Attempt, state: Checkpoint, *, found: str) -> None:
    """Remove a state whose bytes are not those that were stored, and say so. Raises LeaseLost."""
    payload = {"images_seen": state.images_seen, "expected_sha256": state.sha256, "found": found}
    _say(session, attempt, "checkpoint_damaged", payload)
    session.delete(session.merge(state))
    session.flush()


def _fenced(session: Session, attempt: Attempt, **values: Any) -> None:
    """Write to the job's row (or only lock it) under the lease."""
    held = session.execute(
        update(Job)
        .where(Job.id == attempt.job_id, attempt.held())
        .values(**(values or {"event_seq": Job.event_seq}))
        .execution_options(synchronize_session=False)
    )
    if held.rowcount == 0:  # type: ignore[attr-defined]  # an UPDATE's result is a CursorResult
        raise LeaseLost(f"Attempt {attempt.number} of job {attempt.job_id} no longer holds its lease.")


def _say(session: Session, attempt: Attempt, event: str, payload: dict[str, Any], **values: Any) -> None:
    said = {"attempt": attempt.number, **payload}
    if not advance(session, attempt.job_id, attempt.held(), values=values, event=event, payload=said):
        raise LeaseLost(f"Attempt {attempt.number} of job {attempt.job_id} no longer holds its lease.")
