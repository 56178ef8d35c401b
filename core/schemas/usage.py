"""What the API says of the time that jobs held devices."""

from __future__ import annotations

from datetime import date, datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, Field


class DeviceTime(BaseModel):
    """Seconds that attempts held a device; one that still runs counts until now."""

    device_s: float = Field(description="Trainings and evaluations together")
    training_s: float
    evaluation_s: float
    by_device: dict[str, float] = Field(
        description="The same sum by kind of device", examples=[{"cuda": 5400.0, "cpu": 120.5}]
    )


class JobUsageOut(DeviceTime):
    job_id: UUID
    name: str
    attempts: int = Field(description="Of trainings and evaluations, within the time asked for")


class DayUsageOut(DeviceTime):
    day: date = Field(description="In UTC")


class UsageOut(BaseModel):
    """The sum over all of the tenant's jobs, and its parts."""

    since: datetime
    until: datetime
    total: DeviceTime
    items: list[JobUsageOut] | list[DayUsageOut] = Field(
        description="Jobs that held a device, the newest first; or days, the first of them first"
    )
    next_cursor: str | None = None


class AttemptOut(BaseModel):
    """One hold of a device: by the job's training, or by an evaluation of its snapshots."""

    kind: Literal["training", "metrics", "backtracking"]
    evaluation_id: UUID | None = Field(description="Null of a training")
    run: int
    number: int = Field(description="As the job's, or the evaluation's, attempts are counted")
    worker: str
    device: str | None = Field(examples=["cuda:0"])
    started_at: datetime
    ended_at: datetime | None
    device_s: float
    outcome: Literal["finished", "requeued", "paused", "cancelled", "failed", "lost", "dropped"] | None = (
        Field(
            description="Null while it runs. requeued: another attempt follows; lost: with its worker; dropped: an "
            "evaluation that was lost with its worker or ended with its job"
        )
    )
