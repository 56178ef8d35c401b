"""Datasets: upload, look at, delete."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Request, Response

from api.deps import BEARER, Cursor, Database, Limit, Tenant
from api.downloads import RESPONSES, png_response
from api.uploads import FORM, ReceivedUpload
from core.datasets import ingest, service
from core.datasets.tables import Dataset, DatasetImage
from core.jobs.records import StoredFile
from core.schemas.datasets import DatasetOut, ImageOut
from core.schemas.pages import Page
from core.settings import settings
from core.storage import remove, store

router = APIRouter(prefix="/v1/datasets", tags=["datasets"], dependencies=[BEARER])


@router.post("", status_code=201, summary="Make a dataset of pictures or archives", openapi_extra=FORM)
def create_dataset(tenant: Tenant, database: Database, upload: ReceivedUpload) -> DatasetOut:
    """Takes pictures and zip or tar archives of pictures; the answer lists each file that was rejected, and why."""
    normalised = ingest.normalise_uploads(upload.files, folder=upload.folder, limits=settings())
    dataset = service.create(
        database,
        normalised,
        tenant_id=tenant,
        name=upload.title,
        folder=upload.folder,
        store=store(),
    )
    database.commit()
    return _out(dataset)


@router.get("", summary="List datasets, the newest first")
def list_datasets(
    tenant: Tenant, database: Database, limit: Limit = 50, cursor: Cursor = None
) -> Page[DatasetOut]:
    rows, next_cursor = service.page(database, tenant_id=tenant, limit=limit, cursor=cursor)
    return Page(items=[_out(row) for row in rows], next_cursor=next_cursor)


@router.get("/{dataset_id}", summary="Facts about a dataset")
def get_dataset(dataset_id: UUID, tenant: Tenant, database: Database) -> DatasetOut:
    return _out(service.get(database, tenant_id=tenant, dataset_id=dataset_id))


@router.delete("/{dataset_id}", status_code=204, summary="Delete a dataset that no live job needs")
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
    responses=RESPONSES,
)
def get_image_file(
    dataset_id: UUID,
    position: Annotated[int, Path(ge=0, lt=2**31)],
    tenant: Tenant,
    database: Database,
    request: Request,
) -> Response:
    row = service.image(database, tenant_id=tenant, dataset_id=dataset_id, position=position)
    return png_response(request, database, StoredFile.of(row), filename=f"{dataset_id}-{position:05d}.png")


@router.get(
    "/{dataset_id}/preview",
    summary="A contact sheet of the first 64 pictures (JPEG)",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {}}}},
)
def get_preview(dataset_id: UUID, tenant: Tenant, database: Database) -> Response:
    service.get(database, tenant_id=tenant, dataset_id=dataset_id)
    database.close()  # The store may be slow: the connection goes back first.
    picture = b"".join(store().read(ingest.preview_key(dataset_id)))
    return Response(picture, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})


def _out(row: Dataset) -> DatasetOut:
    return DatasetOut.model_validate(row, from_attributes=True)


def _image_out(row: DatasetImage) -> ImageOut:
    return ImageOut.model_validate(row, from_attributes=True)
