"""Writing and reading the audit trail. An entry is part of the change's own transaction: both are there, or neither."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from sqlalchemy import event, insert, select

from core.audit.tables import AuditEntry
from core.pages import newest_first

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.orm import Session

# Built once, and of the table alone: every write of the service pays for it.
_INSERT = insert(AuditEntry.__table__)  # type: ignore[arg-type]  # it is a Table
_REQUEST, _SUBJECT = "audited_request", "audit_subject"


@dataclass(frozen=True)
class AuditedRequest:
    """A request that will be recorded once it changes something.

    Attributes:
        tenant_id: whose key it came with.
        key_id: that key.
        action: the operationId of the OpenAPI document.
        request_id: as in the answer and in the log.
        method: POST, PATCH, PUT or DELETE.
        path: without the query.
        address: of the peer.
    """

    tenant_id: UUID
    key_id: UUID
    action: str
    request_id: str
    method: str
    path: str
    address: str | None


def watch(session: Session, request: AuditedRequest) -> None:
    """Have the session's first commit write the request's entry, so that no route can forget it."""
    session.info[_REQUEST] = request
    event.listen(session, "before_commit", _record)


def about(session: Session, subject: UUID) -> None:
    """Name what a request makes, where its path cannot."""
    session.info[_SUBJECT] = str(subject)


def unchanged(session: Session) -> None:
    """Say that a request found everything as it wants it: a commit writes no entry."""
    session.info.pop(_REQUEST, None)


def _record(session: Session) -> None:
    # The end of a savepoint is no commit: what it holds may still be taken back.
    if _REQUEST not in session.info or session.in_nested_transaction():
        return
    request: AuditedRequest = session.info.pop(_REQUEST)
    _insert(session, actor="key", subject=session.info.get(_SUBJECT), **asdict(request))


def record_operator(
    session: Session, action: str, *, tenant_id: UUID | None = None, subject: str | None = None
) -> None:
    """Write an entry of what an operator does on the machine.

    Args:
        session: that of the change; the caller commits.
        action: in the form of an operationId, such as create_tenant.
        tenant_id: whom it concerns; None: everybody.
        subject: the id or the name of what is changed.
    """
    _insert(session, actor="operator", action=action, tenant_id=tenant_id, subject=subject)


def _insert(session: Session, **values: Any) -> None:
    session.execute(_INSERT, {"id": uuid4(), **values})


def page(
    session: Session,
    *,
    tenant_id: UUID,
    action: str | None,
    key_id: UUID | None,
    limit: int,
    cursor: str | None,
) -> tuple[list[AuditEntry], str | None]:
    """The tenant's entries, the newest first, those of operators that concern it among them."""
    query = select(AuditEntry).where(AuditEntry.tenant_id == tenant_id)
    if action is not None:
        query = query.where(AuditEntry.action == action)
    if key_id is not None:
        query = query.where(AuditEntry.key_id == key_id)
    return newest_first(session, query, table=AuditEntry, limit=limit, cursor=cursor)
