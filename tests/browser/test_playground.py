"""The playground: what is asked of a generator, and what becomes of the pictures. The worker's part is played here."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Page, expect

from core import db
from core.renderings import service as renderings
from core.renderings.tables import Rendering
from tests.browser import seeded
from tests.browser.axe import serious
from tests.integration.api import story
from tests.integration.api.conftest import new_person
from tests.picture_files import png
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.integration.api.conftest import Api, Person


@pytest.fixture
def owner(api: Api) -> Iterator[Person]:
    """A tenant of the test's own: each begins with nothing."""
    with new_person(api) as person:
        yield person


@pytest.fixture
def job(owner: Person) -> dict[str, Any]:
    """A running job with two generators, the later one better."""
    with db.sessions()() as session:
        made = story.submit(owner, name=seeded.HOSTILE)
        attempt = story.start(session, made)
        for images_seen, fid in ((400, 90.0), (800, 50.0)):
            generator = story.checkpoint(session, attempt, b"%d" % images_seen, images_seen=images_seen)
            story.evaluation(session, attempt, generator, images_seen=images_seen, fid=fid)
    return made


def asked(owner: Person, job: dict[str, Any]) -> dict[str, Any]:
    """The newest generation of a job, as soon as it waits."""

    def waiting() -> list[dict[str, Any]]:
        items = owner.get(f"/v1/jobs/{job['id']}/generations").json()["items"]
        return [item for item in items if item["status"] == "queued"]

    wait_until(lambda: bool(waiting()), what="a generation that waits")
    return waiting()[0]


def render(generation: dict[str, Any], files: dict[str, tuple[str, str]], **facts: Any) -> None:
    """Leave these files, by name with role and media type, as the worker does; each is a PNG."""
    with db.sessions()() as session:
        claim = story.claim_rendering(session, generation["id"])
        rows = []
        for place, (name, (role, media_type)) in enumerate(files.items()):
            stored = story.store_file(png((40 * place % 256, 90, 120), size=(64, 64)))
            rows.append(
                renderings.NewFile(
                    name=name,
                    role=role,
                    media_type=media_type,
                    storage_key=stored.key,
                    sha256=stored.sha256,
                    size_bytes=stored.size_bytes,
                )
            )
        renderings.post(session, claim, files=rows, facts=facts)
        session.commit()


def test_pictures_are_looked_at_and_saved(
    signed_in: Page, owner: Person, job: dict[str, Any], tmp_path: Path
) -> None:
    page = signed_in
    page.goto(f"/playground/{job['id']}")
    expect(page.get_by_role("heading", name=seeded.HOSTILE)).to_be_visible()
    expect(page.locator("#generator option:checked")).to_have_text("after 800 pictures (best, latest)")
    page.get_by_label("First seed").fill("5")
    page.get_by_label("Pictures", exact=True).and_(page.locator("#count")).fill("3")
    page.get_by_label("Truncation").press("Home")
    page.get_by_role("button", name="Generate").click()
    expect(page.get_by_text("Waiting for a worker that generates")).to_be_visible()
    generation = asked(owner, job)
    assert {name: generation["request"][name] for name in ("seed", "count", "truncation")} == {
        "seed": 5,
        "count": 3,
        "truncation": 0.05,
    }
    pictures = {f"seed-{seed}.png": ("picture", "image/png") for seed in (5, 6, 7)}
    render(generation, {"pictures.zip": ("main", "application/zip"), **pictures})
    gallery = page.locator(".gallery img")
    expect(gallery).to_have_count(3)
    expect(gallery.first).to_have_js_property("naturalWidth", 64)
    assert serious(page) == []

    save = page.get_by_role("button", name="Save")
    expect(save).to_be_disabled()
    for seed in (5, 7):
        page.get_by_label(f"Choose seed {seed}").check()
    with page.expect_download() as download:
        save.click()
    download.value.save_as(tmp_path / "selection.zip")
    with zipfile.ZipFile(tmp_path / "selection.zip") as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["001-seed-5.png", "002-seed-7.png"]
        first = page.request.get(f"/v1/generations/{generation['id']}/files/seed-5.png").body()
        assert archive.read("001-seed-5.png") == first

    page.get_by_role("button", name="Generated picture of seed 6").click()
    closer = asked(owner, job)
    assert (closer["request"]["seed"], closer["request"]["nearest"]) == (6, True)
    nearest = {"seed-6.png": [{"position": 2, "lpips": 0.1234}]}
    render(closer, {"grid.png": ("main", "image/png")}, nearest=nearest)
    dialog = page.get_by_role("dialog", name="Seed 6")
    expect(dialog).to_contain_text("Training picture 2, LPIPS 0.123")
    expect(dialog.get_by_alt_text("Training picture 2")).to_have_js_property("naturalWidth", 40)
    assert serious(page) == []
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)


def test_a_way_between_seeds_and_mixed_styles(signed_in: Page, owner: Person, job: dict[str, Any]) -> None:
    page = signed_in
    page.goto(f"/playground/{job['id']}")
    page.get_by_text("Interpolation").click()
    page.get_by_label("Seeds, in their order").fill("1, x")
    page.get_by_role("button", name="Generate").click()
    expect(page.get_by_role("alert")).to_contain_text("write whole numbers with commas between, not “1, x”")
    page.get_by_label("Seeds, in their order").fill("1, 9")
    page.get_by_role("button", name="Generate").click()
    generation = asked(owner, job)
    assert (generation["request"]["seeds"], generation["request"]["form"]) == ([1, 9], "webp")
    render(generation, {"interpolation.webp": ("main", "image/png")}, frames=48, seconds=2.0)
    film = page.get_by_alt_text("A way between the seeds 1, 9")
    expect(film).to_have_js_property("naturalWidth", 64)
    expect(page.locator("#result")).to_contain_text("48 frames, 2 s")
    assert serious(page) == []

    page.get_by_text("Style mix").click()
    page.get_by_label("From this side on").fill("20")
    page.get_by_role("button", name="Generate").click()
    expect(page.get_by_role("alert")).to_contain_text("mixes from sides")
    page.get_by_label("From this side on").fill("")
    page.get_by_role("button", name="Generate").click()
    mix = asked(owner, job)
    assert (mix["request"]["rows"], mix["request"]["columns"]) == ([1, 2], [3, 4, 5])
    render(mix, {"mix.png": ("main", "image/png")}, from_side=16)
    expect(page.locator("#result")).to_contain_text("from 16 pixels on")


def test_nothing_to_play_with_yet_and_calling_off(
    signed_in: Page, owner: Person, job: dict[str, Any]
) -> None:
    page = signed_in
    page.goto(f"/playground/{story.submit(owner)['id']}")
    expect(page.get_by_text("This job has no generator yet")).to_be_visible()
    page.goto(f"/playground/{job['id']}")
    page.get_by_role("button", name="Generate").click()
    generation = asked(owner, job)
    page.get_by_role("button", name="Call off").click()
    expect(page.get_by_text("Called off.")).to_be_visible()

    def status() -> str | None:
        with db.sessions()() as session:
            row = session.get(Rendering, generation["id"])
            return None if row is None else row.status

    wait_until(lambda: status() in {None, "cancelled"}, what="the end of the generation")
