"""What the API takes and says of evaluations beside the curve."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, Self
from uuid import UUID

from pydantic import BaseModel, Field, model_validator

from core.schemas.jobs import PictureOut
from core.schemas.sent import Sent

MAX_WORK = 20_000  # pictures times steps


class BacktrackingIn(Sent):
    """How near a generator comes to pictures, when its latents are optimised for that (SLAE-GAN, Table 5)."""

    checkpoint_id: UUID | None = Field(
        None,
        description="A generator of the job; its best one by default, or its newest while none is evaluated",
    )
    of: Literal["training", "held_out"] = Field(
        "training", description="Pictures it was trained on, or those that were kept from the training"
    )
    pictures: int = Field(16, ge=1, le=200, description="So many, evenly chosen; all where there are fewer")
    steps: int = Field(200, ge=1, le=2_000, description="Of Adam, for each picture")
    seed: int = Field(0, ge=0, lt=2**31)

    @model_validator(mode="after")
    def _is_bearable(self) -> Self:
        if self.pictures * self.steps > MAX_WORK:
            raise ValueError(
                f"pictures * steps is {self.pictures * self.steps}; at most {MAX_WORK} are computed at once, since "
                "others wait meanwhile: ask for fewer of either"
            )
        return self


class EvaluationOut(BaseModel):
    """One evaluation of one snapshot."""

    id: UUID
    job_id: UUID
    kind: str = Field(examples=["metrics", "backtracking"])
    images_seen: int
    checkpoint_id: UUID | None
    status: str = Field(description="queued, running, done, failed or skipped")
    metrics: dict[str, Any] | None = Field(
        description="Of backtracking: lpips, the mean over the pictures, lpips_sd, and lpips_per_picture"
    )
    protocol_hash: str
    protocol: dict[str, Any]
    picture: PictureOut | None = Field(description="What was reached, beside what was aimed at")
    error: dict[str, Any] | None
    created_at: datetime
    finished_at: datetime | None
