"""Keyset pages: the newest first, and a cursor that stays right while rows are added."""

from __future__ import annotations

import base64
import binascii
import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from sqlalchemy import Select, tuple_

from core.errors import InvalidRequest

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

Row = TypeVar("Row")


def newest_first(
    session: Session, query: Select[Row], *, table: Any, limit: int, cursor: str | None
) -> tuple[list[Row], str | None]:
    """Run a query for one page of a table that has `created_at` and `id`.

    Args:
        session: for one read.
        query: selects the table, filtered as wished, without an order.
        table: the mapped class.
        limit: rows a page.
        cursor: what the page before gave; None for the first.

    Returns:
        The rows, and the cursor of the next page, or None on the last.

    Raises:
        InvalidRequest: the cursor is none of ours.
    """
    place = tuple_(table.created_at, table.id)
    if cursor is not None:
        query = query.where(place < tuple_(*_decode(cursor)))
    rows = list(session.scalars(query.order_by(table.created_at.desc(), table.id.desc()).limit(limit + 1)))
    if len(rows) <= limit:
        return rows, None
    last: Any = rows[limit - 1]
    return rows[:limit], _encode(last.created_at, last.id)


def _encode(created_at: datetime, row_id: UUID) -> str:
    return base64.urlsafe_b64encode(json.dumps([created_at.isoformat(), str(row_id)]).encode()).decode()


def _decode(cursor: str) -> tuple[datetime, UUID]:
    try:
        created_at, row_id = json.loads(base64.urlsafe_b64decode(cursor))
        place = datetime.fromisoformat(created_at), UUID(row_id)
    except (binascii.Error, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidRequest(
            "The cursor is not one that this service gave: pass next_cursor of the page before, unchanged."
        ) from error
    if place[0].tzinfo is None:
        raise InvalidRequest("The cursor is not one that this service gave: its time has no zone.")
    return place
