"""What an attempt leaves on its job's record, fenced by its lease: progress, files, warnings, log lines.

Zero rows changed means that the lease is gone: LeaseLost, and the caller stops.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert

from core.errors import LeaseLost
from core.evaluations.tables import Evaluation
from core.jobs.best import shown
from core.jobs.lease import fenced, say
from core.jobs.retention import pinned_or_needed
from core.jobs.service import advance
from core.jobs.tables import Checkpoint, Job, LogLine, Loss, Sample

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from core.datasets.contents import Image
    from core.jobs.lease import Attempt
    from core.schemas.ticks import WarningTick


@dataclass(frozen=True)
class StoredFile:
    """An artifact in the store: about to get its row, or as a row has it."""

    key: str
    sha256: str
    size_bytes: int

    @classmethod
    def of(cls, row: Sample | Image) -> StoredFile:
        """As its row has it."""
        return cls(row.storage_key, sha256=row.sha256, size_bytes=row.size_bytes)


def record_progress(
    session: Session,
    attempt: Attempt,
    *,
    images_seen: int,
    images_per_s: float,
    losses: dict[int, dict[str, float]],
    peak_memory_bytes: int | None = None,
) -> None:
    """Write the clock, the speed, the losses by images seen, and among the facts the memory. Raises LeaseLost."""
    latest = losses[max(losses)] if losses else {}
    values: dict[str, Any] = {"images_seen": images_seen, "images_per_s": images_per_s, "losses": latest}
    if peak_memory_bytes is not None:
        values["facts"] = Job.facts.op("||")({"peak_memory_bytes": peak_memory_bytes})
    fenced(session, attempt, **values)
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
    say(session, attempt, "training", {"device": facts.get("device")}, facts=facts)


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
    say(session, attempt, "warning", payload, images_seen=warning.images_seen, alarms=stay)
    for alarm in raised:
        if alarm not in stay:
            cleared = {"kind": alarm["kind"], "images_seen": warning.images_seen}
            advance(session, attempt.job_id, values={}, event="alarm_cleared", payload=cleared)
    later = session.scalars(
        select(Checkpoint).where(
            Checkpoint.job_id == attempt.job_id,
            Checkpoint.run == attempt.run,
            Checkpoint.images_seen > warning.images_seen,
        )
    ).all()
    kept = pinned_or_needed(session, later)
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
        if table is Checkpoint:
            gone = gone.where(Checkpoint.id.not_in(kept))
        if file is None:
            session.execute(gone)
        else:
            keys += [key for key in session.scalars(gone.returning(file)) if key is not None]
    left = shown(session, session.get_one(Job, attempt.job_id))
    session.execute(update(Job).where(Job.id == attempt.job_id).values(left))
    return keys


def record_resume(session: Session, attempt: Attempt, state: Checkpoint) -> None:
    """Say that the attempt goes on from a state; the clock goes back to it. Raises LeaseLost."""
    payload = {"images_seen": state.images_seen, "checkpoint_id": str(state.id)}
    say(session, attempt, "resumed", payload, images_seen=state.images_seen)


def record_checkpoint(
    session: Session, attempt: Attempt, file: StoredFile, *, kind: str, images_seen: int
) -> UUID | None:
    """Give a stored file its row and its event. Raises LeaseLost.

    Returns:
        The checkpoint's id; None where an earlier attempt left the same one, so that this file is superfluous.
    """
    fenced(session, attempt, images_seen=images_seen)
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
        say(session, attempt, "checkpoint", payload)
    return checkpoint_id


def record_sample(
    session: Session, attempt: Attempt, file: StoredFile, *, images_seen: int, kind: str = "grid"
) -> bool:
    """Give a stored picture of a snapshot its row; False where an earlier attempt left the same. Raises LeaseLost."""
    fenced(session, attempt)
    added = session.scalar(
        insert(Sample)
        .values(
            id=uuid4(),
            job_id=attempt.job_id,
            run=attempt.run,
            kind=kind,
            images_seen=images_seen,
            storage_key=file.key,
            sha256=file.sha256,
            size_bytes=file.size_bytes,
        )
        .on_conflict_do_nothing(index_elements=["job_id", "run", "images_seen", "kind"])
        .returning(Sample.id)
    )
    return added is not None


def record_log(session: Session, attempt: Attempt, lines: list[str]) -> int:
    """Append to the job's log; the UPDATE hands out the lines' numbers.

    Returns:
        The number of the last line.

    Raises:
        LeaseLost: another attempt holds the job.
    """
    last = session.execute(
        update(Job)
        .where(Job.id == attempt.job_id, attempt.held())
        .values(log_seq=Job.log_seq + len(lines))
        .returning(Job.log_seq)
        .execution_options(synchronize_session=False)
    ).scalar_one_or_none()
    if last is None:
        raise LeaseLost(f"Attempt {attempt.number} of job {attempt.job_id} no longer holds its lease.")
    session.add_all(
        LogLine(job_id=attempt.job_id, seq=seq, attempt=attempt.number, line=_storable(line))
        for seq, line in enumerate(lines, start=last - len(lines) + 1)
    )
    session.flush()
    return last


def _storable(line: str) -> str:
    """A line as PostgreSQL takes it: no NUL, and nothing that is not Unicode text (lone surrogates)."""
    return line.replace("\0", "").encode(errors="replace").decode()


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
    kept = pinned_or_needed(session, old)
    return _drop(session, [state for state in old if state.id not in kept])


def _drop(session: Session, checkpoints: list[Checkpoint]) -> list[str]:
    for checkpoint in checkpoints:
        session.delete(checkpoint)
    session.flush()
    return [checkpoint.storage_key for checkpoint in checkpoints]


def discard_damaged(session: Session, attempt: Attempt, state: Checkpoint, *, found: str) -> None:
    """Remove a state whose bytes are not those that were stored, and say so. Raises LeaseLost."""
    payload = {"images_seen": state.images_seen, "expected_sha256": state.sha256, "found": found}
    say(session, attempt, "checkpoint_damaged", payload)
    session.delete(session.merge(state))
    session.flush()
