"""What a tenant may do with datasets. All reads are bound to the tenant here."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from sqlalchemy import Select, delete, func, insert, select

from core.datasets.ingest import picture_key, preview_key, stored
from core.datasets.tables import Dataset, DatasetImage
from core.errors import Conflict, InvalidRequest, NotFound
from core.evaluations.tables import PENDING, Evaluation
from core.jobs.tables import Job
from core.pages import newest_first
from core.schemas.jobs import Status

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sqlalchemy.orm import Session

    from core.datasets.ingest import Normalised
    from core.storage import Store

LIVE = tuple(status.value for status in Status if not status.final)


def create(
    session: Session, normalised: Normalised, *, tenant_id: UUID, name: str, folder: Path, store: Store
) -> Dataset:
    """Store the pictures, then write the rows; if either fails, neither is left.

    Should the caller's commit fail, nobody knows whether the rows are there: the files stay.

    Args:
        session: unused until the pictures are stored, so that no connection waits for the store; the caller commits.
        normalised: the pictures.
        tenant_id: the owner.
        name: for people.
        folder: a scratch folder.
        store: the artifact store.

    Raises:
        StoreFull: the store is full.
        StoreUnavailable: the store cannot be reached.
    """
    dataset_id = uuid4()
    with stored(normalised, dataset_id=dataset_id, folder=folder, store=store) as keys:
        dataset = Dataset(
            id=dataset_id,
            tenant_id=tenant_id,
            name=name,
            image_count=len(keys),
            size_bytes=sum(picture.size_bytes for picture in normalised.pictures),
            content_hash=normalised.content_hash,
            rejected=[rejection.model_dump() for rejection in normalised.rejected],
        )
        session.add(dataset)
        session.flush()
        session.execute(
            insert(DatasetImage),
            [
                {
                    "dataset_id": dataset_id,
                    "position": position,
                    "name": picture.name,
                    "storage_key": key,
                    "sha256": picture.sha256,
                    "width": picture.width,
                    "height": picture.height,
                    "size_bytes": picture.size_bytes,
                }
                for position, (key, picture) in enumerate(zip(keys, normalised.pictures, strict=True))
            ],
        )
        # The database's own clock set created_at.
        session.refresh(dataset)
    return dataset


def get(session: Session, *, tenant_id: UUID, dataset_id: UUID) -> Dataset:
    """A dataset of this tenant.

    Raises:
        NotFound: there is none, or it was deleted, or it is another tenant's: the answer is the same.
    """
    return _one(session, _of(tenant_id).where(Dataset.id == dataset_id), dataset_id)


def hold(session: Session, *, tenant_id: UUID, dataset_id: UUID) -> Dataset:
    """A dataset of this tenant that cannot be deleted before the transaction ends.

    Raises:
        NotFound: as for `get`.
    """
    query = _of(tenant_id).where(Dataset.id == dataset_id).with_for_update(read=True, key_share=True)
    return _one(session, query, dataset_id)


def page(
    session: Session, *, tenant_id: UUID, limit: int, cursor: str | None
) -> tuple[list[Dataset], str | None]:
    """The tenant's datasets, the newest first."""
    return newest_first(session, _of(tenant_id), table=Dataset, limit=limit, cursor=cursor)


def images(
    session: Session, *, tenant_id: UUID, dataset_id: UUID, limit: int, cursor: str | None
) -> tuple[Sequence[DatasetImage], str | None]:
    """A dataset's pictures by position; the cursor is the last position seen.

    Raises:
        NotFound: as for `get`.
        InvalidRequest: the cursor is none of ours.
    """
    get(session, tenant_id=tenant_id, dataset_id=dataset_id)
    query = select(DatasetImage).where(DatasetImage.dataset_id == dataset_id).order_by(DatasetImage.position)
    if cursor is not None:
        if not (cursor.isascii() and cursor.isdecimal() and len(cursor) <= len("99999")):
            raise InvalidRequest("The cursor is not one that this service gave: pass next_cursor, unchanged.")
        query = query.where(DatasetImage.position > int(cursor))
    rows = session.scalars(query.limit(limit + 1)).all()
    return (rows, None) if len(rows) <= limit else (rows[:limit], str(rows[limit - 1].position))


def image(session: Session, *, tenant_id: UUID, dataset_id: UUID, position: int) -> DatasetImage:
    """One picture of a dataset.

    Raises:
        NotFound: the dataset, or the position in it, does not exist.
    """
    get(session, tenant_id=tenant_id, dataset_id=dataset_id)
    found = session.get(DatasetImage, (dataset_id, position))
    if found is None:
        raise NotFound(f"Dataset {dataset_id} has no picture at position {position}.")
    return found


def remove(session: Session, *, tenant_id: UUID, dataset_id: UUID) -> list[str]:
    """Delete a dataset; its row stays, marked, for the jobs that were trained on it.

    Args:
        session: the caller commits, then removes the artifacts.
        tenant_id: the owner.
        dataset_id: the dataset.

    Returns:
        The keys of the artifacts that no row names any more.

    Raises:
        NotFound: as for `get`.
        Conflict: a job or an evaluation that is not over needs the dataset.
    """
    # FOR UPDATE waits for submissions that hold the dataset, and makes later ones wait.
    dataset = _one(session, _of(tenant_id).where(Dataset.id == dataset_id).with_for_update(), dataset_id)
    live = session.scalars(
        select(Job.id).where(Job.dataset_id == dataset_id, Job.status.in_(LIVE)).limit(10)
    ).all()
    if live:
        raise Conflict(
            f"Dataset {dataset_id} is needed by {len(live)} jobs that are not over: cancel them, or wait.",
            jobs=[str(job_id) for job_id in live],
        )
    asked = session.scalars(
        select(Evaluation.id)
        .join(Job, Job.id == Evaluation.job_id)
        .where(Job.dataset_id == dataset_id, Evaluation.status.in_(PENDING))
        .limit(10)
    ).all()
    if asked:
        raise Conflict(
            f"Dataset {dataset_id} is needed by {len(asked)} evaluations that are not over: cancel them, or wait.",
            evaluations=[str(evaluation_id) for evaluation_id in asked],
        )
    dataset.deleted_at = func.now()
    session.execute(delete(DatasetImage).where(DatasetImage.dataset_id == dataset_id))
    return [
        preview_key(dataset_id),
        *(picture_key(dataset_id, position) for position in range(dataset.image_count)),
    ]


def _of(tenant_id: UUID) -> Select[Dataset]:
    return select(Dataset).where(Dataset.tenant_id == tenant_id, Dataset.deleted_at.is_(None))


def _one(session: Session, query: Select[Dataset], dataset_id: UUID) -> Dataset:
    dataset = session.scalar(query)
    if dataset is None:
        raise NotFound(f"There is no dataset {dataset_id}.")
    return dataset
