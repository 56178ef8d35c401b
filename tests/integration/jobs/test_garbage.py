"""Garbage of each kind is found, told, and removed; what is needed stays."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import boto3
import pytest
import redis
from celery.beat import Scheduler
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import delete, func, select, update

from core.broker import celery_app
from core.datasets.ingest import preview_key
from core.datasets.scratch import scratch_folder
from core.datasets.tables import Dataset, DatasetImage
from core.errors import SlaeganError, StoreUnavailable
from core.evaluations.tables import Evaluation
from core.garbage.collect import collect
from core.garbage.names import COLUMNS
from core.garbage.report import Bounds, Report
from core.garbage.tables import Service
from core.jobs import endings, records, requests, service
from core.jobs.tables import Checkpoint, Job, LogLine, Sample, Worker
from core.logs.reading import read_lines
from core.logs.tables import LogChunk
from core.schemas.training import RetentionConfig, SlaeganConfig
from core.settings import settings
from core.storage import store
from core.tables import Base
from tests.integration.jobs.test_lease import claim
from tests.integration.test_storage import AWS, s3_endpoint
from worker.tasks import collect_garbage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from core.jobs.lease import Attempt
    from tests.integration.jobs.conftest import Sessions

__all__ = ["s3_endpoint"]  # a fixture

HOUR = 3600
OLD, YOUNG = 2 * HOUR, 0


@pytest.fixture(autouse=True)
def _folders(_worker_settings: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLAEGAN_DATA_DIR", str(tmp_path / "data"))
    settings.cache_clear()


@pytest.fixture
def attempt(submit: Callable[..., Job], db: Sessions) -> Attempt:
    submit(config=SlaeganConfig(resolution=64, retention=RetentionConfig(best=1, last=1)))
    return claim(db)


def run(*, dry_run: bool = False, grace_s: float = HOUR, limit: int = 1000) -> Report:
    bounds = Bounds(grace_s=grace_s, limit=limit, dry_run=dry_run)
    return collect(bounds, data_dir=settings().data_dir)


def told(report: Report) -> dict[str, tuple[int, int]]:
    assert report.problems == []
    return {kind: (found.count, found.size_bytes) for kind, found in report.kinds.items() if found.count}


def only(kind: str, *, count: int, size_bytes: int = 0, **bounds: Any) -> None:
    """This kind and no other is found, is still there after a dry run, goes with the next, and then is gone."""
    there = {kind: (count, size_bytes)}
    assert told(run(dry_run=True, **bounds)) == there
    assert told(run(dry_run=True, **bounds)) == there, "a dry run removes nothing"
    assert told(run(**bounds)) == there
    assert told(run(**bounds)) == {}, "twice is no error"


def put(key: str, *, age_s: float = OLD, data: bytes = b"x") -> str:
    source = settings().data_dir / uuid4().hex
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_bytes(data)
    store().put(key, source)
    source.unlink()
    age(key, age_s)
    return key


def age(key: str, age_s: float) -> None:
    if settings().storage_url.startswith("file:"):
        path = settings().storage_url.removeprefix("file://") + "/" + key
        os.utime(path, (time.time() - age_s,) * 2)


def keys() -> set[str]:
    return {key for folder in ("datasets", "jobs") for key in store().keys(folder)}


def checkpoint(db: Sessions, attempt: Attempt, kind: str, seen: int, **values: Any) -> str:
    """A checkpoint with its file."""
    key = put(f"jobs/{attempt.job_id}/1/{kind}-{seen}-{uuid4().hex[:8]}", data=b"12345")
    facts = {"run": 1, "attempt": 1, "sha256": "0" * 64, "size_bytes": 5} | values
    with db.begin() as session:
        session.add(Checkpoint(job_id=attempt.job_id, kind=kind, images_seen=seen, storage_key=key, **facts))
    return key


def end(db: Sessions, attempt: Attempt, *, succeeded: bool = True, age_s: float = OLD) -> None:
    with db.begin() as session:
        if succeeded:
            endings.finish(session, attempt)
        else:
            endings.fail(session, attempt, SlaeganError("for the test"))
        session.execute(
            update(Job)
            .where(Job.id == attempt.job_id)
            .values(finished_at=Job.finished_at - timedelta(seconds=age_s))
        )


def test_every_column_with_a_key_is_known() -> None:
    """Else the collection would take what such a column names for garbage."""
    found = {
        f"{table.name}.{column.name}"
        for table in Base.metadata.tables.values()
        for column in table.columns
        if column.name in {"storage_key", "picture_key"}
    }
    assert found == {f"{column.class_.__tablename__}.{column.key}" for column in COLUMNS}


@pytest.fixture(params=["file", "s3"])
def any_store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "s3":
        endpoint = request.getfixturevalue("s3_endpoint")
        for name, value in (AWS | {"AWS_ENDPOINT": endpoint}).items():
            monkeypatch.setenv(name, value)
        bucket = uuid4().hex
        boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1").create_bucket(Bucket=bucket)
        monkeypatch.setenv("STORAGE_URL", f"s3://{bucket}/prefix")
        monkeypatch.setenv("SLAEGAN_LEASE_S", "0")
        settings.cache_clear()
        store.cache_clear()
    return str(request.param)


def test_files_without_a_row(db: Sessions, attempt: Attempt, any_store: str) -> None:
    # On S3 nobody can set an age: there everything is old enough, or nothing is.
    grace_s = 0 if any_store == "s3" else HOUR
    store().check()
    named = checkpoint(db, attempt, "state", 8)
    orphan = put(f"jobs/{attempt.job_id}/1/state-8-1-dead", data=b"123")
    put(f"datasets/{uuid4()}/preview.jpg", data=b"1234")
    other = put("elsewhere/of/somebody")
    young = [] if any_store == "s3" else [put(f"jobs/{uuid4()}/1/new", age_s=YOUNG)]
    if any_store == "s3":
        assert told(run(grace_s=HOUR)) == {}, "young files stay"
        assert orphan in keys()
    only("files without a row", count=2, size_bytes=7, grace_s=grace_s)
    assert keys() == {named, *young}
    assert other in store().keys("elsewhere")


_NUMBERS = count(100)


class _Things:
    """Rows that name files, of every kind."""

    def __init__(self, db: Sessions, attempt: Attempt) -> None:
        self._db, self._attempt = db, attempt

    def name(self, kind: str) -> str:
        n = next(_NUMBERS)
        job = {"job_id": self._attempt.job_id, "run": 1}
        file = {"sha256": "0" * 64, "size_bytes": 1}
        key = f"jobs/{self._attempt.job_id}/1/{kind}-{uuid4().hex}"
        with self._db.begin() as session:
            dataset_id = session.get_one(Job, self._attempt.job_id).dataset_id
            row: Base
            match kind:
                case "state" | "generator":
                    row = Checkpoint(attempt=1, kind=kind, images_seen=n, storage_key=key, **job, **file)
                case "sample":
                    row = Sample(images_seen=n, storage_key=key, **job, **file)
                case "log":
                    row = LogChunk(first_seq=n, last_seq=n, attempt=1, storage_key=key, **job, **file)
                case "evaluation":
                    values: Any = {f"picture_{name}": value for name, value in file.items()}
                    row = Evaluation(
                        images_seen=n, protocol={}, protocol_hash="h", picture_key=key, **job, **values
                    )
                case "picture":
                    key = f"datasets/{dataset_id}/{n:05d}.png"
                    row = DatasetImage(
                        dataset_id=dataset_id, position=n, name="n", storage_key=key, width=1, height=1, **file
                    )  # fmt: skip
                case _:
                    row = Dataset(
                        tenant_id=self._attempt.tenant_id, name="n", image_count=4, size_bytes=4, content_hash="h"
                    )  # fmt: skip
                    session.add(row)
                    session.flush()
                    return preview_key(row.id)
            session.add(row)
        return key


KINDS = ("state", "generator", "sample", "log", "evaluation", "picture", "preview")


@hypothesis_settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    things=st.lists(st.tuples(st.sampled_from(KINDS), st.booleans()), max_size=12),
    orphans=st.lists(st.tuples(st.sampled_from(KINDS), st.booleans()), max_size=12),
)
def test_what_a_row_names_is_never_removed(
    db: Sessions, attempt: Attempt, things: list[tuple[str, bool]], orphans: list[tuple[str, bool]]
) -> None:
    for key in keys():
        store().delete(key)
    naming = _Things(db, attempt)
    named = {put(naming.name("state"))}
    for kind, has_file in things:
        key = naming.name(kind)
        if has_file:
            named.add(put(key))
    young, old = set(), set()
    for kind, is_old in orphans:
        dataset_or_job = "datasets" if kind in {"picture", "preview"} else "jobs"
        key = f"{dataset_or_job}/{uuid4()}/{'preview.jpg' if kind == 'preview' else uuid4().hex}"
        (old if is_old else young).add(put(key, age_s=OLD if is_old else YOUNG))
    assert told(run()).get("files without a row", (0, 0))[0] == len(old)
    assert keys() == named | young


def test_no_grace_is_shorter_than_two_leases(db: Sessions, attempt: Attempt) -> None:
    checkpoint(db, attempt, "state", 8)
    put(f"jobs/{uuid4()}/1/on-its-way", age_s=1.9 * settings().lease_s)
    assert told(run(grace_s=0)) == {}
    put(f"jobs/{uuid4()}/1/lost", age_s=2.1 * settings().lease_s)
    assert told(run(grace_s=0)) == {"files without a row": (1, 1)}


def test_a_run_has_a_limit_and_says_so(db: Sessions, attempt: Attempt) -> None:
    checkpoint(db, attempt, "state", 8)
    for n in range(5):
        put(f"jobs/{uuid4()}/1/{n}")
    seen = []
    for _ in range(3):
        report = run(limit=2)
        seen.append((report.kinds["files without a row"].count, report.more))
    assert seen == [(2, True), (2, True), (1, False)]


def test_a_file_whose_row_comes_while_it_is_looked_at_stays(
    db: Sessions, attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint(db, attempt, "state", 8)
    key = put(f"jobs/{attempt.job_id}/1/state-16-1-late")
    entries = type(store()).entries

    def late(self: Any, prefix: str) -> Iterator[Any]:
        yield from entries(self, prefix)
        if prefix == "service":  # The last thing that is listed, long after the file was found without a row.
            with db.begin() as session:
                session.add(
                    Checkpoint(
                        job_id=attempt.job_id, run=1, attempt=1, kind="state", images_seen=16, storage_key=key,
                        sha256="0", size_bytes=1,
                    )
                )  # fmt: skip

    monkeypatch.setattr(type(store()), "entries", late)
    assert told(run()) == {}
    assert key in keys()


def test_a_store_that_fails_half_way_is_gone_on_with_next_time(
    db: Sessions, attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint(db, attempt, "state", 8)
    for n in range(4):
        put(f"jobs/{uuid4()}/1/{n}")
    remove, left = type(store()).delete, [1, 1]

    def failing(self: Any, key: str) -> None:
        if not left:
            raise StoreUnavailable("away, for the test")
        left.pop()
        remove(self, key)

    with monkeypatch.context() as patch:
        patch.setattr(type(store()), "delete", failing)
        report = run()
    assert report.problems == ["files without a row: away, for the test"]
    assert report.kinds["files without a row"].count == 2, "what was removed is told"
    assert told(run())["files without a row"] == (2, 2)


def test_two_collectors_at_once(db: Sessions, attempt: Attempt) -> None:
    kept = checkpoint(db, attempt, "state", 64)
    for seen in range(8, 64, 8):
        checkpoint(db, attempt, "state", seen)
        put(f"jobs/{attempt.job_id}/1/orphan-{seen}")
    with db.begin() as session:
        records.record_log(session, attempt, ["one", "two"])
    end(db, attempt)
    with ThreadPoolExecutor(3) as pool:
        reports = list(pool.map(lambda _: run(), range(3)))
    assert [report.problems for report in reports] == [[], [], []]
    assert sum(report.kinds["training states"].count for report in reports) == 7
    with db() as session:
        (log,) = session.scalars(select(LogChunk.storage_key))
    # The files of this moment are young: chunks of collectors that came second were cleared by themselves.
    assert keys() == {kept, log}
    assert [line.line for line in read_lines(attempt.job_id, after=0)] == ["one", "two"]


def test_a_store_of_another_database_is_left_alone(db: Sessions, attempt: Attempt) -> None:
    orphans = {put(f"jobs/{uuid4()}/1/{n}") for n in range(3)}
    (problem,) = run().problems
    assert "No row names any" in problem
    assert keys() == orphans, "none of them is known: they may be somebody else's"
    checkpoint(db, attempt, "state", 8)
    assert told(run())["files without a row"] == (3, 3)
    orphan = put(f"jobs/{uuid4()}/1/x")
    with db.begin() as session:
        session.execute(update(Service).values(id=uuid4()))
    (problem,) = run().problems
    assert "marked by service/" in problem
    assert orphan in keys()


def test_what_a_killed_put_left(tmp_path: Path) -> None:
    run()  # It puts its mark, and a put clears old ones too.
    incoming = tmp_path / "store" / ".incoming"
    (incoming / ".half.1").write_bytes(b"123")
    (incoming / ".half.2").write_bytes(b"1")
    os.utime(incoming / ".half.1", (0, 0))
    only("unfinished files", count=1, size_bytes=3)
    assert [path.name for path in incoming.iterdir()] == [".half.2"]


def test_states_of_jobs_that_are_over(db: Sessions, attempt: Attempt, submit: Callable[..., Job]) -> None:
    states = {seen: checkpoint(db, attempt, "state", seen) for seen in (8, 16, 24, 32)}
    pinned = checkpoint(db, attempt, "state", 4, pinned=True)
    with db.begin() as session:
        begun_from = session.scalars(select(Checkpoint.id).where(Checkpoint.images_seen == 8)).one()
    tuned = submit(init_from=begun_from, config=SlaeganConfig(resolution=64))
    assert told(run()) == {}, "the job is not over"
    end(db, attempt, age_s=YOUNG)
    assert told(run()) == {}, "it may be retried"
    with db.begin() as session:
        session.execute(
            update(Job)
            .where(Job.id == attempt.job_id)
            .values(finished_at=func.now() - timedelta(seconds=OLD))
        )
    only("training states", count=2, size_bytes=10)
    assert keys() == {states[8], states[32], pinned}
    with db.begin() as session:
        requests.cancel(session, tenant_id=attempt.tenant_id, job_id=tuned.id)
    assert told(run()) == {"training states": (1, 5)}
    assert keys() == {states[32], pinned}


def test_a_failed_job_keeps_two_states_for_its_retry(db: Sessions, attempt: Attempt) -> None:
    states = {seen: checkpoint(db, attempt, "state", seen) for seen in (8, 16, 24)}
    end(db, attempt, succeeded=False)
    only("training states", count=1, size_bytes=5)
    assert keys() == {states[16], states[24]}


def test_of_several_runs_the_newest_state_counts(db: Sessions, attempt: Attempt) -> None:
    checkpoint(db, attempt, "state", 800)
    newest = checkpoint(db, attempt, "state", 8, run=2)
    end(db, attempt)
    assert told(run()) == {"training states": (1, 5)}
    assert keys() == {newest}


def test_generators_that_no_rule_keeps(db: Sessions, attempt: Attempt) -> None:
    checkpoint(db, attempt, "generator", 8)
    pinned = checkpoint(db, attempt, "generator", 16, pinned=True)
    last = checkpoint(db, attempt, "generator", 24)
    end(db, attempt)
    only("generators", count=1, size_bytes=5)
    assert keys() == {pinned, last}
    with db.begin() as session:
        session.execute(update(Checkpoint).values(pinned=False))
    assert told(run()) == {"generators": (1, 5)}
    assert keys() == {last}


def test_a_job_that_is_being_submitted_keeps_what_it_begins_from(
    db: Sessions, attempt: Attempt, submit: Callable[..., Job]
) -> None:
    other = submit()
    first = checkpoint(db, attempt, "state", 8)
    checkpoint(db, attempt, "state", 16)
    end(db, attempt)
    with ThreadPoolExecutor(1) as pool:
        with db.begin() as session:
            begun_from = session.scalars(select(Checkpoint.id).where(Checkpoint.images_seen == 8)).one()
            service.create(
                session, tenant_id=attempt.tenant_id, dataset_id=other.dataset_id, config=SlaeganConfig(resolution=64),
                name="", priority=0, init_from=begun_from,
            )  # fmt: skip
            collecting = pool.submit(run)
            deadline = time.monotonic() + 20
            waiting = "select count(*) from pg_locks where not granted"
            while not session.connection().exec_driver_sql(waiting).scalar():
                assert time.monotonic() < deadline
                assert not collecting.done(), "it did not wait for the submission"
        assert told(collecting.result()) == {}
    assert first in keys()


def test_rows_of_deleted_datasets(db: Sessions, attempt: Attempt, tenant_id: UUID) -> None:
    unused, fresh = uuid4(), uuid4()
    old = datetime.now(UTC) - timedelta(seconds=OLD)
    with db.begin() as session:
        used = session.get_one(Job, attempt.job_id).dataset_id
        session.execute(update(Dataset).values(deleted_at=old))
        for dataset_id, deleted_at in ((unused, old), (fresh, func.now())):
            session.add(
                Dataset(
                    id=dataset_id, tenant_id=tenant_id, name="", image_count=4, size_bytes=4, content_hash="",
                    deleted_at=deleted_at,
                )
            )  # fmt: skip
    only("rows of deleted datasets", count=1)
    with db.begin() as session:
        assert set(session.scalars(select(Dataset.id))) == {used, fresh}


def test_a_crash_after_a_dataset_was_deleted_leaves_no_files(db: Sessions, attempt: Attempt) -> None:
    naming = _Things(db, attempt)
    kept = put(naming.name("state"))
    put(naming.name("picture"))
    with db.begin() as session:
        dataset_id = session.get_one(Job, attempt.job_id).dataset_id
        put(preview_key(dataset_id))
    assert told(run()) == {}
    with db.begin() as session:
        session.execute(delete(DatasetImage))
        session.execute(update(Dataset).values(deleted_at=func.now()))
    only("files without a row", count=2, size_bytes=2)
    assert keys() == {kept}


def test_rows_and_folders_of_lost_workers(db: Sessions, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    with db.begin() as session:
        for name, days in (("alive", 0), ("lost", 2)):
            session.add(
                Worker(
                    name=name, kind="train", device="cpu", host="h", pid=1, last_heartbeat_at=now - timedelta(days=days)
                )
            )  # fmt: skip
    scratch = tmp_path / "data" / "scratch"
    for name, age_s in (("alive", OLD), ("lost", OLD), ("starting", YOUNG)):
        (scratch / name).mkdir(parents=True)
        (scratch / name / "file").write_bytes(b"123")
        os.utime(scratch / name, (time.time() - age_s,) * 2)
    there = {"rows of lost workers": (1, 0), "scratch folders of lost workers": (1, 3)}
    assert told(run(dry_run=True)) == there
    assert told(run()) == there
    assert told(run()) == {}
    assert {path.name for path in scratch.iterdir()} == {"alive", "starting"}


def test_abandoned_uploads_and_unused_caches(tmp_path: Path) -> None:
    cache = tmp_path / "data" / "cache"
    cache.mkdir(parents=True)
    for name, age_s in (("pictures-a.npy", 8 * 24 * HOUR), ("pictures-b.npy", OLD), ("other", 0)):
        (cache / name).write_bytes(b"123")
        os.utime(cache / name, (time.time() - age_s,) * 2)
    with scratch_folder() as used:
        abandoned, new = used.with_name("upload-abandoned"), used.with_name("upload-new")
        for folder in (abandoned, new):
            folder.mkdir()
        for folder in (abandoned, used):
            os.utime(folder, (0, 0))
        there = {"abandoned uploads": (1, 0), "unused cache files": (1, 3)}
        assert told(run(dry_run=True)) == there
        assert told(run()) == there
        assert told(run()) == {}
        assert (used.exists(), abandoned.exists(), new.exists()) == (True, False, True)
    assert {path.name for path in cache.iterdir()} == {"pictures-b.npy", "other"}


def test_the_log_of_a_lost_worker(db: Sessions, attempt: Attempt) -> None:
    with db.begin() as session:
        records.record_log(session, attempt, ["one", "three"])
    assert told(run()) == {}, "the job's next attempt moves them"
    end(db, attempt, age_s=YOUNG)
    only("log lines (moved to the store)", count=2, size_bytes=8)
    with db() as session:
        assert session.scalars(select(LogLine)).all() == []
    assert [line.line for line in read_lines(attempt.job_id, after=0)] == ["one", "three"]


def test_beat_asks_at_its_start_and_the_task_until_nothing_is_left(
    db: Sessions, attempt: Attempt, empty_broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLAEGAN_GARBAGE_LIMIT", "2")
    settings.cache_clear()
    schedule = Scheduler(celery_app()).schedule
    assert (schedule["collect_garbage"].is_due().is_due, schedule["sweep"].is_due().is_due) == (True, False)
    kept = checkpoint(db, attempt, "state", 8)
    for n in range(3):
        put(f"jobs/{uuid4()}/1/{n}", age_s=48 * HOUR)
    with redis.Redis.from_url(empty_broker_url) as broker:
        collect_garbage()
        assert (broker.llen("chores"), len(keys())) == (1, 2), "there is more: another hint"
        collect_garbage()
        assert (broker.llen("chores"), keys()) == (1, {kept})
