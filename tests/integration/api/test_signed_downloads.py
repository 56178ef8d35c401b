"""Downloads where files lie in S3: the API sends clients on to signed URLs, unless it may not."""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import httpx
import pytest

from client import SlaeGan
from client.results import download_results
from core import db, storage
from core.datasets.tables import Dataset, StoredPicture
from core.errors import InfrastructureError
from tests.integration.api import story
from tests.integration.api.conftest import new_person, problem
from tests.picture_files import form, png, pngs
from tests.s3 import AWS, Bucket, Network, Seen, every_third, network, s3_endpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.integration.api.conftest import Api, Person

__all__ = ["s3_endpoint"]  # a fixture

DATA = bytes(i * i % 251 for i in range(1_500_000))
SHA256 = hashlib.sha256(DATA).hexdigest()


class S3:
    """A service on a bucket, with a network between that may fail."""

    def __init__(self, api: Api, bucket: Bucket, between: Network, owner: Person) -> None:
        self.api, self.bucket, self.between, self.owner = api, bucket, between, owner

    def files(self) -> dict[str, str]:
        """A URL for each kind of file that a job and its dataset have."""
        with db.sessions()() as session:
            job = story.submit(self.owner)
            attempt = story.start(session, job)
            checkpoint_id = story.checkpoint(session, attempt, DATA)
            story.sample(session, attempt, png())
            story.evaluation(
                session, attempt, checkpoint_id, images_seen=0, fid=1.0, picture=story.store_file(png("blue"))
            )
        [sample] = self.owner.get(f"/v1/jobs/{job['id']}/samples").json()["items"]
        [point] = self.owner.get(f"/v1/jobs/{job['id']}/metrics").json()["items"]
        return {
            "job": str(job["id"]),
            "checkpoint": f"/v1/checkpoints/{checkpoint_id}/file",
            "sample": f"/v1/samples/{sample['id']}/file",
            "picture": point["picture"]["url"],
            "image": f"/v1/datasets/{job['dataset_id']}/images/0/file",
            "preview": f"/v1/datasets/{job['dataset_id']}/preview",
        }

    def client(self) -> SlaeGan:
        return SlaeGan(str(self.api.url), self.owner.headers["Authorization"].removeprefix("Bearer "))


@pytest.fixture
def s3(
    s3_endpoint: str,
    own_api: Callable[..., AbstractContextManager[Api]],
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Iterator[S3]:
    bucket = Bucket(s3_endpoint)
    with network(s3_endpoint) as between:
        for name, value in (bucket.environment | {"AWS_ENDPOINT": between.endpoint}).items():
            monkeypatch.setenv(name, value)
        chosen = getattr(request, "param", {})
        with own_api(storage_url=bucket.url, **chosen) as api, new_person(api) as owner:
            yield S3(api, bucket, between, owner)


@pytest.mark.parametrize("s3", [{"signed_url_s": 77}], indirect=True)
def test_every_file_is_at_a_signed_url(s3: S3) -> None:
    files = s3.files()
    files.pop("job")
    for kind, url in files.items():
        plain = s3.owner.get(url, params={"redirect": "false"})
        assert plain.status_code == 200, kind
        answer = s3.owner.get(url)
        assert (answer.status_code, answer.content) == (307, b""), kind
        for name in ("etag", "x-content-sha256"):
            assert answer.headers.get(name) == plain.headers.get(name)
        assert answer.headers["cache-control"] == "private, no-store"
        address = answer.headers["location"]
        assert parse_qs(urlsplit(address).query)["X-Amz-Expires"] == ["77"]
        assert AWS["AWS_SECRET_ACCESS_KEY"] not in str(answer.headers)
        there = httpx.get(address)
        assert (there.status_code, there.content) == (200, plain.content), kind
        assert there.headers["content-type"] == plain.headers["content-type"]


def test_what_needs_no_byte_is_answered_without_the_store(s3: S3) -> None:
    url = s3.files()["checkpoint"]
    before = len(s3.between.seen)
    head = s3.owner.head(url)
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(DATA)))
    known = s3.owner.get(url, headers={"If-None-Match": head.headers["etag"]})
    assert (known.status_code, known.headers["etag"]) == (304, f'"{SHA256}"')
    problem(s3.owner.get(url, params={"redirect": "perhaps"}), 422, "invalid")
    assert s3.owner.get(url).status_code == 307
    assert len(s3.between.seen) == before, "signing asks nobody"
    part = s3.owner.get(url, params={"redirect": "false"}, headers={"Range": "bytes=-5"})
    assert (part.status_code, part.content) == (206, DATA[-5:])


@pytest.mark.parametrize("s3", [{"signed_urls": False}], indirect=True)
def test_where_clients_do_not_reach_the_bucket_the_api_streams(s3: S3) -> None:
    answer = s3.owner.get(s3.files()["checkpoint"])
    assert (answer.status_code, answer.content) == (200, DATA)


def test_another_tenant_gets_no_address(s3: S3) -> None:
    files = s3.files()
    files.pop("job")
    with new_person(s3.api) as stranger:
        for url in files.values():
            problem(stranger.get(url), 404, "not_found")


def test_the_client_follows_resumes_and_leaves_its_key_behind(
    s3: S3, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = s3.files()
    caplog.set_level(logging.INFO)
    before = len(s3.between.seen)
    broken = ["503", "half"]
    s3.between.fault = lambda seen, _number: (
        broken.pop() if "X-Amz-Signature" in seen.path and broken else None
    )
    with s3.client() as client:
        checkpoint, *_ = client.checkpoints(UUID(files["job"]))
        client.download_checkpoint(checkpoint, to=tmp_path / "generator")
        results = download_results(client, client.job(UUID(files["job"])), to=tmp_path / "results")
    assert (tmp_path / "generator").read_bytes() == results.checkpoint.read_bytes() == DATA
    assert results.grid is not None
    assert results.grid.read_bytes() == png()
    downloads = [seen for seen in s3.between.seen[before:] if "X-Amz-Signature" in seen.path]
    assert not broken
    assert len(downloads) == 3 + 3  # the first file with its two breaks; then generator, grid and picture
    assert not [seen for seen in downloads if "authorization" in seen.headers]
    assert not [seen for seen in downloads if "slg_" in f"{seen.headers}{seen.path}"]
    assert downloads[1].headers["range"] == f"bytes={len(DATA) // 2}-"
    served = [record.getMessage() for record in caplog.records if record.name.startswith("slaegan")]
    assert served
    assert not [line for line in served if "X-Amz" in line]


def test_an_error_of_the_store_names_no_signed_url(s3: S3, tmp_path: Path) -> None:
    files = s3.files()
    for key in list(storage.store().keys("jobs")):
        storage.store().delete(key)
    with s3.client() as client:
        checkpoint, *_ = client.checkpoints(UUID(files["job"]))
        with pytest.raises(InfrastructureError, match="answered 404") as caught:
            client.download_checkpoint(checkpoint, to=tmp_path / "generator")
    assert s3.bucket.name in str(caught.value)
    assert "X-Amz" not in str(caught.value)


def test_the_client_goes_round_a_store_that_it_cannot_reach(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the endpoint is a name that only the services know."""
    files = s3.files()
    sign = type(storage.store()).signed_url

    def elsewhere(store: storage.Store, key: str, *, expires_s: int) -> str:
        url = sign(store, key, expires_s=expires_s)
        assert url is not None
        return str(httpx.URL(url).copy_with(port=9))  # nobody listens there

    monkeypatch.setattr(type(storage.store()), "signed_url", elsewhere)
    with s3.client() as client:
        checkpoint, *_ = client.checkpoints(UUID(files["job"]))
        client.download_checkpoint(checkpoint, to=tmp_path / "generator")
    assert (tmp_path / "generator").read_bytes() == DATA


def test_uploads_and_downloads_by_a_network_that_fails_every_third_time(s3: S3) -> None:
    """Each comes through, or fails with 503 and leaves neither row nor file."""
    s3.between.fault = every_third
    made: list[dict[str, Any]] = []
    for _ in range(4):
        answer = s3.owner.post("/v1/datasets", files=form(pngs(4)))
        if answer.status_code == 201:
            made.append(answer.json())
        else:
            problem(answer, 503, "store_unavailable")
    assert made
    for dataset in made:
        url = f"/v1/datasets/{dataset['id']}/images/0/file"
        answer = s3.owner.get(url, params={"redirect": "false"})
        assert answer.headers["x-content-sha256"] == hashlib.sha256(answer.content).hexdigest()
    assert _named() <= _there(s3)
    assert len(_named()) == 4, "the same pictures are stored once"

    for dataset in made:
        assert s3.owner.delete(f"/v1/datasets/{dataset['id']}").status_code == 204
    assert _named() == set()


def test_an_upload_to_a_store_that_breaks_down_leaves_nothing(s3: S3) -> None:
    broken: list[str] = []

    def fault(seen: Seen, _number: int) -> str | None:
        """The first picture that is put there never arrives."""
        if seen.method == "PUT" and "/pictures/" in seen.path and not broken:
            broken.append(seen.path)
        return "503" if seen.path in broken else None

    s3.between.fault = fault
    problem(s3.owner.post("/v1/datasets", files=form(pngs(4))), 503, "store_unavailable")
    assert (_named(), _there(s3)) == (set(), set())
    with db.sessions()() as session:
        assert session.query(Dataset).count() == 0


def _named() -> set[str]:
    with db.sessions()() as session:
        return {row.storage_key for row in session.query(StoredPicture)}


def _there(s3: S3) -> set[str]:
    keys = {key.removeprefix("some/prefix/") for key in s3.bucket.keys()}  # noqa: SIM118  # no dict
    return {key for key in keys if key.startswith(("datasets/", "pictures/"))}
