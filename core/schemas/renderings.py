"""What the API says of generations and exports."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from pydantic import BaseModel, Field


class RenderingStatus(StrEnum):
    """Where a generation or an export is; the last three are final."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether nothing more will come of it, unless it is asked for again."""
        return self not in (RenderingStatus.QUEUED, RenderingStatus.RUNNING)


class RenderedFileOut(BaseModel):
    """One file of a generation or an export."""

    name: str
    role: str = Field(
        description="main: all that was asked for in one file; preview: a PNG to show of it; picture: one PNG of "
        "many; latent: where a projection arrived"
    )
    media_type: str
    size_bytes: int
    sha256: str
    url: str = Field(description="Where it is to be had, with your key")


class RenderingOut(BaseModel):
    """What generations and exports have in common."""

    id: UUID
    job_id: UUID
    checkpoint_id: UUID | None = Field(description="The generator; null where it was deleted since")
    generator_sha256: str = Field(description="Of the generator's file")
    images_seen: int = Field(description="By the generator, in its training")
    kind: str = Field(description="pictures, interpolation, style_mix, projection or export")
    request: dict[str, Any] = Field(
        description="As it is carried out, defaults included; of a picture that was sent along, its sha256"
    )
    status: RenderingStatus
    attempts: int = Field(description="So often a worker has begun it")
    files: list[RenderedFileOut] = Field(
        description="Once it is done, the main one first; in a list of many, without the single pictures"
    )
    facts: dict[str, Any] | None = Field(description="Numbers and what else is known of it, once it is done")
    error: dict[str, Any] | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime | None = Field(
        description="From then on it may be removed; not while its checkpoint is pinned. null: it is not over"
    )


class GenerationOut(RenderingOut):
    """Pictures, a film, a table of mixed styles or a projection: asked for, on its way, or done."""


class ExportOut(RenderingOut):
    """A generator as a file for other programs: asked for, on its way, or done."""
