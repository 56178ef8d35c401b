"""One set of promises, kept by the local folder and by S3 (moto's server)."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from core.errors import StoreFull, StoreUnavailable
from core.storage import LocalStore, Store, open_store
from tests.s3 import AWS, Bucket, s3_endpoint

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["s3_endpoint"]  # a fixture


def s3_store(bucket: Bucket, monkeypatch: pytest.MonkeyPatch, *, endpoint: str | None = None) -> Store:
    """A store in a bucket, by way of another endpoint than its own if one is named."""
    for name, value in (bucket.environment | ({"AWS_ENDPOINT": endpoint} if endpoint else {})).items():
        monkeypatch.setenv(name, value)
    return open_store(bucket.url, reserve_bytes=0)


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    if request.param == "file":
        return open_store(f"file://{tmp_path}/a%20store", reserve_bytes=0)
    return s3_store(Bucket(request.getfixturevalue("s3_endpoint")), monkeypatch)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(bytes(range(256)) * 10_000)
    return path


def test_what_is_put_can_be_fetched_read_listed_and_deleted(
    store: Store, source: Path, tmp_path: Path
) -> None:
    store.check()
    store.put("jobs/a/one.bin", source)
    store.put("jobs/ab/two.bin", source)
    store.fetch("jobs/a/one.bin", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == source.read_bytes()
    assert b"".join(store.read("jobs/a/one.bin")) == source.read_bytes()
    assert b"".join(store.read("jobs/a/one.bin", start=10, end=300)) == source.read_bytes()[10:300]
    assert b"".join(store.read("jobs/a/one.bin", start=2_559_990)) == source.read_bytes()[2_559_990:]
    assert list(store.keys("jobs/a")) == ["jobs/a/one.bin"]
    for _ in range(2):  # Deleting what is gone is no error.
        store.delete("jobs/a/one.bin")
    assert list(store.keys("jobs")) == ["jobs/ab/two.bin"]


def test_a_put_replaces_what_was_there(store: Store, source: Path) -> None:
    store.put("key", source)
    source.write_bytes(b"new")
    store.put("key", source)
    assert b"".join(store.read("key")) == b"new"


def test_an_absent_artifact_is_a_store_error(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="has no file no/such:"):
        store.fetch("no/such", tmp_path / "target")
    for start in (0, 5):
        with pytest.raises(StoreUnavailable, match="has no file no/such:"):
            list(store.read("no/such", start=start))


def test_an_artifact_that_is_too_short_is_a_store_error(store: Store, source: Path) -> None:
    store.put("key", source)
    got: list[bytes] = []
    with pytest.raises(StoreUnavailable, match="ends 5 bytes early"):
        got.extend(store.read("key", start=10, end=2_560_005))
    assert b"".join(got) == source.read_bytes()[10:]


class ReadOnly(BaseHTTPRequestHandler):
    """An S3 that lists an empty bucket and takes nothing."""

    def do_GET(self) -> None:
        self._answer(200, b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(403, b"<Error><Code>AccessDenied</Code></Error>")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_a_store_that_takes_nothing_fails_its_check(monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), ReadOnly) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        for name, value in (AWS | {"AWS_ENDPOINT": f"http://127.0.0.1:{server.server_port}"}).items():
            monkeypatch.setenv(name, value)
        store = open_store("s3://artifacts", reserve_bytes=0)
        try:
            assert list(store.keys("")) == []
            with pytest.raises(StoreUnavailable):
                store.check()
        finally:
            server.shutdown()
            thread.join()


def test_an_unreachable_s3_is_a_store_error(monkeypatch: pytest.MonkeyPatch, source: Path) -> None:
    for name, value in (AWS | {"AWS_ENDPOINT": "http://127.0.0.1:9"}).items():
        monkeypatch.setenv(name, value)
    store = open_store("s3://artifacts", reserve_bytes=0)
    begun = time.monotonic()
    with pytest.raises(StoreUnavailable, match="artifacts"):
        store.check()
    with pytest.raises(StoreUnavailable):
        store.put("key", source)
    # Two times three tries, with pauses of at most a second.
    assert time.monotonic() - begun < 6


def test_a_silent_s3_is_told_in_seconds(monkeypatch: pytest.MonkeyPatch, source: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # The kernel connects; nobody answers.
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        for name, value in (AWS | {"AWS_ENDPOINT": endpoint}).items():
            monkeypatch.setenv(name, value)
        begun = time.monotonic()
        with pytest.raises(StoreUnavailable):
            open_store("s3://artifacts", reserve_bytes=0).put("key", source)
    # The first try ends after the 10 s of silence, and no other begins after 8 s.
    assert time.monotonic() - begun < 15


def test_the_reserve_stays_free(tmp_path: Path, source: Path) -> None:
    free_bytes = shutil.disk_usage(tmp_path).free
    store = LocalStore(tmp_path / "store", reserve_bytes=free_bytes + 2**30)
    with pytest.raises(StoreFull, match="reserve"):
        store.put("key", source)
    with pytest.raises(StoreFull):
        store.check()
    assert list((tmp_path / "store").rglob("*")) == []


PUT = """
import sys
from pathlib import Path
from core.storage import LocalStore
LocalStore(Path(sys.argv[1]), reserve_bytes=0).put("jobs/a/one.bin", Path(sys.argv[2]))
"""


def test_what_a_killed_put_leaves_is_cleared_once_it_is_old(tmp_path: Path, source: Path) -> None:
    root, pipe = tmp_path / "store", tmp_path / "pipe"
    os.mkfifo(pipe)
    with (
        subprocess.Popen([sys.executable, "-P", "-c", PUT, str(root), str(pipe)]) as process,
        pipe.open("wb"),  # Until it is closed, the child is in the middle of its put.
    ):
        deadline = time.monotonic() + 30
        while not (left := [path for path in root.rglob("*") if path.is_file()]):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.kill()
        process.wait()
    store = LocalStore(root, reserve_bytes=0)
    assert list(store.keys("")) == []
    store.put("key", source)
    assert [path for path in left if path.exists()] == left, "somebody may be writing it"
    os.utime(left[0], (0, 0))
    store.put("key", source)
    assert [path for path in root.rglob("*") if path.is_file()] == [root / "key"]


def test_deleting_leaves_no_empty_folders(tmp_path: Path, source: Path) -> None:
    store = LocalStore(tmp_path / "store", reserve_bytes=0)
    for key in ("jobs/a/one.bin", "jobs/a/two.bin", "jobs/b/one.bin"):
        store.put(key, source)
    store.delete("jobs/a/one.bin")
    assert (tmp_path / "store/jobs/a/two.bin").exists()
    store.delete("jobs/a/two.bin")
    assert [path.name for path in (tmp_path / "store/jobs").iterdir()] == ["b"]
    store.delete("jobs/b/one.bin")
    assert not (tmp_path / "store/jobs").exists()
    assert (tmp_path / "store").exists()


def test_puts_and_deletes_in_one_folder_do_not_disturb_each_other(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store", reserve_bytes=0)
    small = tmp_path / "small"
    small.write_bytes(b"x")

    def run(name: str) -> None:
        for _ in range(100):
            store.put(f"jobs/a/{name}", small)
            store.delete(f"jobs/a/{name}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, "abcd"))
    assert list(store.keys("")) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_is_told_and_harms_nothing(tmp_path: Path, source: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], check=False, capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"tmpfs cannot be mounted here: {mounted.stderr.decode()}")
    try:
        store = LocalStore(disk / "store", reserve_bytes=0)
        store.put("first", source)
        (disk / "filler").write_bytes(bytes(1_000_000))
        with pytest.raises(StoreFull):
            store.put("second", source)
        assert list(store.keys("")) == ["first"]
        assert b"".join(store.read("first")) == source.read_bytes()
        assert [path.name for path in (disk / "store").rglob("*") if path.is_file()] == ["first"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_an_unwritable_folder_is_told(tmp_path: Path, source: Path) -> None:
    (tmp_path / "store").write_text("a file where the folder should be")
    store = LocalStore(tmp_path / "store", reserve_bytes=0)
    with pytest.raises(StoreUnavailable, match="cannot be used"):
        store.put("key", source)
    with pytest.raises(StoreUnavailable):
        store.check()
