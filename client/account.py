"""Requests of a tenant's account: its keys, and what was done and used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from client.transport import Transport
from core.schemas.audit import AuditEntryOut
from core.schemas.keys import CurrentKeyOut, KeyIn, KeyOut, NewKeyOut, RotateIn
from core.schemas.usage import AttemptOut, UsageOut

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from uuid import UUID


class Account(Transport):
    """The part of `client.http.Client` for keys, audit and usage."""

    def create_key(self, asked: KeyIn) -> NewKeyOut:
        """Make a key; its token is in this answer alone. As all of keys and audit, for a key with the scope admin."""
        return NewKeyOut.model_validate(self._json("POST", "/v1/keys", json=asked.model_dump(mode="json")))

    def keys(self) -> Iterator[KeyOut]:
        """All keys of the tenant, the newest first."""
        return self._pages("/v1/keys", KeyOut)

    def current_key(self) -> CurrentKeyOut:
        """The key of this client, whatever its scopes."""
        return CurrentKeyOut.model_validate(self._json("GET", "/v1/keys/current"))

    def rotate_key(self, key_id: UUID, asked: RotateIn) -> NewKeyOut:
        """A new token for a key; the old one goes on for a while."""
        body = asked.model_dump(mode="json")
        return NewKeyOut.model_validate(self._json("POST", f"/v1/keys/{key_id}/rotate", json=body))

    def revoke_key(self, key_id: UUID) -> None:
        """End a key at once; Conflict for the last one with the scope admin."""
        with self._request("DELETE", f"/v1/keys/{key_id}"):
            pass

    def audit(self, *, action: str | None = None, key_id: UUID | None = None) -> Iterator[AuditEntryOut]:
        """What was changed, the newest first."""
        return self._pages("/v1/audit", AuditEntryOut, action=action, key_id=key_id)

    def usage(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        group: str = "job",
        limit: int = 200,
    ) -> UsageOut:
        """For how long the tenant's jobs held devices, with all items of all pages.

        Args:
            since: with a time zone; by default 30 days before until.
            until: likewise; by default now.
            group: job, or day (in UTC).
            limit: items a page.
        """
        given = {"since": since, "until": until}
        query: dict[str, Any] = {name: at.isoformat() for name, at in given.items() if at is not None}
        query |= {"group": group, "limit": limit}
        told = UsageOut.model_validate(self._json("GET", "/v1/usage", params=query))
        items: list[Any] = list(told.items)
        # The other pages are of the same time.
        query |= {"since": told.since.isoformat(), "until": told.until.isoformat()}
        cursor = told.next_cursor
        while cursor is not None:
            query["cursor"] = cursor
            more = UsageOut.model_validate(self._json("GET", "/v1/usage", params=query))
            items += more.items
            cursor = more.next_cursor
        return told.model_copy(update={"items": items, "next_cursor": None})

    def attempts(self, job_id: UUID) -> list[AttemptOut]:
        """Each time that a job held a device."""
        return list(self._pages(f"/v1/jobs/{job_id}/attempts", AttemptOut))
