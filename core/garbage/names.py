"""Which files in the store rows name: the one place that knows every column with a key.

A file is put into the store before its row is committed, under a key that is used once and never again (an attempt's,
a dataset's); only a picture's row comes first. So a file without a row is either on its way to one, or nobody's for
ever.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.exc import DBAPIError

from core.datasets.ingest import preview_key
from core.datasets.tables import Dataset, StoredPicture
from core.db import sessions
from core.evaluations.tables import Evaluation
from core.jobs.tables import Checkpoint, Sample
from core.logs.tables import LogChunk
from core.renderings.tables import RenderedFile
from core.storage import remove, store

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.orm import Session

logger = logging.getLogger(__name__)

# Every file lies under one of these folders; what lies elsewhere in the store is not the service's garbage.
FOLDERS = ("datasets", "jobs", "pictures")
# A test holds this against the tables: a new column with a key belongs here before anything is written to it.
COLUMNS = (
    Checkpoint.storage_key,
    Evaluation.picture_key,
    LogChunk.storage_key,
    RenderedFile.storage_key,
    Sample.storage_key,
    StoredPicture.storage_key,
)
_PREVIEW = re.compile(r"datasets/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/preview\.jpg")


def named(session: Session, keys: Iterable[str]) -> set[str]:
    """Those of some keys that a row names now; a dataset that is not deleted names its preview."""
    asked = list(keys)
    found: set[str] = set()
    for column in COLUMNS:
        found.update(key for key in session.scalars(select(column).where(column.in_(asked))) if key)
    previews = [UUID(match[1]) for key in asked if (match := _PREVIEW.fullmatch(key))]
    if previews:
        kept = select(Dataset.id).where(Dataset.id.in_(previews), Dataset.deleted_at.is_(None))
        found.update(preview_key(dataset_id) for dataset_id in session.scalars(kept))
    return found


def nameless(session: Session, keys: Iterable[str]) -> list[str]:
    """Those of some keys that no row names."""
    asked = set(keys)
    return sorted(asked - named(session, asked))


def clear(keys: list[str]) -> None:
    """Delete those of some files that no row names; where nobody can say which, all stay.

    For who wrote the files, and has written their rows or will not any more.
    """
    try:
        with sessions()() as session:
            found = nameless(session, keys)
    except DBAPIError as error:
        logger.warning("Nobody can say which of %s have rows, so they stay: %s", keys, error)
    else:
        remove(found, store=store())
