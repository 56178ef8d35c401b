"""Renderings as workers see them: claimed in turns under a lease, written once, taken back when a worker is lost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, func, select, update

from core.errors import InfrastructureError, LeaseLost
from core.jobs import lease
from core.jobs.tables import Checkpoint, Job
from core.jobs.workers import drain_of
from core.renderings.tables import RenderedFile, Rendering

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from core.errors import SlaeganError


@dataclass(frozen=True)
class Claim:
    """One worker's hold on one rendering, and what it needs to know.

    `generator_key` is None where the generator was deleted meanwhile.
    """

    rendering_id: UUID
    token: UUID
    attempt: int
    tenant_id: UUID
    job_id: UUID
    dataset_id: UUID
    what: str
    images_seen: int
    config: dict[str, Any]
    request: dict[str, Any]
    picture: bytes | None
    generator_key: str | None
    generator_sha256: str
    origin: dict[str, Any] | None = None

    def held(self) -> ColumnElement[bool]:
        """The condition that every write of this claim carries."""
        return (Rendering.id == self.rendering_id) & (Rendering.lease_token == self.token)


@dataclass(frozen=True)
class NewFile:
    """A file that is in the store and is about to get its row."""

    name: str
    role: str
    media_type: str
    storage_key: str
    sha256: str
    size_bytes: int


def claim(session: Session, *, worker: str, lease_s: float) -> Claim | None:
    """Take the oldest rendering of the tenant whose turn it is; None when there is none for this worker.

    Args:
        session: the caller commits.
        worker: its name; one that drains gets nothing.
        lease_s: how long the claim lives without a heartbeat.
    """
    if drain_of(session, worker) is not None:
        return None
    for tenant_id in _tenants_in_turn(session):
        rendering = session.scalar(
            select(Rendering)
            .where(Rendering.tenant_id == tenant_id, Rendering.status == "queued")
            .order_by(Rendering.created_at)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        if rendering is not None:
            return _taken(session, rendering, worker=worker, lease_s=lease_s)
    return None


def _tenants_in_turn(session: Session) -> Sequence[UUID]:
    """Those with something queued: who has the fewest running, and of these who was served longest ago, is first."""
    waiting = (
        select(Rendering.tenant_id, func.min(Rendering.created_at).label("since"))
        .where(Rendering.status == "queued")
        .group_by(Rendering.tenant_id)
        .subquery()
    )
    same = Rendering.tenant_id == waiting.c.tenant_id
    running = select(func.count()).where(same, Rendering.status == "running").scalar_subquery()
    served = select(func.max(Rendering.started_at)).where(same).scalar_subquery()
    query = select(waiting.c.tenant_id).order_by(running, served.nulls_first(), waiting.c.since)
    return session.scalars(query).all()


def _taken(session: Session, rendering: Rendering, *, worker: str, lease_s: float) -> Claim:
    token = uuid4()
    session.execute(
        update(Rendering)
        .where(Rendering.id == rendering.id)
        .values(
            **lease.taken(token, worker=worker, lease_s=lease_s),
            attempts=Rendering.attempts + 1,
            started_at=func.clock_timestamp(),
        )
        .execution_options(synchronize_session=False)
    )
    job = session.get_one(Job, rendering.job_id)
    checkpoint = session.get(Checkpoint, rendering.checkpoint_id) if rendering.checkpoint_id else None
    return Claim(
        rendering_id=rendering.id,
        token=token,
        attempt=rendering.attempts + 1,
        tenant_id=rendering.tenant_id,
        job_id=job.id,
        dataset_id=job.dataset_id,
        what=rendering.what,
        images_seen=rendering.images_seen,
        config=job.config,
        request=rendering.request,
        picture=rendering.picture,
        generator_key=checkpoint.storage_key if checkpoint else None,
        generator_sha256=rendering.generator_sha256,
        origin=rendering.origin,
    )


def heartbeat(session: Session, held: Claim, *, lease_s: float) -> None:
    """Extend the lease. Raises LeaseLost."""
    _fenced(session, held, lease_expires_at=lease.expiry(lease_s))


def check_held(session: Session, held: Claim) -> None:
    """Raises LeaseLost where the rendering was called off, or is another worker's by now."""
    if session.scalar(select(Rendering.id).where(held.held())) is None:
        raise _lost(held)


def post(session: Session, held: Claim, *, files: Sequence[NewFile], facts: dict[str, Any]) -> None:
    """Write what was rendered, once.

    Args:
        session: the caller commits.
        held: the claim.
        files: in the store already, in the order in which they are told.
        facts: numbers and what else is known of them.

    Raises:
        LeaseLost: it was called off, or is another worker's by now.
    """
    _end(session, held, status="done", facts=facts)
    session.add_all(
        RenderedFile(rendering_id=held.rendering_id, position=position, **vars(file))
        for position, file in enumerate(files)
    )
    session.flush()


def give_up(session: Session, held: Claim, error: SlaeganError) -> None:
    """End a rendering that cannot succeed. Raises LeaseLost."""
    _end(session, held, status="failed", error=error.as_record())


def lose(session: Session, held: Claim, error: SlaeganError, *, max_attempts: int, pause_s: float) -> None:
    """A worker failed for no fault of the request: another try, while the budget lasts; then as `give_up`.

    The next try comes after a while: under a lease that nobody holds, and that the sweep takes back when it ends.

    Args:
        session: the caller commits.
        held: the claim.
        error: what happened.
        max_attempts: the budget.
        pause_s: the while after the first try; it doubles with each further one.

    Raises:
        LeaseLost: as `give_up`.
    """
    if held.attempt >= max_attempts:
        give_up(session, held, error)
        return
    _fenced(session, held, **lease.put_off(attempt=held.attempt, pause_s=pause_s))


def hand_back(session: Session, held: Claim) -> None:
    """Give a rendering back to the queue uncounted (the worker is told to stop). Raises LeaseLost."""
    _fenced(session, held, **lease.returned(), attempts=Rendering.attempts - 1)


def take_back(session: Session, *, max_attempts: int) -> None:
    """Queue again what lost workers held; what was lost too often fails.

    Args:
        session: the sweep's; the caller commits.
        max_attempts: so many workers may be lost over one rendering.
    """
    lost = session.scalars(
        select(Rendering)
        .where(Rendering.status == "running", Rendering.lease_expires_at < func.clock_timestamp())
        .with_for_update(skip_locked=True)
    ).all()
    for rendering in lost:
        rendering.lease_token = rendering.lease_expires_at = None
        if rendering.attempts < max_attempts:
            rendering.status = "queued"
            continue
        error = InfrastructureError(
            f"{rendering.attempts} workers were lost over this request: ask for less at once, or have the workers' "
            "logs looked at."
        )
        rendering.status, rendering.error, rendering.picture = "failed", error.as_record(), None
        rendering.finished_at = func.clock_timestamp()
    session.flush()


def _end(session: Session, held: Claim, *, status: str, **values: Any) -> None:
    _fenced(session, held, **lease.ended(status), picture=None, **values)


def _fenced(session: Session, held: Claim, **values: Any) -> None:
    changed = session.execute(
        update(Rendering).where(held.held()).values(**values).execution_options(synchronize_session=False)
    )
    if changed.rowcount == 0:  # type: ignore[attr-defined]  # an UPDATE's result is a CursorResult
        raise _lost(held)


def _lost(held: Claim) -> LeaseLost:
    return LeaseLost(f"The rendering {held.rendering_id} is no longer held.")
