"""Resumable uploads (tus 1.0): begin, go on, look at, give up, and make a dataset of one."""

from __future__ import annotations

from uuid import UUID

from anyio import to_thread
from fastapi import APIRouter, Depends, Request, Response

from api import tus
from api.deps import BEARER, Audited, Cursor, Database, Limit, Tenant
from api.idempotency import Once, Replay, respond
from api.places import UPLOADS
from api.routes.datasets import _out as dataset_out  # the same answer as to a form
from core.audit import trail
from core.db import sessions
from core.errors import InvalidRequest
from core.idempotency import Given
from core.schemas.datasets import DatasetOut
from core.schemas.pages import Page
from core.schemas.uploads import UploadDatasetIn, UploadOut
from core.uploads import finalising, service
from core.uploads.appending import require_here
from core.uploads.files import path_of
from core.uploads.tables import Upload

router = APIRouter(prefix="/v1/uploads", tags=["uploads"], dependencies=[BEARER])


async def _tus(version: tus.Version = None) -> None:
    # A dependency comes before the values are checked, which may be another version's.
    tus.require_version(version)


@router.options("", status_code=204, include_in_schema=False)
async def tell_abilities() -> Response:
    return Response(status_code=204, headers=tus.abilities())


@router.post(
    "",
    status_code=201,
    summary="Begin a resumable upload",
    dependencies=[Depends(_tus)],
    response_model=UploadOut,
    openapi_extra={"requestBody": {"required": False, **tus.BODY}},
)
async def create_upload(
    request: Request,
    tenant: Tenant,
    once: Once,
    audited: Audited,
    length: tus.Length,
    metadata: tus.Metadata = "",
    digest: tus.Digest = None,
) -> Response:
    """`Location` of the answer is where bytes go by PATCH; without an Idempotency-Key the first may come at once."""
    filename = tus.filename_of(metadata)
    tus.checksum_of(digest)
    brings_bytes = tus.has_body(request.headers)
    if once.key is not None and brings_bytes:
        # The answer is kept before any of them is read: told again, it could not say what became of them.
        raise InvalidRequest(
            "With an Idempotency-Key an upload begins without bytes: send them by PATCH, or leave the key out."
        )

    def create() -> Upload:
        with sessions()() as session:
            trail.watch(session, audited)
            once.begin(session)
            upload = service.create(
                session,
                tenant_id=tenant,
                length_bytes=length,
                filename=filename,
                metadata_header=metadata,
            )
            trail.about(session, upload.id)
            once.commit(session, _out(upload), location=f"/v1/uploads/{upload.id}")
            return upload

    once.covers(str(length), metadata)
    try:
        upload = await to_thread.run_sync(create)
    except Replay as earlier:
        return await to_thread.run_sync(_begun_before, tenant, earlier.given)
    if brings_bytes:
        upload = await tus.take(request, tenant=tenant, upload_id=upload.id, offset=0, digest=digest)
    headers = tus.state(upload) | {"Location": f"/v1/uploads/{upload.id}"}
    return Response(_out(upload).model_dump_json(), 201, headers, "application/json")


@router.get("", summary="List uploads of which no dataset was made yet, the newest first")
def list_uploads(
    tenant: Tenant, database: Database, limit: Limit = 50, cursor: Cursor = None
) -> Page[UploadOut]:
    rows, next_cursor = service.page(database, tenant_id=tenant, limit=limit, cursor=cursor)
    return Page(items=[_out(row) for row in rows], next_cursor=next_cursor)


@router.get("/{upload_id}", summary="How far an upload is; HEAD tells it in headers alone")
def get_upload(
    upload_id: UUID, tenant: Tenant, database: Database, response: Response, version: tus.Version = None
) -> UploadOut:
    upload = service.get(database, tenant_id=tenant, upload_id=upload_id)
    tus.require_version(version, needed=False)
    response.headers.update(_state_here(upload))
    return _out(upload)


@router.patch(
    "/{upload_id}",
    status_code=204,
    summary="Send bytes of an upload",
    response_class=Response,
    openapi_extra={"requestBody": {"required": True, **tus.BODY}},
)
async def append(
    upload_id: UUID,
    request: Request,
    tenant: Tenant,
    version: tus.Version = None,
    offset: tus.Offset = None,
    digest: tus.Digest = None,
) -> Response:
    """The bytes belong at `Upload-Offset`, which must be where the upload is: that many bytes are there already."""

    def look() -> None:
        with sessions()() as session:
            service.get(session, tenant_id=tenant, upload_id=upload_id)

    # What is another tenant's is not there, whatever else is wrong with a request.
    await to_thread.run_sync(look)
    tus.require_version(version)
    if offset is None:
        raise InvalidRequest("Send the header Upload-Offset: where the bytes belong, as HEAD tells it.")
    upload = await tus.take(request, tenant=tenant, upload_id=upload_id, offset=offset, digest=digest)
    return Response(status_code=204, headers=tus.state(upload))


@router.delete("/{upload_id}", status_code=204, summary="Give an upload up")
def terminate(
    upload_id: UUID, tenant: Tenant, database: Database, audited: Audited, version: tus.Version = None
) -> None:
    service.get(database, tenant_id=tenant, upload_id=upload_id)
    tus.require_version(version, needed=False)
    database.close()
    service.terminate(tenant_id=tenant, upload_id=upload_id, audited=audited)


@router.post("/{upload_id}/dataset", status_code=201, summary="Make a dataset of a complete upload")
async def make_dataset(
    upload_id: UUID, tenant: Tenant, audited: Audited, wanted: UploadDatasetIn | None = None
) -> DatasetOut:
    """With `version_of` it is a new version of that dataset.

    Asked again, it answers with the same dataset. If it fails, the upload stays as it was.
    """
    wish = wanted or UploadDatasetIn()

    def made() -> DatasetOut:
        return dataset_out(
            finalising.finalise(tenant_id=tenant, upload_id=upload_id, wanted=wish, audited=audited)
        )

    return await UPLOADS.work(made, tenant_id=tenant)


def _begun_before(tenant: UUID, given: Given) -> Response:
    """The first answer to a creation, with where its upload is by now in the headers; NotFound where that is gone."""
    assert given.location is not None, "a creation is answered with a Location"
    with sessions()() as session:
        upload = service.get(session, tenant_id=tenant, upload_id=UUID(given.location.rpartition("/")[2]))
    answer = respond(given, replayed=True)
    answer.headers.update(_state_here(upload))
    return answer


def _state_here(upload: Upload) -> dict[str, str]:
    """Where an upload is, as headers; NotFound where its bytes are on another machine."""
    if upload.dataset_id is None and upload.received_bytes:
        path = path_of(upload.id)
        require_here(upload, path.stat().st_size if path.exists() else 0)
    return tus.state(upload)


def _out(row: Upload) -> UploadOut:
    return UploadOut.model_validate(row, from_attributes=True)
