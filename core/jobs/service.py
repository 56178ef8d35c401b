"""How jobs come to be and change: every change of state is one conditional UPDATE and one event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, Double, func, select, update

from core import tracing
from core.audit import trail
from core.datasets.files import DatasetFiles
from core.datasets.held_out import split
from core.datasets.tables import Dataset
from core.errors import InvalidRequest, NotFound, QuotaExceeded
from core.evaluations.tables import PENDING, Evaluation
from core.jobs import accounting
from core.jobs.tables import Checkpoint, Job, JobEvent
from core.keys import Tenant
from core.schemas.families import parse_config
from core.schemas.gan import architecture_differences
from core.webhooks import outbox

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session

    from core.schemas.training import TrainingConfig
    from core.schemas.webhooks import Webhook

# More requests than an API answers at a time.
_AT_ONCE = 100
_NAMED = 10  # classes, in a message
# What changes with the end of an attempt, and of a run. A clock that was set back takes no time away.
RELEASED: dict[str, Any] = {
    "lease_token": None,
    "lease_expires_at": None,
    "claimed_at": None,
    "run_s": Job.run_s
    + func.greatest(func.extract("epoch", func.clock_timestamp() - Job.claimed_at), 0).cast(Double),
    "images_per_s": None,
    "pause_requested": False,
}
ENDED: dict[str, Any] = {**RELEASED, "finished_at": func.clock_timestamp()}


def create(
    session: Session,
    *,
    tenant_id: UUID,
    dataset_id: UUID,
    config: TrainingConfig,
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
        dataset_version=select(Dataset.version).where(Dataset.id == dataset_id).scalar_subquery(),
        name=name,
        family=config.family,
        config=config.model_dump(mode="json"),
        priority=priority,
        total_images=config.total_images,
        init_from=init_from,
        max_queue_s=max_queue_s,
        max_run_s=max_run_s,
        webhook=webhook.model_dump(mode="json") if webhook is not None else None,
        origin=tracing.origin(),
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
    session: Session, checkpoint_id: UUID, *, tenant_id: UUID, dataset_id: UUID, config: TrainingConfig
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
    source = parse_config(found.config)
    differing = architecture_differences(source, config, generator_only=found.kind == "generator")
    if differing:
        listed = "; ".join(
            f"{name} is {theirs!r} there, {mine!r} here" for name, (theirs, mine) in differing.items()
        )
        raise InvalidRequest(
            f"The networks of checkpoint {checkpoint_id} have another shape: {listed}.",
            differing={name: list(values) for name, values in differing.items()},
        )
    if config.freeze_discriminator > 0 and found.kind == "generator":
        raise InvalidRequest(
            f"freeze_discriminator keeps the discriminator's weights as they are, and checkpoint {checkpoint_id} is a "
            "generator alone: begin from one of kind state, or set freeze_discriminator to 0."
        )
    if config.needs_labels:
        _check_classes(session, dataset_id, trained_on=found.dataset_id)
    if config.held_out > 0:
        _check_unseen(session, dataset_id, config=config, checkpoint_id=checkpoint_id)


def _check_classes(session: Session, dataset_id: UUID, *, trained_on: UUID) -> None:
    """Refuse weights that mean other classes: a class is its place in the order of the names."""
    here, there = (
        [one["name"] for one in dataset.classes or []]
        for dataset in (session.get_one(Dataset, which) for which in (dataset_id, trained_on))
    )
    if here != there:
        only = sorted(set(here) ^ set(there))
        raise InvalidRequest(
            f"The checkpoint was trained on {len(there)} classes, and this dataset has {len(here)}, which are not the "
            f"same: {', '.join(map(repr, only[:_NAMED]))}{' and more' if len(only) > _NAMED else ''} are of one alone.",
            differing=only[:100],
        )


def _check_unseen(session: Session, dataset_id: UUID, *, config: TrainingConfig, checkpoint_id: UUID) -> None:
    """Refuse to keep pictures from a training as unseen which the weights that it begins from have seen."""
    _, held_out = split(DatasetFiles.of(session, dataset_id), share=config.held_out)
    unseen = held_out.images if held_out is not None else ()
    for trained_on, share in _trained_on(session, checkpoint_id):
        seen, _ = split(DatasetFiles.of(session, trained_on), share=share)
        known = {image.sha256 for image in seen.images}
        if count := sum(image.sha256 in known for image in unseen):
            raise InvalidRequest(
                f"The checkpoint was trained on {count} of the {len(unseen)} pictures that held_out {config.held_out} "
                f"would keep as unseen: its own held_out was {share}. Choose no larger share, or begin anew.",
                seen=count,
            )


def _trained_on(session: Session, checkpoint_id: UUID) -> Iterator[tuple[UUID, float]]:
    """The datasets that a checkpoint's weights have seen, each but for a held-out share: also those they began from.

    Raises:
        InvalidRequest: a checkpoint or a dataset on the way is deleted.
    """
    before: UUID | None = checkpoint_id
    while before is not None:
        found = session.execute(
            select(Job.id, Job.config, Dataset.id)
            .join(Checkpoint, Checkpoint.job_id == Job.id)
            .join(Dataset, Dataset.id == Job.dataset_id)
            .where(Checkpoint.id == before, Dataset.deleted_at.is_(None))
        ).one_or_none()
        if found is None:
            raise InvalidRequest(
                f"Which pictures checkpoint {checkpoint_id} has seen is no longer known, since a dataset or a "
                "checkpoint that it goes back to is deleted: begin anew, or set held_out to 0."
            )
        job_id, config, dataset_id = found
        yield dataset_id, parse_config(config).held_out
        before = submitted_with(session, job_id)


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
    if checkpoint.pinned == pinned:
        trail.unchanged(session)
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
    if values.get("lease_token", ...) is None:
        accounting.end_training(session, job_id, outcome=accounting.outcome_of(values["status"]))
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
