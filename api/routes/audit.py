"""Who changed what."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from api.deps import ADMIN, BEARER, Cursor, Database, Limit, Tenant
from core.audit import trail
from core.schemas.audit import AuditEntryOut
from core.schemas.pages import Page

router = APIRouter(prefix="/v1/audit", tags=["audit"], dependencies=[BEARER])


@router.get("", summary="The tenant's audit trail, the newest first", dependencies=[ADMIN])
def list_audit_entries(
    tenant: Tenant,
    database: Database,
    action: Annotated[str | None, Query(max_length=100, description="Only this operationId")] = None,
    key_id: Annotated[UUID | None, Query(description="Only changes made with this key")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[AuditEntryOut]:
    rows, next_cursor = trail.page(
        database, tenant_id=tenant, action=action, key_id=key_id, limit=limit, cursor=cursor
    )
    items = [AuditEntryOut.model_validate(row, from_attributes=True) for row in rows]
    return Page(items=items, next_cursor=next_cursor)
