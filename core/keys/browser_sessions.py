"""Sessions of browsers: a key is exchanged for a token of its own, so that the key is in no browser's store.

A session opens what its key opens, and ends with it.
"""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import delete, func, select

from core.keys.identity import Identity, digest, live
from core.keys.tables import ApiKey, BrowserSession

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

# No key begins like this, and no session opens as a key.
PREFIX = "slgs_"
# Of one key at a time; the oldest give way.
MAX_SESSIONS = 50


def begin(session: Session, identity: Identity, *, lasts_s: int) -> str:
    """Sign a browser in; the caller commits.

    Args:
        session: of the database.
        identity: of the key that was shown.
        lasts_s: the session's time.

    Returns:
        Its token, which cannot be read again.
    """
    newest = (
        select(BrowserSession.sha256)
        .where(BrowserSession.key_id == identity.key_id)
        .order_by(BrowserSession.created_at.desc())
        .limit(MAX_SESSIONS - 1)
    )
    session.execute(
        delete(BrowserSession).where(
            BrowserSession.key_id == identity.key_id, BrowserSession.sha256.not_in(newest)
        )
    )
    token = PREFIX + secrets.token_urlsafe(32)
    session.add(
        BrowserSession(
            sha256=digest(token),
            key_id=identity.key_id,
            expires_at=func.clock_timestamp() + timedelta(seconds=lasts_s),
        )
    )
    session.flush()
    return token


def end(session: Session, token: str) -> bool:
    """Sign a browser out; the caller commits.

    Returns:
        Whether there was such a session.
    """
    gone = session.scalars(
        delete(BrowserSession).where(BrowserSession.sha256 == digest(token)).returning(BrowserSession.sha256)
    )
    return gone.first() is not None


def authenticate(session: Session, token: str) -> Identity | None:
    """The identity of the key behind a session; None where the session is unknown or over, or its key is."""
    key = session.execute(
        select(ApiKey.id, ApiKey.tenant_id, ApiKey.scopes)
        .join(BrowserSession, BrowserSession.key_id == ApiKey.id)
        .where(
            BrowserSession.sha256 == digest(token),
            BrowserSession.expires_at > func.clock_timestamp(),
            live(),
        )
    ).one_or_none()
    if key is None:
        return None
    return Identity(key_id=key.id, tenant_id=key.tenant_id, scopes=frozenset(key.scopes))


def forget_ended(session: Session, *, limit: int) -> int:
    """Remove sessions that open nothing any more; the caller commits.

    Returns:
        How many were removed, at most `limit`.
    """
    dead = select(ApiKey.id).where(~live())
    ended = (
        select(BrowserSession.sha256)
        .where((BrowserSession.expires_at < func.clock_timestamp()) | BrowserSession.key_id.in_(dead))
        .limit(limit)
    )
    gone = session.scalars(
        delete(BrowserSession).where(BrowserSession.sha256.in_(ended)).returning(BrowserSession.sha256)
    )
    return len(gone.all())
