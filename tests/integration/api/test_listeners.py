"""Streams end with the key that opened them, and one tenant does not take all of them."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import func, update

from core import db
from core.jobs import records
from core.keys import ApiKey
from tests.integration.api import story
from tests.integration.api.conftest import new_person, problem

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.integration.api.conftest import Api

    Make = Callable[..., AbstractContextManager[Api]]


@pytest.mark.parametrize(("column", "what"), [("revoked_at", "events"), ("expires_at", "logs")])
def test_a_stream_ends_with_its_key(column: str, what: str, own_api: Make) -> None:
    with (
        own_api(stream_key_check_s=0.1, stream_heartbeat_s=0.2) as api,
        new_person(api) as person,
        new_person(api, tenant_id=person.tenant_id) as other,
    ):
        job = story.submit(person)
        url = f"/v1/jobs/{job['id']}/{what}/stream"
        with person.stream("GET", url, timeout=5) as ending, other.stream("GET", url, timeout=5) as lasting:
            lines = ending.iter_lines()
            next(lines)
            with db.sessions().begin() as session:
                token = person.headers["Authorization"].removeprefix("Bearer ")
                mine = ApiKey.hint == token[:8]
                session.execute(update(ApiKey).where(mine).values({column: func.now()}))
            for _ in lines:
                pass
            heard = lasting.iter_lines()
            for _ in range(6):
                next(heard)


def test_nothing_is_told_once_a_key_was_found_dead(own_api: Make) -> None:
    """Though the stream itself is closed no sooner than there is something to send."""
    with own_api(stream_key_check_s=0.1, stream_heartbeat_s=60) as api, new_person(api) as person:
        job = story.submit(person)
        with person.stream("GET", f"/v1/jobs/{job['id']}/events/stream", timeout=5) as stream:
            lines = stream.iter_lines()
            assert next(lines) == "event: queued"
            with db.sessions().begin() as session:
                session.execute(update(ApiKey).values(revoked_at=func.now()))
            deadline = time.monotonic() + 5
            while any(listener.may_listen for listener in api.app.state.listeners._open):
                assert time.monotonic() < deadline, "the key is not looked at"
                time.sleep(0.01)
            with db.sessions()() as session:
                records.record_facts(session, story.start(session, job), {"device": "secret"})
                session.commit()
            assert not any(line.startswith("event: ") for line in lines)


def test_a_tenant_has_so_many_streams(own_api: Make) -> None:
    def opened(stack: ExitStack, person: Any, url: str) -> Any:
        return stack.enter_context(person.stream("GET", url, timeout=5))

    with (
        own_api(max_streams=2) as api,
        new_person(api) as one,
        new_person(api) as other,
        ExitStack() as stack,
    ):
        job = story.submit(one)
        events, logs = (f"/v1/jobs/{job['id']}/{what}/stream" for what in ("events", "logs"))
        theirs = f"/v1/jobs/{story.submit(other)['id']}/events/stream"
        first = opened(stack, one, events)
        assert (first.status_code, opened(stack, one, logs).status_code) == (200, 200)
        with new_person(api, tenant_id=one.tenant_id) as same:
            refused = problem(same.get(events), 429, "quota_exceeded")
        assert refused["details"] == {"open": 2, "max_streams": 2}
        assert opened(stack, other, theirs).status_code == 200
        first.close()
        deadline = time.monotonic() + 5
        while opened(stack, one, events).status_code != 200:
            assert time.monotonic() < deadline, "the place is not free again"
            time.sleep(0.01)
