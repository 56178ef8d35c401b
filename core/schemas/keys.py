"""What the API takes and says of keys."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, Field, field_validator

from core.schemas.sent import Moment, Sent

Scope = Literal["read", "write", "admin"]
MAX_GRACE_S = 86_400
LATEST = datetime(3001, 1, 1, tzinfo=UTC)


class KeyIn(Sent):
    name: str = Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$", examples=["laptop"])
    scopes: list[Scope] = Field(
        ["read", "write"],
        min_length=1,
        description="What the key may do, and its maker may, too; admin needs read and write beside it",
    )
    expires_at: Moment | None = Field(None, description="From then on it opens nothing; null: never")

    @field_validator("expires_at")
    @classmethod
    def _within_the_calendar(cls, expires_at: datetime | None) -> datetime | None:
        if expires_at is not None and expires_at > LATEST:
            raise ValueError(f"keys end before {LATEST.year}; null: never")
        return expires_at

    @field_validator("scopes")
    @classmethod
    def _each_once_and_usable(cls, scopes: list[Scope]) -> list[Scope]:
        if "admin" in scopes and not {"read", "write"} <= set(scopes):
            raise ValueError("admin needs read and write beside it: every route asks for one of those first")
        return list(dict.fromkeys(scopes))


class RotateIn(Sent):
    grace_s: int = Field(0, ge=0, le=MAX_GRACE_S, description="For so many seconds the old token goes on")


class KeyOut(BaseModel):
    """A key, without its token: that is shown once."""

    id: UUID
    name: str
    hint: str | None = Field(description="How the token begins; null of very old keys", examples=["slg_Ab3d"])
    scopes: list[Scope]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None = Field(description="Written about once a minute")
    revoked_at: datetime | None
    replaced_by: UUID | None = Field(description="The key that a rotation made of it")


class CurrentKeyOut(KeyOut):
    """The key that asks, and whose it is."""

    tenant_id: UUID
    tenant: str = Field(description="The tenant's name")


class NewKeyOut(KeyOut):
    token: str | None = Field(
        description="Shown this once, since only its hash is kept; null where a request is answered again under its "
        "Idempotency-Key",
        examples=["slg_…"],
    )
