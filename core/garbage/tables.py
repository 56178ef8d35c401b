"""Which service a database is, so that a store can tell whose it is."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import func
from sqlalchemy.orm import Mapped, mapped_column

from core.db import Base


class Service(Base):
    """One row, written by the migration."""

    __tablename__ = "service"

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=func.gen_random_uuid())
