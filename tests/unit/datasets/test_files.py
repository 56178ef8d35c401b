"""The folder of a dataset's pictures on a worker's machine."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from core.datasets.files import DatasetFiles, StoredImage, fetch_images
from core.errors import DataFailed
from core.settings import settings
from core.storage import LocalStore
from tests.picture_files import pngs

if TYPE_CHECKING:
    from pathlib import Path


class CountingStore(LocalStore):
    """Counts what is fetched from it."""

    fetched = 0

    def fetch(self, key: str, target: Path) -> None:
        self.fetched += 1
        super().fetch(key, target)


@pytest.fixture
def store(tmp_path: Path) -> CountingStore:
    return CountingStore(tmp_path / "store", reserve_bytes=0)


def stored(store: LocalStore, folder: Path, *, count: int = 4) -> DatasetFiles:
    dataset_id = uuid4()
    images = []
    for name, data in pngs(count).items():
        (folder / "picture").write_bytes(data)
        key = f"datasets/{dataset_id}/{name}"
        store.put(key, folder / "picture")
        images.append(StoredImage(key, hashlib.sha256(data).hexdigest(), len(data)))
    return DatasetFiles(dataset_id, "hash", tuple(images))


def test_pictures_are_fetched_once_and_in_order(store: CountingStore, tmp_path: Path) -> None:
    files = stored(store, tmp_path)
    for _ in range(2):
        folder = fetch_images(files, store, cache_dir=tmp_path / "cache")
        assert [path.read_bytes() for path in sorted(folder.iterdir())] == list(pngs(4).values())
    assert store.fetched == 4


@pytest.mark.parametrize("damage", ["cut", "missing"])
def test_a_folder_that_is_not_whole_is_fetched_again(
    damage: str, store: CountingStore, tmp_path: Path
) -> None:
    files = stored(store, tmp_path)
    folder = fetch_images(files, store, cache_dir=tmp_path / "cache")
    if damage == "cut":  # As a power cut leaves what was never synced.
        (folder / "00002.png").write_bytes(b"")
    else:
        (folder / "00002.png").unlink()
    fetch_images(files, store, cache_dir=tmp_path / "cache")
    assert [path.read_bytes() for path in sorted(folder.iterdir())] == list(pngs(4).values())
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_damaged_picture_is_told_and_nothing_of_it_is_kept(store: CountingStore, tmp_path: Path) -> None:
    files = stored(store, tmp_path)
    (tmp_path / "store" / files.images[1][0]).write_bytes(b"x" * files.images[1][2])
    with pytest.raises(DataFailed, match="damaged"):
        fetch_images(files, store, cache_dir=tmp_path / "cache")
    assert list((tmp_path / "cache" / "datasets").iterdir()) == []


def test_what_was_used_longest_ago_makes_room(
    store: CountingStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = [stored(store, tmp_path) for _ in range(4)]
    size_bytes = sum(image.size_bytes for image in datasets[0].images)
    monkeypatch.setenv("SLAEGAN_MAX_CACHE_BYTES", str(2 * size_bytes))
    settings.cache_clear()
    cache = tmp_path / "cache"
    first, second = (fetch_images(files, store, cache_dir=cache) for files in datasets[:2])
    third = fetch_images(datasets[2], store, cache_dir=cache)
    assert first.exists(), "it was used a moment ago: a job may be reading it"
    os.utime(first, (2, 2))
    os.utime(second, (1, 1))
    os.utime(third, (0, 0))
    fetch_images(datasets[2], store, cache_dir=cache)  # Used again: now it is the newest.
    fourth = fetch_images(datasets[3], store, cache_dir=cache)
    assert [folder.exists() for folder in (first, second, third, fourth)] == [False, False, True, True]


def test_workers_that_fetch_at_once_do_not_trip_over_each_other(store: CountingStore, tmp_path: Path) -> None:
    files = stored(store, tmp_path)

    def fetch(_: int) -> int:
        another = replace(files, dataset_id=uuid4())
        return len(list(fetch_images(another, store, cache_dir=tmp_path / "cache").iterdir()))

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(fetch, range(80))) == {4}
