"""The queue's promises, on a real PostgreSQL: one holder a job, fenced writes, gapless events."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from core.errors import Conflict, LeaseLost, NotFound, OutOfMemory, TrainerCrashed
from core.evaluations import service as evaluations
from core.evaluations.tables import Evaluation
from core.jobs import endings, lease, records, requests, usage
from core.jobs.claim import claim as claim_job
from core.jobs.sweep import Hints, sweep
from core.jobs.tables import Checkpoint, Job, JobAttempt, JobEvent, LogLine, Loss, Worker
from core.schemas.ticks import WarningTick

if TYPE_CHECKING:
    from collections.abc import Callable

    from core.jobs.lease import Attempt
    from tests.integration.jobs.conftest import Sessions

LEASE_S = 60.0


def claim(db: Sessions, *, lease_s: float = LEASE_S) -> Attempt:
    with db.begin() as session:
        attempt = claim_job(session, worker="w", lease_s=lease_s)
    assert attempt is not None
    return attempt


def status(db: Sessions, job_id: UUID) -> str:
    with db() as session:
        return session.get_one(Job, job_id).status


def story(db: Sessions, job_id: UUID) -> list[str]:
    """The types of a job's events; their numbers must count from 1 without a gap."""
    with db() as session:
        events = session.scalars(
            select(JobEvent).where(JobEvent.job_id == job_id).order_by(JobEvent.seq)
        ).all()
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    return [event.type for event in events]


def run_sweep(db: Sessions) -> Hints:
    with db.begin() as session:
        return sweep(session, lease_s=LEASE_S, max_failures=3, max_evaluation_attempts=2)


def snapshot(db: Sessions, attempt: Attempt, images_seen: int = 0) -> None:
    """Record a generator and plan its evaluation, as a snapshot's effects do."""
    file = records.StoredFile(key=f"jobs/{uuid4()}", sha256="0" * 64, size_bytes=1)
    with db.begin() as session:
        checkpoint_id = records.record_checkpoint(
            session, attempt, file, kind="generator", images_seen=images_seen
        )
        assert checkpoint_id is not None
        for _ in range(2):  # A repeated plan is one evaluation.
            evaluations.plan(
                session,
                job_id=attempt.job_id,
                run=attempt.run,
                images_seen=images_seen,
                checkpoint_id=checkpoint_id,
                protocol={"extractor": "vgg16"},
                protocol_hash="p",
            )


def claim_evaluation(db: Sessions, *, lease_s: float = LEASE_S) -> evaluations.Claim:
    with db.begin() as session:
        held = evaluations.claim(session, worker="m", lease_s=lease_s)
    assert held is not None
    return held


def test_the_best_job_goes_first(db: Sessions, submit: Callable[..., Job]) -> None:
    first, urgent, second = submit(), submit(priority=5), submit()
    assert [claim(db).job_id for _ in range(3)] == [urgent.id, first.id, second.id]
    with db.begin() as session:
        assert claim_job(session, worker="w", lease_s=LEASE_S) is None


def test_no_job_is_claimed_twice_by_workers_that_race(db: Sessions, submit: Callable[..., Job]) -> None:
    jobs = {submit().id for _ in range(20)}
    with ThreadPoolExecutor(8) as pool:
        claimed = [attempt.job_id for attempt in pool.map(lambda _: claim(db), range(20))]
    assert sorted(claimed) == sorted(jobs)


def test_an_expired_lease_goes_back_to_the_queue_and_its_holder_writes_nothing_more(
    db: Sessions, submit: Callable[..., Job]
) -> None:
    job = submit()
    stale = claim(db, lease_s=-1)
    run_sweep(db)
    assert status(db, job.id) == "queued"
    fresh = claim(db)
    assert fresh.number == 2
    writes: list[Callable[..., object]] = [
        lambda s: lease.heartbeat(s, stale, lease_s=1),
        lambda s: lease.wish(s, stale),
        lambda s: records.record_progress(s, stale, images_seen=8, images_per_s=1, losses={8: {"d": 1}}),
        lambda s: records.record_facts(s, stale, {"device": "cpu"}),
        lambda s: records.record_log(s, stale, ["a line"]),
        lambda s: records.record_checkpoint(
            s, stale, records.StoredFile("k", "0", 1), kind="state", images_seen=8
        ),
        lambda s: records.record_sample(s, stale, records.StoredFile("k", "0", 1), images_seen=8),
        lambda s: endings.finish(s, stale),
        lambda s: endings.fail(s, stale, TrainerCrashed("x")),
        lambda s: endings.end_cancelled(s, stale),
        lambda s: endings.hand_back(s, stale, reason="x"),
        lambda s: endings.lose(s, stale, TrainerCrashed("x"), max_failures=3),
        lambda s: endings.run_out_of_memory(s, stale, OutOfMemory("x")),
    ]
    for write in writes:
        with pytest.raises(LeaseLost), db.begin() as session:
            write(session)
    with db() as session:
        for table in (Checkpoint, Loss, LogLine):
            assert session.scalars(select(table)).all() == []
    assert story(db, job.id) == ["queued", "running", "queued", "running"]


def test_a_job_that_loses_every_worker_fails_with_the_reason(
    db: Sessions, submit: Callable[..., Job]
) -> None:
    job = submit()
    for _ in range(3):
        claim(db, lease_s=-1)
        run_sweep(db)
    with db() as session:
        row = session.get_one(Job, job.id)
        assert row.status == "failed"
        assert row.error is not None
        assert row.error["code"] == "workers_lost"


def test_a_cancel_reaches_a_queued_a_running_and_an_evaluating_job(
    db: Sessions, submit: Callable[..., Job], tenant_id: UUID
) -> None:
    running, evaluating, queued = submit(), submit(), submit()
    held, done = claim(db), claim(db)
    assert (held.job_id, done.job_id) == (running.id, evaluating.id)
    snapshot(db, done)
    evaluator = claim_evaluation(db)
    with db.begin() as session:
        endings.finish(session, done)
    with db.begin() as session:
        states = [
            requests.cancel(session, tenant_id=tenant_id, job_id=job.id).status
            for job in (queued, evaluating)
        ]
        assert states == ["cancelled", "cancelled"]
        for _ in range(2):  # Asking twice is no error.
            assert requests.cancel(session, tenant_id=tenant_id, job_id=running.id).status == "running"
    with pytest.raises(LeaseLost), db.begin() as session:
        evaluations.post(session, evaluator, {"fid": 1.0})
    with db.begin() as session:
        assert lease.wish(session, held) is lease.Wish.CANCEL
        endings.end_cancelled(session, held)
    assert story(db, running.id) == ["queued", "running", "cancel_requested", "cancelled"]
    assert story(db, queued.id) == ["queued", "cancelled"]


def test_only_the_owner_cancels_and_only_what_is_not_over(
    db: Sessions, submit: Callable[..., Job], tenant_id: UUID
) -> None:
    job = submit()
    with pytest.raises(NotFound), db.begin() as session:
        requests.cancel(session, tenant_id=uuid4(), job_id=job.id)
    attempt = claim(db)
    with db.begin() as session:
        endings.finish(session, attempt)
    assert status(db, job.id) == "succeeded"
    with pytest.raises(Conflict), db.begin() as session:
        requests.cancel(session, tenant_id=tenant_id, job_id=job.id)


def test_a_worker_lost_while_its_job_is_being_cancelled_leaves_it_cancelled(
    db: Sessions, submit: Callable[..., Job], tenant_id: UUID
) -> None:
    job = submit()
    claim(db, lease_s=-1)
    with db.begin() as session:
        requests.cancel(session, tenant_id=tenant_id, job_id=job.id)
    run_sweep(db)
    assert status(db, job.id) == "cancelled"


@pytest.mark.parametrize("ending", ["finish", "hand_back"])
def test_a_cancel_that_meets_the_end_of_an_attempt_is_not_lost(
    db: Sessions, submit: Callable[..., Job], tenant_id: UUID, ending: str
) -> None:
    job = submit()
    attempt = claim(db)
    with db.begin() as session:
        requests.cancel(session, tenant_id=tenant_id, job_id=job.id)
    with db.begin() as session:
        if ending == "finish":
            endings.finish(session, attempt)
        else:
            endings.hand_back(session, attempt, reason="told to stop")
    assert status(db, job.id) == "cancelled"


def test_the_last_evaluation_lets_the_job_succeed(db: Sessions, submit: Callable[..., Job]) -> None:
    job = submit()
    attempt = claim(db)
    snapshot(db, attempt, 0)
    snapshot(db, attempt, 8)
    first = claim_evaluation(db)
    with db.begin() as session:
        evaluations.post(session, first, {"fid": 2.0})
    with db.begin() as session:
        endings.finish(session, attempt)
    assert status(db, job.id) == "evaluating"
    second = claim_evaluation(db)
    with db.begin() as session:
        evaluations.give_up(session, second, TrainerCrashed("x"))
    assert status(db, job.id) == "succeeded"
    assert story(db, job.id)[-4:] == ["evaluated", "evaluating", "evaluation_failed", "succeeded"]
    with pytest.raises(LeaseLost), db.begin() as session:
        evaluations.post(session, first, {"fid": 2.0})


def test_two_evaluations_that_end_at_once_end_the_job_once(db: Sessions, submit: Callable[..., Job]) -> None:
    for _ in range(5):
        job = submit()
        attempt = claim(db)
        for seen in (0, 8):
            snapshot(db, attempt, seen)
        with db.begin() as session:
            endings.finish(session, attempt)
        held = [claim_evaluation(db) for _ in range(2)]

        def post(one: evaluations.Claim) -> None:
            with db.begin() as session:
                evaluations.post(session, one, {"fid": 1.0})

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(post, held))
        assert story(db, job.id)[-3:] == ["evaluated", "evaluated", "succeeded"]


def test_a_lost_evaluator_is_replaced_and_then_given_up(db: Sessions, submit: Callable[..., Job]) -> None:
    job = submit()
    attempt = claim(db)
    snapshot(db, attempt)
    with db.begin() as session:
        endings.finish(session, attempt)
    for expected in ("evaluating", "succeeded"):
        claim_evaluation(db, lease_s=-1)
        run_sweep(db)
        assert status(db, job.id) == expected
    with db() as session:
        assert session.scalars(select(Evaluation.status)).all() == ["failed"]
    assert "evaluation_failed" in story(db, job.id)


def test_hints_wake_no_more_workers_than_are_idle(db: Sessions, submit: Callable[..., Job]) -> None:
    for _ in range(3):
        submit()
    assert run_sweep(db) == Hints(train=0, metrics=0, generate=0)
    with db.begin() as session:
        for name in ("w", "x"):
            session.add(Worker(name=name, kind="train", device="cpu", host="h", pid=1))
    assert run_sweep(db) == Hints(train=2, metrics=0, generate=0)
    claim(db)
    assert run_sweep(db) == Hints(train=1, metrics=0, generate=0)


def test_a_resumed_attempt_writes_over_the_losses_of_the_lost_one(
    db: Sessions, submit: Callable[..., Job]
) -> None:
    submit()
    attempt = claim(db)
    for value in (1.0, 2.0):
        with db.begin() as session:
            records.record_progress(session, attempt, images_seen=8, images_per_s=3, losses={8: {"d": value}})
    with db() as session:
        assert [row.losses for row in session.scalars(select(Loss))] == [{"d": 2.0}]


def test_states_are_kept_newest_first_and_pruned(db: Sessions, submit: Callable[..., Job]) -> None:
    submit()
    attempt = claim(db)
    for seen in (8, 16, 24):
        with db.begin() as session:
            file = records.StoredFile(key=f"state-{seen}", sha256="0" * 64, size_bytes=1)
            records.record_checkpoint(session, attempt, file, kind="state", images_seen=seen)
            old = records.forget_states(session, attempt, keep=2)
    assert old == ["state-8"]
    with db() as session:
        assert [s.images_seen for s in records.latest_states(session, attempt.job_id, run=1)] == [24, 16]


def test_a_training_that_went_back_has_no_later_state_to_resume_from(
    db: Sessions, submit: Callable[..., Job]
) -> None:
    job = submit()
    attempt = claim(db)
    for seen in (8, 16, 24):
        with db.begin() as session:
            file = records.StoredFile(key=f"state-{seen}", sha256="0" * 64, size_bytes=1)
            records.record_checkpoint(session, attempt, file, kind="state", images_seen=seen)
    warning = WarningTick(code="non_finite", message="It went back.", images_seen=8)
    with db.begin() as session:
        assert sorted(records.record_warning(session, attempt, warning)) == ["state-16", "state-24"]
    with db() as session:
        assert [s.images_seen for s in records.latest_states(session, attempt.job_id, run=1)] == [8]
        assert session.get_one(Job, job.id).images_seen == 8
        (event,) = session.scalars(select(JobEvent).where(JobEvent.type == "warning"))
        assert event.payload["message"] == "It went back."


@pytest.mark.parametrize(
    "change",
    [
        "status = 'running'",
        "status = 'failed', finished_at = now()",
        "status = 'succeeded'",
        "status = 'lost'",
        "lease_token = gen_random_uuid()",
    ],
)
def test_the_schema_refuses_states_that_cannot_be(
    db: Sessions, submit: Callable[..., Job], change: str
) -> None:
    submit()
    with pytest.raises(IntegrityError), db.begin() as session:
        session.execute(text("update jobs set " + change))  # noqa: S608  # the changes stand above


def test_a_clock_that_was_set_back_blocks_no_ending(
    db: Sessions, tenant_id: UUID, submit: Callable[..., Job]
) -> None:
    submit(), submit()
    ended, lost = claim(db), claim(db, lease_s=-1)
    with db.begin() as session:  # As if both had begun by a clock that was an hour ahead.
        session.execute(text("update job_attempts set started_at = started_at + interval '1 h'"))
        session.execute(text("update jobs set claimed_at = claimed_at + interval '1 h'"))
    with db.begin() as session:
        assert [a.device_s for a in usage.attempts(session, tenant_id=tenant_id, job_id=ended.job_id)] == [0]
        endings.finish(session, ended)
    run_sweep(db)
    assert [status(db, job_id) for job_id in (ended.job_id, lost.job_id)] == ["succeeded", "queued"]
    with db() as session:
        held = session.execute(
            select(JobAttempt.outcome, JobAttempt.ended_at - JobAttempt.started_at, Job.run_s)
            .join(Job, Job.id == JobAttempt.job_id)
            .order_by(JobAttempt.outcome)
        ).all()
        assert [tuple(row) for row in held] == [("finished", timedelta(), 0), ("lost", timedelta(), 0)]
