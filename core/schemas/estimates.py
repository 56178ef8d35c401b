"""What the API says of a configuration before it is submitted."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from core.schemas.families import Config
from core.schemas.sent import Sent
from core.schemas.slaegan import SlaeganConfig


class EstimateIn(Sent):
    """A configuration as `POST /v1/jobs` takes it."""

    config: Config = Field(default_factory=SlaeganConfig)


class DeviceEstimate(BaseModel):
    """How long the training would take on one kind of device, by what was measured there."""

    device: str = Field(description="As the jobs' facts name it", examples=["NVIDIA L4", "x86_64"])
    jobs: int = Field(
        ge=1, description="Earlier jobs of yours that were measured there, the newest 20 at most"
    )
    images_per_s: float = Field(description="The median of their speeds")
    training_s: float = Field(description="All of total_images at that speed, without evaluations")
    fastest_s: float = Field(description="At the speed of the fastest of them")
    slowest_s: float = Field(description="At the speed of the slowest of them")
    memory_bytes: int | None = Field(
        description="The most memory that a training process of theirs has held: of the GPU, or else of the machine; "
        "null: none has recorded it"
    )


class EstimateOut(BaseModel):
    """A configuration with all its defaults, and how long its training would take, where that was measured."""

    config: dict[str, Any] = Field(description="With the value of every option that was not given")
    basis: Literal["same", "alike"] | None = Field(
        description="What was measured. same: jobs that differ in nothing that costs time; alike: jobs with the same "
        "networks and batch; null: none of your jobs is near enough, and nothing is known"
    )
    devices: list[DeviceEstimate] = Field(
        description="The one with the most jobs first; empty where nothing is known"
    )
