"""The form of a new job: made of every family's schema, refused where the service refuses, and shown as code."""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Page, Route, expect

from core import db
from core.jobs import records
from core.schemas.families import FAMILIES
from tests.browser.axe import serious
from tests.browser.conftest import key_of
from tests.browser.seeded import HOSTILE
from tests.integration.api import story
from tests.integration.api.conftest import new_person
from tests.picture_files import form, pngs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.api.conftest import Api, Person

JOB_PAGE = re.compile("(?<!/v1)/jobs/[0-9a-f-]{36}$")


@pytest.fixture
def owner(api: Api) -> Iterator[Person]:
    """A tenant of the test's own: each begins with nothing."""
    with new_person(api) as person:
        yield person


@pytest.fixture
def dataset(owner: Person) -> str:
    made = owner.post("/v1/datasets", files=form(pngs(4)), data={"name": HOSTILE})
    return str(made.json()["id"])


def value(page: Page, key: str) -> str:
    return page.locator(f"#field-{key.replace('.', '-')}").input_value()


def submitted(page: Page, person: Person) -> dict[str, Any]:
    """The job that a click on the button makes; its own page is not waited for."""
    page.route(JOB_PAGE, lambda route: route.fulfill(body="the page of a job", content_type="text/plain"))
    page.get_by_role("button", name="Submit").click()
    page.wait_for_url(JOB_PAGE)
    made: dict[str, Any] = person.get(f"/v1/jobs/{page.url.rpartition('/')[2]}").json()
    return made


def test_every_family_takes_its_own_defaults(signed_in: Page, owner: Person, dataset: str) -> None:
    page = signed_in
    taken: list[dict[str, Any]] = []

    def take(route: Route) -> None:
        answer = route.fetch()
        assert answer.status == 201, answer.text()
        taken.append(answer.json())
        # The page is told of another end, so that it stays for the next family.
        route.fulfill(status=503, content_type="application/problem+json", body='{"detail": "stay"}')

    page.route(re.compile("/v1/jobs$"), take)
    page.goto(f"/new?dataset={dataset}")
    for family, kind in FAMILIES.items():
        with page.expect_response("**/v1/jobs/estimate") as told:
            page.get_by_label("Family", exact=True).select_option(family)
        assert told.value.status == 200, family
        expect(page.locator("#code")).to_contain_text(f'"family": "{family}"')
        page.get_by_role("button", name="Submit").click()
        expect(page.locator("#refusal")).to_contain_text("stay")
        made = taken.pop()
        assert made["dataset_id"] == dataset
        usual = kind().model_dump(mode="json")
        for name in usual.keys() - {"evaluation"}:  # What auto means there is settled by the service.
            assert made["config"][name] == usual[name], (family, name)
        for preset in ("Try it", "Best quality"):
            with page.expect_response("**/v1/jobs/estimate") as told:
                page.get_by_role("radio", name=preset).check()
            assert told.value.status == 200, (family, preset)
    assert len(owner.get("/v1/jobs").json()["items"]) == len(FAMILIES)


def test_values_follow_from_each_other_and_go_back(signed_in: Page, dataset: str) -> None:
    page = signed_in
    page.goto(f"/new?dataset={dataset}")
    assert (value(page, "resolution"), value(page, "total_images")) == ("2", "400000")
    page.get_by_label("Resolution", exact=True).select_option("64")
    expect(page.get_by_label("Total images", exact=True)).to_have_value("24000")
    expect(page.locator("#code")).to_contain_text('"resolution": 64')
    expect(page.locator("#code")).not_to_contain_text("total_images")
    page.get_by_role("radio", name="Try it").check()
    expect(page.get_by_label("Total images", exact=True)).to_have_value("4000")
    expect(page.locator("#code")).to_contain_text('"generated": 256')
    page.get_by_role("button", name="Total images: back to the default").click()
    expect(page.get_by_label("Total images", exact=True)).to_have_value("24000")
    page.get_by_role("radio", name="Balanced").check()
    expect(page.get_by_label("Total images", exact=True)).to_have_value("400000")
    total = page.get_by_label("Total images", exact=True)
    total.fill("")
    expect(total).to_be_empty()
    total.press("Tab")
    expect(total).to_have_value("400000")
    for summary in page.locator("#groups summary").all()[1:]:
        summary.click()
    assert serious(page) == []


def test_errors_stand_at_their_fields(signed_in: Page, owner: Person, dataset: str) -> None:
    page = signed_in
    page.goto(f"/new?dataset={dataset}")
    batch = page.get_by_label("Batch", exact=True)
    batch.fill("1")
    expect(page.locator("#field-batch-error")).to_contain_text("2 to 256")
    page.get_by_role("button", name="Submit").click()
    expect(page.locator("#refusal")).to_contain_text("Batch: Input should be greater than or equal to 2")
    expect(batch).to_be_focused()
    assert serious(page) == []
    batch.fill("8")
    expect(page.locator("#field-batch-error")).to_be_empty()
    page.get_by_text("Against overfitting").click()
    page.get_by_label("Freeze discriminator", exact=True).fill("2")
    page.get_by_role("button", name="Submit").click()
    expect(page.locator("#refusal")).to_contain_text("name a checkpoint to begin from")
    assert owner.get("/v1/jobs").json()["items"] == []


def test_the_code_that_is_shown_does_the_same(signed_in: Page, owner: Person, dataset: str) -> None:
    page = signed_in
    page.goto(f"/new?dataset={dataset}")
    page.get_by_label("Name", exact=True).fill('it\'s $(touch x) `y` "z" \\ ü')
    page.get_by_role("radio", name="Try it").check()
    code = page.locator("#code").inner_text()
    ran = subprocess.run(
        ["bash", "-c", code],
        env=os.environ | {"SLAEGAN_API_KEY": key_of(owner)},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert '"status":"queued"' in ran.stdout
    made = submitted(page, owner)
    by_curl = next(job for job in owner.get("/v1/jobs").json()["items"] if job["id"] != made["id"])
    for same in ("name", "config", "dataset_id"):
        assert by_curl[same] == made[same]


def test_what_was_measured_is_told_and_nothing_else(signed_in: Page, owner: Person, dataset: str) -> None:
    page = signed_in
    page.goto(f"/new?dataset={dataset}")
    expect(page.locator("#estimate")).to_contain_text("Not known yet")
    config = {"resolution": 64, "total_images": 24_000}
    with db.sessions()() as session:
        attempt = story.start(session, story.submit(owner, config=config))
        records.record_facts(session, attempt, {"device": "NVIDIA L4"})
        records.record_progress(
            session, attempt, images_seen=8_000, images_per_s=40.0, losses={}, peak_memory_bytes=3 * 2**30
        )
        session.commit()
    page.get_by_label("Resolution", exact=True).select_option("64")
    expect(page.locator("#estimate")).to_contain_text("10 min")
    expect(page.locator("#estimate")).to_contain_text("NVIDIA L4: 40 images/s, of 1 job")
    expect(page.locator("#estimate")).to_contain_text("at most 3 GiB")


def test_a_fine_tuning_has_the_networks_of_its_beginning(signed_in: Page, owner: Person) -> None:
    config = {"family": "dcgan", "width": 8, "resolution": 64, "total_images": 640}
    with db.sessions()() as session:
        job = story.submit(owner, name=HOSTILE, config=config)
        made = story.checkpoint(session, story.start(session, job), b"weights", images_seen=320)
    page = signed_in
    page.goto(f"/new?init_from={made}")
    expect(page.get_by_text(f"Begins from a generator of {HOSTILE}, after 320 pictures")).to_be_visible()
    expect(page.get_by_label("Family", exact=True)).to_have_value("dcgan")
    expect(page.get_by_label("Width", exact=True)).to_have_value("8")
    told = submitted(page, owner)
    assert (told["init_from"], told["family"], told["config"]["width"]) == (str(made), "dcgan", 8)
    assert told["dataset_id"] == job["dataset_id"]
