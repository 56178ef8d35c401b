"""What the API says of renderings."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import select

from core.renderings.tables import RenderedFile
from core.schemas.renderings import RenderedFileOut, RenderingOut, RenderingStatus
from core.settings import settings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from sqlalchemy.orm import Session

    from core.renderings.tables import Rendering

Out = TypeVar("Out", bound=RenderingOut)
SHOWN_IN_LISTS = ("main", "preview")


def one(session: Session, row: Rendering, *, out: type[Out]) -> Out:
    """A rendering with all its files.

    Args:
        session: for one read.
        row: of the rendering.
        out: as what it is told.
    """
    query = select(RenderedFile).where(RenderedFile.rendering_id == row.id)
    files = session.scalars(query.order_by(RenderedFile.position)).all()
    return _described(row, files, out=out)


def many(session: Session, rows: Sequence[Rendering], *, out: type[Out]) -> list[Out]:
    """Renderings without their single pictures, of which each may have a thousand; one query for all their files."""
    query = select(RenderedFile).where(
        RenderedFile.rendering_id.in_([row.id for row in rows]), RenderedFile.role.in_(SHOWN_IN_LISTS)
    )
    files: dict[UUID, list[RenderedFile]] = {}
    for file in session.scalars(query.order_by(RenderedFile.position)):
        files.setdefault(file.rendering_id, []).append(file)
    return [_described(row, files.get(row.id, []), out=out) for row in rows]


def _described(row: Rendering, files: Sequence[RenderedFile], *, out: type[Out]) -> Out:
    kept = timedelta(seconds=settings().generation_keep_s)
    return out(
        id=row.id,
        job_id=row.job_id,
        checkpoint_id=row.checkpoint_id,
        generator_sha256=row.generator_sha256,
        images_seen=row.images_seen,
        kind=row.request["kind"],
        request=row.request,
        status=RenderingStatus(row.status),
        attempts=row.attempts,
        files=[_file(row, file) for file in files],
        facts=row.facts,
        error=row.error,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        expires_at=row.finished_at + kept if row.finished_at else None,
    )


def _file(row: Rendering, file: RenderedFile) -> RenderedFileOut:
    return RenderedFileOut(
        name=file.name,
        role=file.role,
        media_type=file.media_type,
        size_bytes=file.size_bytes,
        sha256=file.sha256,
        url=f"/v1/{row.what}s/{row.id}/{'file' if file.role == 'main' else f'files/{file.name}'}",
    )
