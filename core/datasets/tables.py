"""Datasets, their pictures, and what the store holds of those. A dataset never changes once it is made."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from core.db import Base


def _own_id(context: Any) -> UUID:
    own: UUID = context.get_current_parameters()["id"]
    return own


class Dataset(Base):
    """One version of a series. The first one's id names the series, also when that row is gone.

    `added_count` and `removed_count` are pictures, against the parent; the first version has added all that it holds.
    `classes` counts its pictures by their labels, in the order of the names; null where none has one.
    """

    __tablename__ = "datasets"
    __table_args__ = (
        CheckConstraint("image_count >= 4", name="enough_images"),
        CheckConstraint("(version = 1) = (parent_id is null)", name="first_without_parent"),
        UniqueConstraint("series_id", "version"),
        Index(None, "tenant_id", "created_at", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"))
    series_id: Mapped[UUID] = mapped_column(default=_own_id)
    version: Mapped[int] = mapped_column(default=1, server_default=text("1"))
    parent_id: Mapped[UUID | None]
    name: Mapped[str]
    image_count: Mapped[int]
    added_count: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    removed_count: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    content_hash: Mapped[str]
    rejected: Mapped[list[Any]] = mapped_column(default=list)
    lint: Mapped[dict[str, Any] | None]
    classes: Mapped[list[Any] | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    deleted_at: Mapped[datetime | None]


class StoredPicture(Base):
    """A tenant's only copy of a picture in the store: there once a dataset holds it, else perhaps on its way.

    `touched_at` is when an upload last brought it. The key was made with the row, and is used for no other row.
    """

    __tablename__ = "pictures"

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"), primary_key=True)
    sha256: Mapped[str] = mapped_column(primary_key=True)
    storage_key: Mapped[str] = mapped_column(unique=True)
    width: Mapped[int]
    height: Mapped[int]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    touched_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class DatasetImage(Base):
    """Which picture stands at a position of a dataset, what it was called there, and of which class it is."""

    __tablename__ = "dataset_images"
    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "sha256"], ["pictures.tenant_id", "pictures.sha256"], ondelete="RESTRICT"
        ),
        Index(None, "tenant_id", "sha256"),
    )

    dataset_id: Mapped[UUID] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID]
    sha256: Mapped[str]
    name: Mapped[str]
    facts: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    label: Mapped[str | None]
