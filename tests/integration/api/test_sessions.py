"""Browsers: the cookie that a key becomes, and what may be done with it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import httpx
import pytest
from sqlalchemy import select

from core import db, keys
from core.keys import browser_sessions
from core.keys.tables import BrowserSession
from tests.integration.api.conftest import CLIENT, new_person, problem

if TYPE_CHECKING:
    from tests.integration.api.conftest import Api, Person

NAME = "slaegan_session"
OWN_PAGE = {"Sec-Fetch-Site": "same-origin"}


def signed_in(person: Person, **headers: str) -> httpx.Client:
    """A browser of a person: the session's cookie, and no key."""
    answer = person.post("/session", headers=headers)
    assert answer.status_code == 204, answer.text
    return httpx.Client(base_url=person.base_url, cookies=answer.cookies, **CLIENT)


def cancelled(client: httpx.Client, **headers: str) -> httpx.Response:
    """A change, of a job that is not there: 404 for who may ask."""
    return client.post("/v1/jobs/9a59ae6b-7ee0-4f8b-8e4b-30f1c0a36c1c/cancel", headers=headers)


def test_the_cookie_is_out_of_reach(api: Api, owner: Person) -> None:
    answer = owner.post("/session")
    assert re.fullmatch(
        rf"{NAME}=slgs_[\w-]{{43}}; HttpOnly; Max-Age=604800; Path=/; SameSite=strict",
        answer.headers["set-cookie"],
    )
    token = answer.cookies[NAME]
    with db.sessions()() as session:
        kept = session.scalars(select(BrowserSession.sha256)).all()
    assert keys.digest(token) in kept
    assert token not in kept
    as_key = httpx.get(api.url.join("/v1/jobs"), headers={"Authorization": f"Bearer {token}"}, **CLIENT)
    problem(as_key, 401, "unauthenticated")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 404),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "OWN"}, 404),
        ({"Origin": "OWN"}, 404),
        ({}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "OWN"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "none"}, 403),
    ],
)
def test_changes_come_from_our_own_pages_only(
    headers: dict[str, str], status: int, api: Api, owner: Person
) -> None:
    own = f"http://{api.url.host}:{api.url.port}"
    sent = {name: own if value == "OWN" else value for name, value in headers.items()}
    with signed_in(owner) as browser:
        assert browser.get("/v1/jobs", headers=sent).status_code == 200
        assert cancelled(browser, **sent).status_code == status
    assert cancelled(owner, **sent).status_code == 404, "a key counts wherever it comes from"


def test_the_header_comes_before_the_cookie(owner: Person, stranger: Person) -> None:
    with signed_in(owner) as browser:
        browser.headers["Authorization"] = stranger.headers["Authorization"]
        assert browser.get("/v1/keys/current").json()["tenant_id"] == str(stranger.tenant_id)
        browser.headers["Authorization"] = "Bearer slg_" + "x" * 43
        problem(browser.get("/v1/keys/current"), 401, "unauthenticated")


def test_a_session_is_no_more_than_its_key(api: Api, owner: Person) -> None:
    with new_person(api, "read", tenant_id=owner.tenant_id) as reader, signed_in(reader) as browser:
        assert browser.get("/v1/jobs").status_code == 200
        problem(cancelled(browser, **OWN_PAGE), 403, "forbidden")
        problem(browser.get("/v1/keys"), 403, "forbidden")
        problem(browser.post("/session", headers=OWN_PAGE), 401, "unauthenticated")
        assert browser.delete("/session", headers=OWN_PAGE).status_code == 204


def test_signing_out_ends_it_at_once(owner: Person) -> None:
    with signed_in(owner) as browser:
        token = browser.cookies[NAME]
        problem(browser.delete("/session"), 403, "forbidden")
        assert browser.get("/v1/jobs").status_code == 200
        gone = browser.delete("/session", headers=OWN_PAGE)
        assert gone.status_code == 204
        assert "Max-Age=0" in gone.headers["set-cookie"]
        answer = httpx.get(owner.base_url.join("/v1/jobs"), cookies={NAME: token}, **CLIENT)
        assert "sign in again" in problem(answer, 401, "unauthenticated")["detail"]
    actions = [entry["action"] for entry in owner.get("/v1/audit").json()["items"]]
    assert actions == ["sign_out", "sign_in"]


def test_the_newest_sessions_of_a_key_stay(owner: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browser_sessions, "MAX_SESSIONS", 2)
    browsers = [signed_in(owner) for _ in range(3)]
    assert [browser.get("/v1/jobs").status_code for browser in browsers] == [401, 200, 200]
    for browser in browsers:
        browser.close()


@pytest.mark.parametrize("path", ["/", "/workers", "/sign-in"])
def test_pages_are_the_same_for_everybody(path: str, nobody: httpx.Client, owner: Person) -> None:
    page = nobody.get(path)
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert re.search(r"<(script(?! [^>]*src=)|style)|\son\w+=|\sstyle=", page.text) is None, (
        "something is inline"
    )
    with signed_in(owner) as browser:
        assert browser.get(path).text == page.text


def test_files_of_pages_are_kept_under_addresses_of_their_content(nobody: httpx.Client) -> None:
    for address in re.findall(r'(?:src|href)="(/static/[^"]+)"', nobody.get("/").text):
        file = nobody.get(address)
        assert "immutable" in file.headers["cache-control"]
        old = nobody.get(re.sub("/static/[^/]+/", "/static/0123/", address))
        assert (old.content, old.headers["cache-control"]) == (file.content, "no-cache")
    for hostile in (
        "/static/0/../pages.py",
        "/static/0/%2e%2e/pages.py",
        "/static/0//etc/passwd",
        "/static/0/js",
    ):
        assert nobody.get(hostile).status_code in {401, 404}, hostile
