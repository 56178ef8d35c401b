"""A dataset's pictures as files on this machine, for training and evaluating children."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID, uuid4

from core.datasets.contents import Image, images_of
from core.datasets.tables import Dataset
from core.errors import DataFailed
from core.files import fsync, sha256_of
from core.settings import settings

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.orm import Session

    from core.storage import Store

IN_USE_S = 3600


class StoredImage(NamedTuple):
    """Where the store keeps a picture, and what is there."""

    key: str
    sha256: str
    size_bytes: int
    label: str | None = None


@dataclass(frozen=True)
class DatasetFiles:
    """Which pictures a dataset has, or a part of it, in order, and where the store keeps them.

    `classes` are those of the whole dataset, in the order of their names, also where a part has none of one.
    """

    dataset_id: UUID
    content_hash: str
    images: tuple[StoredImage, ...]
    part: str = ""  # distinguishes the folders of a dataset's parts
    classes: tuple[str, ...] = ()

    @classmethod
    def of(cls, session: Session, dataset_id: UUID) -> DatasetFiles:
        """Read them from the database, so that nothing of it is held while they are fetched."""
        dataset = session.get_one(Dataset, dataset_id)
        images = [Image.of(row) for row in session.execute(images_of(dataset_id))]
        return cls(
            dataset_id,
            dataset.content_hash,
            tuple(
                StoredImage(image.storage_key, image.sha256, image.size_bytes, image.label)
                for image in images
            ),
            classes=tuple(sorted({image.label for image in images if image.label is not None})),
        )

    @property
    def count(self) -> int:
        """How many pictures."""
        return len(self.images)

    @property
    def unlabelled(self) -> int:
        """How many pictures have no class."""
        return sum(image.label is None for image in self.images)

    @property
    def labels(self) -> tuple[int, ...] | None:
        """The place in `classes` of each picture's class, in the pictures' order; None where any has no class."""
        places = {name: place for place, name in enumerate(self.classes)}
        labels = [places[image.label] for image in self.images if image.label is not None]
        return tuple(labels) if labels and len(labels) == self.count else None

    def learned_hash(self, *, with_labels: bool) -> str:
        """What a training depends on: the pictures, and where it is shown their classes, those too."""
        if not with_labels:
            return self.content_hash
        facts = json.dumps([self.content_hash, self.classes, self.labels])
        return hashlib.sha256(facts.encode()).hexdigest()


def fetch_images(files: DatasetFiles, store: Store, *, cache_dir: Path) -> Path:
    """Give the folder with a dataset's pictures, fetched once a machine; file names sort in the dataset's order.

    What was fetched earlier is used if every file is there and has its size. Fetching makes room: folders that nobody
    used for longest go, until all take no more than the setting max_cache_bytes.

    Raises:
        InfrastructureError: the store cannot be reached.
        DataFailed: a stored picture is not what was stored.
    """
    home = cache_dir / "datasets"
    folder = home / f"{files.dataset_id}{files.part}"
    if _is_whole(folder, files):
        os.utime(folder)  # When it was used last.
        return folder
    home.mkdir(parents=True, exist_ok=True)
    _make_room(home, limit_bytes=settings().max_cache_bytes - sum(image.size_bytes for image in files.images))
    temporary = home / f".{uuid4().hex}"
    temporary.mkdir()
    try:
        for position, image in enumerate(files.images):
            target = temporary / _name(position)
            store.fetch(image.key, target)
            if sha256_of(target) != image.sha256:
                raise DataFailed(
                    f"The stored picture {image.key} is damaged: its sha256 is not {image.sha256}. Upload it again."
                )
            fsync(target)
        fsync(temporary)
        _replace(folder, temporary, files)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _name(position: int) -> str:
    return f"{position:05d}.png"


def _is_whole(folder: Path, files: DatasetFiles) -> bool:
    wanted = {_name(position): image.size_bytes for position, image in enumerate(files.images)}
    return wanted == _sizes(folder)


def _sizes(folder: Path) -> dict[str, int]:
    """Bytes of every file by name; none where the folder is not there, or goes while it is looked at."""
    try:
        return {path.name: path.stat().st_size for path in folder.iterdir()}
    except FileNotFoundError:
        return {}


def _replace(folder: Path, temporary: Path, files: DatasetFiles) -> None:
    """Put the fetched folder in its place; what is there is another worker's, just fetched, or not whole."""
    if folder.is_dir() and not _is_whole(folder, files):
        shutil.rmtree(folder, ignore_errors=True)
    try:
        temporary.rename(folder)
    except OSError:
        if not _is_whole(folder, files):  # Else another worker was first, with the same bytes.
            raise


def _make_room(home: Path, *, limit_bytes: int) -> None:
    """Remove what was used longest ago, until the rest fits; what a job may be reading now stays.

    Of datasets that were deleted nobody knows here: they are used no more, and so go first.
    """
    folders = []
    for path in home.iterdir():
        with suppress(FileNotFoundError):  # Another worker just gave it its name, or made room too.
            folders.append((path.stat().st_mtime, path))
    sizes = {path: sum(_sizes(path).values()) for _, path in folders}
    total_bytes = sum(sizes.values())
    for used_at, path in sorted(folders):
        if total_bytes <= limit_bytes or used_at > time.time() - IN_USE_S:
            return
        shutil.rmtree(path, ignore_errors=True)
        total_bytes -= sizes[path]
