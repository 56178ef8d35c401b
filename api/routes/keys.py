"""API keys of a tenant: make, list, rotate, revoke; and which one asks."""

from __future__ import annotations

from uuid import UUID

from anyio import from_thread
from fastapi import APIRouter, Request, Response

from api.deps import ADMIN, BEARER, Cursor, Database, Limit, Tenant, Who
from api.idempotency import Once
from core.audit import trail
from core.keys import service
from core.keys.tables import ApiKey
from core.schemas.keys import CurrentKeyOut, KeyIn, KeyOut, NewKeyOut, RotateIn
from core.schemas.pages import Page

router = APIRouter(prefix="/v1/keys", tags=["keys"], dependencies=[BEARER])


@router.post(
    "",
    status_code=201,
    summary="Make a key; its token is shown once",
    dependencies=[ADMIN],
    response_model=NewKeyOut,
)
def create_key(body: KeyIn, who: Who, database: Database, once: Once) -> Response:
    once.begin(database)
    return _shown_once(database, *service.create(database, body, by=who), once)


@router.get("", summary="List the tenant's keys, the newest first", dependencies=[ADMIN])
def list_keys(tenant: Tenant, database: Database, limit: Limit = 50, cursor: Cursor = None) -> Page[KeyOut]:
    rows, next_cursor = service.page(database, tenant_id=tenant, limit=limit, cursor=cursor)
    items = [KeyOut.model_validate(row, from_attributes=True) for row in rows]
    return Page(items=items, next_cursor=next_cursor)


@router.get("/current", summary="The key that asks: whose it is, and what it may do")
def get_current_key(who: Who, database: Database) -> CurrentKeyOut:
    key, tenant = service.current(database, who)
    facts = KeyOut.model_validate(key, from_attributes=True).model_dump()
    return CurrentKeyOut(**facts, tenant_id=tenant.id, tenant=tenant.name)


# As a UUID, so that `current` is none: there DELETE is 405.
@router.delete("/{key_id:uuid}", status_code=204, summary="Revoke a key", dependencies=[ADMIN])
def revoke_key(key_id: UUID, tenant: Tenant, database: Database, request: Request) -> None:
    service.revoke(database, tenant_id=tenant, key_id=key_id)
    trail.about(database, key_id)
    database.commit()
    _forget(request, key_id)


@router.post(
    "/{key_id}/rotate",
    status_code=201,
    summary="A new token with the same name, scopes and end; the old one goes on for grace_s",
    dependencies=[ADMIN],
    response_model=NewKeyOut,
)
def rotate_key(
    key_id: UUID,
    who: Who,
    database: Database,
    request: Request,
    once: Once,
    body: RotateIn | None = None,
) -> Response:
    once.begin(database)
    grace_s = body.grace_s if body is not None else 0
    answer = _shown_once(database, *service.rotate(database, key_id=key_id, by=who, grace_s=grace_s), once)
    if grace_s == 0:
        _forget(request, key_id)
    return answer


def _shown_once(database: Database, key: ApiKey, token: str, once: Once) -> Response:
    """Told again under its Idempotency-Key, the answer lacks the token, which is kept nowhere."""
    trail.about(database, key.id)
    database.flush()
    database.refresh(key)
    facts = KeyOut.model_validate(key, from_attributes=True).model_dump()
    answer = once.commit(database, NewKeyOut(**facts, token=token), kept=NewKeyOut(**facts, token=None))
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _forget(request: Request, key_id: UUID) -> None:
    """Let this process look the key up anew; others do so within the setting key_cache_s."""
    from_thread.run_sync(request.app.state.identities.forget, key_id)
