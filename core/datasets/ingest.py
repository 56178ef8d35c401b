"""From uploaded files to normalised pictures in the store. Knows no database."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from core.datasets.archives import Found, Spent, Unpacked, kind_of, sanitised, unpack
from core.datasets.pictures import Picture, contact_sheet, normalise
from core.datasets.scratch import require_space
from core.errors import DatasetUnusable
from core.schemas.datasets import Rejection
from core.storage import remove

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from uuid import UUID

    from core.settings import Settings
    from core.storage import Store

MIN_PICTURES = 4
MAX_LISTED_REJECTIONS = 1_000


@dataclass(frozen=True)
class Upload:
    """One file as it was sent: the name that the client gave, and its bytes in the scratch folder."""

    name: str
    path: Path


@dataclass(frozen=True)
class Normalised:
    """The usable pictures of an upload, in its order, and what was not usable."""

    pictures: list[Picture]
    rejected: list[Rejection]

    @property
    def content_hash(self) -> str:
        """sha256 over the pictures' own hashes."""
        return hashlib.sha256("".join(picture.sha256 for picture in self.pictures).encode()).hexdigest()


def normalise_uploads(uploads: Sequence[Upload], *, folder: Path, limits: Settings) -> Normalised:
    """Unpack, decode and convert everything that was sent.

    Args:
        uploads: pictures and archives, mixed as they like.
        folder: a scratch folder; its owner removes it.
        limits: the settings that bound hostile input.

    Raises:
        ArchiveRejected: an archive is hostile or broken.
        DatasetUnusable: fewer than four usable pictures; lists the rejections.
        StoreFull: the scratch disk is full.
    """
    unpacked = _collect(uploads, folder=folder, limits=limits)
    target = folder / "normalised"
    target.mkdir()

    def work(item: tuple[int, Found]) -> Picture | Rejection:
        position, found = item
        require_space(folder, 0)
        result = normalise(found, target=target / f"{position:06d}.png", limits=limits)
        found.path.unlink()
        return result

    pictures: dict[str, Picture] = {}
    rejected = list(unpacked.rejected)
    with ThreadPoolExecutor(max_workers=2) as pool:
        for result in pool.map(work, enumerate(unpacked.found)):
            match result:
                case Rejection():
                    rejected.append(result)
                case Picture() if first := pictures.get(result.sha256):
                    reason = f"The picture is the same, pixel by pixel, as {first.name!r}."
                    rejected.append(Rejection(name=result.name, code="duplicate", reason=reason))
                case Picture():
                    pictures[result.sha256] = result
    rejected = _shortened(rejected)
    if len(pictures) < MIN_PICTURES:
        raise DatasetUnusable(
            f"The upload holds {len(pictures)} usable pictures; at least {MIN_PICTURES} are needed. "
            f"{len(rejected)} files were rejected: see details.rejected for the reasons.",
            usable=len(pictures),
            needed=MIN_PICTURES,
            rejected=[rejection.model_dump() for rejection in rejected],
        )
    return Normalised(list(pictures.values()), rejected)


@contextmanager
def stored(normalised: Normalised, *, dataset_id: UUID, folder: Path, store: Store) -> Iterator[list[str]]:
    """Put the pictures and a contact sheet into the store, and take them out again if the block fails.

    Args:
        normalised: the pictures.
        dataset_id: names the keys.
        folder: a scratch folder for the contact sheet.
        store: the artifact store.

    Yields:
        The pictures' keys, in order.

    Raises:
        StoreFull: the store is full.
        StoreUnavailable: the store cannot be reached.
    """
    sheet = folder / "preview.jpg"
    contact_sheet(normalised.pictures, target=sheet)
    keys = [picture_key(dataset_id, position) for position in range(len(normalised.pictures))]
    sources = {preview_key(dataset_id): sheet} | {
        key: picture.path for key, picture in zip(keys, normalised.pictures, strict=True)
    }
    try:
        # The threads wait for the disk to sync, or for the network.
        with ThreadPoolExecutor(max_workers=8) as pool:
            puts = [pool.submit(store.put, key, path) for key, path in sources.items()]
            try:
                for put in puts:
                    put.result()
            finally:
                pool.shutdown(cancel_futures=True)
        yield keys
    except BaseException:
        remove(sources, store=store)
        raise


def picture_key(dataset_id: UUID, position: int) -> str:
    return f"datasets/{dataset_id}/{position:05d}.png"


def preview_key(dataset_id: UUID) -> str:
    return f"datasets/{dataset_id}/preview.jpg"


def _collect(uploads: Sequence[Upload], *, folder: Path, limits: Settings) -> Unpacked:
    collected = Unpacked()
    pictures = [kind_of(upload.path) is None for upload in uploads]
    # The limits hold for the whole upload: a form may hold thousands of archives.
    spent = Spent(entries=sum(pictures))
    for number, (upload, is_picture) in enumerate(zip(uploads, pictures, strict=True)):
        name = sanitised(upload.name)
        if is_picture:
            collected.found.append(Found(name, upload.path))
            continue
        target = folder / f"unpacked-{number}"
        target.mkdir()
        unpacked = unpack(upload.path, archive=name, folder=target, limits=limits, spent=spent)
        upload.path.unlink()
        collected.found.extend(unpacked.found)
        collected.rejected.extend(unpacked.rejected)
    return collected


def _shortened(rejected: list[Rejection]) -> list[Rejection]:
    """Keep the list fit for a response and a row."""
    more = len(rejected) - MAX_LISTED_REJECTIONS
    if more <= 0:
        return rejected
    reason = f"Only the first {MAX_LISTED_REJECTIONS} of {len(rejected)} rejected files are listed."
    return [
        *rejected[:MAX_LISTED_REJECTIONS],
        Rejection(name=f"{more} more", code="not_listed", reason=reason),
    ]
