"""How sessions of browsers end, and what becomes of guesses at them; each with a service of its own."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from sqlalchemy import func, select, update

from core import db, keys
from core.garbage.report import Bounds, Found
from core.garbage.rows import collect_browser_sessions
from core.keys.tables import BrowserSession
from tests.integration.api.conftest import CLIENT, Api, new_person, problem
from tests.integration.api.test_sessions import NAME, signed_in

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    Make = Callable[..., AbstractContextManager[Api]]


def test_over_tls_the_cookie_is_secure(own_api: Make) -> None:
    with own_api(trusted_proxies="127.0.0.1/32") as api, new_person(api) as person:
        answer = person.post("/session", headers={"X-Forwarded-Proto": "https"})
        assert answer.headers["set-cookie"].startswith(f"__Host-{NAME}=slgs_")
        assert answer.headers["set-cookie"].endswith("; Secure")
        token = answer.headers["set-cookie"].split(";")[0]
        for scheme, status in (("https", 200), ("http", 401)):
            headers = {"X-Forwarded-Proto": scheme, "Cookie": token}
            assert httpx.get(api.url.join("/v1/jobs"), headers=headers, **CLIENT).status_code == status


@pytest.mark.parametrize("over", ["session", "key"])
def test_it_ends_in_time_and_with_its_key(over: str, own_api: Make) -> None:
    with own_api(key_cache_s=0) as api, new_person(api) as person, signed_in(person) as browser:
        assert browser.get("/v1/jobs").status_code == 200
        past = func.now() - timedelta(seconds=1)
        table: Any = BrowserSession if over == "session" else keys.ApiKey
        with db.sessions().begin() as session:
            session.execute(update(table).values(expires_at=past))
        problem(browser.get("/v1/jobs"), 401, "unauthenticated")
        bounds = Bounds(grace_s=0, limit=10, dry_run=False)
        found = Found()
        collect_browser_sessions(bounds, found)
        assert found.count == 1
        with db.sessions()() as session:
            assert session.scalar(select(func.count()).select_from(BrowserSession)) == 0


def test_guesses_of_cookies_are_slowed_like_those_of_keys(own_api: Make) -> None:
    with own_api(requests_per_minute=300) as api:
        answers = [
            httpx.get(api.url.join("/v1/jobs"), cookies={NAME: f"slgs_{n:043}"}, **CLIENT).status_code
            for n in range(6)
        ]
    assert answers == [401] * 3 + [429] * 3
