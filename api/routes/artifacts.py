"""What a job leaves in the store: checkpoints, pictures of snapshots, pictures of evaluations."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Literal
from uuid import UUID

from fastapi import APIRouter, Request, Response

from api.deps import BEARER, Database, Run, Tenant
from api.downloads import PNG_RESPONSES, RESPONSES, Artifact, Redirect, artifact_response, png_response
from core.jobs import filenames, queries, service
from core.jobs.records import StoredFile
from core.schemas.jobs import CheckpointOut, CheckpointPatch, SampleOut
from core.schemas.pages import Page
from core.schemas.ticks import SampleKind

router = APIRouter(prefix="/v1", dependencies=[BEARER])


@router.get(
    "/jobs/{job_id}/checkpoints", tags=["checkpoints"], summary="The job's checkpoints, by images seen"
)
def list_checkpoints(
    job_id: UUID,
    tenant: Tenant,
    database: Database,
    kind: Literal["generator", "state"] | None = None,
    run: Run = None,
) -> Page[CheckpointOut]:
    rows = queries.checkpoints(database, tenant_id=tenant, job_id=job_id, kind=kind, run=run)
    return Page(items=[CheckpointOut.model_validate(row, from_attributes=True) for row in rows])


@router.get("/checkpoints/{checkpoint_id}", tags=["checkpoints"], summary="Facts about a checkpoint")
def get_checkpoint(checkpoint_id: UUID, tenant: Tenant, database: Database) -> CheckpointOut:
    row = queries.checkpoint(database, tenant_id=tenant, checkpoint_id=checkpoint_id)
    return CheckpointOut.model_validate(row, from_attributes=True)


@router.patch(
    "/checkpoints/{checkpoint_id}",
    tags=["checkpoints"],
    summary="Pin a checkpoint, or leave it to the retention",
)
def patch_checkpoint(
    checkpoint_id: UUID, body: CheckpointPatch, tenant: Tenant, database: Database
) -> CheckpointOut:
    row = service.pin(database, tenant_id=tenant, checkpoint_id=checkpoint_id, pinned=body.pinned)
    answer = CheckpointOut.model_validate(row, from_attributes=True)
    database.commit()
    return answer


@router.get(
    "/checkpoints/{checkpoint_id}/file",
    tags=["checkpoints"],
    summary="A checkpoint's file; ETag is its sha256, Range is taken",
    response_class=Response,
    responses=RESPONSES,
)
def get_checkpoint_file(
    checkpoint_id: UUID, tenant: Tenant, database: Database, request: Request, redirect: Redirect
) -> Response:
    row = queries.checkpoint(database, tenant_id=tenant, checkpoint_id=checkpoint_id)
    artifact = Artifact(
        storage_key=row.storage_key,
        size_bytes=row.size_bytes,
        sha256=row.sha256,
        filename=filenames.checkpoint(
            row.job_id,
            kind=row.kind,
            images_seen=row.images_seen,
            suffix=PurePosixPath(row.storage_key).suffix,
        ),
        media_type="application/octet-stream",
    )
    database.close()  # The store may be slow: the connection goes back first.
    return artifact_response(request, artifact, redirect=redirect)


@router.get(
    "/jobs/{job_id}/samples",
    tags=["samples"],
    summary="Pictures drawn in training: grids of the same latents, and more",
)
def list_samples(
    job_id: UUID, tenant: Tenant, database: Database, kind: SampleKind | None = None, run: Run = None
) -> Page[SampleOut]:
    rows = queries.samples(database, tenant_id=tenant, job_id=job_id, kind=kind, run=run)
    return Page(items=[SampleOut.model_validate(row, from_attributes=True) for row in rows])


@router.get(
    "/samples/{sample_id}/file",
    tags=["samples"],
    summary="A picture of a snapshot (PNG); ETag is its sha256, Range is taken",
    response_class=Response,
    responses=PNG_RESPONSES,
)
def get_sample_file(
    sample_id: UUID, tenant: Tenant, database: Database, request: Request, redirect: Redirect
) -> Response:
    row = queries.sample(database, tenant_id=tenant, sample_id=sample_id)
    name = filenames.sample(row.job_id, kind=row.kind, images_seen=row.images_seen)
    return png_response(request, database, StoredFile.of(row), filename=name, redirect=redirect)


@router.get(
    "/evaluations/{evaluation_id}/picture.png",
    tags=["samples"],
    summary="Generated pictures beside the nearest training pictures, or those that were aimed at (PNG)",
    response_class=Response,
    responses=PNG_RESPONSES,
)
def get_picture(
    evaluation_id: UUID, tenant: Tenant, database: Database, request: Request, redirect: Redirect
) -> Response:
    row, picture = queries.picture(database, tenant_id=tenant, evaluation_id=evaluation_id)
    name = filenames.picture(row.job_id, kind=row.kind, images_seen=row.images_seen)
    return png_response(request, database, picture, filename=name, redirect=redirect)
