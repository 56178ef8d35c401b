"""The secrets that webhooks are signed with, and the signature (Standard Webhooks, https://www.standardwebhooks.com)."""

from __future__ import annotations

import base64
import secrets
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from standardwebhooks import Webhook

from core.schemas.webhooks import WebhookSecretOut
from core.webhooks.tables import WebhookSecret

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from sqlalchemy.orm import Session

_PREFIX = "whsec_"
_SECRET_BYTES = 32


def headers(delivery_id: UUID, body: str, *, keys: Sequence[str]) -> dict[str, str]:
    """The headers that let a receiver check who sent a body, and when.

    Args:
        delivery_id: the same on every attempt, so that a receiver can tell what it has had before.
        body: as it is sent.
        keys: all secrets that are valid now; each signs.
    """
    now = datetime.now(tz=UTC)
    message_id = str(delivery_id)
    signatures = [Webhook(key).sign(message_id, now, body) for key in keys]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def secret_of(session: Session, tenant_id: UUID) -> WebhookSecret:
    """A tenant's secret, made if it has none yet; the caller commits."""
    if (known := session.get(WebhookSecret, tenant_id)) is not None:
        return known
    session.execute(
        insert(WebhookSecret)
        .values(tenant_id=tenant_id, secret=_new_secret())
        .on_conflict_do_nothing(index_elements=["tenant_id"])
    )
    return session.get_one(WebhookSecret, tenant_id)


def rotate(session: Session, tenant_id: UUID) -> WebhookSecret:
    """Give a tenant a new secret; the one before goes on signing beside it for a while. The caller commits."""
    secret_of(session, tenant_id)
    row = session.scalars(
        select(WebhookSecret)
        .where(WebhookSecret.tenant_id == tenant_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one()
    row.previous_secret, row.secret = row.secret, _new_secret()
    row.created_at = session.scalars(select(func.clock_timestamp())).one()
    session.flush()
    return row


def valid_keys(row: WebhookSecret, *, now: datetime, overlap_s: float) -> list[str]:
    """The secrets that sign now, the newest first.

    Args:
        row: of the tenant.
        now: by the database's clock.
        overlap_s: how long the secret before goes on signing after a rotation.
    """
    until = _previous_until(row, overlap_s=overlap_s)
    previous = [row.previous_secret] if row.previous_secret and until and now < until else []
    return [row.secret, *previous]


def described(row: WebhookSecret, *, overlap_s: float) -> WebhookSecretOut:
    """What the API says of a secret."""
    until = _previous_until(row, overlap_s=overlap_s)
    return WebhookSecretOut(secret=row.secret, created_at=row.created_at, previous_until=until)


def _previous_until(row: WebhookSecret, *, overlap_s: float) -> datetime | None:
    return row.created_at + timedelta(seconds=overlap_s) if row.previous_secret else None


def _new_secret() -> str:
    return _PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()
