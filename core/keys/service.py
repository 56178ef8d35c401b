"""What a tenant may do with its keys: make, list, rotate, revoke. Each function is bound to one tenant."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, NoReturn

from sqlalchemy import func, select

from core.audit import trail
from core.errors import Conflict, Forbidden, InvalidRequest, NotFound, QuotaExceeded
from core.keys.identity import SCOPES, issue, live
from core.keys.tables import ApiKey, Tenant
from core.pages import newest_first
from core.schemas.keys import MAX_GRACE_S

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy.orm import Session

    from core.keys.identity import Identity
    from core.schemas.keys import KeyIn

MAX_LIVE = 100


def create(session: Session, asked: KeyIn, *, by: Identity) -> tuple[ApiKey, str]:
    """Make a key for the tenant of the one that asks.

    Args:
        session: the caller commits.
        asked: its name, scopes and end.
        by: who asks; it gives only what it has.

    Returns:
        The key, and its token, which cannot be read again.

    Raises:
        Forbidden: a scope that the asking key lacks.
        InvalidRequest: the end lies in the past.
        QuotaExceeded: the tenant has too many live keys.
    """
    _check_gift(asked.scopes, by=by)
    _check_room(session, by.tenant_id)
    if asked.expires_at is not None and asked.expires_at <= _now(session):
        raise InvalidRequest(f"expires_at is {asked.expires_at.isoformat()}, which is not in the future.")
    return issue(
        session,
        tenant_id=by.tenant_id,
        name=asked.name,
        scopes=asked.scopes,
        expires_at=asked.expires_at,
    )


def page(
    session: Session, *, tenant_id: UUID, limit: int, cursor: str | None
) -> tuple[list[ApiKey], str | None]:
    """The tenant's keys, the newest first, revoked and expired ones among them."""
    query = select(ApiKey).where(ApiKey.tenant_id == tenant_id)
    return newest_first(session, query, table=ApiKey, limit=limit, cursor=cursor)


def current(session: Session, identity: Identity) -> tuple[ApiKey, Tenant]:
    """The key that asks, and its tenant."""
    return session.get_one(ApiKey, identity.key_id), session.get_one(Tenant, identity.tenant_id)


def revoke(session: Session, *, tenant_id: UUID, key_id: UUID) -> ApiKey:
    """End a key at once; twice is no error. The caller commits.

    Raises:
        NotFound: the tenant has no such key.
        Conflict: it is the last one with which keys can be made.
    """
    key = _locked(session, tenant_id=tenant_id, key_id=key_id)
    if key.revoked_at is None:
        if _is_admin(key) and _is_live(session, key) and not _another_admin(session, key):
            raise Conflict(
                f"{key.name!r} is the last live key with the scope admin (those that end within a day do not "
                "count): make another one first, or rotate this one."
            )
        key.revoked_at = _now(session)
        session.flush()
    else:
        trail.unchanged(session)
    return key


def rotate(session: Session, *, key_id: UUID, by: Identity, grace_s: int) -> tuple[ApiKey, str]:
    """Make a new token for a key, with its name, its scopes and its end; the old one goes on for a while.

    Args:
        session: the caller commits.
        key_id: the old key.
        by: who asks.
        grace_s: how long the old token still opens what it opened; 0: it is revoked at once.

    Returns:
        The new key, and its token, which cannot be read again.

    Raises:
        NotFound: the tenant has no such key.
        Forbidden: the key has a scope that the asking one lacks.
        Conflict: it is revoked, expired or rotated already.
        QuotaExceeded: with the old one that goes on, the tenant would have too many live keys.
    """
    old = _locked(session, tenant_id=by.tenant_id, key_id=key_id)
    _check_gift(old.scopes, by=by)
    if old.replaced_by is not None or not _is_live(session, old):
        _refuse_old(old)
    if grace_s:
        _check_room(session, by.tenant_id)
    new, token = issue(
        session, tenant_id=old.tenant_id, name=old.name, scopes=old.scopes, expires_at=old.expires_at
    )
    now = _now(session)
    if grace_s:
        until = now + timedelta(seconds=grace_s)
        old.expires_at = until if old.expires_at is None else min(old.expires_at, until)
    else:
        old.revoked_at = now
    old.replaced_by = new.id
    session.flush()
    return new, token


def _refuse_old(key: ApiKey) -> NoReturn:
    if key.replaced_by is not None:
        raise Conflict(f"Key {key.id} is rotated already: its successor is {key.replaced_by}.")
    what = "revoked" if key.revoked_at is not None else "expired"
    raise Conflict(f"Key {key.id} is {what}: make a new one instead.")


def _check_gift(scopes: Iterable[str], *, by: Identity) -> None:
    lacking = [scope for scope in SCOPES if scope in scopes and scope not in by.scopes]
    if lacking:
        raise Forbidden(
            f"A key cannot give what it lacks: {', '.join(lacking)}.",
            needed=lacking[0],
            scopes=sorted(by.scopes),
        )


def _check_room(session: Session, tenant_id: UUID) -> None:
    _lock(session, tenant_id)
    found = session.scalar(select(func.count()).where(ApiKey.tenant_id == tenant_id, live())) or 0
    if found >= MAX_LIVE:
        raise QuotaExceeded(
            f"You have {found} live keys, and {MAX_LIVE} may be: revoke those that nobody uses.",
            live=found,
            max_live=MAX_LIVE,
        )


def _locked(session: Session, *, tenant_id: UUID, key_id: UUID) -> ApiKey:
    _lock(session, tenant_id)
    key = session.scalar(
        select(ApiKey).where(ApiKey.id == key_id, ApiKey.tenant_id == tenant_id).with_for_update()
    )
    if key is None:
        raise NotFound(f"There is no key {key_id}.")
    return key


def _lock(session: Session, tenant_id: UUID) -> None:
    """One change of a tenant's keys at a time: two requests cannot revoke the last two, or make a 101st."""
    session.execute(select(Tenant.id).where(Tenant.id == tenant_id).with_for_update(key_share=True))


def _is_admin(key: ApiKey) -> bool:
    return {"write", "admin"} <= set(key.scopes)


def _is_live(session: Session, key: ApiKey) -> bool:
    return session.scalar(select(ApiKey.id).where(ApiKey.id == key.id, live())) is not None


def _another_admin(session: Session, key: ApiKey) -> bool:
    # A rotated key's old token ends within a day: it must not be all that is left.
    lasting = func.clock_timestamp() + timedelta(seconds=MAX_GRACE_S)
    return (
        session.scalar(
            select(ApiKey.id)
            .where(ApiKey.tenant_id == key.tenant_id, ApiKey.id != key.id, ApiKey.revoked_at.is_(None))
            .where(ApiKey.expires_at.is_(None) | (ApiKey.expires_at > lasting))
            .where(ApiKey.scopes.contains(["write", "admin"]))
            .limit(1)
        )
        is not None
    )


def _now(session: Session) -> datetime:
    now: datetime = session.scalars(select(func.clock_timestamp())).one()
    return now
