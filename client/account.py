"""Requests of a tenant's account and of the service itself: keys, what was done and used, families, workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from client.flow import Once, do, fetch, listed, pages
from client.operation import call, iteration
from client.problems import raise_for_problem
from core.errors import InfrastructureError
from core.schemas.audit import AuditEntryOut
from core.schemas.jobs import WorkerOut
from core.schemas.keys import CurrentKeyOut, KeyIn, KeyOut, NewKeyOut, RotateIn
from core.schemas.models import ModelOut
from core.schemas.usage import AttemptOut, UsageOut
from core.schemas.webhooks import WebhookSecretOut

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from client.flow import Flow, Stream


class Account:
    """The part of a client for keys, audit and usage, and for the service itself."""

    @call
    def create_key(self, asked: KeyIn) -> Flow[NewKeyOut]:
        """Make a key; its token is in this answer alone. As all of keys and audit, for a key with the scope admin."""
        return _with_token("/v1/keys", asked)

    @iteration
    def keys(self) -> Stream[KeyOut]:
        """All keys of the tenant, the newest first."""
        return pages(KeyOut, "/v1/keys")

    @call
    def current_key(self) -> Flow[CurrentKeyOut]:
        """The key of this client, whatever its scopes."""
        return fetch(CurrentKeyOut, "GET", "/v1/keys/current")

    @call
    def rotate_key(self, key_id: UUID, asked: RotateIn) -> Flow[NewKeyOut]:
        """A new token for a key; the old one goes on for a while."""
        return _with_token(f"/v1/keys/{key_id}/rotate", asked)

    @call
    def revoke_key(self, key_id: UUID) -> Flow[None]:
        """End a key at once; Conflict for the last one with the scope admin."""
        return do("DELETE", f"/v1/keys/{key_id}")

    @iteration
    def audit(self, *, action: str | None = None, key_id: UUID | None = None) -> Stream[AuditEntryOut]:
        """What was changed, the newest first."""
        return pages(AuditEntryOut, "/v1/audit", action=action, key_id=key_id and str(key_id))

    @call
    def usage(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        group: str = "job",
        limit: int = 200,
    ) -> Flow[UsageOut]:
        """For how long the tenant's jobs held devices, with all items of all pages.

        Args:
            since: with a time zone; by default 30 days before until.
            until: likewise; by default now.
            group: job, or day (in UTC).
            limit: items a page.
        """
        bounds = {"since": since, "until": until}
        query: dict[str, Any] = {name: at.isoformat() for name, at in bounds.items() if at is not None}
        query |= {"group": group, "limit": limit}
        told = yield from fetch(UsageOut, "GET", "/v1/usage", params=query)
        items: list[Any] = list(told.items)
        # The other pages are of the same time.
        query |= {"since": told.since.isoformat(), "until": told.until.isoformat()}
        cursor = told.next_cursor
        while cursor is not None:
            more = yield from fetch(UsageOut, "GET", "/v1/usage", params=query | {"cursor": cursor})
            items += more.items
            cursor = more.next_cursor
        return told.model_copy(update={"items": items, "next_cursor": None})

    @call
    def attempts(self, job_id: UUID) -> Flow[list[AttemptOut]]:
        """Each time that a job held a device."""
        return listed(AttemptOut, f"/v1/jobs/{job_id}/attempts")

    @call
    def webhook_secret(self) -> Flow[WebhookSecretOut]:
        """What webhooks are signed with; needs a key with the scope admin."""
        return fetch(WebhookSecretOut, "GET", "/v1/webhook-secret")

    @call
    def rotate_webhook_secret(self) -> Flow[WebhookSecretOut]:
        """A new secret; the one before signs beside it for a while. Needs a key with the scope admin."""
        return fetch(WebhookSecretOut, "POST", "/v1/webhook-secret/rotate", keyed=False)

    @call
    def models(self) -> Flow[list[ModelOut]]:
        """The families of models, with the JSON Schema of each one's configuration."""
        return listed(ModelOut, "/v1/models")

    @call
    def workers(self) -> Flow[list[WorkerOut]]:
        """The workers, and what they are doing; of jobs only your own are named."""
        return listed(WorkerOut, "/v1/workers")

    @call
    def check_ready(self) -> Flow[None]:
        """Raise what keeps the service from working; it is asked once."""
        raise_for_problem((yield Once("GET", "/readyz")))


def _with_token(path: str, asked: KeyIn | RotateIn) -> Flow[NewKeyOut]:
    made = yield from fetch(NewKeyOut, "POST", path, json=asked.model_dump(mode="json"))
    if made.token is None:
        raise InfrastructureError(
            f"The key {made.id} was made, but the answer with its token got lost: revoke it, and make another.",
            key_id=str(made.id),
        )
    return made
