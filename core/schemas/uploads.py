"""What the API says of resumable uploads."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, Self
from uuid import UUID

from pydantic import BaseModel, Field, field_validator, model_validator

from core.schemas.datasets import LABELS_FIELD, LabelSource
from core.schemas.sent import Sent

UploadStatus = Literal["receiving", "complete", "finalised"]
MAX_DATASET_NAME = 200
MAX_REMOVED = 10_000


class UploadOut(BaseModel):
    id: UUID
    filename: str
    length_bytes: int
    received_bytes: int = Field(description="Where to go on")
    status: UploadStatus = Field(
        description="receiving; complete: a dataset can be made of it; finalised: one was"
    )
    dataset_id: UUID | None = Field(description="What was made of it")
    created_at: datetime
    expires_at: datetime = Field(description="When it goes, unless something is done with it before")


class UploadDatasetIn(Sent):
    """How the dataset is to be called, and whether it is a new version of another."""

    name: str = Field(
        "",
        max_length=MAX_DATASET_NAME,
        description="For people; by default that of the file, and of a version that of the one before",
        examples=["cats"],
    )
    version_of: UUID | None = Field(
        None,
        description="Make the next version of this dataset, its newest version; by default one of its own",
        examples=["5f0c3c1e-7a55-4d0f-9a63-0d1f6a0b7c11"],
    )
    remove: list[str] = Field(
        default=[],
        max_length=MAX_REMOVED,
        description="Pictures of version_of to leave out: each a position, a sha256 or a name",
        examples=[["0017.png"]],
    )

    labels: LabelSource = LABELS_FIELD

    @field_validator("name")
    @classmethod
    def _printable(cls, name: str) -> str:
        if not name.isprintable():
            raise ValueError("the name may have printable characters only")
        return name.strip()

    @model_validator(mode="after")
    def _of_a_version(self) -> Self:
        if self.remove and self.version_of is None:
            raise ValueError("remove needs version_of, the dataset that has the pictures")
        return self
