"""When keys were last used: noted in memory by each request, written for all of them in one statement now and then."""

from __future__ import annotations

import time
from datetime import timedelta
from threading import Lock
from typing import TYPE_CHECKING

from sqlalchemy import Interval, Uuid, column, func, select, update
from sqlalchemy.dialects.postgresql import array

from core.keys.tables import ApiKey

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.orm import Session


class KeyUses:
    """The latest use of each key since the last flush; what is noted when the process is killed is lost."""

    def __init__(self) -> None:
        self._at: dict[UUID, float] = {}
        self._lock = Lock()

    def note(self, key_id: UUID) -> None:
        """A request came with a key; costs nothing that the request would feel."""
        self._at[key_id] = time.monotonic()

    def flush(self, session: Session) -> None:
        """Write what was noted, on the database's clock; the caller commits. What fails is noted again."""
        with self._lock:
            noted, self._at = self._at, {}
            if not noted:
                return
            try:
                _write(session, noted)
            except Exception:
                self._at = noted | self._at
                raise


def _write(session: Session, noted: dict[UUID, float]) -> None:
    now = time.monotonic()
    ages = [timedelta(seconds=now - at) for at in noted.values()]
    used = func.unnest(array(noted.keys(), type_=Uuid), array(ages, type_=Interval))
    use = used.table_valued(column("key_id", Uuid), column("age", Interval), name="use").render_derived()
    # Another process of the API may write the same keys: one that it holds at this moment, it writes.
    free = select(ApiKey.id).where(ApiKey.id.in_(noted)).with_for_update(skip_locked=True)
    session.execute(
        update(ApiKey)
        .where(ApiKey.id == use.c.key_id, ApiKey.id.in_(free))
        .values(last_used_at=func.greatest(ApiKey.last_used_at, func.clock_timestamp() - use.c.age))
        .execution_options(synchronize_session=False)
    )
