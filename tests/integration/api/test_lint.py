from __future__ import annotations

import io
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from PIL import Image, ImageOps
from sqlalchemy import update

from core.datasets.tables import Dataset, DatasetImage
from tests.integration.api.conftest import problem
from tests.picture_files import encoded, form, png, pngs

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from tests.integration.api.conftest import Person

NOISE = Image.effect_noise((8, 8), 200).resize((300, 300), Image.Resampling.BICUBIC)
COLOUR = Image.merge("RGB", [NOISE, NOISE.rotate(90), NOISE.rotate(180)])
FILES = {
    "a.png": encoded(COLOUR, "PNG"),
    "blank.png": png("white", size=(300, 300)),
    "mirror.jpg": encoded(ImageOps.mirror(COLOUR), "JPEG", quality=95),
    "tiny.png": encoded(COLOUR.rotate(90).crop((0, 0, 50, 50)), "PNG"),
    "wide.png": encoded(COLOUR.rotate(180).resize((900, 300)), "PNG"),
    "notes.txt": b"no picture",
}


@pytest.fixture
def dataset(owner: Person) -> str:
    made = owner.post("/v1/datasets", files=form(FILES))
    assert made.status_code == 201, made.text
    assert made.json()["lint"] == {
        "unusable": 1, "few_pictures": 5, "blank": 1, "near_duplicate": 2, "tiny": 1, "mixed_sizes": 1,
        "odd_aspect": 1, "mixed_modes": 1,
    }  # fmt: skip
    dataset_id: str = made.json()["id"]
    assert owner.get(f"/v1/datasets/{dataset_id}").json()["lint"] == made.json()["lint"]
    return dataset_id


def test_the_report_names_pictures_and_their_thumbnails(dataset: str, owner: Person) -> None:
    report = owner.get(f"/v1/datasets/{dataset}/lint").json()
    named = {finding["code"]: [p["name"] for p in finding["pictures"]] for finding in report["findings"]}
    assert named == {
        "unusable": ["notes.txt"], "few_pictures": [], "blank": ["blank.png"], "tiny": ["tiny.png"],
        "near_duplicate": ["a.png", "mirror.jpg"], "mixed_sizes": ["tiny.png"], "odd_aspect": ["wide.png"],
        "mixed_modes": ["blank.png"],
    }  # fmt: skip
    assert report["findings"][0]["pictures"][0]["thumbnail"] is None
    (wide,) = next(f["pictures"] for f in report["findings"] if f["code"] == "odd_aspect")
    answer = owner.get(wide["thumbnail"])
    assert answer.headers["content-type"] == "image/webp"
    assert answer.headers["cache-control"].startswith("private")
    with Image.open(io.BytesIO(answer.content)) as image:
        assert (image.format, image.size) == ("WEBP", (128, 43))
    again = owner.get(wide["thumbnail"], headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_datasets_without_a_report_are_judged_by_their_rows(
    dataset: str, owner: Person, session: Session
) -> None:
    session.execute(update(Dataset).where(Dataset.id == UUID(dataset)).values(lint=None))
    session.execute(update(DatasetImage).where(DatasetImage.dataset_id == UUID(dataset)).values(facts={}))
    session.commit()
    assert owner.get(f"/v1/datasets/{dataset}").json()["lint"] is None
    counts = owner.get(f"/v1/datasets/{dataset}/lint").json()["counts"]
    assert counts == {"unusable": 1, "few_pictures": 5, "tiny": 1, "mixed_sizes": 1, "odd_aspect": 1}


def test_what_is_not_ones_own_or_not_there_is_not_found(
    dataset: str, owner: Person, stranger: Person
) -> None:
    problem(stranger.get(f"/v1/datasets/{dataset}/lint"), 404, "not_found")
    problem(stranger.get(f"/v1/datasets/{dataset}/images/0/thumbnail"), 404, "not_found")
    problem(owner.get(f"/v1/datasets/{dataset}/images/5/thumbnail"), 404, "not_found")


def test_long_pictures_get_their_thumbnail_from_a_process(owner: Person) -> None:
    files = pngs(4) | {"long.png": encoded(Image.new("1", (33, 500_000)), "PNG")}
    dataset_id = owner.post("/v1/datasets", files=form(files)).json()["id"]
    answer = owner.get(f"/v1/datasets/{dataset_id}/images/4/thumbnail")
    assert answer.status_code == 200, answer.text
    with Image.open(io.BytesIO(answer.content)) as image:
        assert image.size == (1, 128)
