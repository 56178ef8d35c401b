"""Renderings as their tenant sees them: asked for, found, called off, removed."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, delete, func, select, update

from core import tracing
from core.audit import trail
from core.datasets import service as datasets
from core.datasets.tables import Dataset, DatasetImage
from core.errors import Conflict, InvalidRequest, NotFound, QuotaExceeded
from core.generation.admission import require_possible
from core.jobs import generators, queries
from core.jobs.tables import Checkpoint
from core.keys import Tenant
from core.pages import newest_first
from core.renderings.tables import PENDING, RenderedFile, Rendering
from core.schemas.families import parse_config
from core.schemas.generations import MAX_PICTURE_BYTES, PicturesIn, ProjectionIn

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from core.jobs.tables import Job
    from core.schemas.generations import ExportIn, GenerationIn

What = Literal["generation", "export"]
# Others of the tenant's jobs get their turn.
MAX_WAITING_OF_JOB = 32


def ask(
    session: Session, asked: GenerationIn | ExportIn, *, tenant_id: UUID, job_id: UUID, max_waiting: int
) -> Rendering:
    """Queue a generation or an export; asking for the same of the same generator again gives the same one.

    One that failed, or was cancelled, is queued again.

    Args:
        session: the caller commits, then wakes the queue.
        asked: of which generator, and what.
        tenant_id: who asks.
        job_id: whose generator.
        max_waiting: renderings that the tenant may have waiting or running.

    Raises:
        NotFound: the tenant has no such job, or the job no such generator, or there is no such picture.
        InvalidRequest: the generator cannot do this, or the picture is not in base64.
        Conflict: the job has no generator yet, the pictures that it needs are deleted, or too much of it waits.
        QuotaExceeded: too much of the tenant's waits.
    """
    job = queries.get(session, tenant_id=tenant_id, job_id=job_id)
    _require_possible(session, asked, job=job)
    # One request of a tenant after the other: so none is made twice, and none gets beyond the limits.
    session.execute(select(Tenant.id).where(Tenant.id == tenant_id).with_for_update(key_share=True))
    generator = _held(session, generators.chosen(session, job, asked.checkpoint_id))
    request, picture = _as_kept(session, asked, tenant_id=tenant_id)
    hashed = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
    found = session.scalar(
        select(Rendering).where(
            Rendering.job_id == job.id,
            Rendering.generator_sha256 == generator.sha256,
            Rendering.request_hash == hashed,
        )
    )
    if found is not None and found.status not in {"failed", "cancelled"}:
        trail.unchanged(session)
        return found
    _require_room(session, job, max_waiting=max_waiting)
    if found is None:
        found = Rendering(id=uuid4(), tenant_id=tenant_id, job_id=job.id, request_hash=hashed)
        session.add(found)
    found.what = "export" if asked.kind == "export" else "generation"
    found.checkpoint_id, found.generator_sha256 = generator.id, generator.sha256
    found.images_seen, found.request, found.picture = generator.images_seen, request, picture
    found.status, found.attempts, found.origin = "queued", 0, tracing.origin()
    found.error = found.worker = found.started_at = found.finished_at = None
    found.created_at = func.clock_timestamp()
    session.flush()
    return found


def _require_possible(session: Session, asked: GenerationIn | ExportIn, *, job: Job) -> None:
    config = parse_config(job.config)
    dataset = session.get_one(Dataset, job.dataset_id)
    classes = [one["name"] for one in dataset.classes or []] if config.needs_labels else []
    require_possible(asked, config=config, classes=classes)
    if isinstance(asked, PicturesIn) and asked.nearest and dataset.deleted_at is not None:
        raise Conflict(
            f"The pictures of job {job.id} are deleted: none can be the nearest. Ask without nearest."
        )


def _held(session: Session, generator: Checkpoint) -> Checkpoint:
    """Keep a generator from being deleted before the transaction ends; from then on the rendering keeps it."""
    held = select(Checkpoint.id).where(Checkpoint.id == generator.id)
    if session.scalar(held.with_for_update(read=True, key_share=True)) is None:
        raise NotFound(f"Job {generator.job_id} has no generator {generator.id}: it was deleted just now.")
    return generator


def _as_kept(
    session: Session, asked: GenerationIn | ExportIn, *, tenant_id: UUID
) -> tuple[dict[str, Any], bytes | None]:
    """What is asked without the generator, and the file that it begins with, where that was sent along."""
    request = asked.model_dump(mode="json", exclude={"checkpoint_id", "picture"})
    if not isinstance(asked, ProjectionIn):
        return request, None
    if asked.picture is None:
        assert asked.dataset_id is not None  # as its schema says
        datasets.get(session, tenant_id=tenant_id, dataset_id=asked.dataset_id)
        there = select(DatasetImage.position).where(
            DatasetImage.dataset_id == asked.dataset_id, DatasetImage.sha256 == asked.image_sha256
        )
        if session.scalar(there.limit(1)) is None:
            raise NotFound(f"Dataset {asked.dataset_id} has no picture with the sha256 {asked.image_sha256}.")
        return request, None
    try:
        picture = base64.b64decode(asked.picture, validate=True)
    except binascii.Error as error:
        raise InvalidRequest(f"picture is not in base64: {error}.") from error
    if len(picture) > MAX_PICTURE_BYTES:
        raise InvalidRequest(
            f"The picture has {len(picture)} bytes; {MAX_PICTURE_BYTES} are allowed.", size_bytes=len(picture)
        )
    return request | {"picture_sha256": hashlib.sha256(picture).hexdigest()}, picture


def _require_room(session: Session, job: Job, *, max_waiting: int) -> None:
    def waiting(*which: Any) -> int:
        return session.scalar(select(func.count()).where(*which, Rendering.status.in_(PENDING))) or 0

    if (found := waiting(Rendering.job_id == job.id)) >= MAX_WAITING_OF_JOB:
        raise Conflict(
            f"{found} generations and exports of this job wait already: ask again when one is done."
        )
    if (found := waiting(Rendering.tenant_id == job.tenant_id)) >= max_waiting:
        raise QuotaExceeded(
            f"{found} of your generations and exports wait already, and {max_waiting} may: try again when some are "
            "done.",
            waiting=found,
            max_waiting=max_waiting,
        )


def get(session: Session, *, tenant_id: UUID, what: What, rendering_id: UUID) -> Rendering:
    """A generation, or an export, of this tenant.

    Raises:
        NotFound: there is none, or it is another tenant's: the answer is the same.
    """
    row = session.scalar(
        select(Rendering).where(
            Rendering.id == rendering_id, Rendering.tenant_id == tenant_id, Rendering.what == what
        )
    )
    if row is None:
        raise NotFound(f"There is no {what} {rendering_id}.")
    return row


def page(
    session: Session, *, tenant_id: UUID, job_id: UUID, what: What, limit: int, cursor: str | None
) -> tuple[list[Rendering], str | None]:
    """Those of a job, the newest first. Raises NotFound where the tenant has no such job."""
    job = queries.get(session, tenant_id=tenant_id, job_id=job_id)
    query = select(Rendering).where(Rendering.job_id == job.id, Rendering.what == what)
    return newest_first(session, query, table=Rendering, limit=limit, cursor=cursor)


def file(
    session: Session, *, tenant_id: UUID, what: What, rendering_id: UUID, name: str | None = None
) -> tuple[Rendering, RenderedFile]:
    """A rendering of this tenant, and its file of a name, by default the main one; NotFound also where it has none."""
    row = get(session, tenant_id=tenant_id, what=what, rendering_id=rendering_id)
    query = select(RenderedFile).where(RenderedFile.rendering_id == row.id)
    query = query.where(RenderedFile.role == "main" if name is None else RenderedFile.name == name)
    found = session.scalar(query)
    if found is None:
        which = f"file {name!r}" if name is not None else "file"
        told = "; it is not done yet" if row.status in PENDING else ""
        raise NotFound(f"The {what} {row.id} ({row.status}) has no {which}{told}.")
    return row, found


def remove(session: Session, *, tenant_id: UUID, what: What, rendering_id: UUID) -> list[str]:
    """Call off what is not over, which then is cancelled; remove what is.

    A worker that is at it finds its lease gone.

    Returns:
        The keys of files that no row names any more, to be deleted after the commit.

    Raises:
        NotFound: as for `get`.
    """
    row = get(session, tenant_id=tenant_id, what=what, rendering_id=rendering_id)
    called_off = session.scalar(
        update(Rendering)
        .where(Rendering.id == row.id, Rendering.status.in_(PENDING))
        .values(
            status="cancelled",
            lease_token=None,
            lease_expires_at=None,
            picture=None,
            finished_at=func.clock_timestamp(),
        )
        .returning(Rendering.id)
        .execution_options(synchronize_session=False)
    )
    return [] if called_off is not None else forget(session, Rendering.id == row.id)


def forget(session: Session, *which: ColumnElement[bool]) -> list[str]:
    """Delete the rows of renderings that are over.

    Args:
        session: the caller commits.
        which: of those.

    Returns:
        The keys of their files, to be deleted after the commit.
    """
    over = (Rendering.status.not_in(PENDING), *which)
    locked = session.scalars(select(Rendering.id).where(*over).order_by(Rendering.id).with_for_update()).all()
    keys = session.scalars(
        delete(RenderedFile)
        .where(RenderedFile.rendering_id.in_(locked))
        .returning(RenderedFile.storage_key)
        .execution_options(synchronize_session=False)
    ).all()
    session.execute(
        delete(Rendering).where(Rendering.id.in_(locked)).execution_options(synchronize_session=False)
    )
    return list(keys)
