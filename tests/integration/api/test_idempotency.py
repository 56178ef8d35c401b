"""A POST that is sent again under its Idempotency-Key: one effect, one answer."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import func, select, update

from core import db, idempotency
from core.garbage.report import Bounds, Found
from core.garbage.rows import collect_answers
from core.idempotency import GivenAnswer
from core.jobs.tables import Job, JobEvent
from tests.integration.api import story
from tests.integration.api import test_tus as tus
from tests.integration.api.conftest import CLIENT, new_person, problem
from tests.picture_files import form, pngs

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from tests.integration.api.conftest import Api, Person

THREADS = 50


def again(key: str | None = None) -> dict[str, str]:
    return {"Idempotency-Key": key or uuid4().hex}


def body_of(person: Person) -> dict[str, Any]:
    return {"dataset_id": story.upload(person), "name": "once"}


def count(session: Session, person: Person) -> int:
    session.rollback()
    return session.scalar(select(func.count()).where(Job.tenant_id == person.tenant_id)) or 0


def test_the_same_request_gives_the_first_answer(owner: Person, session: Session) -> None:
    body, headers = body_of(owner), again()
    first = owner.post("/v1/jobs", json=body, headers=headers)
    assert first.status_code == 201 and "idempotency-replayed" not in first.headers  # noqa: PT018  # one fact
    owner.post(f"/v1/jobs/{first.json()['id']}/cancel").raise_for_status()
    second = owner.post("/v1/jobs", json=body, headers=headers)
    assert (second.status_code, second.content) == (201, first.content)
    assert second.headers["location"] == first.headers["location"] == f"/v1/jobs/{first.json()['id']}"
    assert second.headers["idempotency-replayed"] == "true"
    assert count(session, owner) == 1
    assert owner.post("/v1/jobs", json=body, headers=again()).json()["id"] != first.json()["id"]
    assert owner.post("/v1/jobs", json=body).json()["id"] != first.json()["id"]


def test_another_request_under_the_key_is_refused(owner: Person, session: Session) -> None:
    body, headers = body_of(owner), again()
    job = owner.post("/v1/jobs", json=body, headers=headers).json()
    changed = owner.post("/v1/jobs", json=body | {"name": "other"}, headers=headers)
    assert headers["Idempotency-Key"] in problem(changed, 422, "idempotency_key_reused")["detail"]
    elsewhere = owner.post(f"/v1/jobs/{job['id']}/retry", json={"fresh": True}, headers=headers)
    problem(elsewhere, 422, "idempotency_key_reused")
    assert count(session, owner) == 1


def test_fifty_at_once_have_one_effect(api: Api, owner: Person, session: Session) -> None:
    body, headers = body_of(owner), again()
    start = threading.Barrier(THREADS)

    def post(_: int) -> httpx.Response:
        with httpx.Client(base_url=api.url, headers=owner.headers, **CLIENT) as client:
            start.wait(timeout=60)
            return client.post("/v1/jobs", json=body, headers=headers)

    with ThreadPoolExecutor(THREADS) as pool:
        answers = list(pool.map(post, range(THREADS)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len({answer.content for answer in answers if answer.status_code == 201}) == 1
    for answer in answers:
        if answer.status_code == 409:
            problem(answer, 409, "conflict")
    assert count(session, owner) == 1


def test_a_request_in_flight_is_a_conflict(owner: Person, session: Session) -> None:
    body, headers = body_of(owner), again()
    with db.sessions().begin() as other:
        held = idempotency.begin(
            other, tenant_id=owner.tenant_id, key=headers["Idempotency-Key"], fingerprint="x"
        )
        assert held is None
        problem(owner.post("/v1/jobs", json=body, headers=headers), 409, "conflict")
        assert count(session, owner) == 0
    # Its transaction ended without an answer, as that of a killed process does.
    assert owner.post("/v1/jobs", json=body, headers=headers).status_code == 201


def test_what_failed_may_be_tried_again(owner: Person) -> None:
    headers = again()
    body = {"dataset_id": str(uuid4())}
    problem(owner.post("/v1/jobs", json=body, headers=headers), 404, "not_found")
    assert owner.post("/v1/jobs", json=body_of(owner), headers=headers).status_code == 201


def test_keys_of_tenants_are_apart(owner: Person, stranger: Person) -> None:
    headers = again()
    first = owner.post("/v1/jobs", json=body_of(owner), headers=headers)
    second = stranger.post("/v1/jobs", json=body_of(stranger), headers=headers)
    assert first.status_code == second.status_code == 201
    assert first.json()["id"] != second.json()["id"]


def test_another_key_of_the_tenant_repeats_it_too(api: Api, owner: Person) -> None:
    body, headers = body_of(owner), again()
    first = owner.post("/v1/jobs", json=body, headers=headers)
    with new_person(api, "write", tenant_id=owner.tenant_id) as colleague:
        assert colleague.post("/v1/jobs", json=body, headers=headers).content == first.content


def test_a_retry_of_a_job_begins_one_run(owner: Person, session: Session) -> None:
    job = owner.post("/v1/jobs", json=body_of(owner)).json()
    owner.post(f"/v1/jobs/{job['id']}/cancel").raise_for_status()
    headers = again()
    answers = [
        owner.post(f"/v1/jobs/{job['id']}/retry", json={"fresh": True}, headers=headers) for _ in range(2)
    ]
    assert [(answer.status_code, answer.json()["run"]) for answer in answers] == [(200, 2), (200, 2)]
    kinds = session.scalars(select(JobEvent.type).where(JobEvent.job_id == UUID(job["id"]))).all()
    assert list(kinds).count("queued") == 2


def test_an_upload_is_stored_once(api: Api, owner: Person) -> None:
    headers, pictures = again(), pngs(4)
    first = owner.post("/v1/datasets", files=form(pictures), data={"name": "one"}, headers=headers)
    stored = api.stored
    second = owner.post("/v1/datasets", files=form(pictures), data={"name": "one"}, headers=headers)
    assert (first.status_code, second.status_code) == (201, 201)
    assert second.content == first.content
    assert api.stored == stored
    other = owner.post("/v1/datasets", files=form(pictures), data={"name": "two"}, headers=headers)
    problem(other, 422, "idempotency_key_reused")
    assert len(owner.get("/v1/datasets").json()["items"]) == 1
    assert [path.name for path in api.scratch] == ["keys.lock"]


def test_uploads_at_once_make_one_dataset(api: Api, owner: Person) -> None:
    headers, pictures = again(), pngs(40)
    start = threading.Barrier(6)

    def post(_: int) -> httpx.Response:
        with httpx.Client(base_url=api.url, headers=owner.headers, **CLIENT) as client:
            start.wait(timeout=60)
            return client.post("/v1/datasets", files=form(pictures), headers=headers)

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(post, range(6)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len(owner.get("/v1/datasets").json()["items"]) == 1


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "\xe9"])
def test_keys_that_are_none(key: str, owner: Person) -> None:
    headers = {b"Idempotency-Key": key.encode("latin-1")}
    response = owner.post("/v1/jobs", json={"dataset_id": str(uuid4())}, headers=headers)
    assert problem(response, 422, "invalid")["errors"][0]["where"] == "header.Idempotency-Key"


def test_answers_are_forgotten_after_a_day(owner: Person, session: Session) -> None:
    body, headers = body_of(owner), again()
    first = owner.post("/v1/jobs", json=body, headers=headers)
    mine = GivenAnswer.key == headers["Idempotency-Key"]
    session.execute(update(GivenAnswer).where(mine).values(created_at=func.now() - timedelta(hours=25)))
    session.commit()
    second = owner.post("/v1/jobs", json=body, headers=headers)
    assert second.status_code == 201
    assert second.json()["id"] != first.json()["id"]
    session.execute(update(GivenAnswer).where(mine).values(created_at=func.now() - timedelta(hours=25)))
    session.commit()
    collect_answers(Bounds(grace_s=0, limit=10), found := Found())
    assert found.count >= 1
    assert session.scalar(select(func.count()).where(mine)) == 0


def test_a_token_is_in_no_kept_answer(owner: Person, session: Session) -> None:
    headers = again()
    first, second = (owner.post("/v1/keys", json={"name": "one"}, headers=headers) for _ in range(2))
    assert first.json()["token"].startswith("slg_")
    assert second.json() == first.json() | {"token": None}
    kept = session.scalars(
        select(GivenAnswer.body).where(GivenAnswer.key == headers["Idempotency-Key"])
    ).one()
    assert "slg_" not in kept.replace(first.json()["hint"], "")


def test_a_creation_sent_again_tells_where_the_upload_is_now(owner: Person) -> None:
    headers = {**tus.VERSION, "Upload-Length": "10", **again()}
    first = owner.post("/v1/uploads", headers=headers)
    url = first.headers["location"]
    assert (first.status_code, first.headers["upload-offset"]) == (201, "0")
    expires = tus.send(owner, url, b"0123", offset=0).headers["upload-expires"]
    second = owner.post("/v1/uploads", headers=headers)
    assert (second.status_code, second.content) == (201, first.content)
    told = {"location": url, "idempotency-replayed": "true", "upload-offset": "4", "upload-length": "10",
            "upload-expires": expires, "cache-control": "no-store"}  # fmt: skip
    assert {name: second.headers.get(name) for name in told} == told
    assert len(owner.get("/v1/uploads").json()["items"]) == 1
    problem(
        owner.post("/v1/uploads", headers=headers | {"Upload-Length": "11"}), 422, "idempotency_key_reused"
    )
    owner.delete(url, headers=tus.VERSION)
    problem(owner.post("/v1/uploads", headers=headers), 404, "not_found")


def test_a_creation_with_a_key_brings_no_bytes(owner: Person) -> None:
    """What became of them could not be told again: neither that others came, nor that their checksum was wrong."""
    headers = {**tus.OFFSET, "Upload-Length": "10", **again()}
    wrong = {"Upload-Checksum": f"sha256 {tus.b64(bytes(32))}"}
    for body, more in [(b"0123", {}), (b"0123", wrong), (iter([b"0123"]), {})]:
        refused = owner.post("/v1/uploads", content=body, headers=headers | more)
        assert "PATCH" in problem(refused, 422, "invalid")["detail"]
    assert (owner.get("/v1/uploads").json()["items"], tus.here()) == ([], [])
    assert owner.post("/v1/uploads", headers=headers).status_code == 201
