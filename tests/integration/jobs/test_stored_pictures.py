"""Each picture once a tenant: what uploads, deletions and the garbage collection leave, one by one and all at once."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from shutil import copy
from threading import Event
from typing import TYPE_CHECKING
from unittest.mock import ANY
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import pytest
from PIL import Image
from sqlalchemy import select, update

from core.datasets import service, storing
from core.datasets.contents import images_of
from core.datasets.ingest import Normalised
from core.datasets.pictures import Picture
from core.datasets.tables import Dataset, StoredPicture
from core.errors import Conflict, StoreFull
from core.garbage.names import nameless
from core.garbage.report import Bounds, Found
from core.garbage.rows import collect_pictures
from core.keys import Tenant
from core.settings import settings
from core.storage import LocalStore, remove, store
from tests.integration.jobs.garbage import OLD, _folders, age, keys, only, run, told

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.jobs.conftest import Sessions

__all__ = ["_folders"]  # a fixture
Upload = Callable[..., Dataset]


@pytest.fixture
def pictures(tmp_path: Path) -> list[Picture]:
    """Ten pictures, as an upload leaves them in its scratch folder."""
    made = []
    for n in range(10):
        path = tmp_path / f"{n}.png"
        Image.new("RGB", (32, 32), (n, 0, 0)).save(path)
        data = path.read_bytes()
        made.append(Picture(path.name, path, 32, 32, len(data), hashlib.sha256(data).hexdigest()))
    return made


@pytest.fixture
def upload(db: Sessions, tenant_id: UUID, tmp_path: Path) -> Upload:
    def upload(pictures: list[Picture], *, to: LocalStore | None = None, tenant: UUID = tenant_id) -> Dataset:
        folder = tmp_path / uuid4().hex
        folder.mkdir()
        # The process that draws the contact sheet sees its scratch folder alone.
        here = [replace(picture, path=Path(copy(picture.path, folder))) for picture in pictures]
        with db.begin() as session:
            return service.create(
                session, Normalised(here, []), tenant_id=tenant, name="d", folder=folder, store=to or store()
            )  # fmt: skip

    return upload


def delete(db: Sessions, dataset: Dataset) -> None:
    with db.begin() as session:
        gone = service.remove(session, tenant_id=dataset.tenant_id, dataset_id=dataset.id)
    remove(gone, store=store())


def files(*, tenant_id: UUID | None = None) -> set[str]:
    return set(store().keys(f"pictures/{tenant_id}" if tenant_id else "pictures"))


def assert_whole(db: Sessions, dataset: Dataset, pictures: list[Picture]) -> None:
    """Every picture of a dataset is in the store, and is what it should be."""
    with db() as session:
        rows = session.execute(images_of(dataset.id)).all()
    assert [row.sha256 for row in rows] == [picture.sha256 for picture in pictures]
    for row in rows:
        assert hashlib.sha256(b"".join(store().read(row.storage_key))).hexdigest() == row.sha256


def test_a_picture_is_stored_once_a_tenant(
    db: Sessions, tenant_id: UUID, upload: Upload, pictures: list[Picture]
) -> None:
    first, second = upload(pictures[:6]), upload(pictures[2:8])
    assert len(files()) == 8
    with db.begin() as session:
        session.add(other := Tenant(id=uuid4(), name="another"))
    theirs = upload(pictures[:6], tenant=other.id)
    assert (len(files(tenant_id=tenant_id)), len(files(tenant_id=other.id))) == (8, 6)
    delete(db, first)
    assert len(files(tenant_id=tenant_id)) == 6, "what no other dataset holds goes at once"
    assert_whole(db, second, pictures[2:8])
    assert_whole(db, theirs, pictures[:6])
    delete(db, second)
    assert files(tenant_id=tenant_id) == set()
    assert_whole(db, upload(pictures), pictures)


class OddStore(LocalStore):
    """On the tenant's store; does something before a put, which may fail it."""

    def __init__(self, *, before: Callable[[str], None]) -> None:
        super().__init__(Path(urlsplit(settings().storage_url).path), reserve_bytes=0)
        self._before = before

    def put(self, key: str, source: Path) -> None:
        self._before(key)
        super().put(key, source)


def filling(puts: int) -> Callable[[str], None]:
    left = [None] * puts

    def before(_: str) -> None:
        try:
            left.pop()
        except IndexError:
            raise StoreFull("for the test") from None

    return before


@pytest.mark.parametrize("puts", [0, 1, 4])
def test_an_upload_that_fails_takes_out_what_it_brought(
    puts: int, db: Sessions, upload: Upload, pictures: list[Picture]
) -> None:
    kept = upload(pictures[:4])
    before = keys()
    with pytest.raises(StoreFull):
        upload(pictures[2:8], to=OddStore(before=filling(puts)))
    assert keys() == before
    assert_whole(db, kept, pictures[:4])
    with db() as session:
        assert len(session.scalars(select(StoredPicture.sha256)).all()) == 4


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An upload that fails takes nothing out again, as if its process were gone; none reaches its dataset's rows."""

    def full(*_: object, **__: object) -> None:
        raise StoreFull("for the test")

    with monkeypatch.context() as patch:
        patch.setattr(storing, "_discard", lambda *_, **__: None)
        patch.setattr(storing, "remove", lambda *_, **__: None)
        patch.setattr(service, "write", full)
        yield


@pytest.mark.parametrize("puts", [1, 3, 5])
def test_what_a_killed_upload_leaves_is_taken_after_the_grace(
    puts: int, db: Sessions, upload: Upload, pictures: list[Picture], request: pytest.FixtureRequest
) -> None:  # fmt: skip
    kept = upload(pictures[:4])
    before = keys()
    request.getfixturevalue("killed")
    with pytest.raises(StoreFull):
        upload(pictures[2:8], to=OddStore(before=filling(puts)))
    assert len(keys() - before) == puts
    for key in keys() - before:
        age(key, OLD)
    assert told(run()) == {"files without a row": (1, ANY)}, "the preview: the pictures have rows, young ones"
    with db.begin() as session:
        session.execute(
            update(StoredPicture).values(touched_at=StoredPicture.touched_at - timedelta(seconds=OLD))
        )
    only("pictures of no dataset", count=4, size_bytes=sum(picture.size_bytes for picture in pictures[4:8]))
    assert keys() == before
    assert_whole(db, kept, pictures[:4])


def collect_now(*, limit: int = 1000) -> int:
    """Forget every picture that no dataset holds, however young, and remove every picture's file without a row."""
    found = Found()
    collect_pictures(Bounds(grace_s=0, limit=limit), found)
    with storing.sessions()() as session:
        remove(nameless(session, files()), store=store())
    return found.count


def test_a_picture_that_goes_while_it_is_uploaded_is_brought_again(
    db: Sessions, tenant_id: UUID, upload: Upload, pictures: list[Picture]
) -> None:
    times = [1, 1]

    def collected(_: str) -> None:
        if times:
            times.pop()
            collect_now()
            # Another upload of the same pictures is as far as this one was: its files are not there.
            storing._claim(pictures[:5], tenant_id=tenant_id)

    dataset = upload(pictures, to=OddStore(before=collected))
    assert_whole(db, dataset, pictures)
    assert len(files()) == 10, "nothing is left of the first tries"


def test_an_upload_gives_up_where_its_pictures_go_every_time(upload: Upload, pictures: list[Picture]) -> None:
    with pytest.raises(Conflict, match="deleted 5 times"):
        upload(pictures[:4], to=OddStore(before=lambda _: collect_now() and None))
    collect_now()
    assert keys() == set()


def test_the_same_pictures_uploaded_deleted_and_collected_at_once(
    db: Sessions, upload: Upload, pictures: list[Picture]
) -> None:
    over = Event()

    def person(seed: int) -> int:
        chance, again = random.Random(seed), 0
        for _ in range(15):
            chosen = chance.sample(pictures[:6], 4)
            try:
                dataset = upload(chosen)
            except Conflict:
                again += 1
                continue
            assert_whole(db, dataset, chosen)
            if chance.random() < 0.8:
                delete(db, dataset)
        return again

    def collector() -> int:
        collected = 0
        while not over.is_set():
            collected += collect_now(limit=3)
        return collected

    with ThreadPoolExecutor(5) as pool:
        collecting = pool.submit(collector)
        try:
            people = [pool.submit(person, seed) for seed in range(4)]
            assert sum(one.result() for one in people) < 10
        finally:
            over.set()
        assert collecting.result() > 0, "it was in nobody's way"
    collect_now()
    with db() as session:
        left = session.scalars(select(Dataset).where(Dataset.deleted_at.is_(None))).all()
        assert files() == set(session.scalars(select(StoredPicture.storage_key)))
    assert left
    for dataset in left:
        delete(db, dataset)
    assert keys() == set()
