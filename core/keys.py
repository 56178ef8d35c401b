"""Tenants and their API keys. A key is shown once, when it is made; only its hash is kept."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import ForeignKey, func, select, update
from sqlalchemy.dialects.postgresql import ARRAY, TEXT
from sqlalchemy.orm import Mapped, Session, mapped_column

from core.db import Base, make_engine
from core.settings import settings

SCOPES = ("read", "write", "admin")
PREFIX = "slg_"


class Tenant(Base):
    __tablename__ = "tenants"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    name: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ApiKey(Base):
    __tablename__ = "api_keys"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"), index=True)
    name: Mapped[str]
    sha256: Mapped[str] = mapped_column(unique=True)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(TEXT))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


@dataclass(frozen=True)
class Identity:
    """Who is asking: one key of one tenant, and what it may do."""

    key_id: UUID
    tenant_id: UUID
    scopes: frozenset[str]


def digest(token: str) -> str:
    """The stored form of a key. Keys carry 256 random bits, so a plain hash cannot be searched."""
    return hashlib.sha256(token.encode()).hexdigest()


def create_key(session: Session, *, tenant_id: UUID, name: str, scopes: tuple[str, ...] = SCOPES) -> str:
    """Make a key and return it; it cannot be read again."""
    token = PREFIX + secrets.token_urlsafe(32)
    session.add(ApiKey(tenant_id=tenant_id, name=name, sha256=digest(token), scopes=list(scopes)))
    return token


def authenticate(session: Session, token: str) -> Identity | None:
    """Find the identity behind a key; None for an unknown, expired or revoked one.

    The lookup is by hash: how long it takes tells nothing of the key.
    """
    key = session.execute(
        select(ApiKey.id, ApiKey.tenant_id, ApiKey.scopes).where(
            ApiKey.sha256 == digest(token),
            ApiKey.revoked_at.is_(None),
            ApiKey.expires_at.is_(None) | (ApiKey.expires_at > func.now()),
        )
    ).one_or_none()
    if key is None:
        return None
    return Identity(key_id=key.id, tenant_id=key.tenant_id, scopes=frozenset(key.scopes))


def ensure_local_key(database_url: str, *, tenant: str = "local", name: str = "local") -> str:
    """Make a fresh key for the tenant of a local stack (made too, if missing); an earlier one of its name is revoked.

    Args:
        database_url: of a migrated database.
        tenant: the tenant's name.
        name: the key's name; keys of other names stay as they are.
    """
    engine = make_engine(database_url)
    with Session(engine) as session, session.begin():
        found = session.scalar(select(Tenant).where(Tenant.name == tenant))
        owner = found or Tenant(id=uuid4(), name=tenant)
        session.add(owner)
        session.flush()
        session.execute(
            update(ApiKey)
            .where(ApiKey.tenant_id == owner.id, ApiKey.name == name, ApiKey.revoked_at.is_(None))
            .values(revoked_at=func.now())
        )
        token = create_key(session, tenant_id=owner.id, name=name)
    engine.dispose()
    return token


if __name__ == "__main__":
    print(ensure_local_key(settings().database_url))  # noqa: T201  # its purpose: a person reads the key here, once
