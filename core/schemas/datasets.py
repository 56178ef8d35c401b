"""What the API says of datasets."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, Field

PICTURE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
)
LabelSource = Literal["auto", "folders", "csv", "none"]
LABELS_ADVICE = (
    "Where the pictures' classes come from. folders: each class's pictures in a folder of its own, in an archive; "
    "csv: a file labels.csv beside them, whose rows name a picture and its class; auto: that file if there is one, "
    "else the folders where all pictures lie in two or more folders side by side; none: no classes"
)
LABELS_FIELD: LabelSource = Field("auto", description=LABELS_ADVICE)


class Rejection(BaseModel):
    """A file of the upload that became no picture of the dataset, or a row or a folder's name that gave no label.

    The codes of the latter begin with `label_`; no file is left out for them.
    """

    name: str
    code: str = Field(
        examples=[
            "not_an_image", "truncated", "too_many_pixels", "too_small", "duplicate", "label_unmatched",
            "label_ambiguous", "label_refused",
        ]
    )  # fmt: skip
    reason: str

    @property
    def is_of_label(self) -> bool:
        """Whether this costs a label, and no file is left out for it."""
        return self.code.startswith("label_")


Severity = Literal["note", "warning", "problem"]


class FoundPicture(BaseModel):
    """A picture that a finding is about; a file that was rejected has neither position nor thumbnail."""

    position: int | None
    name: str
    thumbnail: str | None = Field(default=None, description="Address of a WebP of at most 128 x 128")


class Finding(BaseModel):
    """Something of a dataset that deserves a look; of near-duplicates, a group."""

    code: str = Field(
        examples=[
            "unusable", "few_pictures", "blank", "near_duplicate", "tiny", "mixed_sizes", "odd_aspect", "mixed_modes",
            "small_class", "unlabelled",
        ]
    )  # fmt: skip
    kind: str = Field(description="Which of the code's cases", examples=["below_256", "grey"])
    severity: Severity
    advice: str
    count: int = Field(description="Of pictures that it is about; at most 1,000 of them are listed")
    pictures: list[FoundPicture]


class Lint(BaseModel):
    """What a dataset's pictures deserve a look for."""

    findings: list[Finding]
    counts: dict[str, int] = Field(description="Of pictures, by code")


class ClassOut(BaseModel):
    """What a label stands for; its pictures have its name as `label`."""

    name: str
    images: int = Field(ge=1, description="Pictures of this class")


class DatasetOut(BaseModel):
    """One version of a dataset; it never changes."""

    id: UUID
    name: str
    series_id: UUID = Field(description="What its versions have in common: the id of the first")
    version: int = Field(ge=1, description="Counted from 1 in its series")
    parent_id: UUID | None = Field(description="The version that it was made from; null for the first")
    image_count: int
    added_count: int = Field(description="Pictures that the parent has not; of the first version all")
    removed_count: int = Field(description="Pictures that only the parent has")
    size_bytes: int = Field(description="Of the stored, normalised pictures")
    content_hash: str = Field(description="sha256 over the pictures' own hashes, in order")
    rejected: list[Rejection]
    lint: dict[str, int] | None = Field(
        default=None,
        description="How many pictures each code of the lint concerns; null where nobody looked",
        examples=[{"near_duplicate": 4, "tiny": 1}],
    )
    classes: list[ClassOut] | None = Field(
        default=None,
        description="By their names; together they may have fewer pictures than the dataset. null: no picture has one",
    )
    created_at: datetime


class ImageOut(BaseModel):
    """A picture as stored: RGB PNG, upright, without metadata."""

    position: int
    name: str
    width: int
    height: int
    size_bytes: int
    sha256: str
    label: str | None = Field(default=None, description="The name of its class; null if it has none")
