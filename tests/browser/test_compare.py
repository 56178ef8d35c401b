"""Jobs side by side, or the reason why their numbers may not stand there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Page, expect

from core import db
from tests.browser import seeded
from tests.browser.axe import serious
from tests.integration.api import story
from tests.integration.api.conftest import new_person

if TYPE_CHECKING:
    from tests.integration.api.conftest import Api, Person

OTHER = seeded.PROTOCOL | {"extractor": "inception_v3", "resize": 299}


@pytest.fixture(scope="module")
def three(owner: Person) -> list[str]:
    """Two jobs under one protocol, one of them of another width and shorter, and one under another protocol."""
    ids = []
    with db.sessions()() as session:
        dataset_id = story.upload(owner)
        for name, snapshots, config in (("wide", 3, {}), (seeded.HOSTILE, 2, {"width": 0.25})):
            config |= {"resolution": 64, "total_images": seeded.TOTAL}
            job = story.submit(owner, name=name, dataset_id=dataset_id, config=config)
            attempt = story.start(session, job)
            seeded.train(session, attempt, snapshots=snapshots)
            ids.append(str(attempt.job_id))
        attempt = seeded.start(owner, session, "by Inception", worker="w")
        made = story.checkpoint(session, attempt, b"weights", images_seen=400)
        story.evaluation(session, attempt, made, images_seen=400, fid=9.0, protocol=OTHER)
        ids.append(str(attempt.job_id))
    return ids


def address(*ids: str) -> str:
    return "/compare?" + "&".join(f"job={job_id}" for job_id in ids)


def test_one_axis_one_slider_and_what_differs(signed_in: Page, three: list[str]) -> None:
    page = signed_in
    page.goto(address(*three[:2]))
    chart = page.locator("#chart")
    expect(chart.locator(".scatterlayer .trace")).to_have_count(2)
    colours = chart.locator(".legendlines path").evaluate_all("all => all.map((one) => one.style.stroke)")
    assert len(set(colours)) == 2, colours
    expect(page.locator("#numbers")).to_contain_text(seeded.HOSTILE)
    page.get_by_label("Metric").select_option("recall")
    expect(chart).to_have_attribute(
        "aria-label", "recall of 2 jobs over the images seen; the table below has the numbers"
    )
    expect(page.locator("#differing").get_by_role("row").filter(has_text="width")).to_contain_text("0.25")
    figures = page.locator("#pictures figure")
    expect(figures.nth(0)).to_contain_text("1,200 pictures")
    expect(figures.nth(1)).to_contain_text("800 pictures")
    slider = page.get_by_role("slider", name="Time of training")
    slider.press("Home")
    for figure in (figures.nth(0), figures.nth(1)):
        expect(figure).to_contain_text("400 pictures")
        expect(figure.locator("img")).to_have_js_property("naturalWidth", 512)
    expect(slider).to_have_attribute("aria-valuetext", "after 400 pictures")
    assert page.locator("img[src=x]").count() == 0
    assert serious(page) == []


def test_two_protocols_are_refused(signed_in: Page, three: list[str]) -> None:
    page = signed_in
    page.goto(address(three[0], three[2]))
    refusal = page.get_by_role("alert")
    expect(refusal).to_contain_text("These jobs' numbers do not compare.")
    expect(refusal.get_by_role("row").filter(has_text="extractor")).to_contain_text("vgg16inception_v3")
    expect(page.locator("#curves")).to_be_hidden()
    expect(page.locator("#pictures figure")).to_have_count(2)
    assert serious(page) == []


def test_jobs_are_chosen_from_a_list(signed_in: Page, three: list[str]) -> None:
    page = signed_in
    page.goto(address(three[0]))
    go = page.get_by_role("button", name="Compare")
    expect(page.get_by_text("1 chosen; 2 to 8 can be compared.")).to_be_visible()
    expect(go).to_be_disabled()
    page.get_by_placeholder("Search by name").fill("onerror")
    expect(page.locator("#jobs li")).to_have_count(1)
    page.get_by_role("checkbox").check()
    assert serious(page) == []
    go.click()
    page.wait_for_url(f"**{address(*three[:2])}")
    expect(page.locator("#curves")).to_be_visible()


def test_a_job_of_somebody_else_is_not_there(signed_in: Page, api: Api, three: list[str]) -> None:
    with new_person(api) as stranger:
        foreign = story.submit(stranger)
    signed_in.goto(address(three[0], foreign["id"]))
    expect(signed_in.get_by_role("alert")).to_contain_text("There is no job")
