"""Datasets: the way of pictures into the service, and what is to be seen of them there."""

from __future__ import annotations

import io
import random
from typing import TYPE_CHECKING

import pytest
from PIL import Image
from playwright.sync_api import Page, Request, Route, expect

from tests.browser.axe import serious
from tests.browser.seeded import HOSTILE
from tests.integration.api.conftest import new_person
from tests.picture_files import form, png, pngs, zipped

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.integration.api.conftest import Api, Person

PART_BYTES = 4 * 1024 * 1024


@pytest.fixture
def owner(api: Api) -> Iterator[Person]:
    """A tenant of the test's own: each begins with nothing."""
    with new_person(api) as person:
        yield person


def noise(seed: int) -> bytes:
    """A picture of half a megabyte, since nothing packs it."""
    image = Image.frombytes("RGB", (420, 420), random.Random(seed).randbytes(3 * 420 * 420))
    written = io.BytesIO()
    image.save(written, "PNG", compress_level=1)
    return written.getvalue()


def lose_parts(route: Route) -> None:
    """A network that loses every part of an upload."""
    if route.request.method == "PATCH":
        route.abort()
    else:
        route.continue_()


def test_an_upload_goes_on_after_a_reload(signed_in: Page, owner: Person, tmp_path: Path) -> None:
    page = signed_in
    archive = tmp_path / "noise.zip"
    archive.write_bytes(zipped({f"{n}.png": noise(n) for n in range(18)}))
    assert 2 * PART_BYTES < archive.stat().st_size < 3 * PART_BYTES
    offsets: list[int] = []

    def note(request: Request) -> None:
        if request.method == "PATCH":
            offsets.append(int(request.headers["upload-offset"]))

    def lose_second_part(route: Route) -> None:
        if route.request.headers.get("upload-offset") == str(PART_BYTES):
            route.abort()
        else:
            route.continue_()

    page.on("request", note)
    page.goto("/datasets")
    page.route("**/v1/uploads/*", lose_second_part)
    page.get_by_label("Choose files").set_input_files(archive)
    page.get_by_role("button", name="Upload").click()
    upload = page.get_by_role("list", name="Uploads").get_by_role("listitem")
    expect(upload).to_contain_text("Waiting to go on: The service does not answer.")
    page.goto("/sign-in")
    page.unroute("**/v1/uploads/*")
    page.goto("/datasets")
    expect(upload).to_contain_text("have arrived. Choose the same files again")
    assert owner.get("/v1/uploads").json()["items"][0]["received_bytes"] == PART_BYTES
    offsets.clear()
    page.get_by_label("Choose files").set_input_files(archive)
    expect(upload).to_contain_text("18 pictures")
    assert offsets == [PART_BYTES, 2 * PART_BYTES]
    [dataset] = owner.get("/v1/datasets").json()["items"]
    assert (dataset["name"], dataset["image_count"], dataset["rejected"]) == ("noise", 18, [])
    assert owner.get("/v1/uploads").json()["items"] == []
    page.reload()
    expect(page.get_by_role("heading", name="noise")).to_be_visible()
    expect(upload).to_have_count(0)


def test_an_upload_is_paused_and_called_off(signed_in: Page, owner: Person, tmp_path: Path) -> None:
    page = signed_in
    archive = tmp_path / "noise.zip"
    archive.write_bytes(bytes(PART_BYTES + 1))
    page.goto("/datasets")
    page.route("**/v1/uploads/*", lose_parts)
    page.get_by_label("Choose files").set_input_files(archive)
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_text("Waiting to go on")).to_be_visible()
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_text("Paused at 0%")).to_be_visible()
    assert len(owner.get("/v1/uploads").json()["items"]) == 1
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("list", name="Uploads").get_by_role("listitem")).to_have_count(0)
    assert owner.get("/v1/uploads").json()["items"] == []
    assert page.evaluate("localStorage.uploads") == "[]"


def test_loose_files_and_names_that_would_be_scripts(signed_in: Page, owner: Person) -> None:
    page = signed_in
    page.goto("/datasets")
    files = {**pngs(5), f"{HOSTILE}.png": b"no picture", f"{HOSTILE} 2.png": png("blue")}
    page.get_by_label("Choose files").set_input_files(
        [{"name": name, "mimeType": "image/png", "buffer": data} for name, data in files.items()]
    )
    page.get_by_label("Name").fill(HOSTILE)
    page.get_by_role("button", name="Upload").click()
    upload = page.get_by_role("list", name="Uploads")
    expect(upload).to_contain_text("6 pictures")
    expect(upload).to_contain_text("1 file was left out")
    expect(upload.get_by_role("row").filter(has_text="onerror")).to_contain_text("The file is no picture")
    [dataset] = owner.get("/v1/datasets").json()["items"]
    assert dataset["name"] == HOSTILE
    assert serious(page) == []
    upload.get_by_role("link", name="Look at it").click()
    expect(page.get_by_role("heading", name=HOSTILE)).to_be_visible()
    page.get_by_role("button", name="Show pictures").click()
    expect(page.locator("#pictures img")).to_have_count(6)
    assert page.locator("img[src=x]").count() == 0
    assert page.title() == f"{HOSTILE} · SLAE-GAN"


def test_a_folder_keeps_its_folders_as_classes(signed_in: Page, owner: Person, tmp_path: Path) -> None:
    page = signed_in
    folder = tmp_path / "pets"
    long = "ä" * 60 + ".png"
    for place, name in enumerate(("cats/1.png", f"cats/{long}", "dogs/1.png", "dogs/2.png")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png((place, 99, 7)))
    (folder / ".DS_Store").write_bytes(b"hidden")
    page.goto("/datasets")
    page.get_by_label("Choose a folder").set_input_files(folder)
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("list", name="Uploads")).to_contain_text("4 pictures")
    [dataset] = owner.get("/v1/datasets").json()["items"]
    assert (dataset["name"], dataset["rejected"]) == ("pets", [])
    assert dataset["classes"] == [{"name": "cats", "images": 2}, {"name": "dogs", "images": 2}]
    names = {image["name"] for image in owner.get(f"/v1/datasets/{dataset['id']}/images").json()["items"]}
    assert any(name.endswith(long) for name in names)
    page.get_by_role("link", name="Add pictures").or_(
        page.get_by_role("link", name="Look at it")
    ).first.click()
    expect(page.get_by_text("2 classes")).to_be_visible()
    page.get_by_role("link", name="Add pictures").click()
    page.get_by_label("Choose files").set_input_files(
        [{"name": "3.png", "mimeType": "image/png", "buffer": png("green")}]
    )
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("list", name="Uploads")).to_contain_text("5 pictures")
    [newest] = owner.get("/v1/datasets").json()["items"]
    assert (newest["version"], newest["series_id"]) == (2, dataset["id"])


def test_a_dataset_is_looked_at_and_deleted(signed_in: Page, owner: Person) -> None:
    page = signed_in
    made = owner.post("/v1/datasets", files=form(pngs(20) | {"x.txt": b"no"})).json()
    page.goto(f"/datasets/{made['id']}")
    expect(page.get_by_text("Their shorter side has fewer than 64 pixels")).to_be_visible()
    thumbnails = page.locator(".finding").filter(has_text="tiny").locator("img")
    expect(thumbnails).to_have_count(20)
    expect(thumbnails.first).to_have_js_property("naturalWidth", 40)
    expect(page.get_by_alt_text("The first 64 pictures side by side")).to_have_js_property(
        "complete", value=True
    )
    expect(page.get_by_role("link", name="Train on this").first).to_have_attribute(
        "href", f"/new?dataset={made['id']}"
    )
    assert serious(page) == []
    page.get_by_role("button", name="Delete").click()
    dialog = page.get_by_role("dialog")
    assert serious(page) == []
    dialog.get_by_role("button", name="Cancel").click()
    assert owner.get(f"/v1/datasets/{made['id']}").status_code == 200
    page.get_by_role("button", name="Delete").click()
    dialog.get_by_role("button", name="Delete").click()
    page.wait_for_url("**/datasets")
    expect(page.get_by_text("No dataset yet")).to_be_visible()
    page.goto(f"/datasets/{made['id']}")
    expect(page.get_by_role("alert")).to_contain_text("There is no dataset")
