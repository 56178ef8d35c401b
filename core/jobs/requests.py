"""What a tenant may ask of a job: cancel, pause, resume, retry, extend. Asking twice for the same is no error.

Each takes the session, whose caller commits, and raises NotFound where the tenant has no such job. What was asked
already leaves no entry in the audit trail.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from sqlalchemy import func, literal, select, update
from sqlalchemy.orm import aliased

from core import tracing
from core.audit import trail
from core.datasets import service as datasets
from core.errors import Conflict, InvalidRequest, NotFound
from core.evaluations.tables import Evaluation
from core.jobs.records import latest_states
from core.jobs.service import ENDED, advance, check_queue, drop_evaluations, submitted_with
from core.jobs.stopping import RULES
from core.jobs.tables import Checkpoint, Job, Loss, Sample
from core.schemas.families import parse_config
from core.schemas.jobs import Status
from core.schemas.judging import StoppingConfig

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.orm import Session

# What a run begins with, whatever the one before left.
_NOTHING_SHOWN: dict[str, Any] = {
    "latest_evaluation_id": None,
    "best_evaluation_id": None,
    "best_reason": None,
}
_NEW_RUN: dict[str, Any] = {
    "status": "queued",
    "run": Job.run + 1,
    "queued_at": func.clock_timestamp(),
    "not_before": None,
    "started_at": None,
    "finished_at": None,
    "cancel_requested": False,
    "stop_reason": None,
    "error": None,
    "worker": None,
    "run_s": 0.0,
    "infrastructure_failures": 0,
    "out_of_memory": 0,
}


def cancel(session: Session, *, tenant_id: UUID, job_id: UUID) -> Job:
    """Cancel a job: at once when no worker trains it, else its supervisor is asked to.

    Raises:
        Conflict: the job has succeeded or failed already.
    """
    job = _locked(session, tenant_id=tenant_id, job_id=job_id)
    match job.status:
        case Status.QUEUED | Status.EVALUATING | Status.PAUSED:
            drop_evaluations(session, job_id, reason="The job was cancelled.")
            values = {"status": "cancelled", "cancel_requested": True, **ENDED}
            advance(session, job_id, values=values, event="cancelled")
        case Status.RUNNING if not job.cancel_requested:
            advance(session, job_id, values={"cancel_requested": True}, event="cancel_requested")
        case Status.SUCCEEDED | Status.FAILED:
            raise Conflict(
                f"Job {job_id} has {job.status} already; only a job that is not over can be cancelled."
            )
        case _:
            trail.unchanged(session)
    session.refresh(job)
    return job


def pause(session: Session, *, tenant_id: UUID, job_id: UUID) -> Job:
    """Pause a job: at once when it waits, else when its training has saved its state; its evaluations go on.

    Raises:
        Conflict: there is no training any more that could pause.
    """
    job = _locked(session, tenant_id=tenant_id, job_id=job_id)
    match job.status:
        case Status.QUEUED:
            advance(session, job_id, values={"status": "paused"}, event="paused")
        case Status.RUNNING if not (job.pause_requested or job.cancel_requested):
            advance(session, job_id, values={"pause_requested": True}, event="pause_requested")
        case Status.RUNNING if job.cancel_requested:
            raise Conflict(f"Job {job_id} is being cancelled.")
        case Status.RUNNING | Status.PAUSED:
            trail.unchanged(session)
            return job
        case _:
            raise Conflict(f"Job {job_id} is {job.status}: only a job that waits or trains can be paused.")
    session.refresh(job)
    return job


def resume(session: Session, *, tenant_id: UUID, job_id: UUID) -> Job:
    """Queue a paused job again, at the end of its queue; or take back a wish to pause that is not granted yet.

    Raises:
        Conflict: the job's training is over.
    """
    job = _locked(session, tenant_id=tenant_id, job_id=job_id)
    match job.status:
        case Status.PAUSED:
            values = {"status": "queued", "queued_at": func.clock_timestamp()}
            advance(session, job_id, values=values, event="queued", payload={"reason": "resumed"})
        case Status.RUNNING if job.pause_requested:
            advance(session, job_id, values={"pause_requested": False}, event="pause_withdrawn")
        case Status.RUNNING | Status.QUEUED:
            trail.unchanged(session)
            return job
        case _:
            raise Conflict(f"Job {job_id} is {job.status}: only a paused job can be resumed.")
    session.refresh(job)
    return job


def retry(
    session: Session, *, tenant_id: UUID, job_id: UUID, fresh: bool = False, max_queued: int = 0
) -> Job:
    """Begin a new run of a job that failed or was cancelled: from its last state, or from the beginning.

    Args:
        session: the caller commits, then wakes the queue.
        tenant_id: who asks.
        job_id: which job.
        fresh: begin at zero; else what the last run left (its curve, generators, grids) becomes the new run's.
        max_queued: jobs that a tenant may have waiting; 0: any number.

    Raises:
        Conflict: the job is not failed or cancelled, or what it would be trained on or begin from is deleted.
        QuotaExceeded: too many of the tenant's jobs wait.
    """
    job = _locked(session, tenant_id=tenant_id, job_id=job_id)
    if job.status not in (Status.FAILED, Status.CANCELLED):
        raise Conflict(f"Job {job_id} is {job.status}: only a failed or cancelled job can be tried again.")
    state = None if fresh else _newest_state(session, job)
    if state is None and job.init_from is None and submitted_with(session, job_id) is not None:
        raise Conflict(
            f"The checkpoint that job {job_id} began from is deleted: submit a new job with another one."
        )
    _queue_again(session, job, state=state, values={}, reason="retried", max_queued=max_queued)
    return job


def extend(
    session: Session,
    *,
    tenant_id: UUID,
    job_id: UUID,
    total_images: int,
    stopping: StoppingConfig | None = None,
    max_queued: int = 0,
) -> Job:
    """Train a job that succeeded for longer: a new run goes on from its last state, and its curve with it.

    Args:
        session: the caller commits, then wakes the queue.
        tenant_id: who asks.
        job_id: which job.
        total_images: the new total.
        stopping: rules for an early end; by default as before, but none where such a rule ended the job, since who
            extends that wants to go beyond it.
        max_queued: as for `retry`.

    Raises:
        InvalidRequest: the new total is not beyond what the job has seen, or is no total for its configuration.
        Conflict: the job has not succeeded, or its state or its pictures are deleted.
        QuotaExceeded: too many of the tenant's jobs wait.
    """
    job = _locked(session, tenant_id=tenant_id, job_id=job_id)
    if job.status != Status.SUCCEEDED:
        raise Conflict(f"Job {job_id} is {job.status}: only a job that succeeded can be extended.")
    state = _newest_state(session, job)
    if state is None:
        raise Conflict(f"The training state of job {job_id} is deleted: there is nothing to go on from.")
    if total_images <= state.images_seen:
        raise InvalidRequest(
            f"Job {job_id} has seen {state.images_seen} images already: total_images must be more, not {total_images}.",
            images_seen=state.images_seen,
        )
    changed: dict[str, Any] = {"total_images": total_images}
    if stopping is None and job.stop_reason is not None and job.stop_reason.startswith(RULES):
        stopping = StoppingConfig(plateau_evaluations=None, collapse_share=None)
    if stopping is not None:
        changed["stopping"] = stopping.model_dump(mode="json")
    try:
        config = parse_config({**job.config, **changed})
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise InvalidRequest(
            f"Job {job_id} cannot be extended to total_images {total_images}: {reason}."
        ) from error
    values = {"config": config.model_dump(mode="json"), "total_images": total_images}
    _queue_again(session, job, state=state, values=values, reason="extended", max_queued=max_queued)
    return job


def _locked(session: Session, *, tenant_id: UUID, job_id: UUID) -> Job:
    job = session.scalar(
        select(Job)
        .where(Job.id == job_id, Job.tenant_id == tenant_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if job is None:
        raise NotFound(f"There is no job {job_id}.")
    return job


def _newest_state(session: Session, job: Job) -> Checkpoint | None:
    return next(iter(latest_states(session, job.id, run=job.run)), None)


def _queue_again(
    session: Session,
    job: Job,
    *,
    state: Checkpoint | None,
    values: dict[str, Any],
    reason: str,
    max_queued: int,
) -> None:
    """Begin the next run, at the end of the queue; with a state, what the last run left becomes the new one's."""
    try:
        datasets.hold(session, tenant_id=job.tenant_id, dataset_id=job.dataset_id)
    except NotFound as error:
        raise Conflict(f"The pictures of job {job.id} are deleted: there is nothing to train on.") from error
    check_queue(session, tenant_id=job.tenant_id, max_queued=max_queued)
    payload: dict[str, Any] = {"reason": reason, "run": job.run + 1}
    if state is None:
        values = {**values, "images_seen": 0, "losses": {}, "alarms": [], **_NOTHING_SHOWN}
    else:
        payload["images_seen"] = state.images_seen
        values = {**values, "images_seen": state.images_seen}
        for table in (Checkpoint, Evaluation, Sample, Loss):
            session.execute(
                update(table)
                .where(table.job_id == job.id, table.run == job.run)
                .values(run=job.run + 1)
                .execution_options(synchronize_session=False)
            )
        _evaluate_skipped(session, job.id, run=job.run + 1)
    values["origin"] = tracing.origin()
    advance(session, job.id, values={**_NEW_RUN, **values}, event="queued", payload=payload)
    session.refresh(job)


def _evaluate_skipped(session: Session, job_id: UUID, *, run: int) -> None:
    """Queue what was skipped when the run before ended, where its generator is still there, as if it were new.

    It has waited since now. A snapshot that has a newer row has been evaluated by a newer protocol, or will be: to make
    the older row the newest would change the protocol of the curve.
    """
    newer = aliased(Evaluation)
    overtaken = (
        select(newer.id)
        .where(newer.job_id == Evaluation.job_id, newer.run == Evaluation.run, newer.kind == "metrics")
        .where(newer.images_seen == Evaluation.images_seen, newer.created_at > Evaluation.created_at)
        .exists()
    )
    skipped = (
        select(Evaluation.id, func.row_number().over(order_by=Evaluation.images_seen).label("place"))
        .where(Evaluation.job_id == job_id, Evaluation.run == run, Evaluation.kind == "metrics")
        .where(Evaluation.status == "skipped", Evaluation.checkpoint_id.is_not(None), ~overtaken)
        .subquery()
    )
    # Evaluators take the oldest first: a microsecond each keeps their order.
    created_at = func.now() + skipped.c.place * literal(timedelta(microseconds=1))
    session.execute(
        update(Evaluation)
        .where(Evaluation.id == skipped.c.id)
        .values(status="queued", attempts=0, error=None, finished_at=None, created_at=created_at)
        .execution_options(synchronize_session=False)
    )
