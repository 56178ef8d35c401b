"""What a tenant may do to a job. Every change of state is one conditional UPDATE and one event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, func, select, update

from core.datasets.files import DatasetFiles
from core.datasets.held_out import split
from core.errors import Conflict, InvalidRequest, NotFound
from core.evaluations.tables import PENDING, Evaluation
from core.jobs.tables import Checkpoint, Job, JobEvent
from core.schemas.jobs import Status
from core.schemas.training import SlaeganConfig, architecture_differences
from core.webhooks import outbox

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from core.schemas.webhooks import Webhook

ENDED: dict[str, Any] = {
    "finished_at": func.clock_timestamp(),
    "lease_token": None,
    "lease_expires_at": None,
}


def create(
    session: Session,
    *,
    tenant_id: UUID,
    dataset_id: UUID,
    config: SlaeganConfig,
    name: str,
    priority: int,
    init_from: UUID | None = None,
    webhook: Webhook | None = None,
) -> Job:
    """Queue a training; the caller has checked that the dataset is the tenant's.

    Args:
        session: the caller commits, then wakes the queue.
        tenant_id: owner of job and dataset.
        dataset_id: the pictures to train on.
        config: resolved, as it will run.
        name: for people; may be empty.
        priority: higher runs first.
        init_from: a checkpoint whose weights to begin from; it stays until the job is over.
        webhook: where to send which of its events; the caller has checked the URL.

    Raises:
        NotFound: the tenant has no such checkpoint.
        InvalidRequest: its networks are of another shape, or have seen what is to be held out.
    """
    if init_from is not None:
        _hold_checkpoint(session, init_from, tenant_id=tenant_id, dataset_id=dataset_id, config=config)
    job = Job(
        id=uuid4(),
        tenant_id=tenant_id,
        dataset_id=dataset_id,
        name=name,
        family=config.family,
        config=config.model_dump(mode="json"),
        priority=priority,
        total_images=config.total_images,
        init_from=init_from,
        webhook=webhook.model_dump(mode="json") if webhook is not None else None,
    )
    session.add(job)
    session.flush()
    session.add(JobEvent(job_id=job.id, seq=1, type="queued", payload={"reason": "created"}))
    session.flush()
    outbox.write(session, tenant_id=tenant_id, job_id=job.id, seq=1, kind="queued", webhook=job.webhook)
    return job


def _hold_checkpoint(
    session: Session, checkpoint_id: UUID, *, tenant_id: UUID, dataset_id: UUID, config: SlaeganConfig
) -> None:
    """Check a checkpoint to begin from, and keep it from being deleted before the transaction ends."""
    found = session.execute(
        select(Checkpoint.kind, Job.config, Job.dataset_id)
        .join(Job, Job.id == Checkpoint.job_id)
        .where(Checkpoint.id == checkpoint_id, Job.tenant_id == tenant_id)
        .with_for_update(read=True, key_share=True, of=Checkpoint)
    ).one_or_none()
    if found is None:
        raise NotFound(f"There is no checkpoint {checkpoint_id}.")
    source = SlaeganConfig.model_validate(found.config)
    if found.kind == "generator":  # decoders belong to the discriminator, which it does not hold
        source = source.model_copy(update={"decoders": config.decoders})
    differing = architecture_differences(source, config)
    if differing:
        listed = "; ".join(
            f"{name} is {theirs!r} there, {mine!r} here" for name, (theirs, mine) in differing.items()
        )
        raise InvalidRequest(
            f"The networks of checkpoint {checkpoint_id} have another shape: {listed}.",
            differing={name: list(values) for name, values in differing.items()},
        )
    if config.held_out > 0:
        _check_unseen(session, dataset_id, config=config, trained_on=found.dataset_id, then=source)


def _check_unseen(
    session: Session, dataset_id: UUID, *, config: SlaeganConfig, trained_on: UUID, then: SlaeganConfig
) -> None:
    """Refuse to keep pictures from a training as unseen which the weights that it begins from have seen."""
    _, held_out = split(DatasetFiles.of(session, dataset_id), share=config.held_out)
    seen, _ = split(DatasetFiles.of(session, trained_on), share=then.held_out)
    known = {image.sha256 for image in seen.images}
    unseen = held_out.images if held_out is not None else ()
    if count := sum(image.sha256 in known for image in unseen):
        raise InvalidRequest(
            f"The checkpoint was trained on {count} of the {len(unseen)} pictures that held_out {config.held_out} "
            f"would keep as unseen: its own held_out was {then.held_out}. Choose no larger share, or begin anew.",
            seen=count,
        )


def pin(session: Session, *, tenant_id: UUID, checkpoint_id: UUID, pinned: bool) -> Checkpoint:
    """Keep a checkpoint whatever the job's retention says, or leave it to the retention again.

    Raises:
        NotFound: the tenant has no such checkpoint.
    """
    checkpoint = session.scalar(
        select(Checkpoint)
        .join(Job, Job.id == Checkpoint.job_id)
        .where(Checkpoint.id == checkpoint_id, Job.tenant_id == tenant_id)
        .with_for_update(of=Checkpoint)
    )
    if checkpoint is None:
        raise NotFound(f"There is no checkpoint {checkpoint_id}.")
    checkpoint.pinned = pinned
    session.flush()
    return checkpoint


def advance(  # all of a transition stands in one call
    session: Session,
    job_id: UUID,
    *where: ColumnElement[bool],
    values: dict[str, Any],
    event: str,
    payload: dict[str, Any] | None = None,
) -> bool:
    """Change a job if it is still as expected, and say so in its events; the UPDATE hands out the event's number.

    Returns:
        Whether the job was as `where` expects. If not, nothing was changed.
    """
    row = session.execute(
        update(Job)
        .where(Job.id == job_id, *where)
        .values(event_seq=Job.event_seq + 1, **values)
        .returning(Job.event_seq, Job.tenant_id, Job.webhook)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if row is None:
        return False
    session.add(JobEvent(job_id=job_id, seq=row.event_seq, type=event, payload=payload or {}))
    session.flush()
    outbox.write(
        session, tenant_id=row.tenant_id, job_id=job_id, seq=row.event_seq, kind=event, webhook=row.webhook
    )
    return True


def drop_evaluations(session: Session, job_id: UUID, *, reason: str) -> None:
    """Skip what is still to be evaluated of a job that ended; a running evaluator finds its lease gone."""
    session.execute(
        update(Evaluation)
        .where(Evaluation.job_id == job_id, Evaluation.status.in_(PENDING))
        .values(
            status="skipped",
            lease_token=None,
            lease_expires_at=None,
            error={"code": "skipped", "message": reason},
            finished_at=func.clock_timestamp(),
        )
    )


def cancel(session: Session, *, tenant_id: UUID, job_id: UUID) -> Job:
    """Cancel a job: at once when no worker trains it, else its supervisor is asked to. Asking twice is no error.

    Raises:
        NotFound: no such job of this tenant.
        Conflict: the job has succeeded or failed already.
    """
    job = session.scalar(
        select(Job)
        .where(Job.id == job_id, Job.tenant_id == tenant_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if job is None:
        raise NotFound(f"There is no job {job_id}.")
    match job.status:
        case Status.QUEUED | Status.EVALUATING:
            drop_evaluations(session, job_id, reason="The job was cancelled.")
            advance(
                session,
                job_id,
                values={"status": "cancelled", "cancel_requested": True, **ENDED},
                event="cancelled",
            )
        case Status.RUNNING if not job.cancel_requested:
            advance(session, job_id, values={"cancel_requested": True}, event="cancel_requested")
        case Status.SUCCEEDED | Status.FAILED:
            raise Conflict(
                f"Job {job_id} has {job.status} already; only a job that is not over can be cancelled."
            )
    session.refresh(job)
    return job
