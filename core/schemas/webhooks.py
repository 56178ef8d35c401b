"""What a tenant asks to be told over a webhook, and what the API says of the deliveries."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, field_validator

WebhookEvent = Literal[
    "queued",
    "running",
    "resumed",
    "evaluating",
    "evaluated",
    "stopping_early",
    "paused",
    "succeeded",
    "failed",
    "cancelled",
    "warning",
    "alarm",
    "alarm_cleared",
]
DEFAULT_EVENTS: tuple[WebhookEvent, ...] = ("succeeded", "failed", "cancelled", "paused", "alarm")


class Webhook(BaseModel):
    """Where to send which of a job's events."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(max_length=2_000, examples=["https://example.com/hooks/slaegan"])
    events: list[WebhookEvent] = Field(
        default_factory=lambda: list(DEFAULT_EVENTS),
        min_length=1,
        description="Types of events, as in a stream",
    )

    @field_validator("events")
    @classmethod
    def _each_once(cls, events: list[WebhookEvent]) -> list[WebhookEvent]:
        return list(dict.fromkeys(events))


class DeliveryOut(BaseModel):
    """One event on its way to one URL; the id is the header webhook-id of every attempt."""

    id: UUID
    job_id: UUID
    event: str
    event_seq: int
    url: str
    status: str = Field(description="pending, delivering, delivered or dead")
    attempts: int = Field(description="Since it was made, or since it was last asked for again")
    last_status_code: int | None = Field(description="The endpoint's last answer")
    last_error: str | None = Field(description="Why the last attempt failed")
    next_attempt_at: datetime | None
    created_at: datetime
    delivered_at: datetime | None


class WebhookSecretOut(BaseModel):
    """What the tenant's webhooks are signed with (Standard Webhooks)."""

    secret: str = Field(examples=["whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"])
    created_at: datetime
    previous_until: datetime | None = Field(
        description="Until then, signatures by the secret before this one are sent beside its own"
    )
