"""Places for work that lasts, such as decoding an upload: apart from the framework's threads, and shared out fairly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import anyio
import anyio.to_thread

from core.errors import Overloaded

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

_RETRY_AFTER_S = 10
Result = TypeVar("Result")


@dataclass
class _Share:
    """What one tenant has of the places."""

    places: anyio.CapacityLimiter
    requests: int = 0


class Places:
    """Threads for so much at once. Whoever waits for one waits in the event loop, and holds none.

    Args:
        at_once: pieces of work in this process of the API.
        of_one: of those, a tenant's.
        waiting: requests beside those; the next one is refused.
        waiting_of_one: of those, a tenant's.
    """

    def __init__(self, *, at_once: int, of_one: int, waiting: int, waiting_of_one: int) -> None:
        self._places = anyio.CapacityLimiter(at_once)
        self._of_one = of_one
        self._most = at_once + waiting
        self._most_of_one = of_one + waiting_of_one
        self._shares: dict[UUID, _Share] = {}

    async def work(self, work: Callable[[], Result], *, tenant_id: UUID) -> Result:
        """Do a tenant's work in a thread, when its turn has come.

        Raises:
            Overloaded: too many wait already.
        """
        share = self._shares.get(tenant_id) or _Share(anyio.CapacityLimiter(self._of_one))
        self._require_room(share)
        self._shares[tenant_id] = share
        share.requests += 1
        try:
            # The tenant's own turn comes first: in the queue of all stand no more of its requests than may work.
            async with share.places:
                return await anyio.to_thread.run_sync(work, limiter=self._places)
        finally:
            share.requests -= 1
            if share.requests == 0:
                del self._shares[tenant_id]

    def _require_room(self, share: _Share) -> None:
        requests = sum(other.requests for other in self._shares.values())
        if requests >= self._most or share.requests >= self._most_of_one:
            raise Overloaded(
                f"Too many requests like this one wait for their turn: try again in {_RETRY_AFTER_S} s.",
                retry_after_s=_RETRY_AFTER_S,
            )


# An upload has up to two decoding processes, which wait for their turn with some 40 MB each.
UPLOADS = Places(at_once=4, of_one=2, waiting=32, waiting_of_one=16)
# A page of a gallery asks for a hundred at once; each holds a picture in memory.
THUMBNAILS = Places(at_once=4, of_one=2, waiting=1_000, waiting_of_one=250)
