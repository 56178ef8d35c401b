"""Files without a row are found, told, and removed; what is needed stays."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import select, update

from core.errors import StoreUnavailable
from core.garbage.names import COLUMNS
from core.garbage.tables import Service
from core.jobs import records
from core.jobs.tables import Checkpoint
from core.logs.reading import read_lines
from core.logs.tables import LogChunk
from core.settings import settings
from core.storage import store
from core.tables import Base
from tests.s3 import Bucket, s3_endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core.jobs.lease import Attempt
    from tests.integration.jobs.conftest import Sessions

from tests.integration.jobs.garbage import (
    HOUR,
    KINDS,
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

__all__ = ["_folders", "attempt", "s3_endpoint"]  # fixtures


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
        bucket = Bucket(request.getfixturevalue("s3_endpoint"))
        for name, value in (bucket.environment | {"STORAGE_URL": bucket.url}).items():
            monkeypatch.setenv(name, value)
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
    naming = Things(db, attempt)
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
    orphans = {put(f"jobs/{uuid4()}/1/{n}", age_s=YOUNG) for n in range(3)}
    (problem,) = run().problems
    assert "No row names any" in problem, "its files are young, and will be old"
    assert list(store().keys("service")) == []
    store().delete(orphans.pop())
    orphans.add(put(f"jobs/{uuid4()}/1/old"))
    (problem,) = run().problems
    assert "No row names any" in problem
    assert keys() == orphans, "none of them is known: they may be somebody else's"
    checkpoint(db, attempt, "state", 8)
    assert told(run())["files without a row"] == (1, 1)
    orphan = put(f"jobs/{uuid4()}/1/x")
    with db.begin() as session:
        session.execute(update(Service).values(id=uuid4()))
    (problem,) = run().problems
    assert "marked by service/" in problem
    assert orphan in keys()
