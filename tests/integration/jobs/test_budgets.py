"""What an attempt that ends badly costs: nothing, a share of the infrastructure's budget, the one try after memory."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.exc import DBAPIError

from core.db import sessions
from core.errors import NonFinite, OutOfMemory, StoreFull, StoreUnavailable, TrainerCrashed
from core.jobs import endings, records, requests
from core.jobs.claim import claim
from core.jobs.lease import fenced
from core.jobs.sweep import sweep
from core.jobs.tables import Job, JobEvent
from core.settings import settings
from worker import outcome
from worker.supervisor import Ending

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta
    from uuid import UUID

    from core.errors import SlaeganError
    from core.jobs.lease import Attempt
    from tests.integration.jobs.conftest import Sessions


def take(db: Sessions, *, lease_s: float = 60) -> Attempt:
    with db.begin() as session:
        attempt = claim(session, worker="w", lease_s=lease_s)
    assert attempt is not None
    return attempt


def job_of(db: Sessions, attempt: Attempt) -> Job:
    with db() as session:
        return session.get_one(Job, attempt.job_id)


def clean(db: Sessions) -> None:
    with db.begin() as session:
        sweep(session, lease_s=60, max_failures=3, max_evaluation_attempts=2)


def test_handing_back_costs_no_budget(db: Sessions, submit: Callable[..., Job]) -> None:
    submit()
    attempt = take(db)
    with db.begin() as session:
        endings.hand_back(session, attempt, reason="told to stop")
    job = job_of(db, attempt)
    assert (job.status, job.infrastructure_failures, job.worker) == ("queued", 0, None)


def test_what_the_surroundings_caused_is_tried_again_and_then_fails_with_its_reason(
    db: Sessions, submit: Callable[..., Job]
) -> None:
    submit()
    for number in (1, 2):
        attempt = take(db)
        with db.begin() as session:
            endings.lose(session, attempt, StoreUnavailable("It is away."), max_failures=3)
        assert (job_of(db, attempt).status, job_of(db, attempt).infrastructure_failures) == ("queued", number)
    attempt = take(db)
    with db.begin() as session:
        endings.lose(session, attempt, StoreUnavailable("It is away."), max_failures=3, last_lines=["a", "b"])
    error = job_of(db, attempt).error
    assert error is not None
    assert (error["code"], error["message"]) == ("store_unavailable", "It is away.")
    assert error["last_lines"] == ["a", "b"]
    assert "Retry the job" in error["advice"]


def test_the_next_attempt_comes_after_a_pause_that_doubles(db: Sessions, submit: Callable[..., Job]) -> None:
    submit()
    for expected_s in (100, 200):
        attempt = take(db)
        with db.begin() as session:
            endings.lose(session, attempt, StoreUnavailable("away"), max_failures=9, pause_s=100)
            left: timedelta | None = session.scalar(select(Job.not_before - func.clock_timestamp()))
        assert left is not None
        assert expected_s - 5 < left.total_seconds() <= expected_s
        with db.begin() as session:
            assert claim(session, worker="w", lease_s=60) is None, "not yet"
            session.execute(update(Job).values(not_before=func.clock_timestamp()))


def test_running_out_of_memory_has_one_more_try(db: Sessions, submit: Callable[..., Job]) -> None:
    submit()
    first = take(db)
    with db.begin() as session:
        endings.run_out_of_memory(session, first, OutOfMemory("Too large."))
    second = take(db)
    assert (first.out_of_memory, second.out_of_memory) == (0, 1)
    assert second.infrastructure_failures == 0
    with db.begin() as session:
        endings.run_out_of_memory(session, second, OutOfMemory("Too large."))
    job = job_of(db, second)
    assert (job.status, (job.error or {})["code"]) == ("failed", "out_of_memory")


@pytest.mark.usefixtures("_worker_settings")
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (StoreUnavailable("away"), "queued"),
        (OutOfMemory("large"), "queued"),
        (StoreFull("full"), "failed"),
        (NonFinite("nan"), "failed"),
    ],
)
def test_which_errors_are_tried_again(
    db: Sessions, submit: Callable[..., Job], error: SlaeganError, status: str
) -> None:
    submit()
    attempt = take(db)
    outcome.give_up(attempt, error, last_lines=["the last line"])
    job = job_of(db, attempt)
    assert job.status == status
    if status == "failed":
        assert job.error is not None
        assert job.error["code"] == error.code
        assert job.error["last_lines"] == ["the last line"]
        assert job.error["advice"]


@pytest.mark.parametrize("lost", ["handed back", "lost", "out of memory", "swept"])
def test_a_wish_to_pause_meets_every_way_back_to_the_queue(
    db: Sessions, submit: Callable[..., Job], tenant_id: UUID, lost: str
) -> None:
    job = submit()
    attempt = take(db, lease_s=-1 if lost == "swept" else 60)
    with db.begin() as session:
        requests.pause(session, tenant_id=tenant_id, job_id=job.id)
    with db.begin() as session:
        match lost:
            case "handed back":
                endings.hand_back(session, attempt, reason="x")
            case "lost":
                endings.lose(session, attempt, TrainerCrashed("x"), max_failures=3)
            case "out of memory":
                endings.run_out_of_memory(session, attempt, OutOfMemory("x"))
    clean(db)
    paused = job_of(db, attempt)
    assert (paused.status, paused.pause_requested, paused.lease_token) == ("paused", False, None)


def test_a_job_that_waited_too_long_fails(db: Sessions, submit: Callable[..., Job]) -> None:
    late, patient = submit(max_queue_s=60), submit()
    with db.begin() as session:
        session.execute(update(Job).values(queued_at=Job.queued_at - func.make_interval(0, 0, 0, 0, 0, 2)))
    clean(db)
    with db() as session:
        assert session.get_one(Job, late.id).status == "failed"
        assert (session.get_one(Job, late.id).error or {})["code"] == "time_limit"
        assert session.get_one(Job, patient.id).status == "queued"


def test_a_job_that_has_begun_does_not_wait_for_its_first_worker_any_more(
    db: Sessions, submit: Callable[..., Job]
) -> None:
    submit(max_queue_s=60)
    attempt = take(db)
    with db.begin() as session:
        endings.hand_back(session, attempt, reason="told to stop")
        session.execute(update(Job).values(queued_at=Job.queued_at - func.make_interval(0, 0, 0, 0, 0, 2)))
    clean(db)
    assert job_of(db, attempt).status == "queued"


def test_a_training_ends_when_it_has_held_a_device_for_long_enough_over_all_attempts(
    db: Sessions, submit: Callable[..., Job]
) -> None:
    submit(max_run_s=100)
    first = take(db)
    hour_ago = func.clock_timestamp() - func.make_interval(0, 0, 0, 0, 0, 0, 60)
    with db.begin() as session:
        session.execute(update(Job).values(claimed_at=hour_ago))
        endings.hand_back(session, first, reason="told to stop")
    assert 59 < job_of(db, first).run_s < 62
    second = take(db)
    clean(db)
    assert job_of(db, second).stop_reason is None
    with db.begin() as session:
        session.execute(update(Job).values(claimed_at=hour_ago))
    clean(db)
    job = job_of(db, second)
    assert job.stop_reason == "its max_run_s of 100 s is over"
    with db.begin() as session:
        endings.finish(session, second)
    ended = job_of(db, second)
    assert (ended.status, (ended.error or {})["code"]) == ("failed", "time_limit"), "it has made no snapshot"
    with db() as session:
        types = session.scalars(select(JobEvent.type).order_by(JobEvent.seq)).all()
    assert types == ["queued", "running", "queued", "running", "stopping_early", "failed"]


@pytest.mark.usefixtures("_worker_settings")
@pytest.mark.parametrize("images_seen", [0, 8])
def test_a_training_that_a_rule_ends_keeps_what_it_has_even_if_saving_took_too_long(
    db: Sessions, submit: Callable[..., Job], images_seen: int
) -> None:
    submit()
    attempt = take(db)
    with db.begin() as session:
        session.execute(update(Job).values(stop_reason="plateau: for the test"))
        if images_seen:
            file = records.StoredFile(key="g", sha256="0" * 64, size_bytes=1)
            records.record_checkpoint(session, attempt, file, kind="generator", images_seen=images_seen)
    killed = SimpleNamespace(return_code=-9, last=None, last_lines=[])
    outcome.conclude(attempt, killed, Ending.EARLY, memory_ran_out=False)  # type: ignore[arg-type]
    job = job_of(db, attempt)
    assert job.status == ("succeeded" if images_seen else "failed")
    assert job.infrastructure_failures == 0


@pytest.mark.usefixtures("_worker_settings")
def test_a_worker_that_hangs_in_a_transaction_keeps_its_job_no_longer_than_others(
    db: Sessions, submit: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped between a write and its commit, it holds the job's row (chaos, a frozen worker)."""
    monkeypatch.setenv("SLAEGAN_LEASE_S", "4")
    sessions().kw["bind"].dispose()
    settings.cache_clear()
    sessions.cache_clear()
    submit()
    attempt = take(db, lease_s=-1)
    with sessions()() as hanging:
        fenced(hanging, attempt)
        clean(db)
        assert job_of(db, attempt).status == "running", "its row is locked"
        deadline = time.monotonic() + 10
        while job_of(db, attempt).status == "running":
            assert time.monotonic() < deadline, "the lock outlives a lease"
            time.sleep(0.1)
            clean(db)
        with pytest.raises(DBAPIError):
            hanging.commit()
    assert job_of(db, attempt).status == "queued"
