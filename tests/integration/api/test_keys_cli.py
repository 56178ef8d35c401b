"""`slaegan tenants`, `slaegan keys` and `slaegan usage` against a running service, and the client behind them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest
from click import unstyle
from sqlalchemy import func, select, update
from typer.testing import CliRunner

from client import SlaeGan
from client.cli import app
from core.audit.tables import AuditEntry
from core.errors import Conflict, InvalidRequest, NotFound, SlaeganError
from core.jobs import endings
from core.jobs.tables import JobAttempt, Worker
from tests.integration.api import story
from tests.integration.api.conftest import new_person

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from tests.integration.api.conftest import Api, Person


def run(*arguments: object, api: Api | None = None, key: str = "") -> str:
    """What a command prints to stdout; its error is raised."""
    environment = {"SLAEGAN_URL": str(api.url), "SLAEGAN_API_KEY": key} if api is not None else {}
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env=environment)
    if isinstance(result.exception, SlaeganError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return unstyle(result.stdout).strip()


def test_operators_make_tenants_and_tenants_make_keys(api: Api) -> None:
    token = run("tenants", "create", "acme")
    with pytest.raises(Conflict, match="There is a tenant 'acme' already"):
        run("tenants", "create", "acme")
    with pytest.raises(InvalidRequest, match="name"):
        run("tenants", "create", "two\nlines")
    with SlaeGan(str(api.url), token) as client:
        me = client.current_key()
        assert (me.tenant, me.name, me.scopes) == ("acme", "first", ["read", "write", "admin"])
    made = run("keys", "create", "robot", "--scope", "read", "--expires", "2100-01-01", api=api, key=token)
    with SlaeGan(str(api.url), made) as robot:
        known = robot.current_key()
        assert (known.name, known.scopes) == ("robot", ["read"])
        assert known.expires_at is not None
        assert known.expires_at.astimezone().year == 2100
    rotated = run("keys", "rotate", known.id, "--grace", 60, api=api, key=token)
    assert rotated != made
    run("keys", "revoke", known.id, api=api, key=token)
    table = run("keys", "list", api=api, key=token)
    assert [line.split()[1] for line in table.splitlines()[1:]] == ["robot", "robot", "first"]
    assert "revoked" in table
    assert token not in table
    with pytest.raises(Conflict, match="last live key"):
        run("keys", "revoke", me.id, api=api, key=token)
    with pytest.raises(InvalidRequest, match="scopes"):
        run("keys", "create", "x", "--scope", "root", api=api, key=token)
    with SlaeGan(str(api.url), token) as client:
        told = [(entry.actor, entry.action) for entry in client.audit()]
    assert told == [
        ("key", "revoke_key"),
        ("key", "rotate_key"),
        ("key", "create_key"),
        ("operator", "create_key"),
        ("operator", "create_tenant"),
    ]
    run("tenants", "revoke", me.id)
    rescue = run("tenants", "key", "acme", "--name", "rescue")
    with SlaeGan(str(api.url), rescue) as client:
        assert [made.name for made in list(client.keys()) if made.revoked_at is None] == ["rescue", "robot"]
    assert "acme" in run("tenants", "list")
    with pytest.raises(NotFound, match=r"known are: .*acme"):
        run("tenants", "key", "acmee")
    with pytest.raises(NotFound, match="no key"):
        run("tenants", "revoke", uuid4())


def test_draining_is_told(session: Session, api: Api) -> None:
    assert api.app is not None
    session.add(Worker(name="drained", kind="train", device="cpu", host="h", pid=1))
    session.commit()
    run("drain", "drained")
    run("drain", "drained", "--undo")
    entries = session.scalars(
        select(AuditEntry).where(AuditEntry.subject == "drained").order_by("created_at")
    )
    assert [(entry.action, entry.actor, entry.tenant_id) for entry in entries] == [
        ("drain_worker", "operator", None),
        ("undrain_worker", "operator", None),
    ]


def test_usage_on_the_terminal(api: Api, owner: Person, session: Session) -> None:
    jobs = [story.submit(owner, name=name) for name in ("one", "two", "three")]
    for job in sorted(jobs, key=lambda job: str(job["created_at"])):
        endings.finish(session, story.start(session, job, worker="nameless"))
        session.commit()
        session.execute(
            update(JobAttempt)
            .where(JobAttempt.job_id == UUID(job["id"]))
            .values(
                started_at=func.clock_timestamp() - timedelta(seconds=3661), ended_at=func.clock_timestamp()
            )
        )
        session.commit()
    key = owner.headers["Authorization"].removeprefix("Bearer ")
    table = run("usage", api=api, key=key)
    assert [line.split()[-1] for line in table.splitlines()[1:]] == ["1:01:01"] * 3 + ["3:03:03"]
    assert f"{jobs[2]['id']} three" in table.splitlines()[1]
    assert "all" in run(
        "usage", "--by-day", "--since", "2026-01-01", "--until", "2026-01-03", api=api, key=key
    )
    with SlaeGan(str(api.url), key) as client:
        [attempt] = client.attempts(UUID(jobs[0]["id"]))
        assert (attempt.outcome, attempt.worker, attempt.device) == ("finished", "nameless", None)
        assert [item.name for item in client.usage(limit=2).items] == ["three", "two", "one"]  # type: ignore[union-attr]  # by job
    with new_person(api, "read", tenant_id=owner.tenant_id) as reader:
        assert reader.get("/v1/usage").json()["total"]["device_s"] == pytest.approx(3 * 3661, abs=1)
