"""What a tenant may do with datasets. All reads are bound to the tenant here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID, uuid4

from sqlalchemy import Select, delete, func, insert, select
from sqlalchemy.orm import aliased

from core.datasets import lint
from core.datasets.contents import Image, images_of
from core.datasets.ingest import preview_key
from core.datasets.labels import counted
from core.datasets.lint import Looked
from core.datasets.pictures import contact_sheet
from core.datasets.storing import among, forget, stored
from core.datasets.tables import Dataset, DatasetImage, StoredPicture
from core.errors import Conflict, InvalidRequest, NotFound
from core.evaluations.tables import PENDING, Evaluation
from core.jobs.tables import Job
from core.pages import newest_first
from core.schemas.datasets import Lint, Rejection
from core.schemas.jobs import Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from sqlalchemy.orm import Session

    from core.datasets.ingest import Normalised
    from core.datasets.pictures import Picture
    from core.storage import Store

LIVE = tuple(status.value for status in Status if not status.final)


def create(
    session: Session, normalised: Normalised, *, tenant_id: UUID, name: str, folder: Path, store: Store
) -> Dataset:
    """Store the pictures that the tenant does not have yet, then write the rows; if either fails, neither is left.

    Should the caller's commit fail, nobody knows whether the rows are there: the files stay.

    Args:
        session: unused until the pictures are stored, so that no connection waits for the store; the caller commits.
            Rolled back if anything fails.
        normalised: the pictures.
        tenant_id: the owner.
        name: for people.
        folder: a scratch folder.
        store: the artifact store.

    Raises:
        StoreFull: the store is full.
        StoreUnavailable: the store cannot be reached.
        Conflict: the same pictures were deleted, over and over, meanwhile.
    """
    dataset = Dataset(
        id=uuid4(),
        tenant_id=tenant_id,
        name=name,
        image_count=len(normalised.pictures),
        added_count=len(normalised.pictures),
        size_bytes=sum(picture.size_bytes for picture in normalised.pictures),
        content_hash=normalised.content_hash,
        rejected=[rejection.model_dump() for rejection in normalised.rejected],
        lint=report(normalised.pictures, rejected=normalised.rejected),
        classes=counted(picture.label for picture in normalised.pictures),
    )
    sheet = folder / "preview.jpg"
    contact_sheet(normalised.pictures, target=sheet)
    beside = {preview_key(dataset.id): sheet}
    with stored(session, normalised.pictures, beside=beside, tenant_id=tenant_id, store=store):
        write(session, dataset, images=[Placed.of(picture) for picture in normalised.pictures])
    return dataset


class Placed(NamedTuple):
    """What a dataset's row of a picture says of it, beside its position."""

    name: str
    sha256: str
    facts: dict[str, Any]
    label: str | None = None

    @classmethod
    def of(cls, picture: Picture | Image) -> Placed:
        """A picture that came with an upload, or is in a dataset already."""
        return cls(picture.name, picture.sha256, picture.facts.model_dump(mode="json"), picture.label)


def report(pictures: Iterable[Picture | Image], *, rejected: Sequence[Rejection]) -> dict[str, Any]:
    """The lint of a dataset, as it is kept."""
    looked = [
        Looked(picture.name, picture.width, picture.height, picture.facts, picture.label)
        for picture in pictures
    ]
    return lint.lint(looked, rejected=rejected).model_dump(mode="json")


def write(session: Session, dataset: Dataset, *, images: Sequence[Placed]) -> None:
    """Write a dataset's rows; the pictures are stored and held."""
    session.add(dataset)
    session.flush()
    session.execute(
        insert(DatasetImage),
        [
            {
                "dataset_id": dataset.id,
                "position": position,
                "tenant_id": dataset.tenant_id,
                **image._asdict(),
            }
            for position, image in enumerate(images)
        ],
    )
    # The database's own clock set created_at.
    session.refresh(dataset)


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


def lock(session: Session, *, tenant_id: UUID, dataset_id: UUID) -> Dataset:
    """As `hold`, and no other lock is given meanwhile; jobs may be submitted on it.

    Raises:
        NotFound: as for `get`.
    """
    query = _of(tenant_id).where(Dataset.id == dataset_id).with_for_update(key_share=True)
    return _one(session, query, dataset_id)


def page(
    session: Session, *, tenant_id: UUID, limit: int, cursor: str | None, series_id: UUID | None = None
) -> tuple[list[Dataset], str | None]:
    """The newest version of each of the tenant's datasets, or all versions of one series; the newest first."""
    if series_id is None:
        query = _of(tenant_id).where(~newer_versions(aliased(Dataset)).exists())
    else:
        query = _of(tenant_id).where(Dataset.series_id == series_id)
    return newest_first(session, query, table=Dataset, limit=limit, cursor=cursor)


def newer_versions(newer: type[Dataset]) -> Select[UUID]:
    """Those, under an alias, of the same series as a dataset that came after it and are not deleted."""
    return select(newer.id).where(
        newer.series_id == Dataset.series_id, newer.version > Dataset.version, newer.deleted_at.is_(None)
    )


def images(
    session: Session, *, tenant_id: UUID, dataset_id: UUID, limit: int, cursor: str | None
) -> tuple[list[Image], str | None]:
    """A dataset's pictures by position; the cursor is the last position seen.

    Raises:
        NotFound: as for `get`.
        InvalidRequest: the cursor is none of ours.
    """
    get(session, tenant_id=tenant_id, dataset_id=dataset_id)
    query = images_of(dataset_id)
    if cursor is not None:
        if not (cursor.isascii() and cursor.isdecimal() and len(cursor) <= len("99999")):
            raise InvalidRequest("The cursor is not one that this service gave: pass next_cursor, unchanged.")
        query = query.where(DatasetImage.position > int(cursor))
    rows = [Image.of(row) for row in session.execute(query.limit(limit + 1))]
    return (rows, None) if len(rows) <= limit else (rows[:limit], str(rows[limit - 1].position))


def image(session: Session, *, tenant_id: UUID, dataset_id: UUID, position: int) -> Image:
    """One picture of a dataset.

    Raises:
        NotFound: the dataset, or the position in it, does not exist.
    """
    get(session, tenant_id=tenant_id, dataset_id=dataset_id)
    found = session.execute(images_of(dataset_id).where(DatasetImage.position == position)).one_or_none()
    if found is None:
        raise NotFound(f"Dataset {dataset_id} has no picture at position {position}.")
    return Image.of(found)


def lint_of(session: Session, *, tenant_id: UUID, dataset_id: UUID) -> Lint:
    """What a dataset's pictures deserve a look for; where no report is kept, from what is known of them.

    Raises:
        NotFound: as for `get`.
    """
    dataset = get(session, tenant_id=tenant_id, dataset_id=dataset_id)
    if dataset.lint is not None:
        return Lint.model_validate(dataset.lint)
    images = [Image.of(row) for row in session.execute(images_of(dataset_id))]
    rejected = [Rejection.model_validate(one) for one in dataset.rejected]
    return Lint.model_validate(report(images, rejected=rejected))


def remove(session: Session, *, tenant_id: UUID, dataset_id: UUID) -> list[str]:
    """Delete a dataset, which is one version; its row stays, marked, for the jobs that were trained on it.

    The pictures that no other dataset of the tenant holds go with it.

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
    held = delete(DatasetImage).where(DatasetImage.dataset_id == dataset_id)
    hashes = session.scalars(held.returning(DatasetImage.sha256)).all()
    gone = forget(session, (StoredPicture.tenant_id == tenant_id) & among(hashes))
    return [preview_key(dataset_id), *(picture.key for picture in gone)]


def _of(tenant_id: UUID) -> Select[Dataset]:
    return select(Dataset).where(Dataset.tenant_id == tenant_id, Dataset.deleted_at.is_(None))


def _one(session: Session, query: Select[Dataset], dataset_id: UUID) -> Dataset:
    dataset = session.scalar(query)
    if dataset is None:
        raise NotFound(f"There is no dataset {dataset_id}.")
    return dataset
