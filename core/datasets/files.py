"""A dataset's pictures as files on this machine, for training and evaluating children."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from sqlalchemy import select

from core.datasets.tables import Dataset, DatasetImage
from core.errors import DataFailed
from core.storage import Store, sha256_of

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.orm import Session


@dataclass(frozen=True)
class DatasetFiles:
    """Which pictures a dataset has, in order, and where the store keeps them."""

    dataset_id: UUID
    content_hash: str
    images: tuple[tuple[str, str], ...]
    """Storage key and sha256 of each picture."""

    @classmethod
    def of(cls, session: Session, dataset_id: UUID) -> DatasetFiles:
        """Read them from the database, so that nothing of it is held while they are fetched."""
        dataset = session.get_one(Dataset, dataset_id)
        rows = session.execute(
            select(DatasetImage.storage_key, DatasetImage.sha256)
            .where(DatasetImage.dataset_id == dataset_id)
            .order_by(DatasetImage.position)
        )
        return cls(dataset_id, dataset.content_hash, tuple((key, sha256) for key, sha256 in rows))

    @property
    def count(self) -> int:
        """How many pictures."""
        return len(self.images)


def fetch_images(files: DatasetFiles, store: Store, *, cache_dir: Path) -> Path:
    """Give the folder with a dataset's pictures, fetched once a machine; file names sort in the dataset's order.

    Raises:
        InfrastructureError: the store cannot be reached.
        DataFailed: a stored picture is not what was stored.
    """
    folder = cache_dir / "datasets" / str(files.dataset_id)
    if folder.is_dir():
        return folder
    temporary = folder.with_name(f".{uuid4().hex}")
    temporary.mkdir(parents=True)
    try:
        for position, (key, sha256) in enumerate(files.images):
            target = temporary / f"{position:05d}.png"
            store.fetch(key, target)
            if sha256_of(target) != sha256:
                raise DataFailed(
                    f"The stored picture {key} is damaged: its sha256 is not {sha256}. Upload it again."
                )
        try:
            temporary.rename(folder)
        except OSError:
            if not folder.is_dir():  # Else another worker was first, with the same bytes.
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder
