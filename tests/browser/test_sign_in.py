"""From a key to a session and back."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

import httpx
from playwright.sync_api import Page, expect

from core import db
from core.keys import operators
from tests.browser.conftest import key_of, sign_in
from tests.integration.api.conftest import CLIENT, new_person

if TYPE_CHECKING:
    from tests.integration.api.conftest import Api, Person


def test_a_page_asks_for_the_key_and_comes_back(page: Page, owner: Person) -> None:
    page.goto("/workers?from=mail")
    page.wait_for_url("**/sign-in?to=%2Fworkers%3Ffrom%3Dmail")
    page.get_by_label("API key").fill(key_of(owner))
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/workers?from=mail")
    expect(page.locator("#whose")).to_have_text(f"{owner.tenant_id.hex} · test")
    assert page.evaluate("document.cookie") == "", "a script can read the session"
    [cookie] = page.context.cookies()
    assert cookie["httpOnly"] and cookie["sameSite"] == "Strict"  # noqa: PT018  # one fact


def test_wrong_keys_are_refused_in_words(page: Page, api: Api, owner: Person) -> None:
    page.goto("/sign-in?to=https://elsewhere.example/")
    field = page.get_by_label("API key")
    for wrong, words in (("hunter2", "begins with slg_"), ("slg_" + "x" * 43, "unknown, expired or revoked")):
        field.fill(wrong)
        field.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text(words)
        expect(field).to_be_focused()
    field.fill(key_of(owner))
    field.press("Enter")
    expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
    assert page.url == f"{api.url}/", "it went elsewhere"


def test_signing_out_ends_the_session_in_every_tab(page: Page, api: Api, owner: Person) -> None:
    sign_in(page, owner)
    other = page.context.new_page()
    for tab in (page, other):
        tab.goto("/")
        expect(tab.get_by_text("There is no job yet")).to_be_visible()
    [cookie] = page.context.cookies()
    kept = {cookie["name"]: cookie["value"]}
    assert httpx.get(api.url.join("/v1/jobs"), cookies=kept, **CLIENT).status_code == 200
    page.get_by_role("button", name="Sign out").click()
    for tab in (page, other):
        tab.wait_for_url("**/sign-in*")
    assert httpx.get(api.url.join("/v1/jobs"), cookies=kept, **CLIENT).status_code == 401


def test_a_revoked_key_ends_its_sessions(page: Page, api: Api, owner: Person) -> None:
    with new_person(api, "read", tenant_id=owner.tenant_id) as reader:
        sign_in(page, reader)
        key_id = UUID(reader.get("/v1/keys/current").json()["id"])
    page.goto("/")
    expect(page.get_by_text("There is no job yet")).to_be_visible()
    with db.sessions().begin() as session:
        operators.revoke_key(session, key_id)
    page.wait_for_url("**/sign-in*")
