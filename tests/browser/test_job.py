"""A job's page, while the test takes the worker's part."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from playwright.sync_api import Page, expect

from core import db
from core.jobs import lease
from core.jobs.tables import Job
from tests.browser import seeded
from tests.browser.axe import serious
from tests.browser.wire import wire_to
from tests.integration.api.conftest import new_person

if TYPE_CHECKING:
    from tests.integration.api.conftest import Api, Person


def test_an_alarming_job(signed_in: Page, jobs: dict[str, str]) -> None:
    signed_in.goto(f"/jobs/{jobs['alarm']}")
    expect(signed_in.get_by_role("alert").filter(has_text="Alarm: copies")).to_be_in_viewport()
    for chart in ("fid", "kid", "coverage", "copies", "losses"):
        expect(signed_in.locator(f"#{chart} .scatterlayer .js-line").first).to_be_visible()
    expect(signed_in.locator("#fid")).to_contain_text("floor: mirrored real")
    expect(signed_in.locator("#protocol")).to_have_text("vgg16, 200 pictures")
    expect(signed_in.locator("#facts")).to_contain_text("NVIDIA L4")
    expect(signed_in.locator("#config")).to_contain_text("alarms.copy_rate")
    expect(signed_in.locator("#log")).to_contain_text("2360 images")
    for scheme in ("light", "dark"):
        signed_in.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # one of its literals
        assert serious(signed_in) == []


def test_the_grid_goes_through_time_by_keys(signed_in: Page, jobs: dict[str, str]) -> None:
    signed_in.goto(f"/jobs/{jobs['running']}")
    slider = signed_in.get_by_label("Sample grid by images seen")
    picture = signed_in.locator("#grids img")
    expect(picture).to_have_attribute("alt", "Sample grid at 1,600 images")
    slider.focus()
    slider.press("Home")
    expect(picture).to_have_attribute("alt", "Sample grid at 400 images")
    expect(picture).to_have_js_property("naturalWidth", 512)
    slider.press("ArrowRight")
    expect(picture).to_have_attribute("alt", "Sample grid at 800 images")
    expect(signed_in.locator("#pairs img")).to_be_visible()


def test_it_lives_and_comes_back_after_a_loss(signed_in: Page, api: Api, owner: Person) -> None:
    with db.sessions()() as session, wire_to(api.url) as wire:
        attempt = seeded.start(owner, session, "Live", worker="gpu-4")
        signed_in.goto(f"{wire.url}/jobs/{attempt.job_id}")
        expect(signed_in.locator("#live")).to_have_text("live")
        expect(signed_in.locator("#checkpoints")).to_contain_text("No checkpoint yet.")
        seeded.snapshot(session, attempt, 400)
        expect(signed_in.locator("#checkpoints tbody tr")).to_have_count(1)
        expect(signed_in.locator("#grids img")).to_have_attribute("alt", "Sample grid at 400 images")
        wire.cut()
        expect(signed_in.locator("#live")).to_have_text("reconnecting")
        seeded.snapshot(session, attempt, 800)
        seeded.log(session, attempt.job_id, ["printed while nobody heard it"])
        wire.mend()
        expect(signed_in.locator("#live")).to_have_text("live")
        expect(signed_in.locator("#checkpoints tbody tr")).to_have_count(2)
        expect(signed_in.locator("#log")).to_contain_text("printed while nobody heard it")
        events = signed_in.locator("#events li").evaluate_all("lines => lines.map(line => line.title)")
        assert events == [f"event {n}" for n in range(len(events), 0, -1)], "one is missing, or there twice"
        signed_in.goto("about:blank")


def test_cancelling_asks_first(signed_in: Page, owner: Person) -> None:
    with db.sessions()() as session:
        attempt = seeded.start(owner, session, "To be cancelled", worker="gpu-5")
        signed_in.goto(f"/jobs/{attempt.job_id}")
        actions = signed_in.get_by_role("group", name="What can be done")
        actions.get_by_role("button", name="Cancel").click()
        dialog = signed_in.get_by_role("dialog", name="Cancel this job?")
        assert serious(signed_in) == []
        signed_in.keyboard.press("Escape")
        expect(dialog).to_be_hidden()
        assert lease.wish(session, attempt) != lease.Wish.CANCEL
        actions.get_by_role("button", name="Cancel").click()
        dialog.get_by_role("button", name="Cancel the job").click()
        expect(dialog).to_be_hidden()
        expect(signed_in.locator("#status")).to_have_text("running, to be cancelled")
        expect(actions.get_by_role("button", name="Cancel")).to_be_hidden()
        session.expire_all()
        assert session.get_one(Job, attempt.job_id).cancel_requested


def test_what_the_service_refuses_is_said_in_the_dialog(signed_in: Page, owner: Person) -> None:
    job = seeded.submit(owner, "Cancelled elsewhere")
    signed_in.goto(f"/jobs/{job['id']}")
    signed_in.get_by_role("button", name="Pause").click()
    assert owner.post(f"/v1/jobs/{job['id']}/cancel").status_code == 200
    dialog = signed_in.get_by_role("dialog", name="Pause this job?")
    dialog.get_by_role("button", name="Pause the job").click()
    expect(dialog.get_by_role("alert")).to_contain_text("cancelled")
    dialog.get_by_role("button", name="Cancel").click()
    expect(signed_in.locator("#status")).to_have_text("cancelled")
    signed_in.get_by_role("button", name="Retry").click()
    signed_in.get_by_role("dialog").get_by_role("button", name="Retry the job").click()
    expect(signed_in.locator("#status")).to_have_text("queued")
    assert owner.post(f"/v1/jobs/{job['id']}/cancel").status_code == 200  # No later test is to be given it.


def test_a_checkpoint_is_downloaded_whole(signed_in: Page, jobs: dict[str, str]) -> None:
    signed_in.goto(f"/jobs/{jobs['succeeded']}")
    row = signed_in.locator("#checkpoints tbody tr").first
    with signed_in.expect_download() as download:
        row.get_by_role("link", name="Download").click()
    data = Path(download.value.path()).read_bytes()
    expect(row.locator(".hash")).to_have_text(hashlib.sha256(data).hexdigest())


def test_anothers_job_is_as_if_it_were_not(signed_in: Page, api: Api) -> None:
    with new_person(api) as stranger:
        job = seeded.submit(stranger, "A stranger's")
        stranger.post(f"/v1/jobs/{job['id']}/cancel")
    for job_id, words in ((job["id"], f"There is no job {job['id']}"), ("nonsense", "job_id")):
        signed_in.goto(f"/jobs/{job_id}")
        expect(signed_in.get_by_role("alert").filter(has_text=words)).to_be_visible()
