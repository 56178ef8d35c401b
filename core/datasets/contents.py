"""What a dataset holds: its pictures, in order, as they are stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Row, Select, select

from core.datasets.facts import Facts
from core.datasets.tables import DatasetImage, StoredPicture

if TYPE_CHECKING:
    from uuid import UUID


class Image(NamedTuple):
    """A picture at its position in a dataset."""

    position: int
    name: str
    sha256: str
    width: int
    height: int
    size_bytes: int
    storage_key: str
    facts: Facts
    label: str | None = None

    @classmethod
    def of(cls, row: Row[int, str, str, int, int, int, str, dict[str, Any], str | None]) -> Image:
        """From a row of `images_of`."""
        return cls._make((*row[:-2], Facts.model_validate(row[-2]), row[-1]))


def images_of(dataset_id: UUID) -> Select[int, str, str, int, int, int, str, dict[str, Any], str | None]:
    """The columns of each `Image` of a dataset, by position."""
    return (
        select(
            DatasetImage.position,
            DatasetImage.name,
            DatasetImage.sha256,
            StoredPicture.width,
            StoredPicture.height,
            StoredPicture.size_bytes,
            StoredPicture.storage_key,
            DatasetImage.facts,
            DatasetImage.label,
        )
        .join(
            StoredPicture,
            (StoredPicture.tenant_id == DatasetImage.tenant_id)
            & (StoredPicture.sha256 == DatasetImage.sha256),
        )
        .where(DatasetImage.dataset_id == dataset_id)
        .order_by(DatasetImage.position)
    )
