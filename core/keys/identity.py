"""Tokens, and who stands behind one."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, func, select

from core.keys.tables import ApiKey

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from sqlalchemy.orm import Session

SCOPES = ("read", "write", "admin")
PREFIX = "slg_"
_HINT_LENGTH = len(PREFIX) + 4


@dataclass(frozen=True)
class Identity:
    """Who is asking: one key of one tenant, and what it may do."""

    key_id: UUID
    tenant_id: UUID
    scopes: frozenset[str]


def digest(token: str) -> str:
    """The stored form of a key. Keys carry 256 random bits, so a plain hash cannot be searched."""
    return hashlib.sha256(token.encode()).hexdigest()


def issue(
    session: Session,
    *,
    tenant_id: UUID,
    name: str,
    scopes: Iterable[str],
    expires_at: datetime | None = None,
) -> tuple[ApiKey, str]:
    """Make a key.

    Returns:
        Its row, and the token, which cannot be read again.
    """
    token = PREFIX + secrets.token_urlsafe(32)
    key = ApiKey(
        id=uuid4(),
        tenant_id=tenant_id,
        name=name,
        sha256=digest(token),
        hint=token[:_HINT_LENGTH],
        scopes=[scope for scope in SCOPES if scope in frozenset(scopes)],
        expires_at=expires_at,
    )
    session.add(key)
    session.flush()
    return key, token


def create_key(session: Session, *, tenant_id: UUID, name: str, scopes: tuple[str, ...] = SCOPES) -> str:
    """Make a key and return its token; it cannot be read again."""
    return issue(session, tenant_id=tenant_id, name=name, scopes=scopes)[1]


def live() -> ColumnElement[bool]:
    """The condition that a key is neither revoked nor, by the database's clock, expired."""
    lasts = ApiKey.expires_at.is_(None) | (ApiKey.expires_at > func.clock_timestamp())
    return ApiKey.revoked_at.is_(None) & lasts


def live_among(session: Session, key_ids: Iterable[UUID]) -> set[UUID]:
    """Those of some keys that are live."""
    return set(session.scalars(select(ApiKey.id).where(ApiKey.id.in_(key_ids), live())))


def authenticate(session: Session, token: str) -> Identity | None:
    """Find the identity behind a key; None for an unknown, expired or revoked one.

    The lookup is by SHA-256, in an index. How long it takes may tell how far the digest of what was sent agrees with
    a stored one; but nobody can choose a token by its digest, bit after bit, and from a digest no token follows. So
    nothing of a token is ever compared here, in constant time or otherwise.
    """
    key = session.execute(
        select(ApiKey.id, ApiKey.tenant_id, ApiKey.scopes).where(ApiKey.sha256 == digest(token), live())
    ).one_or_none()
    if key is None:
        return None
    return Identity(key_id=key.id, tenant_id=key.tenant_id, scopes=frozenset(key.scopes))
