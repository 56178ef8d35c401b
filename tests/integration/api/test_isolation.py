"""Every route of the OpenAPI document, asked by another tenant and by nobody."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from tests.integration.api import story
from tests.integration.api.conftest import new_person, problem
from tests.picture_files import form, png, pngs

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx
    from sqlalchemy.orm import Session

    from tests.integration.api.conftest import Api, Person

PUBLIC = {"/healthz", "/readyz"}
LISTS = {"/v1/datasets", "/v1/jobs"}
SHARED = {"/v1/models", "/v1/workers"}
SIGNING = "/v1/webhook-secret"
COMPARISON = "/v1/comparison"
BODIES = {
    ("PATCH", "/v1/checkpoints/{checkpoint_id}"): {"pinned": True},
    ("POST", "/v1/jobs/{job_id}/extend"): {"total_images": 10**8},
}


def operations(api: Api, *, keyed: bool) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in api.app.openapi()["paths"].items():
        for method, operation in item.items():
            if keyed == (path not in PUBLIC):
                yield method.upper(), path, operation


@pytest.fixture
def ids(owner: Person, session: Session) -> dict[str, str]:
    """One of everything, the owner's."""
    job = story.submit(owner, webhook={"url": "https://example.com/hook", "events": ["queued"]})
    attempt = story.start(session, job)
    made = story.checkpoint(session, attempt, b"x")
    story.sample(session, attempt, png())
    picture = story.store_file(png())
    story.evaluation(session, attempt, made, images_seen=0, fid=9.0, picture=picture)
    path = f"/v1/jobs/{job['id']}"
    return {
        "dataset_id": job["dataset_id"],
        "job_id": job["id"],
        "position": "0",
        "checkpoint_id": owner.get(f"{path}/checkpoints").json()["items"][0]["id"],
        "evaluation_id": owner.get(f"{path}/metrics").json()["items"][0]["evaluation_id"],
        "delivery_id": owner.get(f"{path}/deliveries").json()["items"][0]["id"],
        "sample_id": owner.get(f"{path}/samples").json()["items"][0]["id"],
    }


def told(body: dict[str, Any]) -> str:
    """A problem without what differs between any two requests."""
    text = repr({key: value for key, value in body.items() if key not in {"request_id", "instance"}})
    return re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "ID", text)


def test_another_tenants_things_are_as_if_they_were_not(
    api: Api, owner: Person, stranger: Person, ids: dict[str, str]
) -> None:
    unknown = {name: "0" if name == "position" else str(uuid4()) for name in ids}
    asked = 0
    for method, path, _ in operations(api, keyed=True):
        if "{" not in path:
            continue
        body = BODIES.get((method, path))
        foreign = problem(stranger.request(method, path.format(**ids), json=body), 404, "not_found")
        absent = problem(stranger.request(method, path.format(**unknown), json=body), 404, "not_found")
        assert told(foreign) == told(absent), (method, path)
        asked += 1
    assert asked >= 21
    assert owner.get(f"/v1/jobs/{ids['job_id']}").json()["cancel_requested"] is False
    assert owner.get(f"/v1/datasets/{ids['dataset_id']}").status_code == 200


def test_the_owner_reaches_all_of_it(api: Api, owner: Person, ids: dict[str, str]) -> None:
    """So that the 404s above mean something."""
    for method, path, _ in operations(api, keyed=True):
        if method == "GET" and not path.endswith("/stream") and path != COMPARISON:  # that takes two jobs
            assert owner.get(path.format(**ids)).status_code == 200, path


def test_lists_hold_ones_own_only(api: Api, stranger: Person, ids: dict[str, str]) -> None:
    paths = {path for method, path, _ in operations(api, keyed=True) if method == "GET" and "{" not in path}
    assert paths == LISTS | SHARED | {COMPARISON, SIGNING}, "a new list needs its line in this test"
    problem(stranger.get(COMPARISON, params={"job": [ids["job_id"], str(uuid4())]}), 404, "not_found")
    for path in LISTS:
        assert stranger.get(path).json() == {"items": [], "next_cursor": None}
    for path in SHARED:
        assert ids["job_id"] not in stranger.get(path).text


def test_a_foreign_dataset_cannot_be_trained_on(stranger: Person, ids: dict[str, str]) -> None:
    problem(stranger.post("/v1/jobs", json={"dataset_id": ids["dataset_id"]}), 404, "not_found")
    assert stranger.get("/v1/jobs", params={"dataset_id": ids["dataset_id"]}).json()["items"] == []


def test_nothing_but_the_probes_answers_without_a_key(
    api: Api, nobody: httpx.Client, ids: dict[str, str]
) -> None:
    for method, path, _ in operations(api, keyed=True):
        response = nobody.request(method, path.format(**ids))
        problem(response, 401, "unauthenticated")
        assert response.headers["www-authenticate"] == "Bearer"
    for method, path, _ in operations(api, keyed=False):
        assert nobody.request(method, path).status_code == 200, path


def test_a_key_that_may_only_read_changes_nothing(api: Api, owner: Person, ids: dict[str, str]) -> None:
    with new_person(api, "read", tenant_id=owner.tenant_id) as reader:
        for method, path, _ in operations(api, keyed=True):
            if method != "GET":
                body = problem(reader.request(method, path.format(**ids)), 403, "forbidden")
                assert body["details"] == {"needed": "write", "scopes": ["read"]}
        problem(reader.post("/v1/datasets", files=form(pngs(4))), 403, "forbidden")
        assert reader.get(f"/v1/jobs/{ids['job_id']}").json()["cancel_requested"] is False
    with new_person(api, "write", tenant_id=owner.tenant_id) as writer:
        problem(writer.get("/v1/jobs"), 403, "forbidden")


def test_the_document_tells_how_each_route_fails(api: Api) -> None:
    named = {("POST", "/v1/jobs"), ("GET", COMPARISON)}  # what is not in the path can be missing as well
    problem_schema = {"schema": {"$ref": "#/components/schemas/Problem"}}
    for method, path, operation in operations(api, keyed=True):
        assert operation["summary"], path
        assert operation["tags"], path
        assert operation["security"] == [{"API key": []}], path
        failures = {status: r for status, r in operation["responses"].items() if status >= "400"}
        assert {"401", "403", "422", "429", "503"} <= failures.keys(), (method, path)
        assert ("404" in failures) == ("{" in path or (method, path) in named), (method, path)
        for status, response in failures.items():
            if status != "416":
                assert response["content"] == {"application/problem+json": problem_schema}, (path, status)
