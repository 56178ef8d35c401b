"""Every route of the OpenAPI document, asked by another tenant, by nobody, and by keys that may too little."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
from fastapi.routing import iter_route_contexts
from sqlalchemy import event

from api.routes import docs
from core import db
from tests.integration.api import story, world
from tests.integration.api.conftest import new_person, problem, running_api
from tests.picture_files import form, pngs, zipped

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx
    from sqlalchemy.orm import Session

    from tests.integration.api.conftest import Api, Person

PUBLIC = {"/healthz", "/readyz"}
# GET routes without an id in them: lists of one's own, what is the same for all, and what is the asker's alone.
LISTS = {"/v1/datasets", "/v1/jobs", "/v1/uploads"}
SHARED = {"/v1/models", "/v1/workers"}
# Whoever asks has some of these: a key, what it did, and the sum of nothing.
OWN = {"/v1/keys", "/v1/keys/current", "/v1/audit", "/v1/usage"}
SIGNING = "/v1/webhook-secret"
COMPARISON = "/v1/comparison"
ADMIN = {
    ("GET", SIGNING),
    ("POST", f"{SIGNING}/rotate"),
    ("POST", "/v1/keys"),
    ("GET", "/v1/keys"),
    ("DELETE", "/v1/keys/{key_id}"),
    ("POST", "/v1/keys/{key_id}/rotate"),
    ("GET", "/v1/audit"),
}
# What the document leaves out: pages for people, what tus asks for, and what has a rule of its own.
UNDOCUMENTED = docs.ADDRESSES | {"/", "/metrics", "/openapi.json", "/v1/uploads"}
BODIES = {
    ("PATCH", "/v1/checkpoints/{checkpoint_id}"): {"pinned": True},
    ("POST", "/v1/jobs/{job_id}/extend"): {"total_images": 10**8},
    ("POST", "/v1/jobs/{job_id}/generations"): {"kind": "pictures"},
    ("POST", "/v1/jobs/{job_id}/exports"): {"format": "onnx"},
    ("POST", "/v1/keys"): {"name": "another"},
}


@pytest.fixture(scope="module")
def api(module_database_url: str, broker_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """As the one that it stands for; but nobody's 60 requests a minute are fewer than there are routes."""
    folder, urls = (
        tmp_path_factory.mktemp("api"),
        {"database_url": module_database_url, "broker_url": broker_url},
    )
    with running_api(folder, requests_per_minute=60_000, **urls) as api:
        yield api


def operations(api: Api, *, keyed: bool) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in api.app.openapi()["paths"].items():
        for method, operation in item.items():
            if keyed == (path not in PUBLIC):
                yield method.upper(), path, operation


@pytest.fixture
def ids(owner: Person, session: Session) -> dict[str, str]:
    return world.one_of_everything(owner, session)


def told(body: dict[str, Any]) -> str:
    """A problem without what differs between any two requests."""
    text = repr({key: value for key, value in body.items() if key not in {"request_id", "instance"}})
    return re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "ID", text)


def not_there(
    person: Person, method: str, path: str, ids: dict[str, str], secrets: set[str]
) -> tuple[str, list[str]]:
    """What the service says of a thing that is not there for this person, and what it asked the database for that."""
    statements: list[str] = []

    def note(*given: Any) -> None:
        # Who asks is remembered for a while, and written down once a minute: neither tells of what is asked for.
        if not re.search(r"api_keys\.sha256 =|SET last_used_at=", given[2]):
            statements.append(given[2])

    engine = db.sessions().kw["bind"]
    event.listen(engine, "before_cursor_execute", note)
    try:
        response = person.request(method, world.filled(path, ids), json=BODIES.get((method, path)))
    finally:
        event.remove(engine, "before_cursor_execute", note)
    assert statements, (method, path)
    answer = f"{response.headers} {response.text}"
    assert not [secret for secret in secrets if secret in answer], (method, path)
    return told(problem(response, 404, "not_found")), statements


def test_another_tenants_things_are_as_if_they_were_not(
    api: Api, owner: Person, stranger: Person, ids: dict[str, str]
) -> None:
    """The same words, and the same questions to the database: neither text nor time tells that a thing exists."""
    unknown = {name: str(uuid4()) if is_id(value) else value for name, value in ids.items()}
    secrets = facts(owner, ids)
    asked = 0
    for method, path, _ in operations(api, keyed=True):
        if "{" not in path:
            continue
        foreign = not_there(stranger, method, path, ids, secrets)
        assert foreign == not_there(stranger, method, path, unknown, secrets), (method, path)
        asked += 1
    assert asked >= 21
    assert owner.get(f"/v1/jobs/{ids['job_id']}").json()["cancel_requested"] is False
    assert owner.get(f"/v1/datasets/{ids['dataset_id']}").status_code == 200
    assert owner.get(f"/v1/uploads/{ids['upload_id']}").json()["received_bytes"] == 8
    assert key_of(owner, ids)["revoked_at"] is key_of(owner, ids)["replaced_by"] is None


def is_id(value: str) -> bool:
    try:
        return bool(UUID(value))
    except ValueError:
        return False


def key_of(owner: Person, ids: dict[str, str]) -> dict[str, Any]:
    [key] = [key for key in owner.get("/v1/keys").json()["items"] if key["id"] == ids["key_id"]]
    return dict(key)


def facts(owner: Person, ids: dict[str, str]) -> set[str]:
    """What nobody else may read: names and hashes of the owner's things."""
    job, dataset = (
        owner.get(path).json() for path in (f"/v1/jobs/{ids['job_id']}", f"/v1/datasets/{ids['dataset_id']}")
    )
    checkpoint = owner.get(f"/v1/checkpoints/{ids['checkpoint_id']}").json()
    return {
        job["name"],
        job["webhook"]["url"],
        dataset["content_hash"],
        checkpoint["sha256"],
        owner.get(f"/v1/uploads/{ids['upload_id']}").json()["filename"],
        key_of(owner, ids)["name"],
        key_of(owner, ids)["hint"],
        str(owner.tenant_id),
    }


def test_a_parameter_without_a_thing_is_told() -> None:
    with pytest.raises(
        AssertionError, match=r"'moon_id'.*one_of_everything in tests/integration/api/world\.py"
    ):
        world.filled("/v1/jobs/{job_id}/moons/{moon_id}", {"job_id": "1"})


def test_the_owner_reaches_all_of_it(api: Api, owner: Person, ids: dict[str, str]) -> None:
    """So that the 404s above mean something."""
    for method, path, _ in operations(api, keyed=True):
        if method == "GET" and not path.endswith("/stream") and path != COMPARISON:  # that takes two jobs
            assert owner.get(world.filled(path, ids)).status_code == 200, path


def test_lists_hold_ones_own_only(api: Api, owner: Person, stranger: Person, ids: dict[str, str]) -> None:
    paths = {path for method, path, _ in operations(api, keyed=True) if method == "GET" and "{" not in path}
    assert paths == LISTS | SHARED | OWN | {COMPARISON, SIGNING}, (
        "a route without an id in its path needs its place in LISTS, SHARED or a line of its own in this test"
    )
    problem(stranger.get(COMPARISON, params={"job": [ids["job_id"], str(uuid4())]}), 404, "not_found")
    secrets = facts(owner, ids) | {value for value in ids.values() if is_id(value)}
    for path in LISTS:
        assert stranger.get(path).json() == {"items": [], "next_cursor": None}
    for path in SHARED | OWN:
        answer = stranger.get(path)
        assert answer.status_code == 200, path
        assert not [secret for secret in secrets if secret in answer.text], path
    for foreign in ({"key_id": ids["key_id"]}, {"action": "create_job"}):
        assert stranger.get("/v1/audit", params=foreign).json()["items"] == []
    assert stranger.get("/v1/datasets", params={"series_id": ids["dataset_id"]}).json()["items"] == []


def test_a_cursor_opens_nobody_elses_list(owner: Person, stranger: Person) -> None:
    own = things_of(stranger)
    for _ in range(2):
        things_of(owner)
    for path in sorted(LISTS | {"/v1/keys", "/v1/audit"}):
        # Behind the owner's newest thing lie the owner's other one and, older than both, the stranger's own.
        cursor = owner.get(path, params={"limit": 1}).json()["next_cursor"]
        items = stranger.get(path, params={"cursor": cursor}).json()["items"]
        assert items, path
        foreign = {item["id"] for item in pages(owner, path)}
        assert not foreign & {item["id"] for item in items}, path
        assert path not in LISTS or {item["id"] for item in items} <= own, path


def things_of(person: Person) -> set[str]:
    """One more of everything that has a list; no test after this one shall claim the job."""
    job = story.submit(person, priority=0)
    upload_id, key_id = world.begun_upload(person, b"x"), world.new_key(person)
    return {job["id"], job["dataset_id"], upload_id, key_id}


def pages(person: Person, path: str) -> Iterator[dict[str, Any]]:
    cursor = None
    while True:
        page = person.get(path, params={"limit": 200} | ({"cursor": cursor} if cursor else {})).json()
        yield from page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return


def test_a_foreign_dataset_cannot_be_trained_on(stranger: Person, ids: dict[str, str]) -> None:
    problem(stranger.post("/v1/jobs", json={"dataset_id": ids["dataset_id"]}), 404, "not_found")
    assert stranger.get("/v1/jobs", params={"dataset_id": ids["dataset_id"]}).json()["items"] == []


def test_a_foreign_dataset_cannot_have_a_version_made_of_an_upload(
    stranger: Person, ids: dict[str, str]
) -> None:
    archive = zipped(pngs(1))
    headers = {
        "Tus-Resumable": "1.0.0",
        "Upload-Length": str(len(archive)),
        "Content-Type": "application/offset+octet-stream",
    }
    sent = stranger.post("/v1/uploads", content=archive, headers=headers)
    assert sent.status_code == 201, sent.text
    for dataset_id in (ids["dataset_id"], str(uuid4())):
        answer = stranger.post(f"{sent.headers['Location']}/dataset", json={"version_of": dataset_id})
        problem(answer, 404, "not_found")


def test_foreign_weights_cannot_be_begun_from(stranger: Person, ids: dict[str, str]) -> None:
    """Ids in bodies are as those in paths."""
    job = story.submit(stranger, priority=0)
    for checkpoint_id in (ids["checkpoint_id"], str(uuid4())):
        body = {"dataset_id": job["dataset_id"], "init_from": checkpoint_id, "config": {"resolution": 64}}
        problem(stranger.post("/v1/jobs", json=body), 404, "not_found")


def test_nothing_but_the_probes_answers_without_a_key(
    api: Api, nobody: httpx.Client, ids: dict[str, str]
) -> None:
    for method, path, _ in operations(api, keyed=True):
        response = nobody.request(method, world.filled(path, ids))
        problem(response, 401, "unauthenticated")
        assert response.headers["www-authenticate"] == "Bearer"
    for method, path, _ in operations(api, keyed=False):
        assert nobody.request(method, path).status_code == 200, path


def test_a_key_that_may_only_read_changes_nothing(api: Api, owner: Person, ids: dict[str, str]) -> None:
    with new_person(api, "read", tenant_id=owner.tenant_id) as reader:
        for method, path, _ in operations(api, keyed=True):
            if method != "GET":
                body = problem(reader.request(method, world.filled(path, ids)), 403, "forbidden")
                assert body["details"] == {"needed": "write", "scopes": ["read"]}
        problem(reader.post("/v1/datasets", files=form(pngs(4))), 403, "forbidden")
        assert reader.get(f"/v1/jobs/{ids['job_id']}").json()["cancel_requested"] is False
    with new_person(api, "write", tenant_id=owner.tenant_id) as writer:
        problem(writer.get("/v1/jobs"), 403, "forbidden")


def test_what_the_document_leaves_out_is_known(api: Api, nobody: httpx.Client) -> None:
    """So that no route is forgotten by leaving it out."""
    documented = {(m, path) for keyed in (True, False) for m, path, _ in operations(api, keyed=keyed)}
    left_out = {
        route.path_format
        for route in iter_route_contexts(api.app.routes)
        for method in route.methods - {"HEAD"}
        if (method, route.path_format) not in documented
    }
    assert left_out == UNDOCUMENTED, "a route that is not in the document needs its line in UNDOCUMENTED"
    problem(nobody.options("/v1/uploads"), 401, "unauthenticated")


def test_what_is_for_admins_is_for_admins(api: Api, owner: Person, ids: dict[str, str]) -> None:
    """A key that may read and write meets 403 on these routes and on no other."""
    refused = set()
    with new_person(api, "read", "write", tenant_id=owner.tenant_id) as person:
        for method, path, _ in operations(api, keyed=True):
            if path.endswith("/stream"):
                continue
            response = person.request(method, world.filled(path, ids), json=BODIES.get((method, path)))
            if response.status_code == 403:
                assert problem(response, 403, "forbidden")["details"]["needed"] == "admin"
                refused.add((method, path))
    assert refused == ADMIN, "a new route for admins needs its line in ADMIN"


def test_the_document_tells_how_each_route_fails(api: Api) -> None:
    named = {("POST", "/v1/jobs"), ("GET", COMPARISON)}  # what is not in the path can be missing as well
    problem_schema = {"$ref": "#/components/schemas/Problem"}
    for method, path, operation in operations(api, keyed=True):
        assert operation["summary"], path
        assert operation["tags"], path
        assert operation["security"] == [{"api_key": []}], path
        failures = {
            status: r
            for status, r in operation["responses"].items()
            if status >= "400" and "$ref" not in r  # what any request can meet: test_document.py
        }
        assert {"401", "403", "422", "429", "500", "503"} <= failures.keys(), (method, path)
        assert ("404" in failures) == ("{" in path or (method, path) in named), (method, path)
        for status, response in failures.items():
            assert response["content"]["application/problem+json"]["schema"] == problem_schema, (path, status)
