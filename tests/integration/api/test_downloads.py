from __future__ import annotations

import hashlib
import io
import logging
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import httpx
import pytest

from client import SlaeGan
from client.results import download_results
from core import logbook, storage
from core.jobs.tables import Checkpoint
from core.settings import settings
from tests.integration.api import story
from tests.integration.api.conftest import problem
from tests.picture_files import png

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from tests.integration.api.conftest import Person

# More than one of the store's chunks, so that a range may begin in a later one.
DATA = bytes(i * i % 251 for i in range(1_500_000))
SHA256 = hashlib.sha256(DATA).hexdigest()
HUGE_BYTES = 3 * 1024**3
ETAG = f'"{SHA256}"'


@pytest.fixture
def job(owner: Person, session: Session) -> dict[str, Any]:
    job = story.submit(owner)
    attempt = story.start(session, job)
    story.checkpoint(session, attempt, DATA, images_seen=800)
    story.sample(session, attempt, png(), images_seen=800)
    return job


@pytest.fixture
def url(owner: Person, job: dict[str, Any]) -> str:
    [checkpoint] = owner.get(f"/v1/jobs/{job['id']}/checkpoints").json()["items"]
    return f"/v1/checkpoints/{checkpoint['id']}/file"


def test_checkpoints_are_listed_described_and_downloaded(
    owner: Person, job: dict[str, Any], url: str
) -> None:
    [listed] = owner.get(f"/v1/jobs/{job['id']}/checkpoints").json()["items"]
    assert owner.get(f"/v1/checkpoints/{listed['id']}").json() == listed
    of_kind = f"/v1/jobs/{job['id']}/checkpoints?kind="
    assert owner.get(f"{of_kind}generator").json()["items"] == [listed]
    assert owner.get(f"{of_kind}state").json()["items"] == []
    problem(owner.get(f"{of_kind}other"), 422, "invalid")
    facts = (listed["kind"], listed["images_seen"], listed["size_bytes"], listed["sha256"], listed["job_id"])
    assert facts == ("generator", 800, len(DATA), SHA256, job["id"])
    response = owner.get(url)
    assert response.content == DATA
    headers = response.headers
    assert (headers["etag"], headers["x-content-sha256"], headers["accept-ranges"]) == (ETAG, SHA256, "bytes")
    assert (headers["content-length"], headers["content-type"]) == (
        str(len(DATA)),
        "application/octet-stream",
    )
    name = f"{job['id']}-generator-000000800.safetensors"
    assert headers["content-disposition"] == f'attachment; filename="{name}"'


def test_samples_are_pictures(owner: Person, job: dict[str, Any]) -> None:
    [listed] = owner.get(f"/v1/jobs/{job['id']}/samples").json()["items"]
    response = owner.get(f"/v1/samples/{listed['id']}/file")
    assert (response.content, response.headers["content-type"]) == (png(), "image/png")
    assert response.headers["content-disposition"].startswith("inline; ")
    assert response.headers["etag"] == f'"{listed["sha256"]}"'


def test_a_family_may_show_more_of_a_snapshot(owner: Person, session: Session) -> None:
    job = story.submit(owner)
    attempt = story.start(session, job)
    for images_seen, kind in ((8, "attention"), (0, "attention"), (0, "grid"), (8, "grid")):
        story.sample(session, attempt, png(), images_seen=images_seen, kind=kind)
    path = f"/v1/jobs/{job['id']}/samples"
    listed = owner.get(path).json()["items"]
    told = [(item["images_seen"], item["kind"]) for item in listed]
    assert told == [(0, "grid"), (0, "attention"), (8, "grid"), (8, "attention")]
    assert owner.get(f"{path}?kind=attention").json()["items"] == [listed[1], listed[3]]
    problem(owner.get(f"{path}?kind=Attention!"), 422, "invalid")
    name = owner.get(f"/v1/samples/{listed[3]['id']}/file").headers["content-disposition"]
    assert name.endswith(f'filename="{job["id"]}-000000008-attention.png"')


def test_pictures_of_evaluations(owner: Person, session: Session, tmp_path: Path) -> None:
    job = story.submit(owner)
    attempt = story.start(session, job)
    made = story.checkpoint(session, attempt, DATA)
    for images_seen, fid, picture in (
        (0, 9.0, story.store_file(png("blue"))),
        (8, 5.0, None),
        (16, 7.0, None),
    ):
        story.evaluation(session, attempt, made, images_seen=images_seen, fid=fid, picture=picture)
    with_picture, without, _ = owner.get(f"/v1/jobs/{job['id']}/metrics").json()["items"]
    told = with_picture["picture"]
    assert told["url"] == f"/v1/evaluations/{with_picture['evaluation_id']}/picture.png"
    response = owner.get(told["url"])
    assert (response.content, response.headers["content-type"]) == (png("blue"), "image/png")
    assert response.headers["etag"] == f'"{told["sha256"]}"'
    assert owner.get(told["url"], headers={"Range": "bytes=1-3"}).content == b"PNG"
    assert owner.get(told["url"], headers={"If-None-Match": response.headers["etag"]}).status_code == 304
    assert without["picture"] is None
    url = f"/v1/evaluations/{without['evaluation_id']}/picture.png"
    assert "has left no picture" in problem(owner.get(url), 404, "not_found")["detail"]

    story.evaluation(session, attempt, made, images_seen=24, fid=1.0, picture=story.store_file(png("red")))
    key = owner.headers["Authorization"].removeprefix("Bearer ")
    with SlaeGan(str(owner.base_url), key) as client:
        results = download_results(client, client.job(UUID(job["id"])), to=tmp_path)
    assert [path.name for path in results.neighbours] == ["neighbours-00000024.png"]
    assert results.neighbours[0].read_bytes() == png("red")


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=1400000-", 1_400_000, len(DATA)),
        ("bytes=1048570-1048580", 1_048_570, 1_048_581),
        ("bytes=-5", len(DATA) - 5, len(DATA)),
        ("bytes=-99999999", 0, len(DATA)),
        ("bytes=5-99999999", 5, len(DATA)),
    ],
)
def test_ranges(asked: str, start: int, end: int, owner: Person, url: str) -> None:
    response = owner.get(url, headers={"Range": asked})
    assert (response.status_code, response.headers["content-length"]) == (206, str(end - start))
    assert response.headers["content-range"] == f"bytes {start}-{end - 1}/{len(DATA)}"
    assert response.content == DATA[start:end]


@pytest.mark.parametrize("asked", [f"bytes={len(DATA)}-", "bytes=9-3", "bytes=-0", "bytes=-"])
def test_ranges_outside_the_file(asked: str, owner: Person, url: str) -> None:
    response = owner.get(url, headers={"Range": asked})
    problem(response, 416, "range_not_satisfiable")
    assert response.headers["content-range"] == f"bytes */{len(DATA)}"


@pytest.mark.parametrize("asked", ["bytes=0-1,5-6", "lines=1-2", "bytes=a-b", "bytes"])
def test_ranges_that_are_not_understood_give_the_whole(asked: str, owner: Person, url: str) -> None:
    response = owner.get(url, headers={"Range": asked})
    assert (response.status_code, len(response.content)) == (200, len(DATA))


def test_conditions(owner: Person, url: str) -> None:
    for known in (ETAG, f'"other", W/{ETAG}', "*"):
        response = owner.get(url, headers={"If-None-Match": known})
        assert (response.status_code, response.content, response.headers["etag"]) == (304, b"", ETAG)
    assert owner.get(url, headers={"If-None-Match": '"other"'}).status_code == 200
    part = {"Range": "bytes=0-9"}
    assert owner.get(url, headers=part | {"If-Range": ETAG}).status_code == 206
    assert owner.get(url, headers=part | {"If-Range": '"other"'}).status_code == 200


def test_head_tells_all_and_reads_nothing(owner: Person, url: str, session: Session) -> None:
    checkpoint = session.get_one(Checkpoint, url.split("/")[3])
    storage.store().delete(checkpoint.storage_key)
    response = owner.head(url)
    assert (response.status_code, response.content) == (200, b"")
    assert (response.headers["content-length"], response.headers["etag"]) == (str(len(DATA)), ETAG)


def test_a_file_that_the_store_lost_is_a_503(owner: Person, url: str, session: Session) -> None:
    checkpoint = session.get_one(Checkpoint, url.split("/")[3])
    storage.store().delete(checkpoint.storage_key)
    problem(owner.get(url), 503, "store_unavailable")


def test_a_file_that_ends_early_breaks_the_connection_and_is_logged(
    owner: Person, url: str, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = session.get_one(Checkpoint, url.split("/")[3])
    checkpoint.size_bytes += 1_000_000  # as if the stored file had lost its end
    session.commit()
    log = logging.StreamHandler(io.StringIO())
    log.setFormatter(logbook.TextLines())
    monkeypatch.setattr(logging.getLogger("slaegan.api"), "handlers", [log])
    with owner.stream("GET", url) as response:
        assert (response.status_code, response.headers["content-length"]) == (200, str(len(DATA) + 1_000_000))
        got = bytearray()
        with pytest.raises(httpx.RemoteProtocolError):
            got.extend(b"".join(response.iter_raw()))
        request_id = response.headers["x-request-id"]
    told = [line for line in log.stream.getvalue().splitlines() if "breaks off" in line]
    assert len(told) == 1
    for part in (checkpoint.storage_key, "ends 1000000 bytes early", f"request_id={request_id}"):
        assert part in told[0]


@pytest.fixture
def huge(owner: Person, session: Session) -> tuple[str, Path]:
    """A sparse state of 3 GiB with a mark near its end, and where it lies."""
    attempt = story.start(session, story.submit(owner))
    checkpoint = session.get_one(Checkpoint, story.checkpoint(session, attempt, b"begin"))
    path = Path(urlsplit(settings().storage_url).path) / checkpoint.storage_key
    with path.open("r+b") as file:
        file.truncate(HUGE_BYTES)
        file.seek(HUGE_BYTES - 3)
        file.write(b"end")
    checkpoint.size_bytes = HUGE_BYTES
    session.commit()
    return f"/v1/checkpoints/{checkpoint.id}/file", path


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl on this machine")
def test_curl_resumes_a_file_of_gigabytes(owner: Person, huge: tuple[str, Path], tmp_path: Path) -> None:
    url, path = huge
    target = tmp_path / "state"
    curl = [
        "curl", "--silent", "--show-error", "--fail", "--location",
        "--header", f"Authorization: {owner.headers['Authorization']}",
        "--output", str(target), "--dump-header", str(tmp_path / "head"), str(owner.base_url.join(url)),
    ]  # fmt: skip
    with subprocess.Popen([*curl, "--limit-rate", "4M"]) as first:
        deadline = time.monotonic() + 20
        while not (target.exists() and target.stat().st_size > 1_000_000):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        first.kill()
    assert target.read_bytes()[:5] == b"begin"
    assert target.stat().st_size < HUGE_BYTES // 2
    # All that lies between would only cost time: it was fetched, so to say.
    os.truncate(target, HUGE_BYTES - 5_000_000)
    subprocess.run([*curl, "--continue-at", "-"], check=True, timeout=20)
    head = (tmp_path / "head").read_text().lower()
    assert f"content-range: bytes {HUGE_BYTES - 5_000_000}-{HUGE_BYTES - 1}/{HUGE_BYTES}" in head
    assert target.stat().st_size == HUGE_BYTES
    with target.open("rb") as file:
        file.seek(HUGE_BYTES - 10)
        assert file.read() == bytes(7) + b"end"
    target.unlink()
    path.unlink()


def test_pictures_of_a_dataset_have_ranges_too(owner: Person) -> None:
    url = f"/v1/datasets/{story.upload(owner)}/images/2/file"
    whole = owner.get(url)
    part = owner.get(url, headers={"Range": "bytes=8-15"})
    assert (part.status_code, part.content) == (206, whole.content[8:16])
    assert owner.get(url, headers={"If-None-Match": whole.headers["etag"]}).status_code == 304


def test_unknown_files(owner: Person) -> None:
    for path in (
        f"/v1/checkpoints/{uuid4()}",
        f"/v1/checkpoints/{uuid4()}/file",
        f"/v1/samples/{uuid4()}/file",
        f"/v1/evaluations/{uuid4()}/picture.png",
    ):
        problem(owner.get(path), 404, "not_found")
