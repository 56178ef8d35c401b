"""The whole loop with every file in S3 and none here, through a network that fails every third request."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from benchmarks.stack import Services
from core.files import sha256_of
from core.keys import ensure_local_key
from core.storage import open_store
from tests.e2e.system import SMALL_TIMES, TINY, draw_pictures, submit
from tests.s3 import Bucket, Network, every_third, network, s3_endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

# Half a minute on a free machine; evaluations yield to whatever else runs.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
__all__ = ["s3_endpoint"]  # a fixture

SLAEGAN = str(Path(sys.executable).with_name("slaegan"))
# Two snapshots; a grace of garbage that is no longer than two leases.
SHORT = TINY | {"total_images": 16, "evaluate_every_images": 16}
GARBAGE = {"SLAEGAN_GARBAGE_EVERY_S": "2", "SLAEGAN_GARBAGE_GRACE_S": "1"}


@pytest.fixture
def bucket(s3_endpoint: str) -> Bucket:
    return Bucket(s3_endpoint)


@pytest.fixture
def between(bucket: Bucket) -> Iterator[Network]:
    with network(bucket.endpoint) as running:
        yield running


@pytest.fixture
def system(
    bucket: Bucket, between: Network, database_url: str, broker_url: str, tmp_path: Path
) -> Iterator[Services]:
    folder = tmp_path / "system"
    folder.mkdir()
    environment = os.environ | SMALL_TIMES | GARBAGE | bucket.environment
    environment |= {
        "DATABASE_URL": database_url,
        "BROKER_URL": broker_url,
        "STORAGE_URL": bucket.url,
        "AWS_ENDPOINT": between.endpoint,
        "SLAEGAN_DATA_DIR": str(folder / "data"),
    }
    system = Services(environment, folder)
    system.start("api", "train", "metrics", "control", "chores", "beat")
    yield system
    system.stop()


def test_pictures_to_a_generator_with_nothing_here(
    system: Services, bucket: Bucket, between: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in bucket.environment.items():
        monkeypatch.setenv(name, value)
    store = open_store(bucket.url, reserve_bytes=0)
    orphan = f"jobs/{uuid4()}/1/state-0000000008-1-lost"
    (tmp_path / "orphan").write_bytes(b"left by a worker that was lost")
    store.put(orphan, tmp_path / "orphan")

    with system.client() as client:
        dataset = client.create_dataset(draw_pictures(tmp_path / "pictures", count=4), name="discs")
        between.fault = every_third
        one = submit(system, client, dataset.id, SHORT)
        seen = [event.type for event in client.follow_events(one.job_id, patience_s=600)]
        job = one.wait_for("succeeded")
        between.fault = lambda _seen, _number: None
        checkpoints, samples = client.checkpoints(job.id), client.samples(job.id)
    assert seen[0] == "queued"
    assert job.best is not None
    assert job.best.fid is not None
    assert [c.images_seen for c in checkpoints if c.kind == "generator"] == [0, 16]
    assert len(samples) == 2
    _check_rows_and_files_agree(bucket, checkpoints=[c.sha256 for c in checkpoints], tmp_path=tmp_path)

    before = len(between.seen)
    got = _download(system, str(job.id), to=tmp_path / "results")
    best = next(c for c in checkpoints if c.id == job.best.checkpoint_id)
    assert best.sha256 in {sha256_of(path) for path in got.glob("generator-*.safetensors")}
    assert samples[-1].sha256 in {sha256_of(path) for path in got.glob("grid-*.png")}
    signed = [seen for seen in between.seen[before:] if "X-Amz-Signature" in seen.path]
    assert len(signed) >= 2
    assert not [seen for seen in signed if "authorization" in seen.headers]

    system.until(lambda: orphan not in store.keys("jobs"), "the garbage is collected", timeout_s=60)
    with system.client() as client:
        client.delete_dataset(dataset.id)
        assert client.job(job.id).status == "succeeded"
    assert list(store.keys("datasets")) == []
    assert all(key.startswith("some/prefix/") for key in bucket.keys())  # noqa: SIM118  # no dict
    system.stop()
    _check_nothing_lies_here(system, {item.sha256 for item in (*checkpoints, *samples)})


def _check_rows_and_files_agree(bucket: Bucket, *, checkpoints: list[str], tmp_path: Path) -> None:
    store = open_store(bucket.url, reserve_bytes=0)
    found = set()
    for number, key in enumerate(store.keys("jobs")):
        store.fetch(key, tmp_path / f"fetched-{number}")
        found.add(sha256_of(tmp_path / f"fetched-{number}"))
    assert set(checkpoints) <= found


def _download(system: Services, job_id: str, *, to: Path) -> Path:
    """By the command line, as a user would."""
    key = ensure_local_key(system.environment["DATABASE_URL"])
    environment = os.environ | {"SLAEGAN_URL": system.url, "SLAEGAN_API_KEY": key}
    subprocess.run(
        [SLAEGAN, "download", job_id, "--to", str(to)],
        env=environment,
        check=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    return to


def _check_nothing_lies_here(system: Services, sha256s: set[str]) -> None:
    """Beside logs and locks only the cache of the dataset's pictures is left, which nobody needs to keep."""
    files = [path for path in system.folder.rglob("*") if path.is_file()]
    kept = [path.relative_to(system.folder) for path in files if path.suffix not in (".log", ".lock")]
    assert [path for path in kept if not path.is_relative_to("data/cache")] == []
    assert not sha256s & {sha256_of(path) for path in files}
