"""Webhooks: what became of a job's deliveries, once more on demand, and the secret that signs them."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter

from api.deps import ADMIN, BEARER, Cursor, Database, Limit, Tenant
from core.broker import wake
from core.schemas.pages import Page
from core.schemas.webhooks import DeliveryOut, WebhookSecretOut
from core.settings import settings
from core.webhooks import service, signing

router = APIRouter(prefix="/v1", tags=["webhooks"], dependencies=[BEARER])


@router.get("/jobs/{job_id}/deliveries", summary="The deliveries of a job's events, the newest first")
def list_deliveries(
    job_id: UUID, tenant: Tenant, database: Database, limit: Limit = 50, cursor: Cursor = None
) -> Page[DeliveryOut]:
    rows, next_cursor = service.page(database, tenant_id=tenant, job_id=job_id, limit=limit, cursor=cursor)
    items = [DeliveryOut.model_validate(row, from_attributes=True) for row in rows]
    return Page(items=items, next_cursor=next_cursor)


@router.post(
    "/deliveries/{delivery_id}/redeliver", summary="Deliver it now, also what was delivered or given up"
)
def redeliver(delivery_id: UUID, tenant: Tenant, database: Database) -> DeliveryOut:
    row = service.redeliver(database, tenant_id=tenant, delivery_id=delivery_id)
    database.commit()
    wake("deliver_webhooks")
    return DeliveryOut.model_validate(row, from_attributes=True)


@router.get("/webhook-secret", summary="What your webhooks are signed with", dependencies=[ADMIN])
def get_webhook_secret(tenant: Tenant, database: Database) -> WebhookSecretOut:
    row = signing.secret_of(database, tenant)
    database.commit()
    return signing.described(row, overlap_s=settings().webhook_rotation_s)


@router.post(
    "/webhook-secret/rotate",
    summary="Change the secret; the old one signs too for a day",
    dependencies=[ADMIN],
)
def rotate_webhook_secret(tenant: Tenant, database: Database) -> WebhookSecretOut:
    row = signing.rotate(database, tenant)
    database.commit()
    return signing.described(row, overlap_s=settings().webhook_rotation_s)
