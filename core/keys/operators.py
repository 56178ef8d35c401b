"""What who runs the service does with tenants: on its database, since no key reaches beyond its own tenant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert

from core.audit import trail
from core.errors import Conflict, NotFound
from core.keys.identity import SCOPES, issue, live
from core.keys.tables import ApiKey, Tenant

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy.orm import Session


@dataclass(frozen=True)
class TenantFacts:
    """A tenant, as an operator sees it."""

    name: str
    created_at: datetime
    live_keys: int
    last_used_at: datetime | None


def create_tenant(session: Session, name: str) -> tuple[ApiKey, str]:
    """Make a tenant, and its first key, with all scopes; the caller commits.

    Raises:
        Conflict: there is one of that name.
    """
    statement = insert(Tenant).values(id=uuid4(), name=name).on_conflict_do_nothing(index_elements=["name"])
    tenant_id = session.scalar(statement.returning(Tenant.id))
    if tenant_id is None:
        raise Conflict(
            f"There is a tenant {name!r} already: `slaegan tenants key {name}` makes another key for it."
        )
    trail.record_operator(session, "create_tenant", tenant_id=tenant_id, subject=name)
    return _issued(session, tenant_id, name="first", scopes=SCOPES, expires_at=None)


def tenants(session: Session) -> list[TenantFacts]:
    """All tenants, by name."""
    query = (
        select(
            Tenant.name,
            Tenant.created_at,
            func.count(ApiKey.id).filter(live()),
            func.max(ApiKey.last_used_at),
        )
        .outerjoin(ApiKey, ApiKey.tenant_id == Tenant.id)
        .group_by(Tenant.id)
        .order_by(Tenant.name)
    )
    return [TenantFacts(*row) for row in session.execute(query)]


def create_key_for(
    session: Session, tenant: str, *, name: str, scopes: Iterable[str], expires_at: datetime | None
) -> tuple[ApiKey, str]:
    """Make a key for a tenant, for example for one that has lost its own; the caller commits.

    Raises:
        NotFound: there is no such tenant.
    """
    tenant_id = session.scalar(select(Tenant.id).where(Tenant.name == tenant))
    if tenant_id is None:
        known = ", ".join(session.scalars(select(Tenant.name).order_by(Tenant.name))) or "none"
        raise NotFound(f"There is no tenant {tenant!r}; known are: {known}.")
    return _issued(session, tenant_id, name=name, scopes=scopes, expires_at=expires_at)


def revoke_key(session: Session, key_id: UUID) -> None:
    """End any tenant's key, also its last one; twice is no error. The caller commits.

    Raises:
        NotFound: there is no such key.
    """
    tenant_id = session.scalar(
        update(ApiKey)
        .where(ApiKey.id == key_id)
        .values(revoked_at=func.coalesce(ApiKey.revoked_at, func.clock_timestamp()))
        .returning(ApiKey.tenant_id)
    )
    if tenant_id is None:
        raise NotFound(f"There is no key {key_id}.")
    trail.record_operator(session, "revoke_key", tenant_id=tenant_id, subject=str(key_id))


def _issued(
    session: Session, tenant_id: UUID, *, name: str, scopes: Iterable[str], expires_at: datetime | None
) -> tuple[ApiKey, str]:
    key, token = issue(session, tenant_id=tenant_id, name=name, scopes=scopes, expires_at=expires_at)
    trail.record_operator(session, "create_key", tenant_id=tenant_id, subject=str(key.id))
    return key, token
