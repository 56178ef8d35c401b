"""Datasets: upload, look at, delete."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from api.deps import BEARER, Cursor, Database, Limit, Tenant, in_turn, matches
from api.downloads import PNG_RESPONSES, RESPONSES, Redirect, png_response, redirection, signed_url
from api.idempotency import OnceUpload
from api.places import THUMBNAILS, UPLOADS
from api.uploads import FORM, VERSION_FORM, ReceivedChange, ReceivedUpload
from core.audit import trail
from core.datasets import ingest, making, service, versions
from core.datasets.contents import Image
from core.datasets.tables import Dataset
from core.datasets.thumbnails import thumbnail_of
from core.db import reading
from core.jobs.records import StoredFile
from core.schemas.datasets import DatasetOut, ImageOut, Lint
from core.schemas.pages import Page
from core.settings import settings
from core.storage import remove, store

router = APIRouter(prefix="/v1/datasets", tags=["datasets"], dependencies=[BEARER])


def _check_newest(dataset_id: UUID, tenant: Tenant, once: OnceUpload) -> None:
    """Before the form is read: nobody should send a gigabyte for a 404."""
    if once.key is None:  # Else it may have been answered before, and then there is a newer one.
        with reading() as database:
            versions.require_newest(database, tenant_id=tenant, dataset_id=dataset_id)


@router.post(
    "",
    status_code=201,
    summary="Make a dataset of pictures or archives",
    response_model=DatasetOut,
    openapi_extra=FORM,
)
async def create_dataset(
    tenant: Tenant, database: Database, once: OnceUpload, upload: ReceivedUpload
) -> Response:
    """Takes pictures and zip or tar archives of pictures; the answer lists each file that was rejected, and why."""

    def made() -> Response:
        once.look(database, upload)
        dataset = making.make(
            database,
            upload.files,
            tenant_id=tenant,
            name=upload.title,
            folder=upload.folder,
            label_source=upload.labels,
        )
        trail.about(database, dataset.id)
        return once.commit(database, _out(dataset), location=f"/v1/datasets/{dataset.id}")

    return await UPLOADS.work(made, tenant_id=tenant)


@router.post(
    "/{dataset_id}/versions",
    status_code=201,
    summary="Make a new version of a dataset: add and remove pictures",
    openapi_extra=VERSION_FORM,
    response_model=DatasetOut,
    dependencies=[Depends(_check_newest, scope="function")],
)
async def create_version(
    dataset_id: UUID, tenant: Tenant, database: Database, once: OnceUpload, upload: ReceivedChange
) -> Response:
    """Of the newest version only; 409 names that. Pictures that the dataset has already are told as rejected."""

    def made() -> Response:
        once.look(database, upload)
        dataset = versions.create(
            database,
            dataset_id,
            tenant_id=tenant,
            normalised=ingest.normalise_uploads(
                upload.files, folder=upload.folder, limits=settings(), needed=0, label_source=upload.labels
            ),
            remove=upload.remove,
            name=upload.name,
            folder=upload.folder,
            store=store(),
        )
        trail.about(database, dataset.id)
        return once.commit(database, _out(dataset), location=f"/v1/datasets/{dataset.id}")

    return await UPLOADS.work(made, tenant_id=tenant)


@router.get("", summary="List datasets, the newest first")
def list_datasets(
    tenant: Tenant,
    database: Database,
    series_id: Annotated[
        UUID | None, Query(description="All versions of this series; by default the newest of each")
    ] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[DatasetOut]:
    rows, next_cursor = service.page(
        database, tenant_id=tenant, series_id=series_id, limit=limit, cursor=cursor
    )
    return Page(items=[_out(row) for row in rows], next_cursor=next_cursor)


@router.get("/{dataset_id}", summary="Facts about a dataset")
def get_dataset(dataset_id: UUID, tenant: Tenant, database: Database) -> DatasetOut:
    return _out(service.get(database, tenant_id=tenant, dataset_id=dataset_id))


@router.delete(
    "/{dataset_id}", status_code=204, summary="Delete a version of a dataset that no live job needs"
)
def delete_dataset(dataset_id: UUID, tenant: Tenant, database: Database) -> None:
    keys = service.remove(database, tenant_id=tenant, dataset_id=dataset_id)
    database.commit()
    remove(keys, store=store())


@router.get("/{dataset_id}/images", summary="List a dataset's pictures")
def list_images(
    dataset_id: UUID, tenant: Tenant, database: Database, limit: Limit = 100, cursor: Cursor = None
) -> Page[ImageOut]:
    rows, next_cursor = service.images(
        database, tenant_id=tenant, dataset_id=dataset_id, limit=limit, cursor=cursor
    )
    return Page(items=[_image_out(row) for row in rows], next_cursor=next_cursor)


@router.get(
    "/{dataset_id}/images/{position}/file",
    summary="A picture as it is trained on (PNG)",
    response_class=Response,
    responses=PNG_RESPONSES,
)
def get_image_file(
    dataset_id: UUID,
    position: Annotated[int, Path(ge=0, lt=2**31)],
    tenant: Tenant,
    database: Database,
    request: Request,
    redirect: Redirect,
) -> Response:
    row = service.image(database, tenant_id=tenant, dataset_id=dataset_id, position=position)
    name = f"{dataset_id}-{position:05d}.png"
    return png_response(request, database, StoredFile.of(row), filename=name, redirect=redirect)


@router.get(
    "/{dataset_id}/images/{position}/thumbnail",
    summary="A picture within 128 x 128 (WebP)",
    response_class=Response,
    responses={
        200: {"content": {"image/webp": {}}},
        304: {"description": "The client has it (If-None-Match)"},
    },
)
async def get_thumbnail(
    dataset_id: UUID,
    position: Annotated[int, Path(ge=0, lt=2**31)],
    tenant: Tenant,
    database: Database,
    request: Request,
) -> Response:
    def found() -> Image:
        row = service.image(database, tenant_id=tenant, dataset_id=dataset_id, position=position)
        database.close()  # The request may wait for its turn: the connection goes back first.
        return row

    row = await in_turn(found)
    headers = {"ETag": f'"thumbnail-{row.sha256}"', "Cache-Control": "private, max-age=3600"}
    if matches(request.headers.get("if-none-match"), headers["ETag"]):
        return Response(status_code=304, headers=headers)
    small = await THUMBNAILS.work(lambda: thumbnail_of(row, store=store()), tenant_id=tenant)
    return Response(small, media_type="image/webp", headers=headers)


@router.get("/{dataset_id}/lint", summary="What in a dataset deserves a look before training")
def get_lint(dataset_id: UUID, tenant: Tenant, database: Database) -> Lint:
    """Unusable and tiny pictures, near-duplicates, odd shapes, mixed modes and sizes, each with advice."""
    report = service.lint_of(database, tenant_id=tenant, dataset_id=dataset_id)
    for finding in report.findings:
        for picture in finding.pictures:
            if picture.position is not None:
                picture.thumbnail = f"/v1/datasets/{dataset_id}/images/{picture.position}/thumbnail"
    return report


@router.get(
    "/{dataset_id}/preview",
    summary="A contact sheet of the first 64 pictures (JPEG)",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {}}}, 307: RESPONSES[307]},
)
def get_preview(
    dataset_id: UUID, tenant: Tenant, database: Database, request: Request, redirect: Redirect
) -> Response:
    service.get(database, tenant_id=tenant, dataset_id=dataset_id)
    database.close()  # The store may be slow: the connection goes back first.
    key = ingest.preview_key(dataset_id)
    if redirect and not request.state.head and (url := signed_url(key)):
        return redirection(url, headers={})
    picture = b"".join(store().read(key))
    return Response(picture, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})


def _out(row: Dataset) -> DatasetOut:
    facts = {name: getattr(row, name) for name in DatasetOut.model_fields}
    return DatasetOut.model_validate(facts | {"lint": row.lint and row.lint["counts"]})


def _image_out(row: Image) -> ImageOut:
    return ImageOut.model_validate(row, from_attributes=True)
