"""The protocol of resumable uploads (tus 1.0), request by request."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from sqlalchemy import func, select, update

from core.datasets.tables import Dataset
from core.uploads.tables import Upload
from tests.integration.api.conftest import problem
from tests.integration.api.tus import MIB, OFFSET, VERSION, ZIP, b64, begin, here, offset, owner, send, whole
from tests.picture_files import png, zipped

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.integration.api.conftest import Api, Person

    Make = Callable[..., AbstractContextManager[Api]]

__all__ = ["owner"]  # a fixture


def test_what_the_service_can_do(owner: Person) -> None:
    response = owner.options("/v1/uploads")
    assert response.status_code == 204
    told = {name: value for name, value in response.headers.items() if name.startswith("tus-")}
    assert told == {
        "tus-resumable": "1.0.0",
        "tus-version": "1.0.0",
        "tus-max-size": str(1024 * MIB),
        "tus-extension": "creation,creation-with-upload,termination,checksum,expiration",
        "tus-checksum-algorithm": "sha1,sha256",
    }


def test_an_upload_in_parts_becomes_a_dataset_once(api: Api, owner: Person) -> None:
    url = begin(owner, len(ZIP), **{"Upload-Metadata": f"filename {b64('süße Katzen.zip'.encode())},flag"})
    assert url.startswith("/v1/uploads/")
    assert (offset(owner, url), here()) == (0, [])
    problem(owner.post(f"{url}/dataset"), 409, "conflict")
    first = send(owner, url, ZIP[:300], offset=0)
    assert (first.status_code, first.headers["upload-offset"]) == (204, "300")
    assert first.headers["tus-resumable"] == "1.0.0"
    assert problem(owner.post(f"{url}/dataset"), 409, "conflict")["details"]["offset"] == 300
    head = owner.head(url, headers=VERSION).headers
    assert (head["upload-length"], head["cache-control"]) == (str(len(ZIP)), "no-store")
    assert head["upload-metadata"].endswith(",flag")
    left = parsedate_to_datetime(head["upload-expires"]) - datetime.now(UTC)
    assert 86_000 < left.total_seconds() <= 86_400
    assert send(owner, url, ZIP[300:], offset=300).status_code == 204
    assert here() == [ZIP]
    facts = owner.get(url).json()
    assert (facts["status"], facts["filename"], facts["received_bytes"]) == (
        "complete",
        "süße Katzen.zip",
        len(ZIP),
    )
    assert [item["id"] for item in owner.get("/v1/uploads").json()["items"]] == [facts["id"]]

    made = owner.post(f"{url}/dataset")
    assert made.status_code == 201, made.text
    dataset = made.json()
    assert dataset == owner.get(f"/v1/datasets/{dataset['id']}").json()
    assert (dataset["name"], dataset["image_count"]) == ("süße Katzen", 5)
    usual = owner.post("/v1/datasets", files={"files": ("cats.zip", ZIP)}).json()
    assert usual["content_hash"] == dataset["content_hash"]
    assert owner.post(f"{url}/dataset", json={"name": "other"}).json() == dataset
    assert (owner.get(url).json()["status"], owner.get(url).json()["dataset_id"]) == (
        "finalised",
        dataset["id"],
    )
    assert (here(), api.scratch, owner.get("/v1/uploads").json()["items"]) == ([], [], [])
    problem(send(owner, url, b"", offset=len(ZIP)), 409, "conflict")
    owner.delete(f"/v1/datasets/{dataset['id']}")
    problem(owner.post(f"{url}/dataset"), 404, "not_found")


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_commands_on_the_page(owner: Person, tmp_path: Path) -> None:
    page = Path(__file__).parents[3] / "docs" / "api.md"
    section = page.read_text().partition("## Large uploads")[2]
    block = re.search(r"```sh\n(.*?)```", section, re.DOTALL)
    assert block is not None
    (tmp_path / "cats.zip").write_bytes(ZIP)
    known = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "URL": str(owner.base_url).rstrip("/"),
        "AUTH": f"Authorization: {owner.headers['Authorization']}",
    }
    begun, sent = block[1].split("OFFSET=")
    # As after a break: the last part is sent from where the upload is.
    half = f"""{begun}head -c 100 cats.zip | curl -sf -X PATCH -H "$AUTH" -H "$TUS" -H "Upload-Offset: 0" \\
      -H 'Content-Type: application/offset+octet-stream' -T - $UPLOAD\n"""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"{half}OFFSET={sent}"],
        cwd=tmp_path, env=known, check=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    dataset = json.loads(done.stdout)
    assert (dataset["name"], dataset["image_count"]) == ("cats", 5)


def test_a_name_may_be_given(owner: Person) -> None:
    url = whole(owner, ZIP)
    problem(owner.post(f"{url}/dataset", json={"name": "a\nb"}), 422, "invalid")
    problem(owner.post(f"{url}/dataset", json={"name": "x" * 201}), 422, "invalid")
    assert owner.post(f"{url}/dataset", json={"name": " mine "}).json()["name"] == "mine"


def test_ten_at_once_make_one_dataset(api: Api, owner: Person, session: Any) -> None:
    url = whole(owner, ZIP)
    before = len(api.stored)
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: owner.post(f"{url}/dataset"), range(10)))
    made = {answer.json()["id"] for answer in answers if answer.status_code == 201}
    assert {answer.status_code for answer in answers} <= {201, 423}
    assert len(made) == 1
    assert owner.post(f"{url}/dataset").json()["id"] in made
    assert session.scalar(select(func.count()).where(Dataset.tenant_id == owner.tenant_id)) == 1
    assert len(api.stored) == before + 6


def test_what_makes_no_dataset_stays_an_upload(api: Api, owner: Person) -> None:
    before = api.stored
    for data, filename, code in [
        (zipped({"../x.png": png()}), "a.zip", "archive_rejected"),
        (png(), "one.png", "dataset_unusable"),
        (b"", "nothing.zip", "dataset_unusable"),
    ]:
        url = whole(owner, data, filename=filename)
        body = problem(owner.post(f"{url}/dataset"), 422, code)
        if code == "dataset_unusable":
            assert body["details"]["usable"] == (1 if data else 0)
        assert owner.get(url).json()["status"] == "complete"
        assert (here(), api.scratch, api.stored) == ([data], [], before)
        assert owner.delete(url, headers=VERSION).status_code == 204
        assert here() == []


def test_bytes_may_come_with_the_creation(owner: Person) -> None:
    headers = {**OFFSET, "Upload-Length": str(len(ZIP))}
    made = owner.post("/v1/uploads", content=ZIP[:100], headers=headers)
    assert (made.status_code, made.headers["upload-offset"], made.json()["filename"]) == (
        201,
        "100",
        "upload",
    )
    assert send(owner, made.headers["location"], ZIP[100:], offset=100).status_code == 204
    assert here() == [ZIP]


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
def test_checksums(owner: Person, algorithm: str) -> None:
    def digest(data: bytes) -> dict[str, str]:
        return {"Upload-Checksum": f"{algorithm} {b64(hashlib.new(algorithm, data).digest())}"}

    url = begin(owner, 10)
    assert send(owner, url, b"01234", offset=0, **digest(b"01234")).status_code == 204
    body = problem(send(owner, url, b"56789", offset=5, **digest(b"5678x")), 460, "checksum_mismatch")
    assert body["details"]["offset"] == 5
    assert (offset(owner, url), here()) == (5, [b"01234"])
    for wrong, status, code in [
        ("md5 " + b64(b"x" * 16), 400, "bad_request"),
        (f"{algorithm} " + b64(b"x"), 422, "invalid"),
        (f"{algorithm} ???", 422, "invalid"),
        (algorithm, 422, "invalid"),
    ]:
        problem(send(owner, url, b"56789", offset=5, **{"Upload-Checksum": wrong}), status, code)
    assert send(owner, url, b"56789", offset=5, **digest(b"56789")).status_code == 204
    assert here() == [b"0123456789"]


def test_offsets_and_lengths_are_held_to(owner: Person) -> None:
    url = begin(owner, 10)
    assert send(owner, url, b"0123", offset=0).status_code == 204
    for wrong in (0, 3, 5, 10, 2**62):
        body = problem(send(owner, url, b"4", offset=wrong), 409, "conflict")
        assert body["details"] == {"offset": 4}
    assert problem(send(owner, url, b"4567890", offset=4), 413, "too_large")["details"]["limit_bytes"] == 10
    unannounced = (part for part in (b"45", b"67890"))
    problem(send(owner, url, unannounced, offset=4), 413, "too_large")
    assert (offset(owner, url), here()) == (4, [b"0123"])
    problem(owner.patch(url, content=b"4", headers=OFFSET), 422, "invalid")
    for wrong in ("-1", "x", "", str(2**63)):
        headers = {**OFFSET, "Upload-Offset": wrong}
        problem(owner.patch(url, content=b"4", headers=headers), 422, "invalid")
    assert send(owner, url, b"", offset=4).headers["upload-offset"] == "4"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Upload-Length": "-1"},
        {"Upload-Length": "x"},
        {"Upload-Length": str(2**63)},
        {"Upload-Defer-Length": "1"},
        {"Upload-Length": "1", "Upload-Metadata": "filename !"},
        {"Upload-Length": "1", "Upload-Metadata": "a eA==,"},
        {"Upload-Length": "1", "Upload-Metadata": "a eA==,a eA=="},
        {"Upload-Length": "1", "Upload-Metadata": "a " + "x" * 4000},
    ],
)
def test_beginnings_that_are_refused(owner: Person, headers: dict[str, str]) -> None:
    problem(owner.post("/v1/uploads", headers=VERSION | headers), 422, "invalid")
    assert owner.get("/v1/uploads").json()["items"] == []


def test_names_are_made_fit_to_be_shown(owner: Person) -> None:
    url = begin(owner, 1, filename="../a\nb\udcff.zip".encode("utf-8", "surrogateescape").decode("latin-1"))
    assert "\n" not in owner.get(url).json()["filename"]
    named = {"Upload-Metadata": f"filename {b64(b'x' * 2000)}"}
    assert len(owner.get(begin(owner, 1, **named)).json()["filename"]) == 255


def test_other_versions_are_refused(owner: Person) -> None:
    url = begin(owner, 10)
    length = {"Upload-Length": "1"}
    for version in ({"Tus-Resumable": "0.2.2"}, {"Tus-Resumable": ""}, {}):
        answers = [
            owner.post("/v1/uploads", headers=length | version),
            owner.post("/v1/uploads", headers=version),
            owner.patch(url, content=b"0", headers={"Content-Type": OFFSET["Content-Type"], **version}),
        ]
        if version:
            answers.append(owner.delete(url, headers=version))
            assert owner.head(url, headers=version).status_code == 412
        for answer in answers:
            problem(answer, 412, "tus_version")
            assert (answer.headers["tus-version"], answer.headers["tus-resumable"]) == ("1.0.0", "1.0.0")
    assert offset(owner, url) == 0


def test_bodies_of_other_types_are_refused_at_the_gate(owner: Person) -> None:
    url = begin(owner, 10)
    for content_type in ("application/octet-stream", "application/json", ""):
        headers = {**VERSION, "Upload-Offset": "0", "Content-Type": content_type}
        answer = owner.patch(url, content=b"0", headers=headers)
        problem(answer, 415, "unsupported_media_type")
        assert answer.headers["tus-resumable"] == "1.0.0"
    problem(
        owner.post("/v1/uploads", json={}, headers=VERSION | {"Upload-Length": "1"}),
        415,
        "unsupported_media_type",
    )
    override = {**OFFSET, "X-HTTP-Method-Override": "PATCH", "Upload-Offset": "0"}
    assert owner.post(url, headers=override).status_code == 405
    assert offset(owner, url) == 0


def test_terminated_and_unknown_ones_are_gone(owner: Person, stranger: Person) -> None:
    url = begin(owner, 10)
    send(owner, url, b"0123", offset=0)
    for answer in (send(stranger, url, b"4", offset=4), stranger.get(url), stranger.delete(url, headers=VERSION),
                   stranger.post(f"{url}/dataset")):  # fmt: skip
        problem(answer, 404, "not_found")
    assert stranger.get("/v1/uploads").json()["items"] == []
    assert (offset(owner, url), here()) == (4, [b"0123"])
    assert owner.delete(url, headers=VERSION).status_code == 204
    assert here() == []
    for address in (url, f"/v1/uploads/{uuid4()}"):
        assert owner.head(address, headers=VERSION).status_code == 404
        problem(send(owner, address, b"4", offset=4), 404, "not_found")
        problem(owner.delete(address, headers=VERSION), 404, "not_found")
        problem(owner.post(f"{address}/dataset"), 404, "not_found")
    assert here() == []


def test_expired_ones_are_gone_and_each_patch_renews(owner: Person, session: Any) -> None:
    url, other = begin(owner, 10), begin(owner, 10)
    ids = {address: address.rpartition("/")[2] for address in (url, other)}
    session.execute(update(Upload).where(Upload.id == ids[url]).values(expires_at=func.clock_timestamp()))
    session.execute(
        update(Upload).where(Upload.id == ids[other]).values(expires_at=datetime.now(UTC).replace(year=2999))
    )
    session.commit()
    problem(send(owner, url, b"0", offset=0), 404, "not_found")
    assert [item["id"] for item in owner.get("/v1/uploads").json()["items"]] == [ids[other]]
    renewed = send(owner, other, b"0", offset=0).headers["upload-expires"]
    assert parsedate_to_datetime(renewed).year < 2999
