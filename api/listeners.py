"""Who listens to this process's streams: so many of one tenant, and none for longer than its key is live."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastapi.concurrency import run_in_threadpool
from sqlalchemy.exc import SQLAlchemyError

from core.db import sessions
from core.errors import QuotaExceeded
from core.keys.identity import live_among

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from core.keys import Identity

_logger = logging.getLogger("slaegan.api")


@dataclass(eq=False)
class Listener:
    """One open stream.

    Attributes:
        identity: whose it is.
        may_listen: whether its key was live at the last look; nothing more is told once it was not.
    """

    identity: Identity
    may_listen: bool = True


class Listeners:
    """The open streams of all feeds; the event loop's alone.

    Args:
        max_streams: of one tenant at a time.
        check_s: how often the database is asked for the keys of all of them.
    """

    def __init__(self, *, max_streams: int, check_s: float) -> None:
        self._max_streams = max_streams
        self._check_s = check_s
        self._open: set[Listener] = set()
        self._of_tenant: Counter[UUID] = Counter()

    @contextmanager
    def joined(self, identity: Identity) -> Iterator[Listener]:
        """Count a stream while the block runs.

        Raises:
            QuotaExceeded: the tenant has too many open already.
        """
        tenant_id = identity.tenant_id
        if self._of_tenant[tenant_id] >= self._max_streams:
            raise QuotaExceeded(
                f"{self._max_streams} streams of yours are open, and no more may be: close one first.",
                open=self._of_tenant[tenant_id],
                max_streams=self._max_streams,
            )
        listener = Listener(identity)
        self._open.add(listener)
        self._of_tenant[tenant_id] += 1
        try:
            yield listener
        finally:
            self._open.discard(listener)
            self._of_tenant[tenant_id] -= 1
            if not self._of_tenant[tenant_id]:
                del self._of_tenant[tenant_id]

    async def check_keys(self) -> None:
        """Again and again find the streams whose key was revoked or has expired, in one query for all."""
        while True:
            await asyncio.sleep(self._check_s)
            asked = list(self._open)
            if not asked:
                continue
            try:
                live = await run_in_threadpool(_live, {listener.identity.key_id for listener in asked})
            except SQLAlchemyError as error:
                # Without a database there is nothing new to tell either.
                _logger.warning("The keys of streams cannot be checked, trying again: %s", error)
                continue
            for listener in asked:
                listener.may_listen = listener.identity.key_id in live


def _live(key_ids: set[UUID]) -> set[UUID]:
    with sessions()() as session:
        return live_among(session, key_ids)
