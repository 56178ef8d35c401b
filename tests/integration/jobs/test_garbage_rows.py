"""Rows and folders that nobody needs any more are found, told, and removed; what is needed stays."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import redis
from celery.beat import Scheduler
from sqlalchemy import func, select, update

from core.audit.tables import AuditEntry
from core.broker import celery_app
from core.datasets import service as datasets
from core.datasets.ingest import preview_key
from core.datasets.scratch import scratch_folder
from core.datasets.tables import Dataset, StoredPicture
from core.jobs import records, requests, service
from core.jobs.tables import Checkpoint, Job, LogLine, Worker
from core.logs.reading import read_lines
from core.schemas.slaegan import SlaeganConfig
from core.settings import settings
from core.uploads import files
from core.uploads.tables import Upload
from worker.tasks import collect_garbage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from core.jobs.lease import Attempt
    from tests.integration.jobs.conftest import Sessions

from tests.integration.jobs.garbage import (
    HOUR,
    OLD,
    YOUNG,
    Things,
    _folders,
    attempt,
    checkpoint,
    end,
    keys,
    only,
    put,
    run,
    told,
)

__all__ = ["_folders", "attempt"]  # fixtures


def test_what_a_killed_put_left(tmp_path: Path) -> None:
    run()  # It puts its mark, and a put clears old ones too.
    incoming = tmp_path / "store" / ".incoming"
    (incoming / ".half.1").write_bytes(b"123")
    (incoming / ".half.2").write_bytes(b"1")
    os.utime(incoming / ".half.1", (0, 0))
    only("unfinished files", count=1, size_bytes=3)
    assert [path.name for path in incoming.iterdir()] == [".half.2"]


def test_old_entries_of_the_audit_trail(db: Sessions) -> None:
    with db.begin() as session:
        for days in (0, 100, 366, 400, 500):
            at = func.clock_timestamp() - timedelta(days=days)
            session.add(AuditEntry(actor="operator", action=f"{days} days ago", created_at=at))
    assert run(limit=2).more, "there is one more"
    only("old entries of the audit trail", count=1)
    with db() as session:
        assert set(session.scalars(select(AuditEntry.action))) == {"0 days ago", "100 days ago"}


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


def test_the_number_of_a_deleted_version_is_not_free_while_its_series_goes_on(
    db: Sessions, tenant_id: UUID
) -> None:
    old = datetime.now(UTC) - timedelta(seconds=OLD)
    series = {"tenant_id": tenant_id, "name": "", "image_count": 4, "size_bytes": 4, "content_hash": ""}
    with db.begin() as session:
        session.add(first := Dataset(id=uuid4(), **series))
        session.flush()
        session.add(
            Dataset(series_id=first.id, parent_id=first.id, version=2, deleted_at=old, **series)
        )  # fmt: skip
    assert told(run()) == {}
    with db.begin() as session:
        session.execute(update(Dataset).values(deleted_at=old))
    only("rows of deleted datasets", count=2)


def test_a_crash_after_a_dataset_was_deleted_leaves_no_files(
    db: Sessions, attempt: Attempt, tenant_id: UUID
) -> None:
    kept = put(Things(db, attempt).name("state"))
    with db.begin() as session:
        dataset_id = session.get_one(Job, attempt.job_id).dataset_id
        put(preview_key(dataset_id))
        for key in session.scalars(select(StoredPicture.storage_key)):
            put(key)
    end(db, attempt, age_s=YOUNG)
    assert told(run()) == {}
    with db.begin() as session:
        assert len(datasets.remove(session, tenant_id=tenant_id, dataset_id=dataset_id)) == 5
    only("files without a row", count=5, size_bytes=5)
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


def test_uploads_that_have_expired_or_are_over(db: Sessions, attempt: Attempt, tenant_id: UUID) -> None:
    files.home().mkdir(parents=True)
    ids = {name: uuid4() for name in ("open", "expired", "finalised", "deleted")}
    now, day = datetime.now(UTC), timedelta(days=1)
    with db.begin() as session:
        dataset_id = session.get_one(Job, attempt.job_id).dataset_id
        for name in ("open", "expired", "finalised"):
            session.add(
                Upload(
                    id=ids[name], tenant_id=tenant_id, filename="f", metadata_header="", length_bytes=3,
                    received_bytes=3, dataset_id=dataset_id if name == "finalised" else None,
                    expires_at=now - day if name == "expired" else now + day,
                )
            )  # fmt: skip
    for upload_id in ids.values():
        files.path_of(upload_id).write_bytes(b"123")
    (files.home() / "somebody's").write_bytes(b"")
    rows, over = "expired uploads", "files of uploads that are over"
    assert told(run(dry_run=True)) == {rows: (1, 0), over: (2, 6)}
    assert len(list(files.home().iterdir())) == 5
    assert told(run()) == {rows: (1, 0), over: (3, 9)}
    assert told(run()) == {}
    assert {path.name for path in files.home().iterdir()} == {str(ids["open"]), "somebody's"}
    with db() as session:
        assert set(session.scalars(select(Upload.id))) == {ids["open"], ids["finalised"]}


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
