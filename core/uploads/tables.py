"""Uploads that can be gone on with. The row says how much of the file counts; the bytes lie on a machine's disk."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, func
from sqlalchemy.orm import Mapped, mapped_column

from core.db import Base

if TYPE_CHECKING:
    from core.schemas.uploads import UploadStatus


class Upload(Base):
    """One file on its way. What lies in the file behind `received_bytes` counts for nothing."""

    __tablename__ = "uploads"
    __table_args__ = (
        CheckConstraint("received_bytes between 0 and length_bytes", name="received"),
        CheckConstraint("dataset_id is null or received_bytes = length_bytes", name="whole_in_a_dataset"),
        Index(None, "tenant_id", "created_at", "id"),
        Index(None, "expires_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    filename: Mapped[str]
    metadata_header: Mapped[str]
    length_bytes: Mapped[int] = mapped_column(BigInteger)
    received_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    dataset_id: Mapped[UUID | None] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]

    @property
    def status(self) -> UploadStatus:
        """What can be done with it now."""
        if self.dataset_id is not None:
            return "finalised"
        return "complete" if self.received_bytes == self.length_bytes else "receiving"
