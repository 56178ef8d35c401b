"""What an evaluating child leaves: metrics on the record, and a picture in the store that a row names."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from core.db import migrate, sessions, take_back
from core.errors import LeaseLost
from core.evaluations import service as evaluations
from core.evaluations.tables import Evaluation
from core.jobs import queries, records
from core.jobs.tables import Job, JobEvent
from core.schemas.ticks import MetricsTick, WarningTick
from core.settings import settings
from core.storage import store
from tests.integration.jobs.test_lease import claim, claim_evaluation, snapshot
from tests.picture_files import png
from worker.evaluating import _post

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from uuid import UUID

    from core.evaluations.service import Claim
    from core.jobs.lease import Attempt
    from tests.integration.jobs.conftest import Sessions

pytestmark = pytest.mark.usefixtures("_worker_settings")
METRICS = {"fid": 9.0, "kid": 0.1, "kid_sd": 0.01, "lpips": 0.5}


@pytest.fixture
def attempt(db: Sessions, submit: Callable[..., Job]) -> Attempt:
    submit()
    attempt = claim(db)
    snapshot(db, attempt, 8)
    return attempt


@pytest.fixture
def held(db: Sessions, attempt: Attempt) -> Claim:
    assert attempt.run == 1
    return claim_evaluation(db)


def result(work_dir: Path, *, picture: bool = True) -> MetricsTick:
    (work_dir / "neighbours.png").write_bytes(png())
    tick = MetricsTick(metrics=METRICS, protocol={}, picture="neighbours.png" if picture else None)
    return MetricsTick.model_validate_json(tick.model_dump_json())


def row(db: Sessions) -> Evaluation:
    with db() as session:
        return session.scalars(select(Evaluation)).one()


def test_a_picture_is_stored_and_named(db: Sessions, held: Claim, tmp_path: Path) -> None:
    _post(held, result(tmp_path), work_dir=tmp_path)
    [key] = store().keys(f"jobs/{held.job_id}")
    found = row(db)
    assert (found.status, found.metrics, found.picture_key) == ("done", METRICS, key)
    assert key.startswith(f"jobs/{held.job_id}/1/picture-0000000008-")
    assert b"".join(store().read(key)) == png()
    assert (found.picture_sha256, found.picture_size_bytes) == (hashlib.sha256(png()).hexdigest(), len(png()))


def test_an_evaluation_without_a_picture(db: Sessions, held: Claim, tmp_path: Path) -> None:
    _post(held, result(tmp_path, picture=False), work_dir=tmp_path)
    assert (row(db).status, row(db).picture_key) == ("done", None)
    assert list(store().keys(f"jobs/{held.job_id}")) == []


def test_a_picture_that_came_too_late_is_removed_again(db: Sessions, held: Claim, tmp_path: Path) -> None:
    with db.begin() as session:
        evaluations.hand_back(session, held)
    with pytest.raises(LeaseLost):
        _post(held, result(tmp_path), work_dir=tmp_path)
    assert (row(db).status, row(db).picture_key) == ("queued", None)
    assert list(store().keys(f"jobs/{held.job_id}")) == []


def test_a_picture_stays_while_a_row_names_it(
    db: Sessions, held: Claim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer_lost(work: Callable[..., object], *args: object, **kwargs: object) -> None:
        with sessions().begin() as session:
            work(session, *args, **kwargs)
        raise LeaseLost("The answer to a commit that was made did not arrive.")

    monkeypatch.setattr("worker.evaluating.write", answer_lost)
    with pytest.raises(LeaseLost):
        _post(held, result(tmp_path), work_dir=tmp_path)
    assert list(store().keys(f"jobs/{held.job_id}")) == [row(db).picture_key]


def test_the_numbers_are_worth_more_than_the_picture(
    db: Sessions, held: Claim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLAEGAN_STORE_RESERVE_BYTES", str(2**62))  # no disk has so much left
    for cached in (settings, store):
        cached.cache_clear()
    _post(held, result(tmp_path), work_dir=tmp_path)
    assert (row(db).status, row(db).picture_key) == ("done", None)


def test_a_training_that_goes_back_takes_pictures_along(
    db: Sessions, attempt: Attempt, held: Claim, tmp_path: Path
) -> None:
    _post(held, result(tmp_path), work_dir=tmp_path)
    key = row(db).picture_key
    with db.begin() as session:
        warning = WarningTick(code="non_finite", message="it went back", images_seen=4)
        assert key in records.record_warning(session, attempt, warning)
        assert session.scalars(select(Evaluation)).all() == []


def shown(db: Sessions) -> tuple[UUID | None, UUID | None, str | None]:
    with db() as session:
        job = session.scalars(select(Job)).one()
        return job.latest_evaluation_id, job.best_evaluation_id, job.best_reason


def test_the_job_names_its_latest_and_best_until_it_goes_back(
    db: Sessions, attempt: Attempt, held: Claim
) -> None:
    def evaluate(claimed: Claim, kid: float) -> UUID:
        with db.begin() as session:
            evaluations.post(session, claimed, METRICS | {"kid": kid, "kid_sd": 0.001})
        return claimed.evaluation_id

    assert shown(db) == (None, None, None)
    first = evaluate(held, 0.1)
    assert shown(db) == (first, first, "KID 0.1: no other snapshot has one yet.")
    snapshot(db, attempt, 16)
    second = evaluate(claim_evaluation(db), 0.3)
    assert shown(db) == (second, first, "KID 0.1 is the lowest.")
    with db.begin() as session:
        records.record_warning(
            session, attempt, WarningTick(code="non_finite", message="back", images_seen=8)
        )
    assert shown(db) == (first, first, "KID 0.1: no other snapshot has one yet.")


def test_the_numbers_of_single_classes_are_told_with_the_curve_only(db: Sessions, held: Claim) -> None:
    classes = {"intra_fid_per_class": [3.0, 5.0], "intra_fid_classes": [0.0, 1.0]}
    with db.begin() as session:
        evaluations.post(session, held, METRICS | {"intra_fid": 4.0} | classes)
    with db() as session:
        job = session.scalars(select(Job)).one()
        [described] = queries.describe(session, [job])
        for told in (described, queries.look(session, tenant_id=job.tenant_id, job_id=job.id)):
            for point in (told.latest, told.best):
                assert point is not None
                assert (point.intra_fid, point.intra_fid_per_class, point.intra_fid_classes) == (
                    4.0,
                    None,
                    None,
                )
        [event] = session.scalars(select(JobEvent).where(JobEvent.type == "evaluated"))
        assert event.payload["metrics"] == METRICS | {"intra_fid": 4.0}
        [point] = queries.curve(session, tenant_id=job.tenant_id, job_id=job.id)
        assert (point.intra_fid_per_class, point.intra_fid_classes) == ([3.0, 5.0], [0, 1])


def test_a_migration_finds_the_latest_and_best_of_old_jobs(
    db: Sessions, attempt: Attempt, held: Claim
) -> None:
    with db.begin() as session:
        evaluations.post(session, held, METRICS)
    snapshot(db, attempt, 16)
    with db.begin() as session:
        evaluations.post(session, claim_evaluation(db), METRICS | {"kid": 0.4})
    before = shown(db)
    assert before[0] != before[1]
    take_back(settings().database_url, revision="0014")
    migrate(settings().database_url)
    assert shown(db) == before


@pytest.mark.parametrize("best", [0, 1, 2])
def test_a_migration_chooses_the_best_of_jobs_that_are_over_by_the_whole_rule(
    db: Sessions, attempt: Attempt, held: Claim, best: int
) -> None:
    """The lowest KID is the last one's; but recall decides within its spread, and copies are passed over."""
    points = [
        {"kid": 0.105, "kid_sd": 0.01, "recall": 0.6, "copy_rate": 0.9 if best == 1 else 0.0},
        {"kid": 0.105, "kid_sd": 0.01, "recall": 0.5, "copy_rate": 0.0},
        {"kid": 0.1, "kid_sd": 0.001 if best == 2 else 0.01, "recall": 0.1, "copy_rate": 0.0},
    ]
    ids = []
    for number, point in enumerate(points):
        if number:
            snapshot(db, attempt, 8 * (number + 1))
        claimed = claim_evaluation(db) if number else held
        ids.append(claimed.evaluation_id)
        with db.begin() as session:
            evaluations.post(session, claimed, METRICS | point)
    before = shown(db)
    assert before[:2] == (ids[2], ids[best])
    take_back(settings().database_url, revision="0014")
    migrate(settings().database_url)
    assert shown(db)[:2] == before[:2]
