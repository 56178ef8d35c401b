"""What the service says when its surroundings fail, and what it leaves behind then: nothing."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from sqlalchemy import make_url, select, text

from client.local import postgres
from core import db
from core.datasets.tables import Dataset
from core.jobs.tables import Job
from tests.integration.api import story
from tests.integration.api.conftest import new_person, problem
from tests.picture_files import form, pngs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.integration.api.conftest import Api

    Make = Callable[..., AbstractContextManager[Api]]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 128 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "none", str(folder)], check=False, capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("this account may not mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def rows() -> int:
    with db.sessions()() as session:
        return len(session.scalars(select(Dataset.id)).all())


def test_a_full_store_is_a_507_and_keeps_only_what_it_had(own_api: Make, small_disk: Path) -> None:
    with own_api(storage_url=small_disk.as_uri()) as api, new_person(api) as person:
        story.upload(person)
        before = api.stored
        body = problem(person.post("/v1/datasets", files=form(pngs(60))), 507, "store_full")
        assert body["detail"]
        assert (api.stored, api.scratch, rows()) == (before, [], 1)
        assert person.get("/v1/datasets").status_code == 200


def test_the_reserve_is_kept_free(own_api: Make) -> None:
    with own_api(store_reserve_bytes=2**60) as api, new_person(api) as person:
        problem(person.post("/v1/datasets", files=form(pngs(4))), 507, "store_full")
        assert (api.stored, api.scratch, rows()) == ([], [], 0)


def test_a_full_scratch_disk_is_a_507_too(own_api: Make, small_disk: Path) -> None:
    noise = {f"{i}.bin": bytes([i]) * 50_000 for i in range(5)}
    with own_api(data_dir=small_disk) as api, new_person(api) as person:
        problem(person.post("/v1/datasets", files=form(noise)), 507, "store_full")
        assert (list((small_disk / "uploads").iterdir()), api.stored) == ([], [])


def test_an_unreachable_store_is_a_503(own_api: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with own_api(storage_url=(tmp_path / "file" / "store").as_uri()) as api, new_person(api) as person:
        problem(person.post("/v1/datasets", files=form(pngs(4))), 503, "store_unavailable")
        assert (api.scratch, rows()) == ([], 0)
        body = problem(person.get("/readyz"), 503, "store_unavailable")
        assert body["details"] == {"failing": ["store_unavailable"]}


def test_what_nobody_foresaw_tells_nothing_of_itself(own_api: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("postgresql://someone:secret@database/slaegan")

    with own_api() as api, new_person(api) as person:
        with monkeypatch.context() as patched:
            patched.setattr("core.jobs.queries.get", fail)
            patched.setattr("core.jobs.queries.look", fail)
            for path in ("", "/logs", "/events/stream"):
                answer = person.get(f"/v1/jobs/{uuid4()}{path}")
                body = problem(answer, 500, "internal")
                assert (body["errors"], body["details"]) == ([], {})
                for word in ("secret", "postgresql", "RuntimeError", "Traceback", ".py"):
                    assert word not in answer.text
        problem(person.get(f"/v1/jobs/{uuid4()}"), 404, "not_found")


def test_a_database_that_refuses_the_rows_leaves_no_files(own_api: Make) -> None:
    with own_api() as api, new_person(api) as person:
        with db.sessions().begin() as session:
            session.execute(text("alter table dataset_images add check (position < 3)"))
        body = problem(person.post("/v1/datasets", files=form(pngs(4))), 500, "internal")
        assert "dataset_images" not in str(body)
        assert (api.stored, api.scratch, rows()) == ([], [], 0)


def test_a_database_that_is_away_is_a_503_and_comes_back(
    own_api: Make, database_url: str, postgres_url: str
) -> None:
    name = make_url(database_url).database
    with own_api() as api, new_person(api) as person, postgres.connect(postgres_url) as admin:
        job = story.submit(person)
        url = f"/v1/jobs/{job['id']}/events/stream"
        with person.stream("GET", url) as stream:
            lines = stream.iter_lines()
            assert next(lines) == "event: queued"
            admin.execute(f'alter database "{name}" allow_connections false')
            admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [name])
            for method, path in [("GET", "/v1/jobs"), ("POST", f"/v1/jobs/{job['id']}/cancel")]:
                problem(person.request(method, path), 503, "database_unavailable")
            assert (
                "database_unavailable"
                in problem(person.get("/readyz"), 503, "database_unavailable")["details"]["failing"]
            )
            assert person.get("/healthz").status_code == 200
            admin.execute(f'alter database "{name}" allow_connections true')
            assert person.post(f"/v1/jobs/{job['id']}/cancel").status_code == 200
            # The stream that was open all the while loses nothing.
            assert [line for line in lines if line.startswith("event:")] == ["event: cancelled"]


def test_a_job_is_taken_though_the_broker_is_away(own_api: Make, tmp_path: Path) -> None:
    with own_api(broker_url=f"unix://{tmp_path}/nobody.sock") as api, new_person(api) as person:
        dataset_id = story.upload(person)
        began = time.monotonic()
        response = person.post("/v1/jobs", json={"dataset_id": dataset_id})
        assert (response.status_code, time.monotonic() - began < 5) == (201, True)
        with db.sessions()() as session:
            assert session.get_one(Job, response.json()["id"]).status == "queued"
        body = problem(person.get("/readyz"), 503, "broker_unavailable")
        assert body["details"] == {"failing": ["broker_unavailable"]}


def test_ready_when_all_is_well(own_api: Make) -> None:
    with own_api() as api, new_person(api) as person:
        assert person.get("/readyz").json() == {"status": "ok"}
