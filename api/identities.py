"""Whose key it was a moment ago: a client that asks hundreds of times a second is looked up once a second or two."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from core.keys import digest

if TYPE_CHECKING:
    from uuid import UUID

    from core.keys import Identity

MAX_KNOWN = 10_000


class Identities:
    """Identities by the hash of their key; the event loop's alone.

    Only keys that open something are remembered: guesses would fill it.

    Args:
        kept_s: how long a look-up holds; 0: not at all.
    """

    def __init__(self, kept_s: float) -> None:
        self._kept_s = kept_s
        self._known: dict[str, tuple[float, Identity]] = {}

    def get(self, token: str) -> Identity | None:
        """The identity, if it was looked up a moment ago."""
        until, identity = self._known.get(digest(token), (0.0, None))
        return identity if until > time.monotonic() else None

    def put(self, token: str, identity: Identity) -> None:
        """Remember a look-up."""
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known[digest(token)] = time.monotonic() + self._kept_s, identity

    def drop(self, token: str) -> None:
        """Of a session that was signed out of just now by a request to this process."""
        self._known.pop(digest(token), None)

    def forget(self, key_id: UUID) -> None:
        """Of a key that was revoked just now by a request to this process."""
        self._known = {hashed: known for hashed, known in self._known.items() if known[1].key_id != key_id}
