"""What the API says of datasets."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, Field


class Rejection(BaseModel):
    """A file of the upload that did not become a picture of the dataset, and why."""

    name: str
    code: str = Field(examples=["not_an_image", "truncated", "too_many_pixels", "too_small", "duplicate"])
    reason: str


class DatasetOut(BaseModel):
    id: UUID
    name: str
    image_count: int
    size_bytes: int = Field(description="Of the stored, normalised pictures")
    content_hash: str = Field(description="sha256 over the pictures' own hashes, in order")
    rejected: list[Rejection]
    created_at: datetime


class ImageOut(BaseModel):
    """A picture as stored: RGB PNG, upright, without metadata."""

    position: int
    name: str
    width: int
    height: int
    size_bytes: int
    sha256: str
