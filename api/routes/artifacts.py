"""What a job leaves in the store: checkpoints, grids of samples, pictures of evaluations."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Literal
from uuid import UUID

from fastapi import APIRouter, Request, Response

from api.deps import BEARER, Database, Run, Tenant
from api.downloads import RESPONSES, Artifact, artifact_response, png_response
from core.jobs import queries, service
from core.jobs.records import StoredFile
from core.schemas.jobs import CheckpointOut, CheckpointPatch, SampleOut
from core.schemas.pages import Page

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
    checkpoint_id: UUID, tenant: Tenant, database: Database, request: Request
) -> Response:
    row = queries.checkpoint(database, tenant_id=tenant, checkpoint_id=checkpoint_id)
    artifact = Artifact(
        storage_key=row.storage_key,
        size_bytes=row.size_bytes,
        sha256=row.sha256,
        filename=f"{row.job_id}-{row.kind}-{row.images_seen:09d}{PurePosixPath(row.storage_key).suffix}",
        media_type="application/octet-stream",
    )
    database.close()  # The store may be slow: the connection goes back first.
    return artifact_response(request, artifact)


@router.get("/jobs/{job_id}/samples", tags=["samples"], summary="Grids of the same latents through time")
def list_samples(job_id: UUID, tenant: Tenant, database: Database, run: Run = None) -> Page[SampleOut]:
    rows = queries.samples(database, tenant_id=tenant, job_id=job_id, run=run)
    return Page(items=[SampleOut.model_validate(row, from_attributes=True) for row in rows])


@router.get(
    "/samples/{sample_id}/file",
    tags=["samples"],
    summary="A grid (PNG); ETag is its sha256, Range is taken",
    response_class=Response,
    responses=RESPONSES,
)
def get_sample_file(sample_id: UUID, tenant: Tenant, database: Database, request: Request) -> Response:
    row = queries.sample(database, tenant_id=tenant, sample_id=sample_id)
    name = f"{row.job_id}-{row.images_seen:09d}.png"
    return png_response(request, database, StoredFile.of(row), filename=name)


@router.get(
    "/evaluations/{evaluation_id}/picture.png",
    tags=["samples"],
    summary="Generated pictures beside the nearest training pictures, or those that were aimed at (PNG)",
    response_class=Response,
    responses=RESPONSES,
)
def get_picture(evaluation_id: UUID, tenant: Tenant, database: Database, request: Request) -> Response:
    row, picture = queries.picture(database, tenant_id=tenant, evaluation_id=evaluation_id)
    what = "reached" if row.kind == "backtracking" else "neighbours"
    name = f"{row.job_id}-{row.images_seen:09d}-{what}.png"
    return png_response(request, database, picture, filename=name)
