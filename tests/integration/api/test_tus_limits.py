"""How much a tenant may have under way, and what happens when the disk has no room."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx

from core.uploads import files
from tests.integration.api.conftest import CLIENT, new_person, problem
from tests.integration.api.test_faults import small_disk
from tests.integration.api.tus import OFFSET, VERSION, ZIP, begin, here, offset, send, whole

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.integration.api.conftest import Api, Person

    Make = Callable[..., AbstractContextManager[Api]]

__all__ = ["small_disk"]  # a fixture
KIB = 1024


def attempt(person: Person, length: int) -> httpx.Response:
    return person.post("/v1/uploads", headers={**VERSION, "Upload-Length": str(length)})


def test_a_tenants_share(own_api: Make) -> None:
    limits = {"max_open_uploads": 3, "max_open_upload_bytes": 250, "max_upload_bytes": 200}
    with own_api(**limits) as api, new_person(api) as person, new_person(api) as other:
        body = problem(attempt(person, 201), 413, "too_large")
        assert body["details"] == {"size_bytes": 201, "limit_bytes": 200}
        url = begin(person, 200)
        body = problem(attempt(person, 51), 429, "quota_exceeded")
        assert body["details"] == {"open_bytes": 200, "size_bytes": 51, "max_open_upload_bytes": 250}
        problem(send(person, url, bytes(201), offset=0), 413, "too_large")
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: attempt(person, 1), range(8)))
        assert sorted(answer.status_code for answer in answers) == [201] * 2 + [429] * 6
        assert problem(attempt(person, 1), 429, "quota_exceeded")["details"]["max_open_uploads"] == 3
        assert attempt(other, 200).status_code == 201
        person.delete(url, headers=VERSION)
        assert attempt(person, 200).status_code == 201


def test_the_reserve_is_kept_free(own_api: Make) -> None:
    with own_api(store_reserve_bytes=2**60) as api, new_person(api) as person:
        problem(attempt(person, 1), 507, "store_full")
        assert person.get("/v1/uploads").json()["items"] == []


def test_on_a_full_disk_what_counted_stays(own_api: Make, small_disk: Path) -> None:
    with own_api(data_dir=small_disk) as api, new_person(api) as person:
        problem(attempt(person, 200 * KIB), 507, "store_full")
        url = begin(person, 100 * KIB)
        assert send(person, url, b"x" * KIB, offset=0).status_code == 204
        (small_disk / "other").write_bytes(bytes(100 * KIB))
        unannounced = (b"y" * KIB for _ in range(99))
        problem(send(person, url, unannounced, offset=KIB), 507, "store_full")
        (small_disk / "other").unlink()
        assert (offset(person, url), here()) == (KIB, [b"x" * KIB])
        assert send(person, url, b"z" * (99 * KIB), offset=KIB).status_code == 204


def test_the_folder_may_be_on_a_disk_of_its_own(own_api: Make, small_disk: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "resumable").symlink_to(small_disk)
    with own_api() as api, new_person(api) as person:
        made = person.post(f"{whole(person, ZIP)}/dataset")
        assert (made.status_code, made.json()["image_count"]) == (201, 5)
        assert (here(), api.scratch) == ([], [])


def test_nothing_is_written_for_who_has_no_key(own_api: Make) -> None:
    with (
        own_api() as api,
        new_person(api) as person,
        new_person(api, "read", tenant_id=person.tenant_id) as reader,
    ):
        url = begin(person, 100)
        headers = {**OFFSET, "Upload-Offset": "0"}
        with httpx.Client(base_url=api.url, **CLIENT) as nobody:
            problem(nobody.patch(url, content=b"x", headers=headers), 401, "unauthenticated")
            problem(nobody.options("/v1/uploads"), 401, "unauthenticated")
        problem(reader.patch(url, content=b"x", headers=headers), 403, "forbidden")
        assert offset(reader, url) == 0
        assert list(files.home().iterdir()) == []
