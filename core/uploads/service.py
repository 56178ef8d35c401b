"""What a tenant may do with resumable uploads. All reads are bound to the tenant here."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, Select, delete, func, select

from core.audit import trail
from core.datasets.scratch import disk_errors, require_space
from core.db import sessions
from core.errors import NotFound, QuotaExceeded, TooLarge
from core.keys import Tenant
from core.pages import newest_first
from core.settings import settings
from core.uploads import files
from core.uploads.tables import Upload

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy.orm import Session

    from core.audit.trail import AuditedRequest


def create(
    session: Session, *, tenant_id: UUID, length_bytes: int, filename: str, metadata_header: str
) -> Upload:
    """Begin an upload; the caller commits.

    Args:
        session: the tenant's row is locked until the commit, so that requests at once cannot all take the last place.
        tenant_id: the owner.
        length_bytes: of the whole file.
        filename: as it may be shown.
        metadata_header: as the client sent it; it is told again.

    Raises:
        TooLarge: the file is longer than an upload may be.
        QuotaExceeded: the tenant has too many uploads open, or too many bytes in them.
        StoreFull: the disk has no room for the file.
    """
    limit_bytes = settings().max_upload_bytes
    if length_bytes > limit_bytes:
        raise TooLarge(
            f"The file has {length_bytes} bytes; {limit_bytes} are allowed in one upload (MAX_UPLOAD_BYTES).",
            size_bytes=length_bytes,
            limit_bytes=limit_bytes,
        )
    session.execute(select(Tenant.id).where(Tenant.id == tenant_id).with_for_update(key_share=True))
    _check_share(session, tenant_id=tenant_id, length_bytes=length_bytes)
    with disk_errors():
        files.home().mkdir(parents=True, exist_ok=True, mode=0o700)
        require_space(files.home(), length_bytes)
    upload = Upload(
        tenant_id=tenant_id,
        filename=filename,
        metadata_header=metadata_header,
        length_bytes=length_bytes,
        expires_at=renewed(),
    )
    session.add(upload)
    session.flush()
    session.refresh(upload)
    return upload


def get(session: Session, *, tenant_id: UUID, upload_id: UUID) -> Upload:
    """An upload of this tenant.

    Raises:
        NotFound: there is none, or it was deleted or has expired, or it is another tenant's: the answer is the same.
    """
    upload = session.scalar(_of(tenant_id).where(Upload.id == upload_id))
    if upload is None:
        raise gone(upload_id)
    return upload


def page(
    session: Session, *, tenant_id: UUID, limit: int, cursor: str | None
) -> tuple[list[Upload], str | None]:
    """The tenant's uploads of which no dataset was made yet, the newest first."""
    query = _of(tenant_id).where(Upload.dataset_id.is_(None))
    return newest_first(session, query, table=Upload, limit=limit, cursor=cursor)


def terminate(*, tenant_id: UUID, upload_id: UUID, audited: AuditedRequest) -> None:
    """Forget an upload and its bytes; a dataset that was made of it stays. Commits by itself, before the bytes go.

    Args:
        tenant_id: the owner.
        upload_id: the upload.
        audited: has its entry in the audit trail with the commit.

    Raises:
        NotFound: as for `get`.
        Locked: somebody is writing to it.
    """
    with sessions()() as session:
        get(session, tenant_id=tenant_id, upload_id=upload_id)
    with files.locked(upload_id):
        with sessions().begin() as session:
            trail.watch(session, audited)
            trail.about(session, upload_id)
            found = session.scalar(delete(Upload).where(Upload.id == upload_id).returning(Upload.id))
            if found is None:  # somebody was faster: nothing changes, so nothing is recorded
                trail.unchanged(session)
        files.forget(upload_id)


def gone(upload_id: UUID) -> NotFound:
    """The error for an upload that is not there, or not for this tenant."""
    return NotFound(f"There is no upload {upload_id}; they expire when nothing comes for long. Begin anew.")


def renewed() -> ColumnElement[datetime]:
    """When an upload expires with which something is done now, by the database's clock."""
    return func.clock_timestamp() + timedelta(seconds=settings().upload_expires_s)


def _of(tenant_id: UUID) -> Select[Upload]:
    return select(Upload).where(Upload.tenant_id == tenant_id, Upload.expires_at > func.clock_timestamp())


def _check_share(session: Session, *, tenant_id: UUID, length_bytes: int) -> None:
    held = _of(tenant_id).where(Upload.dataset_id.is_(None)).subquery()
    query = select(func.count(), func.coalesce(func.sum(held.c.length_bytes), 0)).select_from(held)
    count, open_bytes = session.execute(query).one()
    most, most_bytes = settings().max_open_uploads, settings().max_open_upload_bytes
    if count >= most:
        raise QuotaExceeded(
            f"You have {count} uploads open, and {most} are allowed: finish or delete one (GET /v1/uploads lists "
            "them).",
            open_uploads=count,
            max_open_uploads=most,
        )
    if open_bytes + length_bytes > most_bytes:
        raise QuotaExceeded(
            f"Your open uploads have {open_bytes} bytes, and with this one's {length_bytes} they would exceed the "
            f"{most_bytes} allowed: finish or delete one (GET /v1/uploads lists them).",
            open_bytes=int(open_bytes),
            size_bytes=length_bytes,
            max_open_upload_bytes=most_bytes,
        )
