"""Rows that nobody needs any more, and with them their files.

Each job is looked at in a transaction of its own that holds the job's row: a retry or an extension comes before it, and
then the job is not over, or after it, and finds what is left. Jobs come in random order, so that where there are more
than a run looks at, none is always the last.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, Integer, case, delete, func, select
from sqlalchemy.orm import aliased

from core.audit.tables import AuditEntry
from core.datasets.storing import forget
from core.datasets.tables import Dataset, StoredPicture
from core.db import sessions
from core.idempotency import KEPT, GivenAnswer
from core.jobs.retention import KEPT_STATES, forget_generators, pinned_or_needed
from core.jobs.tables import Checkpoint, Job, Worker
from core.keys import browser_sessions
from core.schemas.jobs import Status
from core.schemas.judging import RetentionConfig
from core.settings import settings
from core.storage import remove, store
from core.uploads.tables import Upload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from uuid import UUID

    from sqlalchemy.orm import Session

    from core.garbage.report import Bounds, Found

WORKER_ROWS = timedelta(days=1)
# Extending goes on from the newest state. A retry may find that one damaged, and then takes the one before.
KEPT_OF_SUCCEEDED = 1


def collect_generators(bounds: Bounds, found: Found) -> None:
    """Remove generators of jobs that are over which no rule of retention keeps any more.

    Mostly an evaluation's end does that. It leaves some where a commit's answer was lost, or one was pinned until now.
    """
    rules = Job.config["retention"]
    kept = func.greatest(rules["best"].astext.cast(Integer), rules["last"].astext.cast(Integer), 1)
    current = (Checkpoint.kind == "generator") & (Checkpoint.run == Job.run)
    _of_jobs(_over(bounds, current, kept), found, forget=_forget_generators, bounds=bounds)


def collect_states(bounds: Bounds, found: Found) -> None:
    """Remove training states of jobs that are over, except the newest."""
    kept = case((Job.status == Status.SUCCEEDED, KEPT_OF_SUCCEEDED), else_=KEPT_STATES)
    _of_jobs(_over(bounds, Checkpoint.kind == "state", kept), found, forget=_forget_states, bounds=bounds)


def collect_datasets(bounds: Bounds, found: Found) -> None:
    """Remove the rows of deleted datasets that no job was trained on; no new job can be.

    Those of a series that goes on stay: else the number of its newest version could be given twice.
    """
    other = aliased(Dataset)
    goes_on = select(other.id).where(other.series_id == Dataset.series_id, other.deleted_at.is_(None))
    unused = ~select(Job.id).where(Job.dataset_id == Dataset.id).exists() & ~goes_on.exists()
    old = Dataset.deleted_at < func.clock_timestamp() - bounds.grace
    with _transaction(bounds) as session:
        gone = session.scalars(delete(Dataset).where(old, unused).returning(Dataset.id)).all()
    found.count += len(gone)


def collect_answers(bounds: Bounds, found: Found) -> None:
    """Remove the answers that were kept for requests sent again, when their time is over."""
    outdated = GivenAnswer.created_at < func.clock_timestamp() - KEPT
    with _transaction(bounds) as session:
        gone = session.scalars(delete(GivenAnswer).where(outdated).returning(GivenAnswer.key)).all()
    found.count += len(gone)


def collect_pictures(bounds: Bounds, found: Found) -> None:
    """Remove pictures that uploads brought which did not end well, and those that were in use when a dataset went."""
    old = StoredPicture.touched_at < func.clock_timestamp() - bounds.grace
    with _transaction(bounds) as session:
        gone = forget(session, old, limit=bounds.limit)
    found.more = len(gone) == bounds.limit
    for picture in gone:
        found.add(picture.size_bytes)
    if not bounds.dry_run:
        remove([picture.key for picture in gone], store=store())


def collect_workers(bounds: Bounds, found: Found) -> None:
    """Remove the rows of workers that were not seen for a day; one that comes back writes its row again.

    Those of drained ones stay, for the wish to drain stands in them.
    """
    held = select(Job.id).where(Job.status == Status.RUNNING, Job.worker == Worker.name).exists()
    unseen = Worker.last_heartbeat_at < func.clock_timestamp() - max(bounds.grace, WORKER_ROWS)
    with _transaction(bounds) as session:
        gone = session.scalars(
            delete(Worker).where(unseen, ~held, Worker.drain.is_(None)).returning(Worker.name)
        ).all()
    found.count += len(gone)


def collect_expired(bounds: Bounds, found: Found) -> None:
    """Remove the rows of resumable uploads with which nothing was done for long; the machine with the bytes follows."""
    expired = select(Upload.id).where(Upload.expires_at < func.clock_timestamp()).limit(bounds.limit + 1)
    with sessions()() as session:
        upload_ids = session.scalars(expired).all()
    found.more = len(upload_ids) > bounds.limit
    with _transaction(bounds) as session:
        # Asked once more: one may just have been gone on with.
        gone = session.scalars(
            delete(Upload)
            .where(Upload.id.in_(upload_ids[: bounds.limit]), Upload.expires_at < func.clock_timestamp())
            .returning(Upload.id)
        ).all()
    found.count += len(gone)


def collect_browser_sessions(bounds: Bounds, found: Found) -> None:
    """Remove the sessions of browsers that are over: their time is, or their key is revoked."""
    with _transaction(bounds) as session:
        gone = browser_sessions.forget_ended(session, limit=bounds.limit)
    found.count += gone
    found.more = gone == bounds.limit


def collect_audit_entries(bounds: Bounds, found: Found) -> None:
    """Remove entries of the audit trail that are older than they are to be kept."""
    too_old = func.clock_timestamp() - timedelta(days=settings().audit_days)
    oldest = select(AuditEntry.id).where(AuditEntry.created_at < too_old).limit(bounds.limit)
    with _transaction(bounds) as session:
        gone = session.scalars(
            delete(AuditEntry).where(AuditEntry.id.in_(oldest)).returning(AuditEntry.id)
        ).all()
    found.count += len(gone)
    found.more = len(gone) == bounds.limit


def _over(bounds: Bounds, which: ColumnElement[bool], kept: ColumnElement[int]) -> Sequence[UUID]:
    """Jobs that have been over for a while and have more checkpoints of a kind than stay, as it seems."""
    with sessions()() as session:
        return session.scalars(
            select(Job.id)
            .join(Checkpoint, Checkpoint.job_id == Job.id)
            .where(which, Job.finished_at < func.clock_timestamp() - bounds.grace)
            .group_by(Job.id)
            .having(func.count() > kept)
            .order_by(func.random())
            .limit(bounds.limit)
        ).all()


def _of_jobs(
    job_ids: Sequence[UUID], found: Found, *, forget: Callable[[Session, Job], list[str]], bounds: Bounds
) -> None:
    for job_id in job_ids:
        if found.count >= bounds.limit:
            found.more = True
            break
        keys, sizes = list[str](), dict[str, int]()
        with _transaction(bounds) as session:
            job = session.scalar(
                select(Job)
                .where(Job.id == job_id, Job.finished_at.is_not(None))
                .with_for_update(skip_locked=True)
            )
            if job is not None:
                sizes = _sizes(session, job_id)
                keys = forget(session, job)
        for key in keys:
            found.add(sizes[key])
        if not bounds.dry_run:
            remove(keys, store=store())


def _forget_generators(session: Session, job: Job) -> list[str]:
    rules = RetentionConfig.model_validate(job.config.get("retention", {}))
    return forget_generators(session, job, rules=rules)


def _forget_states(session: Session, job: Job) -> list[str]:
    states = session.scalars(
        select(Checkpoint)
        .where(Checkpoint.job_id == job.id, Checkpoint.kind == "state")
        .order_by(Checkpoint.run.desc(), Checkpoint.images_seen.desc())
    ).all()
    old = states[KEPT_OF_SUCCEEDED if job.status == Status.SUCCEEDED else KEPT_STATES :]
    kept = pinned_or_needed(session, old)
    gone = [state for state in old if state.id not in kept]
    for state in gone:
        session.delete(state)
    session.flush()
    return [state.storage_key for state in gone]


def _sizes(session: Session, job_id: UUID) -> dict[str, int]:
    query = select(Checkpoint.storage_key, Checkpoint.size_bytes).where(Checkpoint.job_id == job_id)
    return {row.storage_key: row.size_bytes for row in session.execute(query)}


@contextmanager
def _transaction(bounds: Bounds) -> Iterator[Session]:
    """A transaction; that of a dry run does the same work and takes it back."""
    with sessions()() as session:
        yield session
        if bounds.dry_run:
            session.rollback()
        else:
            session.commit()
