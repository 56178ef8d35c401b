"""What the API says of the audit trail."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, Field


class AuditEntryOut(BaseModel):
    """A change that was made; refusals and reads are in the service's log alone."""

    id: UUID
    created_at: datetime
    actor: Literal["key", "operator"] = Field(
        description="An API key, or who runs the service: that one has no key, request or address"
    )
    key_id: UUID | None
    action: str = Field(description="The operationId in this document", examples=["create_job"])
    subject: str | None = Field(
        description="The id or the name of what was made or changed, if path has none"
    )
    request_id: str | None = Field(description="The header X-Request-ID of the answer")
    method: str | None
    path: str | None = Field(description="Without the query", examples=["/v1/jobs"])
    address: str | None = Field(description="Where the request came from")
