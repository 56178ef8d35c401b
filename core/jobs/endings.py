"""How an attempt ends: its job goes on to the next state, or back to the queue while its budgets last.

Each ending is fenced by the attempt's lease; where that is gone, LeaseLost. A wish to cancel or to pause that came
while the attempt ended is granted then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, select

from core.errors import OutOfMemory, SlaeganError, TimeLimit
from core.evaluations.tables import PENDING, Evaluation
from core.jobs.lease import Attempt, Wish, expiry, fenced, say, wish
from core.jobs.service import ENDED, RELEASED, advance, drop_evaluations
from core.jobs.tables import Checkpoint, Job

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from sqlalchemy.orm import Session


def finish(session: Session, attempt: Attempt) -> None:
    """Training is done: wait for the evaluations still open, or succeed; or be cancelled. Raises LeaseLost."""
    if _ends_cancelled(session, attempt):
        return
    stop_reason = session.scalar(select(Job.stop_reason).where(Job.id == attempt.job_id))
    if stop_reason is not None and not _has_generator(session, attempt):
        fail(
            session, attempt, TimeLimit(f"The training was stopped before its first snapshot: {stop_reason}")
        )
        return
    say(session, attempt, "evaluating", {}, status="evaluating", **RELEASED)
    settle(session, attempt.job_id)


def _has_generator(session: Session, attempt: Attempt) -> bool:
    generators = select(Checkpoint.id).where(
        Checkpoint.job_id == attempt.job_id, Checkpoint.run == attempt.run, Checkpoint.kind == "generator"
    )
    return session.scalar(generators.limit(1)) is not None


def settle(session: Session, job_id: UUID) -> bool:
    """Let a job succeed whose last evaluation has ended; harmless at any other time.

    The job's row is locked first: of two evaluations that end at once, the later one sees the earlier.
    """
    session.execute(select(Job.id).where(Job.id == job_id).with_for_update())
    return advance(session, job_id, evaluated(), values={"status": "succeeded", **ENDED}, event="succeeded")


def evaluated() -> ColumnElement[bool]:
    """The condition that a job's training is done and no point of its curve is still to come."""
    to_come = select(Evaluation.id).where(
        Evaluation.job_id == Job.id, Evaluation.kind == "metrics", Evaluation.status.in_(PENDING)
    )
    return (Job.status == "evaluating") & ~to_come.exists()


def fail(session: Session, attempt: Attempt, error: SlaeganError, *, last_lines: Sequence[str] = ()) -> None:
    """End the run with the reason, and the last lines of the training's log. Raises LeaseLost."""
    record = failure(error, last_lines=last_lines)
    say(session, attempt, "failed", record, status="failed", error=record, **ENDED)
    drop_evaluations(session, attempt.job_id, reason="The job failed.")


def failure(error: SlaeganError, *, last_lines: Sequence[str] = ()) -> dict[str, Any]:
    """What a failed job keeps: the error, what can be done about it, and the end of the training's log."""
    return {**error.as_record(), "advice": error.advice, "last_lines": list(last_lines)}


def end_cancelled(session: Session, attempt: Attempt) -> None:
    """Confirm that a cancelled job's training has stopped. Raises LeaseLost."""
    say(session, attempt, "cancelled", {}, status="cancelled", **ENDED)
    drop_evaluations(session, attempt.job_id, reason="The job was cancelled.")


def hand_back(session: Session, attempt: Attempt, *, reason: str) -> None:
    """Give the job back, uncounted, for another attempt from its last checkpoint; or let it pause. Raises LeaseLost."""
    if not _ends_as_wished(session, attempt):
        say(session, attempt, "queued", {"reason": reason}, status="queued", **requeued())


def lose(
    session: Session,
    attempt: Attempt,
    error: SlaeganError,
    *,
    max_failures: int,
    pause_s: float = 0,
    last_lines: Sequence[str] = (),
) -> None:
    """An attempt failed for no fault of the job's: another one, while the budget for that lasts. Raises LeaseLost.

    Args:
        session: the caller commits.
        attempt: the lease.
        error: what happened.
        max_failures: the budget; the job fails with `error` when it is used up.
        pause_s: before the next attempt, seconds; doubled with every failure.
        last_lines: of the training's log.
    """
    if _ends_as_wished(session, attempt):
        return
    failures = attempt.infrastructure_failures + 1
    if failures >= max_failures:
        fail(session, attempt, error, last_lines=last_lines)
        return
    payload = {"reason": error.message, "code": error.code, "infrastructure_failures": failures}
    pause = expiry(pause_s * 2 ** (failures - 1)) if pause_s else None
    values = requeued(infrastructure_failures=failures, not_before=pause)
    say(session, attempt, "queued", payload, status="queued", **values)


def run_out_of_memory(
    session: Session, attempt: Attempt, error: OutOfMemory, *, last_lines: Sequence[str] = ()
) -> None:
    """Try once more, with fewer pictures in memory at a time; the second time the job fails. Raises LeaseLost."""
    if _ends_as_wished(session, attempt):
        return
    if attempt.out_of_memory:
        fail(session, attempt, error, last_lines=last_lines)
        return
    payload = {"reason": f"{error.message} Once more, in small parts.", "code": error.code}
    say(session, attempt, "queued", payload, status="queued", **requeued(out_of_memory=1))


def requeued(*, not_before: ColumnElement[Any] | None = None, **counts: int) -> dict[str, Any]:
    """The values of a job that goes back to the queue, keeping its place by age."""
    return {**RELEASED, "worker": None, "not_before": not_before, **counts}


def _ends_cancelled(session: Session, attempt: Attempt) -> bool:
    """Cancel instead, where the wish to cancel came while the attempt ended; the row is locked before the look."""
    fenced(session, attempt)
    if wish(session, attempt) is not Wish.CANCEL:
        return False
    end_cancelled(session, attempt)
    return True


def _ends_as_wished(session: Session, attempt: Attempt) -> bool:
    """Cancel or pause instead of going back to the queue, where that is wished."""
    if _ends_cancelled(session, attempt):
        return True
    if not session.scalar(select(Job.pause_requested).where(Job.id == attempt.job_id)):
        return False
    say(session, attempt, "paused", {}, status="paused", **requeued())
    return True
