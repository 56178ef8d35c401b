"""What the lint wants to know of a picture, measured while it is decoded."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Trait = Literal["grey", "transparent", "cmyk", "16_bit"]
Hash = Annotated[str, Field(pattern="^([0-9a-f]{64})?$")]


class Facts(BaseModel):
    """Kept beside the picture, so that the lint of another dataset with the same picture need not decode it.

    Attributes:
        hash: dHash of 16 x 16 bits in hex; empty where nobody measured.
        mirror: the same of the mirror image.
        contrast: the widest range of a channel in a thumbnail, 0 to 255; null where nobody measured.
        traits: what the file was, before it became RGB.
    """

    model_config = ConfigDict(frozen=True)

    hash: Hash = ""
    mirror: Hash = ""
    contrast: int | None = Field(None, ge=0, le=255)
    traits: tuple[Trait, ...] = ()
