"""The audit trail: each change has its entry, in its own transaction; reads and refusals have none."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from sqlalchemy import delete, func, insert, select, text, update
from sqlalchemy.exc import IntegrityError

from api.gate import SAFE_METHODS
from core import db
from core.audit import trail
from core.audit.tables import AuditEntry
from core.jobs.tables import Job
from core.keys import operators
from core.keys.tables import ApiKey, Tenant
from tests.integration.api import story, world
from tests.integration.api.conftest import new_person, problem
from tests.picture_files import form, pngs, zipped

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from tests.integration.api.conftest import Api, Person


TUS = {"Tus-Resumable": "1.0.0"}
# Writing operations that leave no entry, and why.
EXCEPTIONS = {
    "append": "an upload's beginning, its dataset and its end are entries; its bytes, in many parts, are none",
    "estimate_job": "it changes nothing, and is a POST for its body alone",
}
# What an operation is called in the document, and a successful answer of it.
Writes = "Iterator[tuple[str, httpx.Response]]"


def entries(person: Person, **query: Any) -> list[dict[str, Any]]:
    response = person.get("/v1/audit", params=query)
    assert response.status_code == 200, response.text
    items: list[dict[str, Any]] = response.json()["items"]
    return items


def test_what_is_changed_is_told(api: Api, owner: Person, stranger: Person) -> None:
    job = story.submit(owner)
    cancelled = owner.post(f"/v1/jobs/{job['id']}/cancel")
    me = owner.get("/v1/keys/current").json()["id"]
    newest, submitted, uploaded = entries(owner)
    assert newest == {
        "id": newest["id"],
        "created_at": newest["created_at"],
        "actor": "key",
        "key_id": me,
        "action": "cancel_job",
        "subject": None,
        "request_id": cancelled.headers["x-request-id"],
        "method": "POST",
        "path": f"/v1/jobs/{job['id']}/cancel",
        "address": "127.0.0.1",
    }
    assert (submitted["action"], submitted["subject"]) == ("create_job", job["id"])
    assert (uploaded["action"], uploaded["subject"]) == ("create_dataset", job["dataset_id"])
    document = api.app.openapi()["paths"]["/v1/jobs/{job_id}/cancel"]["post"]
    assert document["operationId"] == newest["action"]
    assert entries(stranger) == []


def test_reads_and_refusals_leave_nothing(api: Api, owner: Person) -> None:
    job = story.submit(owner)
    owner.post(f"/v1/jobs/{job['id']}/cancel")
    before = entries(owner)
    owner.get("/v1/jobs")
    owner.get("/v1/webhook-secret")  # which makes the secret, and commits
    problem(owner.post("/v1/jobs", json={}), 422, "invalid")
    problem(owner.post(f"/v1/jobs/{job['id']}/resume"), 409, "conflict")
    with new_person(api, "read", tenant_id=owner.tenant_id) as reader:
        problem(reader.post(f"/v1/jobs/{job['id']}/cancel"), 403, "forbidden")
        problem(reader.get("/v1/audit"), 403, "forbidden")
    assert entries(owner) == before


def writes_of_pictures(owner: Person) -> Writes:
    made = owner.post("/v1/datasets", files=form(pngs(5)))
    yield "create_dataset", made
    path = f"/v1/datasets/{made.json()['id']}"
    yield "create_version", owner.post(f"{path}/versions", files=[("remove", (None, "0"))])
    yield "delete_dataset", owner.delete(path)
    data = zipped(pngs(4))
    begun = owner.post("/v1/uploads", headers={**TUS, "Upload-Length": str(len(data))})
    yield "create_upload", begun
    path = begun.headers["location"]
    sent = {**TUS, "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    yield "append", owner.patch(path, content=data, headers=sent)
    yield "make_dataset", owner.post(f"{path}/dataset")
    yield "terminate", owner.delete(path, headers=TUS)


def writes_of_jobs(owner: Person, session: Session) -> Writes:
    ids = world.one_of_everything(owner, session)
    succeeded, _ = world.ended_jobs(owner, session)
    yield "patch_checkpoint", owner.patch(f"/v1/checkpoints/{ids['checkpoint_id']}", json={"pinned": True})
    asked = owner.post(f"/v1/jobs/{ids['job_id']}/backtracking")
    yield "create_backtracking", asked
    yield "cancel_evaluation", owner.delete(f"/v1/evaluations/{asked.json()['id']}")
    drawn = owner.post(f"/v1/jobs/{ids['job_id']}/generations", json={"kind": "pictures", "seed": 7})
    yield "create_generation", drawn
    yield "delete_generation", owner.delete(f"/v1/generations/{drawn.json()['id']}")
    exported = owner.post(f"/v1/jobs/{ids['job_id']}/exports", json={"format": "safetensors"})
    yield "create_export", exported
    yield "delete_export", owner.delete(f"/v1/exports/{exported.json()['id']}")
    yield "redeliver", owner.post(f"/v1/deliveries/{ids['delivery_id']}/redeliver")
    yield "extend_job", owner.post(f"/v1/jobs/{succeeded['id']}/extend", json={"total_images": 10**6})
    made = owner.post("/v1/jobs", json={"dataset_id": ids["dataset_id"]})
    yield "create_job", made
    yield "estimate_job", owner.post("/v1/jobs/estimate", json={})
    for verb in ("pause", "resume", "cancel", "retry"):
        yield f"{verb}_job", owner.post(f"/v1/jobs/{made.json()['id']}/{verb}")
    for job in (ids, {"job_id": succeeded["id"]}, {"job_id": made.json()["id"]}):
        owner.post(f"/v1/jobs/{job['job_id']}/cancel")  # no test after this one shall claim them


def writes_of_keys(owner: Person) -> Writes:
    made = owner.post("/v1/keys", json={"name": "one"})
    yield "create_key", made
    turned = owner.post(f"/v1/keys/{made.json()['id']}/rotate")
    yield "rotate_key", turned
    yield "revoke_key", owner.delete(f"/v1/keys/{turned.json()['id']}")
    yield "rotate_webhook_secret", owner.post("/v1/webhook-secret/rotate")


def test_every_writing_operation_leaves_an_entry(api: Api, owner: Person, session: Session) -> None:
    exercised = set()
    for writes in (writes_of_pictures(owner), writes_of_jobs(owner, session), writes_of_keys(owner)):
        for operation, answer in writes:
            assert answer.is_success, (operation, answer.text)
            newest = entries(owner, limit=1)[0]
            told = newest["request_id"] == answer.headers["x-request-id"]
            assert told == (operation not in EXCEPTIONS), operation
            assert not told or newest["action"] == operation
            exercised.add(operation)
    document = {
        operation["operationId"]
        for item in api.app.openapi()["paths"].values()
        for method, operation in item.items()
        if method.upper() not in SAFE_METHODS
    }
    assert exercised == document, (
        "a new write needs its line in writes_of_…; and in EXCEPTIONS, if it is no entry"
    )


def test_what_is_done_with_an_upload_names_it_and_its_dataset(owner: Person) -> None:
    answers = dict(writes_of_pictures(owner))
    told = {entry["action"]: entry["subject"] for entry in entries(owner)}
    upload_id = answers["create_upload"].json()["id"]
    assert told["create_upload"] == told["terminate"] == upload_id
    assert told["make_dataset"] == answers["make_dataset"].json()["id"]


def test_what_fails_with_an_upload_leaves_nothing(owner: Person) -> None:
    path = owner.post("/v1/uploads", headers={**TUS, "Upload-Length": "0"}).headers["location"]
    before = entries(owner)
    problem(owner.post("/v1/uploads", headers={**TUS, "Upload-Length": str(2**62)}), 413, "too_large")
    problem(owner.post(f"{path}/dataset"), 422, "dataset_unusable")
    assert entries(owner) == before


def test_what_changes_nothing_leaves_nothing(owner: Person, session: Session) -> None:
    ids = world.one_of_everything(owner, session)
    waiting = story.submit(owner, priority=0)
    made = owner.post("/v1/keys", json={"name": "one"}).json()
    asked = owner.post(f"/v1/jobs/{ids['job_id']}/backtracking").json()
    running = f"/v1/jobs/{ids['job_id']}"
    for method, path, body in [
        ("DELETE", f"/v1/keys/{made['id']}", None),
        ("PATCH", f"/v1/checkpoints/{ids['checkpoint_id']}", {"pinned": True}),
        ("DELETE", f"/v1/evaluations/{asked['id']}", None),
        ("POST", f"{running}/backtracking", {"steps": 7}),
        ("POST", f"{running}/pause", None),
        ("POST", f"{running}/resume", None),
        ("POST", f"{running}/cancel", None),
        ("POST", f"/v1/jobs/{waiting['id']}/pause", None),
        ("POST", f"/v1/jobs/{waiting['id']}/resume", None),
        ("POST", f"/v1/jobs/{waiting['id']}/cancel", None),
    ]:
        counts = []
        for _ in range(2):
            answer = owner.request(method, path, json=body)
            assert answer.is_success, (path, answer.text)
            counts.append(len(entries(owner, limit=200)))
        assert counts[0] == counts[1], (method, path)
        assert entries(owner, limit=1)[0]["path"] == path


def test_the_entry_of_a_key_names_the_key(owner: Person) -> None:
    old = owner.post("/v1/keys", json={"name": "one"}).json()
    new = owner.post(f"/v1/keys/{old['id']}/rotate").json()
    owner.delete(f"/v1/keys/{new['id']}")
    told = [(entry["action"], entry["subject"]) for entry in entries(owner)]
    assert told == [("revoke_key", new["id"]), ("rotate_key", new["id"]), ("create_key", old["id"])]


def test_filters_and_pages(api: Api, owner: Person) -> None:
    owner.post("/v1/keys", json={"name": "one"})
    with new_person(api, tenant_id=owner.tenant_id) as other:
        other.post("/v1/keys", json={"name": "two"})
        theirs = other.get("/v1/keys/current").json()["id"]
    made = owner.post("/v1/keys", json={"name": "three"}).json()
    owner.delete(f"/v1/keys/{made['id']}")
    assert [entry["action"] for entry in entries(owner)] == ["revoke_key", *["create_key"] * 3]
    assert entries(owner, action="create_key")[0]["subject"] == made["id"]
    assert [entry["key_id"] for entry in entries(owner, key_id=theirs)] == [theirs]
    assert entries(owner, action="nothing") == []
    first = owner.get("/v1/audit", params={"limit": 3}).json()
    rest = entries(owner, limit=3, cursor=first["next_cursor"])
    assert first["items"] + rest == entries(owner)


def test_change_and_entry_are_there_together_or_not_at_all(
    owner: Person, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry that cannot be written takes the change with it."""
    before = len(entries(owner))
    jobs = select(func.count()).where(Job.tenant_id == owner.tenant_id)
    dataset_id = story.upload(owner)

    def broken(session: Session, **_: object) -> None:
        session.execute(text("select 1 / 0"))

    monkeypatch.setattr(trail, "_insert", broken)
    answer = owner.post("/v1/jobs", json={"dataset_id": dataset_id})
    assert answer.status_code >= 400
    assert session.scalar(jobs) == 0
    monkeypatch.undo()
    assert owner.post("/v1/jobs", json={"dataset_id": dataset_id}).status_code == 201
    assert session.scalar(jobs) == 1
    assert len(entries(owner)) == before + 2


def test_a_savepoint_is_no_commit(owner: Person) -> None:
    request = trail.AuditedRequest(
        tenant_id=owner.tenant_id, key_id=owner.tenant_id, action="try", request_id="r", method="POST", path="/",
        address=None,
    )  # fmt: skip
    with db.sessions()() as own:
        trail.watch(own, request)
        with own.begin_nested() as nested:
            nested.rollback()
        with own.begin_nested():
            pass
        own.rollback()
        own.commit()  # the first commit of all
        own.commit()
    assert [entry["action"] for entry in entries(owner)] == ["try"]


def test_nobody_alters_the_trail(owner: Person, session: Session) -> None:
    owner.post("/v1/keys", json={"name": "one"})
    mine = AuditEntry.tenant_id == owner.tenant_id
    for statement in (
        update(AuditEntry).where(mine).values(action="nothing"),
        delete(AuditEntry).where(mine),
        text("truncate audit_entries"),
    ):
        with pytest.raises(IntegrityError, match="never changed"):
            session.execute(statement)
        session.rollback()
    old = func.clock_timestamp() - timedelta(days=91)
    session.execute(
        insert(AuditEntry).values(tenant_id=owner.tenant_id, actor="operator", action="old", created_at=old)
    )
    session.execute(delete(AuditEntry).where(mine, AuditEntry.action == "old"))
    session.commit()
    assert [entry["action"] for entry in entries(owner)] == ["create_key"]


def test_operators_are_told_too(owner: Person, session: Session) -> None:
    name = session.get_one(Tenant, owner.tenant_id).name
    key, _ = operators.create_key_for(session, name, name="rescue", scopes=["read"], expires_at=None)
    operators.revoke_key(session, key.id)
    session.commit()
    revoked, created = entries(owner)
    assert (created["actor"], created["action"], created["subject"]) == (
        "operator",
        "create_key",
        str(key.id),
    )
    assert (revoked["actor"], revoked["action"], revoked["key_id"]) == ("operator", "revoke_key", None)
    assert session.get_one(ApiKey, UUID(created["subject"])).tenant_id == owner.tenant_id
