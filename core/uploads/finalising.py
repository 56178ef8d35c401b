"""From a complete upload to a dataset: once, whoever asks how often."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from sqlalchemy import update

from core.audit import trail
from core.datasets import making, service, versions
from core.datasets.ingest import Upload as File
from core.datasets.ingest import normalise_uploads
from core.datasets.scratch import disk_errors, require_space, scratch_folder
from core.db import reading, sessions
from core.errors import Conflict
from core.settings import settings
from core.storage import store
from core.uploads import files
from core.uploads.appending import require_here
from core.uploads.service import get, gone, renewed
from core.uploads.tables import Upload

if TYPE_CHECKING:
    from pathlib import Path
    from uuid import UUID

    from sqlalchemy.orm import Session

    from core.audit.trail import AuditedRequest
    from core.datasets.tables import Dataset
    from core.schemas.uploads import UploadDatasetIn


def finalise(
    *, tenant_id: UUID, upload_id: UUID, wanted: UploadDatasetIn, audited: AuditedRequest
) -> Dataset:
    """Make a dataset of an upload, or give the one that was made of it.

    It works in transactions of its own, since the bytes go after the commit, while nobody else can have them. If it
    fails, the upload stays as it was.

    Args:
        tenant_id: the owner.
        upload_id: the upload.
        wanted: its name, and of which dataset it is a new version, if of any.
        audited: has its entry in the audit trail with the dataset.

    Raises:
        NotFound: there is no such upload or dataset, or the dataset that was made of the upload is deleted.
        Conflict: the upload is not complete, or the dataset is not the newest version (`details.newest` names that).
        InvalidRequest: something to remove is not there, or could be several pictures.
        Locked: a request is writing to it, or makes a dataset of it.
        ArchiveRejected, DatasetUnusable, LabelsUnusable: as for any upload.
        StoreFull, StoreUnavailable: the pictures cannot be stored.
    """
    if (made := _made(tenant_id=tenant_id, upload_id=upload_id)) is not None:
        return made
    with files.locked(upload_id) as descriptor:
        made = _made(tenant_id=tenant_id, upload_id=upload_id)
        if made is None:
            upload = _hold(tenant_id=tenant_id, upload_id=upload_id)
            require_here(upload, os.fstat(descriptor).st_size)
            made = _make(upload, wanted=wanted, audited=audited)
        files.forget(upload_id)
    return made


def _made(*, tenant_id: UUID, upload_id: UUID) -> Dataset | None:
    with sessions()() as session:
        upload = get(session, tenant_id=tenant_id, upload_id=upload_id)
        if upload.dataset_id is not None:
            return service.get(session, tenant_id=tenant_id, dataset_id=upload.dataset_id)
    if upload.received_bytes < upload.length_bytes:
        raise Conflict(
            f"The upload {upload_id} has {upload.received_bytes} of its {upload.length_bytes} bytes: send the rest "
            "first.",
            offset=upload.received_bytes,
            length_bytes=upload.length_bytes,
        )
    return None


def _hold(*, tenant_id: UUID, upload_id: UUID) -> Upload:
    """Renew the upload, so that it does not expire while its pictures are decoded."""
    with sessions().begin() as session:
        upload: Upload | None = session.scalar(
            update(Upload)
            .where(Upload.id == upload_id, Upload.tenant_id == tenant_id)
            .values(expires_at=renewed())
            .returning(Upload)
        )
    if upload is None:
        raise gone(upload_id)
    return upload


def _make(upload: Upload, *, wanted: UploadDatasetIn, audited: AuditedRequest) -> Dataset:
    if wanted.version_of is not None:
        with reading() as session:  # Before thousands of pictures are decoded in vain.
            versions.require_newest(session, tenant_id=upload.tenant_id, dataset_id=wanted.version_of)
    with scratch_folder() as folder:
        # A second name for the bytes: making a dataset removes the files it has read, and may fail after that.
        file = File(upload.filename, folder / "000000.upload")
        _link(files.path_of(upload.id), file.path, size_bytes=upload.length_bytes)
        with sessions().begin() as session:
            trail.watch(session, audited)
            made = _dataset(session, upload, file, wanted=wanted, folder=folder)
            trail.about(session, made.id)
            marked = session.execute(
                update(Upload)
                .where(Upload.id == upload.id, Upload.dataset_id.is_(None))
                .values(dataset_id=made.id)
                .returning(Upload.id)
            )
            if marked.one_or_none() is None:
                raise gone(upload.id)
    return made


def _dataset(
    session: Session, upload: Upload, file: File, *, wanted: UploadDatasetIn, folder: Path
) -> Dataset:
    if wanted.version_of is None:
        title = wanted.name or making.title_of(upload.filename)
        return making.make(
            session,
            [file],
            tenant_id=upload.tenant_id,
            name=title,
            folder=folder,
            label_source=wanted.labels,
        )
    return versions.create(
        session,
        wanted.version_of,
        tenant_id=upload.tenant_id,
        normalised=normalise_uploads(
            [file], folder=folder, limits=settings(), needed=0, label_source=wanted.labels
        ),
        remove=wanted.remove,
        name=wanted.name,
        folder=folder,
        store=store(),
    )


def _link(source: Path, target: Path, *, size_bytes: int) -> None:
    with disk_errors():
        try:
            os.link(source, target)
        except (
            OSError
        ):  # Machines may share the one folder, and not the other; or the disk knows no second names.
            require_space(target.parent, size_bytes)
            shutil.copyfile(source, target)
