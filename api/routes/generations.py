"""Generations and exports: what is made with a generator when somebody asks, and the generator as another program's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeVar
from uuid import UUID

from fastapi import APIRouter, Path, Request, Response
from starlette.background import BackgroundTask

from api.deps import BEARER, Cursor, Database, Limit, Tenant
from api.downloads import RENDERED_RESPONSES, Artifact, Redirect, artifact_response
from api.idempotency import Idempotency, Once
from core.audit import trail
from core.broker import wake
from core.jobs import filenames
from core.renderings import described, requests
from core.schemas.generations import ExportIn, GenerationIn
from core.schemas.pages import Page
from core.schemas.renderings import ExportOut, GenerationOut, RenderingOut
from core.settings import settings
from core.storage import remove, store

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from core.renderings.requests import What
    from core.renderings.tables import RenderedFile, Rendering

router = APIRouter(prefix="/v1", tags=["generations"], dependencies=[BEARER])
Out = TypeVar("Out", bound=RenderingOut)
Name = Annotated[str, Path(max_length=200)]
_SHOWN = ("image/", "video/")


@router.post(
    "/jobs/{job_id}/generations",
    status_code=201,
    summary="Ask for pictures made with a generator",
    response_model=GenerationOut,
)
def create_generation(
    job_id: UUID, body: GenerationIn, tenant: Tenant, database: Database, once: Once
) -> Response:
    """Asking for the same of the same generator again gives the same generation: it is the same to the byte.

    One that failed, or was called off, is queued again. `projection` takes a picture of at most 12 MiB.
    """
    return _asked(database, body, tenant=tenant, job_id=job_id, once=once, out=GenerationOut)


@router.get("/jobs/{job_id}/generations", summary="The job's generations, the newest first")
def list_generations(
    job_id: UUID, tenant: Tenant, database: Database, limit: Limit = 50, cursor: Cursor = None
) -> Page[GenerationOut]:
    rows, next_cursor = requests.page(
        database, tenant_id=tenant, job_id=job_id, what="generation", limit=limit, cursor=cursor
    )
    return Page(items=described.many(database, rows, out=GenerationOut), next_cursor=next_cursor)


@router.get("/generations/{generation_id}", summary="State, files and facts of a generation")
def get_generation(generation_id: UUID, tenant: Tenant, database: Database) -> GenerationOut:
    row = requests.get(database, tenant_id=tenant, what="generation", rendering_id=generation_id)
    return described.one(database, row, out=GenerationOut)


@router.get(
    "/generations/{generation_id}/file",
    summary="All that was asked for in one file; ETag is its sha256, Range is taken",
    response_class=Response,
    responses=RENDERED_RESPONSES,
)
def get_generation_file(
    generation_id: UUID, tenant: Tenant, database: Database, request: Request, redirect: Redirect
) -> Response:
    found = requests.file(database, tenant_id=tenant, what="generation", rendering_id=generation_id)
    return _sent(request, database, found, redirect=redirect)


@router.get(
    "/generations/{generation_id}/files/{name}",
    summary="One of its files: a single picture, the preview …",
    response_class=Response,
    responses=RENDERED_RESPONSES,
)
def get_generation_part(
    generation_id: UUID,
    name: Name,
    tenant: Tenant,
    database: Database,
    request: Request,
    redirect: Redirect,
) -> Response:
    found = requests.file(
        database, tenant_id=tenant, what="generation", rendering_id=generation_id, name=name
    )
    return _sent(request, database, found, redirect=redirect)


@router.delete(
    "/generations/{generation_id}",
    status_code=204,
    summary="Call a generation off, or remove one that is over",
)
def delete_generation(generation_id: UUID, tenant: Tenant, database: Database) -> None:
    _removed(database, tenant=tenant, what="generation", rendering_id=generation_id)


@router.post(
    "/jobs/{job_id}/exports",
    status_code=201,
    summary="Ask for a generator as a file for other programs",
    response_model=ExportOut,
)
def create_export(job_id: UUID, body: ExportIn, tenant: Tenant, database: Database, once: Once) -> Response:
    """Each is held against the original before it is told as done. Asking again gives the same export."""
    return _asked(database, body, tenant=tenant, job_id=job_id, once=once, out=ExportOut)


@router.get("/jobs/{job_id}/exports", summary="The job's exports, the newest first")
def list_exports(
    job_id: UUID, tenant: Tenant, database: Database, limit: Limit = 50, cursor: Cursor = None
) -> Page[ExportOut]:
    rows, next_cursor = requests.page(
        database, tenant_id=tenant, job_id=job_id, what="export", limit=limit, cursor=cursor
    )
    return Page(items=described.many(database, rows, out=ExportOut), next_cursor=next_cursor)


@router.get("/exports/{export_id}", summary="State, file and facts of an export")
def get_export(export_id: UUID, tenant: Tenant, database: Database) -> ExportOut:
    row = requests.get(database, tenant_id=tenant, what="export", rendering_id=export_id)
    return described.one(database, row, out=ExportOut)


@router.get(
    "/exports/{export_id}/file",
    summary="The exported generator; ETag is its sha256, Range is taken",
    response_class=Response,
    responses=RENDERED_RESPONSES,
)
def get_export_file(
    export_id: UUID, tenant: Tenant, database: Database, request: Request, redirect: Redirect
) -> Response:
    found = requests.file(database, tenant_id=tenant, what="export", rendering_id=export_id)
    return _sent(request, database, found, redirect=redirect)


@router.delete("/exports/{export_id}", status_code=204, summary="Call an export off, or remove one")
def delete_export(export_id: UUID, tenant: Tenant, database: Database) -> None:
    _removed(database, tenant=tenant, what="export", rendering_id=export_id)


def _asked(
    database: Session,
    asked: GenerationIn | ExportIn,
    *,
    tenant: UUID,
    job_id: UUID,
    once: Idempotency,
    out: type[Out],
) -> Response:
    once.begin(database)
    limit = settings().max_waiting_renderings
    row = requests.ask(database, asked, tenant_id=tenant, job_id=job_id, max_waiting=limit)
    trail.about(database, row.id)
    database.refresh(row)
    answer = described.one(database, row, out=out)
    response = once.commit(database, answer, location=f"/v1/{row.what}s/{row.id}")
    if not answer.status.final:
        # A broker may take its time.
        response.background = BackgroundTask(wake, "generate")
    return response


def _sent(
    request: Request, database: Session, found: tuple[Rendering, RenderedFile], *, redirect: bool
) -> Response:
    row, file = found
    artifact = Artifact(
        storage_key=file.storage_key,
        size_bytes=file.size_bytes,
        sha256=file.sha256,
        filename=filenames.rendered(row.job_id, images_seen=row.images_seen, name=file.name),
        media_type=file.media_type,
        disposition="inline" if file.media_type.startswith(_SHOWN) else "attachment",
    )
    database.close()  # The store may be slow: the connection goes back first.
    return artifact_response(request, artifact, redirect=redirect)


def _removed(database: Session, *, tenant: UUID, what: What, rendering_id: UUID) -> None:
    keys = requests.remove(database, tenant_id=tenant, what=what, rendering_id=rendering_id)
    database.commit()
    database.close()  # The store may be slow: the connection goes back first.
    remove(keys, store=store())
