"""Shapes that every route shares: a page of a list, and the one form of every error."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from pydantic import BaseModel, Field

Item = TypeVar("Item")


class Page(BaseModel, Generic[Item]):
    """Items in order, and the cursor of the next page (null on the last)."""

    items: list[Item]
    next_cursor: str | None = None


class Problem(BaseModel):
    """RFC 9457 `application/problem+json`, with a stable code for programs."""

    type: str = Field(examples=["urn:slaegan:error:not_found"])
    title: str
    status: int
    code: str
    detail: str
    instance: str
    request_id: str
    errors: list[dict[str, Any]] = Field(
        default_factory=list, description="One entry a wrong value: where, what, input"
    )
    details: dict[str, Any] = Field(default_factory=dict)
