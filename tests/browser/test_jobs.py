"""The list of jobs, and the workers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from uuid import UUID

from playwright.sync_api import Page, Route, expect

from core import db
from core.jobs import endings, records
from tests.browser import seeded
from tests.browser.axe import serious

if TYPE_CHECKING:
    from tests.integration.api.conftest import Person


def test_each_state_is_told(signed_in: Page, jobs: dict[str, str]) -> None:
    signed_in.goto("/")
    first = signed_in.locator(f"tr[data-id='{jobs['alarm']}']")
    expect(first.locator(".badge").first).to_have_text("running")
    expect(first).to_contain_text("alarm")
    expect(first).to_contain_text("41.5")
    expect(first.locator("[data-protocol=vgg16]")).to_have_count(2)
    expect(first.locator("td.curve polyline")).to_have_count(1)
    expect(signed_in.locator("#alarms")).to_contain_text("34% of the generated pictures copy")
    expect(signed_in.get_by_role("link", name=seeded.HOSTILE)).to_be_visible()
    expect(signed_in.locator("main img")).to_have_count(0)
    for scheme in ("light", "dark"):
        signed_in.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # one of its literals
        assert serious(signed_in) == []


def test_filters_stand_in_the_address(signed_in: Page, jobs: dict[str, str]) -> None:
    signed_in.goto("/")
    rows = signed_in.locator("tbody tr")
    signed_in.get_by_text("running", exact=True).first.click()
    expect(rows).to_have_count(2)
    signed_in.get_by_label("Search by name").fill("WELD")
    expect(rows).to_have_count(1)
    expect(rows).to_have_attribute("data-id", jobs["running"])
    signed_in.reload()
    expect(rows).to_have_count(1)
    assert signed_in.url.endswith("/?status=running&text=WELD")
    signed_in.get_by_label("Search by name").fill("nobody called it so")
    expect(signed_in.get_by_text("No job passes this filter.")).to_be_visible()


def test_rows_change_while_one_looks(signed_in: Page, owner: Person) -> None:
    with db.sessions()() as session:
        job = seeded.submit(owner, "Watched", priority=100)
        signed_in.goto("/")
        row = signed_in.locator(f"tr[data-id='{job['id']}']")
        expect(row.locator(".badge").first).to_have_text("queued")
        row.evaluate("element => { element.wasThere = true }")
        attempt = seeded.story.start(session, job, worker="gpu-3")
        records.record_progress(session, attempt, images_seen=1_000, images_per_s=20.0, losses={})
        session.commit()
        expect(row).to_contain_text("25%")
        endings.finish(session, attempt)
        session.commit()
        endings.settle(session, attempt.job_id)
        session.commit()
        expect(row.locator(".badge").first).to_have_text("succeeded")
        assert row.evaluate("element => element.wasThere"), "the row was made anew"
        newer = seeded.submit(owner, "Newer")
        expect(signed_in.locator("tbody tr").first).to_have_attribute("data-id", newer["id"])
    expect(signed_in.locator("#said")).to_contain_text("Watched is succeeded")


def test_a_service_that_is_away_is_said_and_tried_again(signed_in: Page, jobs: dict[str, str]) -> None:
    def refuse(route: Route) -> None:
        route.abort()

    signed_in.route("**/v1/jobs?*", refuse)
    signed_in.goto("/")
    expect(signed_in.get_by_role("alert").filter(has_text="does not answer")).to_be_visible()
    signed_in.unroute("**/v1/jobs?*", refuse)
    signed_in.get_by_role("button", name="Try again").click()
    expect(signed_in.locator(f"tr[data-id='{jobs['failed']}']")).to_be_visible()
    signed_in.route("**/v1/jobs?*", refuse)
    expect(signed_in.locator("#live")).to_have_text("offline")
    signed_in.unroute("**/v1/jobs?*", refuse)
    expect(signed_in.locator("#live")).to_have_text("live")


def test_workers_and_the_queue(signed_in: Page, owner: Person, jobs: dict[str, str]) -> None:
    queued = len(owner.get("/v1/jobs?status=queued").json()["items"])
    signed_in.goto("/workers")
    row = signed_in.locator("tbody tr").filter(has_text="gpu-2")
    expect(row).to_contain_text("NVIDIA L4")
    expect(row.get_by_role("link")).to_have_attribute("href", f"/jobs/{UUID(jobs['running'])}")
    expect(signed_in.locator("#queue")).to_contain_text(re.compile(rf"queued, of yours\s*{queued}"))
    assert serious(signed_in) == []
    signed_in.emulate_media(color_scheme="dark")
    assert serious(signed_in) == []


def test_the_theme_is_remembered(signed_in: Page) -> None:
    signed_in.goto("/workers")
    signed_in.get_by_role("button", name="Theme: system").click()
    expect(signed_in.locator("html")).to_have_attribute("data-theme", "dark")
    signed_in.goto("/")
    expect(signed_in.locator("html")).to_have_attribute("data-theme", "dark")
    assert signed_in.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(16, 18, 23)"
