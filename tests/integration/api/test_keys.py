"""API keys: made, listed, rotated, revoked; who guesses is slowed, and no token reaches a log."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import func, select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from core import db
from core.keys import PREFIX, SCOPES, ApiKey, digest
from core.keys import service as key_service
from core.keys.uses import KeyUses
from tests.integration.api.conftest import CLIENT, new_person, problem
from tests.integration.api.test_process import running
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.api.conftest import Api, Person


def make(person: Person, **values: Any) -> dict[str, Any]:
    response = person.post("/v1/keys", json={"name": "made", **values})
    assert response.status_code == 201, response.text
    made: dict[str, Any] = response.json()
    return made


def with_token(api: Api, token: str) -> httpx.Client:
    return httpx.Client(base_url=api.url, headers={"Authorization": f"Bearer {token}"}, **CLIENT)


def refused(client: httpx.Client) -> bool:
    """A revoked key may be remembered for a moment."""
    return client.get("/v1/models").status_code == 401


def test_a_key_is_shown_once_and_kept_as_a_hash(api: Api, owner: Person, session: Session) -> None:
    response = owner.post("/v1/keys", json={"name": "laptop", "scopes": ["write", "read"]})
    assert (response.status_code, response.headers["cache-control"]) == (201, "no-store")
    made = response.json()
    token = made.pop("token")
    assert token.startswith(made["hint"])
    assert len(made["hint"]) == len(PREFIX) + 4
    assert made["scopes"] == ["read", "write"]
    assert (made["expires_at"], made["revoked_at"], made["last_used_at"]) == (None, None, None)
    row = session.get_one(ApiKey, UUID(made["id"]))
    assert row.sha256 == digest(token)
    listed = owner.get("/v1/keys")
    assert [key["name"] for key in listed.json()["items"]] == ["laptop", "test"]
    assert listed.json()["items"][0] == made
    assert token not in listed.text
    assert row.sha256 not in listed.text
    with with_token(api, token) as client:
        assert client.get("/v1/keys/current").json() == {
            **made, "tenant_id": str(owner.tenant_id), "tenant": owner.tenant_id.hex,
        }  # fmt: skip
        body = problem(client.get("/v1/keys"), 403, "forbidden")
        assert body["details"]["needed"] == "admin"


def test_keys_come_by_page(owner: Person) -> None:
    names = [make(owner, name=f"key {n}")["name"] for n in range(3)]
    first = owner.get("/v1/keys", params={"limit": 2}).json()
    second = owner.get("/v1/keys", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert [key["name"] for key in first["items"] + second["items"]] == [*reversed(names), "test"]
    assert second["next_cursor"] is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "x" * 101},
        {"name": "two\nlines"},
        {"name": "x", "scopes": []},
        {"name": "x", "scopes": ["root"]},
        {"name": "x", "scopes": ["admin"]},
        {"name": "x", "expires_at": "2020-01-01T00:00:00Z"},
        {"name": "x", "expires_at": "2100-01-01T00:00:00"},
        {"name": "x", "expires_at": "9999-12-31T23:59:59-14:00"},
        {"name": "x", "tenant_id": str(uuid4())},
    ],
)
def test_wrong_wishes(owner: Person, wrong: dict[str, Any]) -> None:
    problem(owner.post("/v1/keys", json=wrong), 422, "invalid")
    assert len(owner.get("/v1/keys").json()["items"]) == 1


def test_a_key_gives_only_what_it_has(api: Api, owner: Person) -> None:
    with new_person(api, "write", "admin", tenant_id=owner.tenant_id) as blind:
        body = problem(blind.post("/v1/keys", json={"name": "x", "scopes": ["read"]}), 403, "forbidden")
        assert body["details"]["needed"] == "read"
        whole = next(key for key in owner.get("/v1/keys").json()["items"] if "read" in key["scopes"])
        problem(blind.post(f"/v1/keys/{whole['id']}/rotate"), 403, "forbidden")
        assert blind.post("/v1/keys", json={"name": "x", "scopes": ["write"]}).status_code == 201
    with new_person(api, "read", "write", tenant_id=owner.tenant_id) as user:
        for method, path in (("POST", "/v1/keys"), ("DELETE", f"/v1/keys/{whole['id']}")):
            problem(user.request(method, path, json={"name": "x"}), 403, "forbidden")


def test_a_tenant_has_a_hundred_live_keys(
    owner: Person, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert key_service.MAX_LIVE == 100
    monkeypatch.setattr(key_service, "MAX_LIVE", 4)
    dead = make(owner)
    assert owner.delete(f"/v1/keys/{dead['id']}").status_code == 204
    with ThreadPoolExecutor(6) as pool:
        codes = list(pool.map(lambda n: owner.post("/v1/keys", json={"name": f"{n}"}).status_code, range(6)))
    assert sorted(codes) == [201] * 3 + [429] * 3
    assert problem(owner.post("/v1/keys", json={"name": "x"}), 429, "quota_exceeded")["details"]["live"] == 4
    session.execute(
        update(ApiKey)
        .where(ApiKey.tenant_id == owner.tenant_id, ApiKey.name != "test")
        .values(expires_at=func.now())
    )
    session.commit()
    make(owner)  # expired keys do not count


def test_revoking(api: Api, owner: Person) -> None:
    made = make(owner)
    with with_token(api, made["token"]) as client:
        assert client.get("/v1/models").status_code == 200
        for _ in range(2):
            assert owner.delete(f"/v1/keys/{made['id']}").status_code == 204
        wait_until(lambda: refused(client), what="the revoked key still opens")
    listed = owner.get("/v1/keys").json()["items"]
    assert [key["revoked_at"] is not None for key in listed] == [True, False]
    problem(owner.post(f"/v1/keys/{made['id']}/rotate"), 409, "conflict")


def test_the_last_admin_key_stays(api: Api, owner: Person, session: Session) -> None:
    me = owner.get("/v1/keys/current").json()["id"]
    make(owner, name="no admin")
    tomorrow = datetime.now(UTC) + timedelta(hours=23)
    make(owner, name="ends soon", scopes=SCOPES, expires_at=tomorrow.isoformat())
    body = problem(owner.delete(f"/v1/keys/{me}"), 409, "conflict")
    assert "last live key" in body["detail"]
    other = make(owner, name="other", scopes=SCOPES)
    # Two requests at once cannot end the last two.
    ids = [me, other["id"]]
    with with_token(api, other["token"]) as second, ThreadPoolExecutor(2) as pool:
        codes = list(
            pool.map(lambda pair: pair[0].delete(f"/v1/keys/{pair[1]}").status_code,
                     zip((owner, second), ids, strict=True))
        )  # fmt: skip
    assert sorted(codes) in ([204, 409], [204, 401])
    live = select(func.count()).where(ApiKey.id.in_(ids), ApiKey.revoked_at.is_(None))
    assert session.scalar(live) == 1


def test_expiry_is_kept_by_the_databases_clock(api: Api, owner: Person, session: Session) -> None:
    later = datetime.now(UTC) + timedelta(days=2)
    made = make(owner, expires_at=later.isoformat())
    assert datetime.fromisoformat(made["expires_at"]) == later
    with with_token(api, made["token"]) as client:
        assert client.get("/v1/models").status_code == 200
        session.execute(
            update(ApiKey).where(ApiKey.id == UUID(made["id"])).values(expires_at=func.clock_timestamp())
        )
        session.commit()
        wait_until(lambda: refused(client), what="the expired key still opens")
    problem(owner.post(f"/v1/keys/{made['id']}/rotate"), 409, "conflict")


def test_rotating(api: Api, owner: Person, session: Session) -> None:
    later = datetime.now(UTC) + timedelta(days=2)
    old = make(owner, name="robot", scopes=["read"], expires_at=later.isoformat())
    response = owner.post(f"/v1/keys/{old['id']}/rotate", json={"grace_s": 60})
    assert (response.status_code, response.headers["cache-control"]) == (201, "no-store")
    new = response.json()
    assert new["id"] != old["id"]
    assert new["token"] != old["token"]
    assert {name: new[name] for name in ("name", "scopes", "expires_at")} == {
        name: old[name] for name in ("name", "scopes", "expires_at")
    }
    with with_token(api, old["token"]) as before, with_token(api, new["token"]) as after:
        assert (before.get("/v1/models").status_code, after.get("/v1/models").status_code) == (200, 200)
        row = session.get_one(ApiKey, UUID(old["id"]))
        left = row.expires_at - session.scalars(select(func.clock_timestamp())).one()
        assert timedelta(seconds=0) < left <= timedelta(seconds=60)
        problem(owner.post(f"/v1/keys/{old['id']}/rotate", json={"grace_s": 86_400}), 409, "conflict")
        assert owner.post(f"/v1/keys/{new['id']}/rotate").status_code == 201
        wait_until(lambda: refused(after), what="a token rotated without grace still opens")
    problem(owner.post(f"/v1/keys/{new['id']}/rotate", json={"grace_s": 86_401}), 422, "invalid")


def test_the_last_use_is_written_behind_the_requests(api: Api, owner: Person, session: Session) -> None:
    key_id = UUID(owner.get("/v1/keys/current").json()["id"])
    assert session.get_one(ApiKey, key_id).last_used_at is None
    uses: KeyUses = api.app.state.key_uses
    uses.flush(session)
    session.commit()
    session.expire_all()
    used = session.get_one(ApiKey, key_id).last_used_at
    now = session.scalars(select(func.clock_timestamp())).one()
    assert used is not None
    assert timedelta(0) <= now - used < timedelta(seconds=30)
    uses.flush(session)  # nothing came since
    older = KeyUses()
    older._at[key_id] = time.monotonic() - 3600
    older.flush(session)
    session.commit()
    session.expire_all()
    assert session.get_one(ApiKey, key_id).last_used_at == used, (
        "a process that writes late turns no clock back"
    )


def test_a_use_that_could_not_be_written_is_not_forgotten(owner: Person, session: Session) -> None:
    key_id = UUID(owner.get("/v1/keys/current").json()["id"])
    uses = KeyUses()
    uses.note(key_id)
    engine = db.make_engine("postgresql+psycopg://nobody@127.0.0.1:9/none")
    with Session(engine) as broken, pytest.raises(OperationalError):
        uses.flush(broken)
    engine.dispose()
    uses.flush(session)
    session.commit()
    assert session.get_one(ApiKey, key_id).last_used_at is not None


def test_guessing_is_slowed_and_no_token_reaches_the_log(
    tmp_path: Path, database_url: str, broker_url: str
) -> None:
    """The real process, with all that it writes; and it writes by itself when the key was used."""
    urls = {"DATABASE_URL": database_url, "BROKER_URL": broker_url, "STORAGE_URL": tmp_path.as_uri()}
    printed = subprocess.run(
        [sys.executable, "-P", "-m", "core.keys"], cwd=tmp_path, env={**os.environ, **urls}, check=True,
        capture_output=True, text=True,
    )  # fmt: skip
    key = printed.stdout.strip()
    guess = PREFIX + "x" * 39
    settings = {"database_url": database_url, "broker_url": broker_url, "key_uses_every_s": 0.2}
    with (
        running(tmp_path, **settings, requests_per_minute=1000) as (_, url),  # type: ignore[arg-type]  # and numbers
        httpx.Client(base_url=url, **CLIENT) as client,
    ):
        answers = [
            client.get("/v1/jobs", headers={"Authorization": f"Bearer {guess}{n:04}"}) for n in range(25)
        ]
        # Ten a minute, and the minute may turn once.
        assert sum(answer.status_code == 401 for answer in answers) in range(10, 21)
        last = next(answer for answer in answers if answer.status_code != 401)
        problem(last, 429, "rate_limited")
        assert 1 <= int(last.headers["retry-after"]) <= 60
        good = {"Authorization": f"Bearer {key}"}
        assert client.get("/v1/jobs", headers=good).status_code == 200
        made = client.post("/v1/keys", headers=good, json={"name": "another"}).json()["token"]
        for token in (key, made, f"{guess}0000"):
            odd = {"Authorization": f"Basic {token}", "X-API-Key": token, "Cookie": f"key={token}"}
            client.get(f"/v1/jobs?key={token}", headers=odd)
            client.get(f"/v1/jobs?key={token}&limit={token}", headers=good)
            client.post(f"/v1/keys?{token}", headers=good, content=token.encode())
            client.post("/v1/keys", headers=good, json={"name": 1, "scopes": [token]})
        engine = db.make_engine(database_url)
        with engine.connect() as connection:
            used = select(ApiKey.last_used_at).where(ApiKey.sha256 == digest(key))
            wait_until(lambda: connection.scalar(used) is not None, what="the last use is not written")
        engine.dispose()
    log = (tmp_path / "api.log").read_text()
    assert log.count("path=/v1/jobs status=401") >= 10
    assert log.count("path=/v1/keys status=422") == 3
    for token in (key, made, guess):
        assert token not in log
        assert digest(token) not in log
