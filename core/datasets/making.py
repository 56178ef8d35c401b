"""From files that were sent to a dataset: the one way, however they came."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from core.datasets import ingest, service
from core.datasets.archives import sanitised
from core.settings import settings
from core.storage import store

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from uuid import UUID

    from sqlalchemy.orm import Session

    from core.datasets.tables import Dataset
    from core.schemas.datasets import LabelSource

MAX_TITLE_LENGTH = 200


def make(
    session: Session,
    files: Sequence[ingest.Upload],
    *,
    tenant_id: UUID,
    name: str,
    folder: Path,
    label_source: LabelSource,
) -> Dataset:
    """Make a dataset of pictures and archives; the caller commits.

    Args:
        session: unused until the pictures are stored.
        files: what was sent; they are used up.
        tenant_id: the owner.
        name: for people.
        folder: a scratch folder; its owner removes it.
        label_source: where the pictures' classes come from.

    Raises:
        ArchiveRejected, DatasetUnusable, LabelsUnusable: nothing can be made of them.
        StoreFull, StoreUnavailable: the pictures cannot be stored.
    """
    normalised = ingest.normalise_uploads(files, folder=folder, limits=settings(), label_source=label_source)
    return service.create(session, normalised, tenant_id=tenant_id, name=name, folder=folder, store=store())


def title_of(filename: str) -> str:
    """A dataset's name by that of its file, made fit to be shown."""
    stem = PurePosixPath(sanitised(filename)).stem
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in stem)[:MAX_TITLE_LENGTH]
