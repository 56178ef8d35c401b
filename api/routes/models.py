"""Model families, and the workers that train them."""

from __future__ import annotations

from datetime import timedelta

from fastapi import APIRouter

from api.deps import BEARER, Database, Tenant
from core.jobs import queries
from core.schemas.families import FAMILIES, described
from core.schemas.jobs import WorkerOut
from core.schemas.models import ModelOut
from core.schemas.pages import Page
from core.settings import settings

router = APIRouter(prefix="/v1", dependencies=[BEARER])


@router.get("/models", tags=["models"], summary="Model families: papers, labels, configurations")
def list_models() -> Page[ModelOut]:
    return Page(items=[described(family) for family in FAMILIES])


@router.get("/workers", tags=["workers"], summary="Workers: device, current job, last heartbeat")
def list_workers(tenant: Tenant, database: Database) -> Page[WorkerOut]:
    alive_within = timedelta(seconds=settings().lease_s)
    return Page(items=queries.workers(database, tenant_id=tenant, alive_within=alive_within))
