"""The key of a stack on one machine."""

from __future__ import annotations

from uuid import uuid4

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from core.audit import trail
from core.db import make_engine
from core.keys.identity import SCOPES, issue
from core.keys.tables import ApiKey, Tenant


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
        key, token = issue(session, tenant_id=owner.id, name=name, scopes=SCOPES)
        trail.record_operator(session, "create_local_key", tenant_id=owner.id, subject=str(key.id))
    engine.dispose()
    return token
