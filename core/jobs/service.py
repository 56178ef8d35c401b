"""How jobs come to be and change: every change of state is one conditional UPDATE and one event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, Double, func, select, update

from core.datasets.files import DatasetFiles
from core.datasets.held_out import split
from core.errors import InvalidRequest, NotFound, QuotaExceeded
from core.evaluations.tables import PENDING, Evaluation
from core.jobs.tables import Checkpoint, Job, JobEvent
from core.keys import Tenant
from core.schemas.training import SlaeganConfig, architecture_differences
from core.webhooks import outbox

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from core.schemas.webhooks import Webhook

# More requests than an API answers at a time.
_AT_ONCE = 100
# What changes with the end of an attempt, and of a run.
RELEASED: dict[str, Any] = {
    "lease_token": None,
    "lease_expires_at": None,
    "claimed_at": None,
    "run_s": Job.run_s
    + func.coalesce(func.extract("epoch", func.clock_timestamp() - Job.claimed_at), 0).cast(Double),
    "images_per_s": None,
    "pause_requested": False,
}
ENDED: dict[str, Any] = {**RELEASED, "finished_at": func.clock_timestamp()}


def create(
    session: Session,
    *,
    tenant_id: UUID,
    dataset_id: UUID,
    config: SlaeganConfig,
    name: str,
    priority: int,
    init_from: UUID | None = None,
    max_queue_s: int | None = None,
    max_run_s: int | None = None,
    max_queued: int = 0,
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
        max_queue_s: the job fails when no worker has begun it after so long.
        max_run_s: the training ends, as finished, when it has held a device for so long.
        max_queued: jobs that a tenant may have waiting; 0: any number.
        webhook: where to send which of its events; the caller has checked the URL.

    Raises:
        NotFound: the tenant has no such checkpoint.
        InvalidRequest: its networks are of another shape, or have seen what is to be held out.
        QuotaExceeded: too many of the tenant's jobs wait.
    """
    check_queue(session, tenant_id=tenant_id, max_queued=max_queued)
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
        max_queue_s=max_queue_s,
        max_run_s=max_run_s,
        webhook=webhook.model_dump(mode="json") if webhook is not None else None,
    )
    session.add(job)
    session.flush()
    payload = {"reason": "created"} | ({"init_from": str(init_from)} if init_from else {})
    session.add(JobEvent(job_id=job.id, seq=1, type="queued", payload=payload))
    session.flush()
    outbox.write(session, tenant_id=tenant_id, job_id=job.id, seq=1, kind="queued", webhook=job.webhook)
    return job


def submitted_with(session: Session, job_id: UUID) -> UUID | None:
    """The checkpoint that a job was submitted with; its `init_from` forgets one that is deleted."""
    found = session.get_one(JobEvent, (job_id, 1)).payload.get("init_from")
    return None if found is None else UUID(found)


def check_queue(session: Session, *, tenant_id: UUID, max_queued: int) -> None:
    """Refuse a job where too many of the tenant's wait already.

    Near the limit the tenant's row is locked until the commit, so that requests at once cannot all take its last place.

    Raises:
        QuotaExceeded: with the number that wait.
    """
    if not max_queued:
        return
    # Paused jobs count: else they could be paused and resumed beyond any limit.
    waiting = select(func.count()).where(Job.tenant_id == tenant_id, Job.status.in_(("queued", "paused")))
    if (session.scalar(waiting) or 0) < max_queued - _AT_ONCE:
        return
    session.execute(select(Tenant.id).where(Tenant.id == tenant_id).with_for_update(key_share=True))
    if (found := session.scalar(waiting) or 0) >= max_queued:
        raise QuotaExceeded(
            f"{found} of your jobs wait already, and {max_queued} may: try again when some have begun.",
            waiting=found,
            max_queued=max_queued,
        )


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
