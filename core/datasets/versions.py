"""New versions of a dataset: the newest one's pictures without some, and with more. In the store nothing is copied.

Only the newest version has children, so that two people who change a dataset at once lose nothing of each other's.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from sqlalchemy import func, select

from core.datasets import service
from core.datasets.contents import Image, images_of
from core.datasets.ingest import MIN_PICTURES, Normalised, preview_key
from core.datasets.labels import counted, require_few
from core.datasets.pictures import SHEET_PICTURES, Picture, contact_sheet
from core.datasets.storing import stored
from core.datasets.tables import Dataset
from core.db import reading
from core.errors import Conflict, DatasetUnusable, InvalidRequest
from core.schemas.datasets import Rejection
from core.settings import settings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sqlalchemy.orm import Session

    from core.storage import Store


@dataclass(frozen=True)
class _Change:
    """What a version keeps of its parent's pictures, in their order, and what comes behind them."""

    kept: list[Image]
    added: list[Picture]
    rejected: list[Rejection]
    removed_count: int

    @property
    def images(self) -> list[Image | Picture]:
        """All that the version holds, in order."""
        return [*self.kept, *self.added]

    @property
    def size_bytes(self) -> int:
        return sum(image.size_bytes for image in self.images)


def create(
    session: Session,
    parent_id: UUID,
    *,
    tenant_id: UUID,
    normalised: Normalised,
    remove: Sequence[str],
    name: str,
    folder: Path,
    store: Store,
) -> Dataset:
    """Make the next version of a dataset.

    Args:
        session: as of `service.create`; the caller commits.
        parent_id: the newest version.
        tenant_id: the owner.
        normalised: the pictures to add; those that stay in the dataset anyway are told as duplicates, and take the
            class that they come with.
        remove: which of the parent's pictures to leave out: each a position, a sha256 or a name.
        name: for people; that of the parent if empty.
        folder: a scratch folder.
        store: the artifact store.

    Raises:
        NotFound: the tenant has no such dataset.
        Conflict: it is not the newest version; `details.newest` names that.
        InvalidRequest: something to remove is not there, or could be several pictures; or there would be too many.
        LabelsUnusable: there would be too many classes.
        DatasetUnusable: nothing would change, or fewer than four pictures would be left.
        StoreFull: the store is full.
        StoreUnavailable: the store cannot be reached.
    """
    with reading() as before:
        parent = require_newest(before, tenant_id=tenant_id, dataset_id=parent_id)
        there = [Image.of(row) for row in before.execute(images_of(parent_id))]
    change = _change(there, normalised, remove=remove, version=parent.version)
    dataset = _row(change, parent=parent, name=name)
    beside = {preview_key(dataset.id): _sheet(change, folder=folder, store=store)}
    with stored(session, change.added, beside=beside, tenant_id=tenant_id, store=store):
        # While the parent is locked nobody makes another version of it, or deletes it and the pictures that it holds.
        require_newest(session, tenant_id=tenant_id, dataset_id=parent_id, lock=True)
        numbers = select(func.max(Dataset.version)).where(Dataset.series_id == parent.series_id)
        dataset.version = session.scalars(numbers).one() + 1
        service.write(session, dataset, images=[service.Placed.of(image) for image in change.images])
    return dataset


def _row(change: _Change, *, parent: Dataset, name: str) -> Dataset:
    """The version's row, still without its number."""
    hashes = "".join(image.sha256 for image in change.images)
    return Dataset(
        id=uuid4(),
        tenant_id=parent.tenant_id,
        series_id=parent.series_id,
        parent_id=parent.id,
        name=name or parent.name,
        image_count=len(change.images),
        added_count=len(change.added),
        removed_count=change.removed_count,
        size_bytes=change.size_bytes,
        content_hash=hashlib.sha256(hashes.encode()).hexdigest(),
        rejected=[rejection.model_dump() for rejection in change.rejected],
        lint=service.report(change.images, rejected=change.rejected),
        classes=counted(image.label for image in change.images),
    )


def require_newest(session: Session, *, tenant_id: UUID, dataset_id: UUID, lock: bool = False) -> Dataset:
    """A dataset of this tenant that is the newest version of its series.

    Args:
        session: for one or two reads.
        tenant_id: the owner.
        dataset_id: the version.
        lock: keep it from being deleted, and from having a child, until the transaction ends.

    Raises:
        NotFound: as of `service.get`.
        Conflict: there is a newer one.
    """
    get = service.lock if lock else service.get
    dataset = get(session, tenant_id=tenant_id, dataset_id=dataset_id)
    newest = session.scalar(
        select(Dataset)
        .where(
            Dataset.series_id == dataset.series_id,
            Dataset.version > dataset.version,
            Dataset.deleted_at.is_(None),
        )
        .order_by(Dataset.version.desc())
        .limit(1)
    )
    if newest is not None:
        raise Conflict(
            f"Dataset {dataset_id} is version {dataset.version}, and the newest is version {newest.version}, "
            f"{newest.id}: look at what changed there, and make your change to that.",
            newest=str(newest.id),
            version=newest.version,
        )
    return dataset


def _change(there: list[Image], normalised: Normalised, *, remove: Sequence[str], version: int) -> _Change:
    named = _by_name(there) if remove else {}
    gone = {_found(named, which, version=version).position for which in remove}
    kept = [image for image in there if image.position not in gone]
    added, rejected, relabelled = _taken(normalised, kept=kept, version=version)
    facts = {"usable": len(kept) + len(added), "rejected": [rejection.model_dump() for rejection in rejected]}
    if not gone and not added and not relabelled:
        raise DatasetUnusable(
            f"The new version would be the same as version {version}: {_none_of(rejected)} a picture that it lacks, "
            f"and none is to be removed.{' See details.rejected for the reasons.' if rejected else ''}",
            **facts,
        )
    if len(kept) + len(added) < MIN_PICTURES:
        raise DatasetUnusable(
            f"The new version would have {len(kept) + len(added)} pictures; at least {MIN_PICTURES} are needed. Remove "
            "fewer, or add some.",
            needed=MIN_PICTURES,
            **facts,
        )
    most = settings().max_dataset_images
    if added and len(kept) + len(added) > most:
        raise InvalidRequest(
            f"The new version would have {len(kept) + len(added)} pictures; {most} are allowed. Remove some, or add "
            "fewer."
        )
    labels = (*(image.label for image in kept), *(picture.label for picture in added))
    require_few(label for label in labels if label is not None)
    return _Change(kept, added, rejected, removed_count=len(there) - len(kept))


def _taken(
    normalised: Normalised, *, kept: list[Image], version: int
) -> tuple[list[Picture], list[Rejection], bool]:
    """What an upload adds, what it does not, and whether it gave another class to any of `kept`, which is changed."""
    places = {image.sha256: place for place, image in enumerate(kept)}
    added, rejected, relabelled = list[Picture](), list(normalised.rejected), False
    for picture in normalised.pictures:
        if (place := places.get(picture.sha256)) is None:
            added.append(picture)
            continue
        known = kept[place]
        reason = f"The picture is the same, pixel by pixel, as {known.name!r} of version {version}."
        if picture.label is not None and picture.label != known.label:
            kept[place] = known._replace(label=picture.label)
            relabelled = True
            reason += f" Its class is {picture.label!r} now."
        rejected.append(Rejection(name=picture.name, code="duplicate", reason=reason))
    # Files first, as in a first version's list.
    return added, sorted(rejected, key=lambda rejection: rejection.is_of_label), relabelled


def _none_of(rejected: list[Rejection]) -> str:
    match sum(not rejection.is_of_label for rejection in rejected):
        case 0:
            return "nothing that was sent is"
        case 1:
            return "the one file that was sent is not"
        case many:
            return f"none of the {many} files that were sent is"


def _by_name(there: list[Image]) -> dict[str, list[Image]]:
    """Pictures by all that they may be called: position, sha256 and name."""
    named: dict[str, list[Image]] = {}
    for image in there:
        for name in {str(image.position), image.sha256, image.name}:
            named.setdefault(name, []).append(image)
    return named


def _found(named: dict[str, list[Image]], which: str, *, version: int) -> Image:
    """The picture that somebody means by its position, its sha256 or its name."""
    found = named.get(which, [])
    if len(found) == 1:
        return found[0]
    if not found:
        raise InvalidRequest(
            f"Version {version} has no picture {which[:200]!r} to remove: give its position, its sha256 or its name, "
            "as GET /v1/datasets/{id}/images tells them."
        )
    positions = ", ".join(str(image.position) for image in found[:20])
    raise InvalidRequest(
        f"{which[:200]!r} could be any of {len(found)} pictures of version {version} (at the positions {positions}): "
        "give the sha256 of the one to remove.",
        positions=[image.position for image in found],
    )


def _sheet(change: _Change, *, folder: Path, store: Store) -> Path:
    """A contact sheet of the first pictures; those that are kept come from the store."""
    shown: list[Picture] = []
    for image in change.kept[:SHEET_PICTURES]:
        path = folder / f"kept-{image.position:05d}.png"
        store.fetch(image.storage_key, path)
        shown.append(Picture(image.name, path, image.width, image.height, image.size_bytes, image.sha256))
    sheet = folder / "preview.jpg"
    contact_sheet([*shown, *change.added], target=sheet)
    return sheet
