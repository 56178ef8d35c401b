from __future__ import annotations

import gzip
import hashlib
import io
import os
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from PIL import Image

from core import db
from core.datasets.tables import Dataset
from tests.integration.api.conftest import problem
from tests.picture_files import encoded, form, png, pngs, tarred, zipped

if TYPE_CHECKING:
    import httpx
    from sqlalchemy.orm import Session

    from tests.integration.api.conftest import Api, Person

PHOTO = encoded(Image.effect_noise((99, 99), 80).convert("RGB"), "JPEG")


def linked() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo("link.png")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    return buffer.getvalue()


def upload(person: Person, files: dict[str, bytes], **fields: str) -> httpx.Response:
    return person.post("/v1/datasets", files=form(files), data=fields)


@pytest.mark.parametrize(
    "files",
    [{"faces.zip": zipped(pngs(5))}, {"faces.tar.gz": gzip.compress(tarred(pngs(5)))}, pngs(5)],
    ids=["zip", "tar", "files"],
)
def test_upload_and_look_at_it(files: dict[str, bytes], owner: Person) -> None:
    response = upload(owner, files, name="My faces")
    assert response.status_code == 201, response.text
    made = response.json()
    assert (made["name"], made["image_count"], made["rejected"]) == ("My faces", 5, [])
    assert owner.get(f"/v1/datasets/{made['id']}").json() == made
    images = owner.get(f"/v1/datasets/{made['id']}/images").json()["items"]
    assert [(image["position"], image["name"]) for image in images] == list(enumerate(pngs(5)))
    assert sum(image["size_bytes"] for image in images) == made["size_bytes"]
    hashes = "".join(image["sha256"] for image in images)
    assert made["content_hash"] == hashlib.sha256(hashes.encode()).hexdigest()
    for image in images:
        file = owner.get(f"/v1/datasets/{made['id']}/images/{image['position']}/file")
        assert file.headers["content-type"] == "image/png"
        assert hashlib.sha256(file.content).hexdigest() == image["sha256"]
    preview = owner.get(f"/v1/datasets/{made['id']}/preview")
    with Image.open(io.BytesIO(preview.content)) as sheet:
        assert (sheet.format, sheet.size) == ("JPEG", (5 * 128, 128))


def test_rejected_files_are_listed_and_kept_on_the_record(owner: Person) -> None:
    made = upload(
        owner, pngs(4) | {"cut.jpg": PHOTO[:2000], "a.txt": b"x", "again.png": pngs(1)["0000.png"]}
    ).json()
    assert [(r["name"], r["code"]) for r in made["rejected"]] == [
        ("cut.jpg", "truncated"),
        ("a.txt", "not_an_image"),
        ("again.png", "duplicate"),
    ]
    assert owner.get(f"/v1/datasets/{made['id']}").json()["rejected"] == made["rejected"]


def test_a_dataset_is_named_after_its_first_file(owner: Person) -> None:
    assert upload(owner, {"emoji faces.zip": zipped(pngs(4))}).json()["name"] == "emoji faces"


@pytest.mark.parametrize(
    ("file_name", "name"),
    [
        ("x" * 300 + ".zip", "x" * 200),
        ("a\x1b[31m\u202eb.zip", "a\N{REPLACEMENT CHARACTER}[31m\N{REPLACEMENT CHARACTER}b"),
    ],
)
def test_a_file_name_that_becomes_a_name_is_fit_to_be_shown(file_name: str, name: str, owner: Person) -> None:
    assert upload(owner, {file_name: zipped(pngs(4))}).json()["name"] == name


def test_list_goes_on_by_cursor_while_others_are_added(owner: Person) -> None:
    made = [upload(owner, pngs(4), name=f"{i}").json() for i in range(5)]
    page = owner.get("/v1/datasets", params={"limit": 2}).json()
    seen = page["items"]
    upload(owner, pngs(4), name="later")
    while page["next_cursor"]:
        page = owner.get("/v1/datasets", params={"limit": 2, "cursor": page["next_cursor"]}).json()
        seen += page["items"]
    assert seen == made[::-1]


def test_images_go_on_by_cursor(owner: Person) -> None:
    path = f"/v1/datasets/{upload(owner, pngs(5)).json()['id']}/images"
    page = owner.get(path, params={"limit": 3}).json()
    rest = owner.get(path, params={"limit": 3, "cursor": page["next_cursor"]}).json()
    assert [image["position"] for image in page["items"] + rest["items"]] == [0, 1, 2, 3, 4]
    assert rest["next_cursor"] is None


@pytest.mark.parametrize(
    "cursor", ["x", "bm8=", "WzEsMl0=", "WyIyMDI2LTAxLTAxIiwiMSJd", "é", "-1", "٣", "9" * 30]
)
def test_a_cursor_of_ones_own_making_is_refused(cursor: str, owner: Person) -> None:
    dataset_id = upload(owner, pngs(4)).json()["id"]
    problem(owner.get("/v1/datasets", params={"cursor": cursor}), 422, "invalid")
    problem(owner.get(f"/v1/datasets/{dataset_id}/images", params={"cursor": cursor}), 422, "invalid")


BAD_UPLOADS: dict[str, tuple[dict[str, bytes], str]] = {
    "an empty file": ({"a.png": b""}, "dataset_unusable"),
    "not an image": ({"a.txt": b"hello"}, "dataset_unusable"),
    "a truncated jpeg": ({"a.jpg": PHOTO[:2000]}, "dataset_unusable"),
    "an empty zip": ({"a.zip": zipped({})}, "dataset_unusable"),
    "three pictures": (pngs(3), "dataset_unusable"),
    "one picture four times": ({f"{i}.png": png() for i in range(4)}, "dataset_unusable"),
    "a 10,000 x 10,000 picture": (
        pngs(3) | {"big.png": encoded(Image.new("1", (10_000, 10_000)), "PNG")},
        "dataset_unusable",
    ),
    "a broken zip": ({"a.zip": zipped(pngs(5))[:300]}, "archive_rejected"),
    "traversal": ({"a.zip": zipped(pngs(5) | {"../../evil.png": png()})}, "archive_rejected"),
    "nested folders": ({"a.zip": zipped(pngs(5) | {"a/b/c.png": png()})}, "archive_rejected"),
    "a symlink": ({"a.zip": linked()}, "archive_rejected"),
    "a bomb": ({"a.zip": zipped(pngs(5) | {"bomb.bmp": bytes(50_000_000)})}, "archive_rejected"),
    "a bomb beside good files": (
        pngs(5) | {"a.tgz": gzip.compress(tarred({"bomb.bmp": bytes(9_000_000)}))},
        "archive_rejected",
    ),
}
REJECTED = {
    "an empty file": 1,
    "not an image": 1,
    "a truncated jpeg": 1,
    "an empty zip": 0,
    "three pictures": 0,
    "one picture four times": 3,
    "a 10,000 x 10,000 picture": 1,
}


@pytest.mark.parametrize("case", BAD_UPLOADS)
def test_bad_uploads_say_why_and_leave_nothing(case: str, api: Api, owner: Person, session: Session) -> None:
    files, code = BAD_UPLOADS[case]
    stored, rows = api.stored, session.query(Dataset).count()
    body = problem(upload(owner, files), 422, code)
    if code == "archive_rejected":
        assert body["details"]["reason"]
    else:
        usable = body["details"]["usable"]
        assert f"{usable} usable picture{'' if usable == 1 else 's'}; at least 4" in body["detail"]
        assert len(body["details"]["rejected"]) == REJECTED[case]
    assert (api.stored, api.scratch, session.query(Dataset).count()) == (stored, [], rows)


def multipart(*parts: str) -> dict[str, object]:
    body = "".join(f"--line\r\n{part}\r\n" for part in parts) + "--line--\r\n"
    return {"content": body.encode(), "headers": {"Content-Type": "multipart/form-data; boundary=line"}}


PART = "Content-Disposition: form-data; name="
BAD_FORMS: dict[str, tuple[dict[str, object], int, str]] = {
    "no body": ({}, 422, "invalid"),
    "no files": ({"data": {"name": "x"}, "files": {}}, 415, "unsupported_media_type"),
    "json": ({"json": {"files": []}}, 415, "unsupported_media_type"),
    "no boundary": ({"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 422, "invalid"),
    "not a form": (
        {"content": b"hello", "headers": {"Content-Type": "multipart/form-data; boundary=line"}}, 422, "invalid"
    ),
    "breaks off": (
        {
            "content": b'--line\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\nabc',
            "headers": {"Content-Type": "multipart/form-data; boundary=line"},
        },
        422, "invalid",
    ),
    "text as file": (multipart(f'{PART}"files"\r\n\r\nabc'), 422, "invalid"),
    "unknown field": (multipart(f'{PART}"file"; filename="a"\r\n\r\nabc'), 422, "invalid"),
    "no disposition": (multipart("Content-Type: text/plain\r\n\r\nabc"), 422, "invalid"),
    "name only": (multipart(f'{PART}"name"\r\n\r\nabc'), 422, "invalid"),
    "endless name": (multipart(f'{PART}"name"\r\n\r\n{"x" * 5000}'), 422, "invalid"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_FORMS)
def test_bad_forms_are_refused_and_leave_nothing(case: str, api: Api, owner: Person) -> None:
    options, status, code = BAD_FORMS[case]
    stored = api.stored
    problem(owner.post("/v1/datasets", **options), status, code)  # type: ignore[arg-type]  # options of httpx
    assert (api.stored, api.scratch) == (stored, [])


@pytest.mark.parametrize("name", ["x" * 201, "a\x00b", "line\nline"])
def test_names_that_cannot_be_shown_are_refused(name: str, owner: Person) -> None:
    problem(upload(owner, pngs(4), name=name), 422, "invalid")


def test_file_names_are_only_names(api: Api, owner: Person) -> None:
    files = [("files", (f"../../{i}\x1b.png", data)) for i, data in enumerate(pngs(4).values())]
    made = owner.post("/v1/datasets", files=files)
    assert made.status_code == 201, made.text
    names = [image["name"] for image in owner.get(f"/v1/datasets/{made.json()['id']}/images").json()["items"]]
    assert all("\x1b" not in name and name.endswith(".png") for name in names)
    assert all(key.startswith(("datasets/", "pictures/")) for key in api.stored)


@pytest.mark.parametrize("path", ["preview", "images/0/file", "images/0/thumbnail"])
def test_a_slow_store_holds_no_connection(path: str, api: Api, owner: Person) -> None:
    dataset_id = upload(owner, pngs(4)).json()["id"]
    stored = api.folder / "store" / "datasets" / dataset_id / "preview.jpg"
    if path != "preview":
        sha256 = owner.get(f"/v1/datasets/{dataset_id}/images").json()["items"][0]["sha256"]
        (stored,) = (api.folder / "store" / "pictures" / str(owner.tenant_id)).rglob(f"{sha256}-*")
    data = stored.read_bytes()
    stored.unlink()
    os.mkfifo(stored)  # Reading waits until somebody writes.
    pool = db.sessions().kw["bind"].pool
    with ThreadPoolExecutor(1) as executor:
        answer = executor.submit(owner.get, f"/v1/datasets/{dataset_id}/{path}")
        with stored.open("wb") as slow:  # Opened once the API reads.
            try:
                deadline = time.monotonic() + 5
                while pool.checkedout():
                    assert time.monotonic() < deadline, "a connection waits for the store"
                    time.sleep(0.01)
            finally:
                slow.write(data)
    assert answer.result().status_code == 200
    assert (answer.result().content == data) == (not path.endswith("thumbnail"))


def own_files(api: Api, person: Person, dataset_id: str) -> list[str]:
    """The dataset's preview, and all pictures of the person's tenant."""
    return [key for key in api.stored if dataset_id in key or f"pictures/{person.tenant_id}/" in key]


def test_delete_waits_for_live_jobs_and_leaves_no_file(api: Api, owner: Person) -> None:
    dataset_id = upload(owner, pngs(4)).json()["id"]
    job_id = owner.post("/v1/jobs", json={"dataset_id": dataset_id}).json()["id"]
    body = problem(owner.delete(f"/v1/datasets/{dataset_id}"), 409, "conflict")
    assert body["details"]["jobs"] == [job_id]
    owner.post(f"/v1/jobs/{job_id}/cancel")
    assert len(own_files(api, owner, dataset_id)) == 1 + 4
    assert owner.delete(f"/v1/datasets/{dataset_id}").status_code == 204
    assert own_files(api, owner, dataset_id) == []
    for path in ("", "/images", "/images/0/file", "/preview"):
        problem(owner.get(f"/v1/datasets/{dataset_id}{path}"), 404, "not_found")
    problem(owner.delete(f"/v1/datasets/{dataset_id}"), 404, "not_found")
    problem(owner.post("/v1/jobs", json={"dataset_id": dataset_id}), 404, "not_found")
    assert owner.get(f"/v1/jobs/{job_id}").json()["dataset_id"] == dataset_id, "the job's record stays"


def test_unknown_ids_and_positions(owner: Person) -> None:
    problem(owner.get(f"/v1/datasets/{uuid4()}"), 404, "not_found")
    problem(owner.get("/v1/datasets/not-an-id"), 422, "invalid")
    dataset_id = upload(owner, pngs(4)).json()["id"]
    problem(owner.get(f"/v1/datasets/{dataset_id}/images/4/file"), 404, "not_found")
    problem(owner.get(f"/v1/datasets/{dataset_id}/images/{2**70}/file"), 422, "invalid")
    problem(owner.get(f"/v1/datasets/{dataset_id}/images/-1/file"), 422, "invalid")
