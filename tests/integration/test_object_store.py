"""What only an object store does: signed URLs, prefixes, parts, and a network that fails."""

from __future__ import annotations

import base64
import json
import logging
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from core.errors import StoreUnavailable
from core.storage import LocalStore, open_store
from tests.integration.test_storage import s3_store
from tests.s3 import AWS, Bucket, Seen, every_third, network, s3_endpoint
from worker import artifacts

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["s3_endpoint"]  # a fixture

PART_BYTES = 5 * 1024 * 1024
SMALL = b"a picture, so to say"
LARGE = bytes(range(256)) * 49_152  # 12 MiB: three parts


@pytest.fixture
def bucket(s3_endpoint: str) -> Bucket:
    return Bucket(s3_endpoint)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small"
    path.write_bytes(SMALL)
    return path


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large"
    path.write_bytes(LARGE)
    return path


def test_a_prefix_is_kept_by_every_operation(
    bucket: Bucket, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = s3_store(bucket, monkeypatch)
    store.check()
    store.put("jobs/a/1.png", small)
    assert bucket.keys() == ["some/prefix/health/check", "some/prefix/jobs/a/1.png"]
    beside = open_store(f"s3://{bucket.name}/some/prefix-2", reserve_bytes=0)
    above = open_store(f"s3://{bucket.name}", reserve_bytes=0)
    beside.put("jobs/a/1.png", small)
    assert list(store.keys("jobs")) == list(beside.keys("jobs")) == ["jobs/a/1.png"]
    assert list(above.keys("jobs")) == []
    assert (b"".join(above.read("some/prefix/jobs/a/1.png"))) == SMALL
    url = store.signed_url("jobs/a/1.png", expires_s=60)
    assert url is not None
    assert urlsplit(url).path == f"/{bucket.name}/some/prefix/jobs/a/1.png"
    store.delete("jobs/a/1.png")
    assert bucket.keys() == ["some/prefix-2/jobs/a/1.png", "some/prefix/health/check"]


def test_a_signed_url_opens_one_object_for_a_while(
    bucket: Bucket, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """moto checks no signature and no end: that a real S3 refuses others was not seen here, only what it is told."""
    store = s3_store(bucket, monkeypatch)
    store.put("jobs/a/1-generator.safetensors", small, filename="cats.safetensors")
    store.put("jobs/a/grid.png", small, filename="grid.png")
    store.put("datasets/a/preview.jpg", small)
    url = store.signed_url("jobs/a/1-generator.safetensors", expires_s=123)
    assert url is not None
    query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    assert query["X-Amz-Algorithm"] == "AWS4-HMAC-SHA256"
    assert query["X-Amz-Expires"] == "123"
    assert query["X-Amz-SignedHeaders"] == "host"
    day = query["X-Amz-Date"][:8]
    assert query["X-Amz-Credential"] == f"{AWS['AWS_ACCESS_KEY_ID']}/{day}/us-east-1/s3/aws4_request"
    assert len(bytes.fromhex(query["X-Amz-Signature"])) == 32
    assert AWS["AWS_SECRET_ACCESS_KEY"] not in url
    answer = httpx.get(url)
    assert answer.content == SMALL
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"] == 'attachment; filename="cats.safetensors"'
    kinds = {key: bucket.head(f"some/prefix/{key}") for key in ("jobs/a/grid.png", "datasets/a/preview.jpg")}
    assert [kind["content-type"] for kind in kinds.values()] == ["image/png", "image/jpeg"]
    assert [kind.get("content-disposition") for kind in kinds.values()] == [
        'inline; filename="grid.png"',
        None,
    ]


def test_a_folder_signs_nothing(tmp_path: Path, small: Path) -> None:
    store = LocalStore(tmp_path / "store", reserve_bytes=0)
    store.put("key", small, filename="name")
    assert store.signed_url("key", expires_s=60) is None


def test_a_large_file_goes_up_in_parts(bucket: Bucket, large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with network(bucket.endpoint) as between:
        store = s3_store(bucket, monkeypatch, endpoint=between.endpoint)
        store.put("large", large, filename="large.bin")
    sizes = [int(seen.headers["content-length"]) for seen in between.seen if "partNumber=" in seen.path]
    assert sorted(sizes) == [len(LARGE) - 2 * PART_BYTES, PART_BYTES, PART_BYTES]
    head = bucket.head("some/prefix/large")
    assert head["etag"].endswith('-3"')  # how S3 marks what came in three parts
    assert head["content-disposition"] == 'attachment; filename="large.bin"'


def test_an_upload_that_breaks_off_between_its_parts_leaves_no_object(
    bucket: Bucket, large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def last_part_lost(seen: Seen, _number: int) -> str | None:
        return "cut" if "partNumber=3" in seen.path else None

    with network(bucket.endpoint, fault=last_part_lost) as between:
        store = s3_store(bucket, monkeypatch, endpoint=between.endpoint)
        with pytest.raises(StoreUnavailable):
            store.put("large", large)
        assert list(store.keys("")) == []
        with pytest.raises(StoreUnavailable, match="has no file large"):
            store.fetch("large", tmp_path / "target")
    assert bucket.keys() == []
    assert bucket.unfinished() == [], "the parts are removed by who sent them"


def test_a_store_that_fails_every_third_request_takes_and_gives_everything(
    bucket: Bucket, small: Path, large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with network(bucket.endpoint, fault=every_third) as between:
        store = s3_store(bucket, monkeypatch, endpoint=between.endpoint)
        monkeypatch.setattr("worker.artifacts.store", lambda: store)
        # Tried again as a whole where the last word on an upload in parts was lost.
        kept = artifacts.put(large, key="large", filename="large.bin")
        assert kept.size_bytes == len(LARGE)
        for number in range(4):
            store.put(f"small/{number}", small)
        store.fetch("large", tmp_path / "target")
        assert (tmp_path / "target").read_bytes() == LARGE
        assert b"".join(store.read("large", start=7, end=9_000_000)) == LARGE[7:9_000_000]
        assert sorted(store.keys("small")) == [f"small/{number}" for number in range(4)]
        for key in list(store.keys("")):
            store.delete(key)
    assert bucket.keys() == []


def test_a_stream_that_breaks_goes_on_where_it_was_in_the_same_version(
    bucket: Bucket, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3_store(bucket, monkeypatch).put("large", large)
    with network(bucket.endpoint, fault=lambda _seen, number: "half" if number < 4 else None) as between:
        store = s3_store(bucket, monkeypatch, endpoint=between.endpoint)
        assert b"".join(store.read("large")) == LARGE
    asked = [
        int(seen.headers.get("range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        for seen in between.seen
    ]
    assert len(asked) == 4
    assert asked == sorted(asked)
    assert asked[1] > len(LARGE) // 3
    with network(bucket.endpoint, fault=lambda _seen, number: "half" if number == 1 else None) as between:
        store = s3_store(bucket, monkeypatch, endpoint=between.endpoint)
        chunks = store.read("large")
        next(chunks)
        large.write_bytes(LARGE[::-1])
        s3_store(bucket, monkeypatch).put("large", large)
        with pytest.raises(StoreUnavailable):
            list(chunks)


def test_errors_and_logs_hold_no_secrets(
    bucket: Bucket, small: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the store's credentials nor those in an address, which may be a token's in a query."""
    caplog.set_level(logging.DEBUG)

    def everything(_seen: Seen, _number: int) -> str:
        return "503"

    told = []
    with network(bucket.endpoint, fault=everything) as between:
        host = between.endpoint.removeprefix("http://")
        store = s3_store(
            bucket, monkeypatch, endpoint=f"http://user:hidden-password@{host}?token=hidden-token"
        )
        for call in (store.check, lambda: store.put("key", small), lambda: store.delete("key")):
            with pytest.raises(StoreUnavailable) as caught:
                call()
            assert caught.value.__suppress_context__
            told.append(str(caught.value))
    assert all(bucket.name in text for text in told)
    assert any("Please wait." in text for text in told), told
    for text in (*told, caplog.text):
        assert AWS["AWS_SECRET_ACCESS_KEY"] not in text
        assert "hidden-" not in text
        assert "Debug source" not in text


def test_azure_and_gcs_sign_under_their_prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Signing asks nobody; that the two take such URLs was not seen."""
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", base64.b64encode(b"k" * 64).decode())
    url = open_store("az://container/some/prefix", reserve_bytes=0).signed_url("a/1.png", expires_s=60)
    parts = urlsplit(url or "")
    query = parse_qs(parts.query)
    assert (parts.hostname, parts.path) == ("account.blob.core.windows.net", "/container/some/prefix/a/1.png")
    assert (query["sr"], query["sp"]) == (["b"], ["r"])
    begin, end = (datetime.fromisoformat(query[name][0]) for name in ("st", "se"))
    assert (end - begin).total_seconds() == 60

    key = rsa.generate_private_key(public_exponent=65_537, key_size=2048).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    facts = {"type": "service_account", "private_key": key.decode(), "private_key_id": "1", "client_id": "1"}
    account = tmp_path / "account.json"
    account.write_text(json.dumps(facts | {"client_email": "me@example.com", "project_id": "p"}))
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", str(account))
    url = open_store("gs://bucket/some/prefix", reserve_bytes=0).signed_url("a/1.png", expires_s=60)
    parts = urlsplit(url or "")
    assert (parts.hostname, parts.path) == ("storage.googleapis.com", "/bucket/some/prefix/a/1.png")
    assert parse_qs(parts.query)["X-Goog-Expires"] == ["60"]


@pytest.mark.parametrize(("url", "told"), [("ftp://x/y", "recognise"), ("az://container/x", "Account")])
def test_an_address_that_cannot_be_used_is_told(url: str, told: str) -> None:
    with pytest.raises(StoreUnavailable, match=told):
        open_store(url, reserve_bytes=0)
