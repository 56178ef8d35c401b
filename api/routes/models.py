"""Model families, and the workers that train them."""

from __future__ import annotations

import inspect
from datetime import timedelta

from fastapi import APIRouter

from api.deps import BEARER, Database, Tenant
from core.jobs import queries
from core.schemas.jobs import ModelOut, WorkerOut
from core.schemas.pages import Page
from core.schemas.training import FAMILIES, SlaeganConfig
from core.settings import settings

router = APIRouter(prefix="/v1", dependencies=[BEARER])


@router.get("/models", tags=["models"], summary="Model families and the schemas of their configurations")
def list_models() -> Page[ModelOut]:
    return Page(items=[_out(family, config) for family, config in FAMILIES.items()])


@router.get("/workers", tags=["workers"], summary="Workers: device, current job, last heartbeat")
def list_workers(tenant: Tenant, database: Database) -> Page[WorkerOut]:
    alive_within = timedelta(seconds=settings().lease_s)
    return Page(items=queries.workers(database, tenant_id=tenant, alive_within=alive_within))


def _out(family: str, config: type[SlaeganConfig]) -> ModelOut:
    title, _, description = (inspect.getdoc(config) or family).partition(": ")
    return ModelOut(
        family=family,
        title=title,
        description=description,
        config_schema=config.model_json_schema(),
        defaults=config().model_dump(mode="json"),
    )
