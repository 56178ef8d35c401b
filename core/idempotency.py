"""Answers that were given, kept for a day: a request that is sent again has its effect once, and the same answer.

An answer is written in the transaction that does what was asked, so that either both are there or neither. While that
transaction lasts it holds a lock of the key's, which goes with it however it ends: a killed process blocks no retry.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, mapped_column

from core.db import Base
from core.errors import Conflict, KeyReused

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

KEPT = timedelta(hours=24)


class GivenAnswer(Base):
    """What a tenant's request with an Idempotency-Key was answered with."""

    __tablename__ = "given_answers"
    __table_args__ = (CheckConstraint("status between 200 and 299", name="success"),)

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str]
    status: Mapped[int]
    body: Mapped[str]
    location: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)


class Given(NamedTuple):
    """An answer as it was given: HTTP status, JSON, and the Location header if it had one."""

    status: int
    body: str
    location: str | None


def begin(
    session: Session, *, tenant_id: UUID, key: str, fingerprint: str, wait: bool = False
) -> Given | None:
    """Take a key for this transaction, or find the answer that was given under it.

    Args:
        session: the lock lasts as long as its transaction.
        tenant_id: keys of different tenants have nothing to do with each other.
        key: as the client chose it.
        fingerprint: a hash of all that was asked.
        wait: for a request under the same key that is being answered; else it is a conflict.

    Returns:
        None: go on, and `keep` the answer.

    Raises:
        Conflict: a request under this key is being answered.
        KeyReused: another request was answered under it.
    """
    number = int.from_bytes(hashlib.sha256(f"{tenant_id} {key}".encode()).digest()[:8], signed=True)
    if wait:
        session.execute(select(func.pg_advisory_xact_lock(number)))
    elif not session.scalar(select(func.pg_try_advisory_xact_lock(number))):
        raise in_flight(key)
    # A statement of its own, so that it sees what the lock's last holder committed.
    row = session.scalar(
        select(GivenAnswer).where(
            GivenAnswer.tenant_id == tenant_id,
            GivenAnswer.key == key,
            GivenAnswer.created_at > func.now() - KEPT,
        )
    )
    if row is None:
        return None
    if row.fingerprint != fingerprint:
        raise KeyReused(
            f"The Idempotency-Key {key!r} came with another request on {row.created_at:%Y-%m-%d %H:%M:%S %Z}: "
            "send a new key with a new request.",
            key=key,
        )
    return Given(row.status, row.body, row.location)


def keep(session: Session, given: Given, *, tenant_id: UUID, key: str, fingerprint: str) -> None:
    """Write an answer beside what it tells of; the caller commits both."""
    values = {"fingerprint": fingerprint, **given._asdict(), "created_at": func.now()}
    session.execute(
        insert(GivenAnswer)
        .values(tenant_id=tenant_id, key=key, **values)
        # Over one that is outdated; `begin` has found no other.
        .on_conflict_do_update(index_elements=[GivenAnswer.tenant_id, GivenAnswer.key], set_=values)
    )


def in_flight(key: str) -> Conflict:
    """The refusal of a second request while the first is being answered."""
    return Conflict(
        f"A request with the Idempotency-Key {key!r} is being answered: send this one again in a moment.",
        key=key,
    )
