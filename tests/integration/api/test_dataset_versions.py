"""Versions of a dataset: what is added and removed, who may, and what each holds."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from PIL import Image
from typer.testing import CliRunner

from client import SlaeGan
from client.cli import app
from core.errors import Conflict, DatasetUnusable, InvalidRequest
from tests.integration.api import story
from tests.integration.api.conftest import problem
from tests.picture_files import form, pngs, zipped

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from tests.integration.api.conftest import Api, Person

MANY = pngs(12)


def some(first: int, last: int) -> dict[str, bytes]:
    """Pictures by name, the last one included."""
    return {f"{n:04d}.png": MANY[f"{n:04d}.png"] for n in range(first, last + 1)}


def upload(person: Person, files: dict[str, bytes], **fields: str) -> dict[str, Any]:
    answer = person.post("/v1/datasets", files=form(files), data=fields)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def change(
    person: Person, dataset: dict[str, Any], *, add: dict[str, bytes] | None = None, **fields: str | list[str]
) -> httpx.Response:
    """Ask for the next version; the form is one also where no file is sent."""
    parts: list[Any] = form(add or {})
    for name, values in fields.items():
        parts += [(name, (None, value)) for value in ([values] if isinstance(values, str) else values)]
    return person.post(f"/v1/datasets/{dataset['id']}/versions", files=parts)


def names(person: Person, dataset: dict[str, Any]) -> list[str]:
    return [image["name"] for image in person.get(f"/v1/datasets/{dataset['id']}/images").json()["items"]]


def picture_files(api: Api, person: Person) -> list[str]:
    return [key for key in api.stored if key.startswith(f"pictures/{person.tenant_id}/")]


def test_the_first_version(owner: Person) -> None:
    made = upload(owner, some(0, 4))
    facts = {
        name: made[name] for name in ("series_id", "version", "parent_id", "added_count", "removed_count")
    }
    assert facts == {
        "series_id": made["id"],
        "version": 1,
        "parent_id": None,
        "added_count": 5,
        "removed_count": 0,
    }


def test_add_and_remove(api: Api, owner: Person) -> None:
    first = upload(owner, some(0, 5), name="faces")
    before = picture_files(api, owner)
    sha256 = owner.get(f"/v1/datasets/{first['id']}/images").json()["items"][3]["sha256"]
    answer = change(owner, first, add=some(4, 7) | {"a.txt": b"x"}, remove=["0001.png", "0", sha256])
    assert answer.status_code == 201, answer.text
    second = answer.json()
    wanted = {
        "series_id": first["id"], "version": 2, "parent_id": first["id"], "name": "faces", "image_count": 5,
        "added_count": 2, "removed_count": 3,
    }  # fmt: skip
    assert {name: second[name] for name in wanted} == wanted
    assert names(owner, second) == ["0002.png", "0004.png", "0005.png", "0006.png", "0007.png"]
    assert [(r["name"], r["code"]) for r in second["rejected"]] == [
        ("a.txt", "not_an_image"), ("0004.png", "duplicate"), ("0005.png", "duplicate")
    ]  # fmt: skip
    assert "'0004.png' of version 1" in second["rejected"][1]["reason"]
    assert owner.get(f"/v1/datasets/{second['id']}").json() == second
    # The same pictures in the same order are the same content, however they came together.
    assert upload(owner, some(2, 2) | some(4, 7))["content_hash"] == second["content_hash"]
    assert names(owner, first) == list(some(0, 5)), "a version never changes"
    assert owner.get(f"/v1/datasets/{first['id']}").json() == first
    assert len(picture_files(api, owner)) == len(before) + 2, "nothing was copied"
    with Image.open(io.BytesIO(owner.get(f"/v1/datasets/{second['id']}/preview").content)) as sheet:
        assert sheet.size == (5 * 128, 128)
    for position in range(5):
        assert owner.get(f"/v1/datasets/{second['id']}/images/{position}/file").status_code == 200


def test_remove_only_and_add_only_and_a_name_of_its_own(owner: Person) -> None:
    first = upload(owner, some(0, 4), name="faces")
    second = change(owner, first, remove="4").json()
    assert (second["version"], second["image_count"], second["rejected"]) == (2, 4, [])
    third = change(owner, second, add={"more.zip": zipped(some(4, 6))}, name="more faces").json()
    assert (third["version"], third["name"], third["parent_id"]) == (3, "more faces", second["id"])
    assert names(owner, third) == list(some(0, 6))
    replaced = change(owner, third, add=some(0, 0), remove="0").json()
    assert (replaced["added_count"], replaced["removed_count"]) == (1, 1), (
        "removed, then added: at the end now"
    )
    assert names(owner, replaced) == [*some(1, 6), "0000.png"]


def test_only_the_newest_can_be_changed(owner: Person) -> None:
    first = upload(owner, some(0, 4))
    second = change(owner, first, add=some(5, 5)).json()
    body = problem(change(owner, first, add=some(6, 6)), 409, "conflict")
    assert body["details"] == {"newest": second["id"], "version": 2}
    assert owner.delete(f"/v1/datasets/{second['id']}").status_code == 204
    again = change(owner, first, add=some(6, 6)).json()
    assert (again["version"], again["parent_id"]) == (3, first["id"]), "a number is given once"
    assert owner.delete(f"/v1/datasets/{first['id']}").status_code == 204
    problem(change(owner, first, add=some(7, 7)), 404, "not_found")
    assert names(owner, again) == [*some(0, 4), "0006.png"], "the series goes on without its first version"
    assert change(owner, again, remove="0").json()["version"] == 4


def test_two_who_change_a_dataset_at_once_lose_nothing(api: Api, owner: Person) -> None:
    first = upload(owner, some(0, 3))
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda n: change(owner, first, add=some(n, n)), range(4, 8)))
    (made,) = [answer.json() for answer in answers if answer.status_code == 201]
    for answer in answers:
        if answer.status_code != 201:
            assert problem(answer, 409, "conflict")["details"]["newest"] == made["id"]
    assert len(picture_files(api, owner)) == 5, "those that were refused left nothing"


IMPOSSIBLE: dict[str, dict[str, Any]] = {
    "would have 3 pictures; at least 4": {"remove": ["0", "1"]},
    "would be the same as version 1: none of the 2 files": {"add": some(0, 1)},
    "would be the same as version 1: the one file that was sent is not": {"add": {"a.txt": b"x"}},
    "has no picture 'nobody.png' to remove": {"remove": "nobody.png"},
    "has no picture '5'": {"remove": "5"},
    "'2' could be any of 2 pictures of version 1 (at the positions 2, 4)": {"remove": "2"},
    "The form changes nothing": {"name": "x"},
    "files, name, remove and labels are known": {"plus": "x"},
    "The field remove is too long": {"remove": "x" * 2000},
}


@pytest.mark.parametrize("says", IMPOSSIBLE)
def test_changes_that_cannot_be_made(says: str, api: Api, owner: Person) -> None:
    dataset = upload(owner, some(0, 3) | {"2": MANY["0004.png"]})
    before = api.stored
    code = "dataset_unusable" if "the same as" in says or "at least" in says else "invalid"
    assert says in problem(change(owner, dataset, **IMPOSSIBLE[says]), 422, code)["detail"]
    assert (api.stored, api.scratch) == (before, [])
    assert owner.get("/v1/datasets").json()["items"] == [dataset]


def test_what_is_no_dataset_of_ones_own_is_told_before_the_form_is_read(
    owner: Person, stranger: Person
) -> None:
    dataset = upload(owner, some(0, 3))
    problem(change(stranger, dataset, add=some(4, 4)), 404, "not_found")
    problem(stranger.post(f"/v1/datasets/{dataset['id']}/versions"), 404, "not_found")
    problem(owner.post(f"/v1/datasets/{uuid4()}/versions"), 404, "not_found")
    problem(owner.post(f"/v1/datasets/{dataset['id']}/versions", json={}), 415, "unsupported_media_type")
    assert stranger.get("/v1/datasets", params={"series_id": dataset["id"]}).json()["items"] == []


def test_lists_name_the_newest_or_a_series(owner: Person) -> None:
    first, other = upload(owner, some(0, 3)), upload(owner, some(0, 3))
    second = change(owner, first, add=some(4, 4)).json()
    third = change(owner, second, add=some(5, 5)).json()

    def listed(**query: str) -> list[str]:
        return [item["id"] for item in owner.get("/v1/datasets", params=query).json()["items"]]

    assert listed() == [third["id"], other["id"]]
    assert listed(series_id=first["id"]) == [third["id"], second["id"], first["id"]]
    assert owner.delete(f"/v1/datasets/{third['id']}").status_code == 204
    assert listed() == [second["id"], other["id"]]
    assert listed(series_id=first["id"]) == [second["id"], first["id"]]


def test_the_client_and_the_command_line(api: Api, owner: Person, tmp_path: Path) -> None:
    (tmp_path / "faces.zip").write_bytes(zipped(some(0, 4)))
    (tmp_path / "more.zip").write_bytes(zipped(some(4, 6)))
    key = owner.headers["authorization"].removeprefix("Bearer ")
    environment = {"SLAEGAN_URL": str(api.url), "SLAEGAN_API_KEY": key, "COLUMNS": "200"}

    def shell(*arguments: str) -> str:
        result = CliRunner().invoke(app, arguments, env=environment, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    (tmp_path / "poor.zip").write_bytes(zipped({"note.txt": b"x", **some(0, 0)}))
    poor = CliRunner().invoke(app, ["upload", str(tmp_path / "poor.zip")], env=environment)
    assert isinstance(poor.exception, DatasetUnusable)
    assert "1 usable picture; at least 4 are needed. 1 file was rejected: see above" in poor.exception.message
    assert "  note.txt: " in poor.output
    assert "5 pictures, 0 files rejected" in shell("upload", str(tmp_path / "faces.zip"))
    with SlaeGan(str(api.url), key) as client:
        (first,) = client.datasets()
        told = shell(
            "upload", str(tmp_path / "more.zip"), "--to", str(first.id), "--remove", "0", "--remove", "0001.png"
        )  # fmt: skip
        assert "version 2: 5 pictures (2 added, 2 removed), 1 file rejected" in told
        assert "0004.png: The picture is the same" in told
        (second,) = client.datasets()
        third = client.create_version(
            second.id, remove=[next(client.dataset_images(second.id)).sha256], name="x"
        )
        assert (third.version, third.image_count, third.name) == (3, 4, "x")
        with pytest.raises(Conflict) as refused:
            client.create_version(second.id, remove=["0"])
        assert refused.value.details["newest"] == str(third.id)
        assert [dataset.version for dataset in client.datasets(series_id=first.id)] == [3, 2, 1]
        for meant, dataset in ((str(first.id), first), (str(third.id)[:12], third), ("last", third)):
            shell("train", "--dataset", meant, "--images", "8")
            assert next(client.jobs()).dataset_id == dataset.id
    assert [str(dataset.id) in shell("datasets") for dataset in (first, second, third)] == [
        False,
        False,
        True,
    ]
    assert str(first.id) in shell("datasets", "--series", str(first.id))
    with pytest.raises(InvalidRequest, match="--remove needs --to"):
        shell("upload", "--remove", "0")


def test_jobs_name_the_version(owner: Person) -> None:
    first = upload(owner, some(0, 3))
    second = change(owner, first, add=some(4, 4)).json()
    old, new = (story.submit(owner, dataset_id=dataset["id"]) for dataset in (first, second))
    assert [(job["dataset_id"], job["dataset_version"]) for job in (old, new)] == [
        (first["id"], 1), (second["id"], 2)
    ]  # fmt: skip
    listed = owner.get("/v1/jobs").json()["items"]
    assert [job["dataset_version"] for job in listed] == [2, 1]
    problem(owner.delete(f"/v1/datasets/{second['id']}"), 409, "conflict")
    owner.post(f"/v1/jobs/{new['id']}/cancel")
    assert owner.delete(f"/v1/datasets/{second['id']}").status_code == 204
    assert owner.get(f"/v1/jobs/{new['id']}").json()["dataset_version"] == 2
