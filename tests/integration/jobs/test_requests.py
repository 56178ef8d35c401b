"""Pause, resume, retry, extend: what each makes of a job in every state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from sqlalchemy import func, select, update

from core.datasets.tables import Dataset
from core.errors import Conflict, InvalidRequest, NotFound, QuotaExceeded, TrainerCrashed
from core.evaluations import service as evaluations
from core.evaluations.tables import Evaluation
from core.jobs import endings, lease, records, requests
from core.jobs.claim import claim
from core.jobs.tables import Checkpoint, Job, JobEvent, Loss
from core.monitoring import state
from core.schemas.judging import StoppingConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.jobs.conftest import Sessions


class One:
    """A job, and its tenant's wishes."""

    def __init__(self, db: Sessions, job: Job) -> None:
        self.db, self.id, self.tenant_id = db, job.id, job.tenant_id

    def ask(self, what: str, **values: Any) -> Job:
        with self.db.begin() as session:
            request = getattr(requests, what)
            changed: Job = request(session, tenant_id=self.tenant_id, job_id=self.id, **values)
            return changed

    def begin(self) -> lease.Attempt:
        with self.db.begin() as session:
            attempt = claim(session, worker="w", lease_s=60)
        assert attempt is not None
        assert attempt.job_id == self.id
        return attempt

    def end(self, how: Callable[..., object], attempt: lease.Attempt, *args: Any, **values: Any) -> None:
        with self.db.begin() as session:
            how(session, attempt, *args, **values)

    def leave(self, attempt: lease.Attempt, images_seen: int, *, evaluated: bool = True) -> None:
        """A state, a generator with its evaluation, and losses, as a training leaves them."""
        with self.db.begin() as session:
            for kind in ("state", "generator"):
                file = records.StoredFile(key=f"jobs/{uuid4()}", sha256="0" * 64, size_bytes=1)
                made = records.record_checkpoint(session, attempt, file, kind=kind, images_seen=images_seen)
            assert made is not None
            records.record_progress(
                session, attempt, images_seen=images_seen, images_per_s=1, losses={images_seen: {"d": 1.0}}
            )
            evaluations.plan(
                session,
                job_id=attempt.job_id,
                run=attempt.run,
                images_seen=images_seen,
                checkpoint_id=made,
                protocol={},
                protocol_hash="p",
            )
        if evaluated:
            with self.db.begin() as session:
                held = evaluations.claim(session, worker="m", lease_s=60)
                assert held is not None
                evaluations.post(session, held, {"kid": 1.0})

    @property
    def row(self) -> Job:
        with self.db() as session:
            return session.get_one(Job, self.id)

    @property
    def story(self) -> list[str]:
        with self.db() as session:
            return list(session.scalars(select(JobEvent.type).order_by(JobEvent.seq)))

    def runs(self, table: type[Checkpoint | Evaluation | Loss]) -> list[tuple[int, int]]:
        with self.db() as session:
            rows = session.execute(select(table.run, table.images_seen).order_by(table.images_seen))
            return [(run, seen) for run, seen in rows]


@pytest.fixture
def one(db: Sessions, submit: Callable[..., Job]) -> One:
    return One(db, submit())


def test_a_waiting_job_pauses_at_once_and_goes_to_the_end_of_the_queue(
    one: One, submit: Callable[..., Job]
) -> None:
    other = submit()
    assert one.ask("pause").status == "paused"
    assert one.ask("pause").status == "paused", "twice is no error"
    assert one.ask("resume").status == "queued"
    assert one.ask("resume").status == "queued"
    assert one.story.count("queued") == 3  # of both jobs
    with one.db.begin() as session:
        attempt = claim(session, worker="w", lease_s=60)
    assert attempt is not None
    assert attempt.job_id == other.id


def test_a_running_job_pauses_when_its_training_has_stopped(one: One) -> None:
    attempt = one.begin()
    assert one.ask("pause").status == "running"
    assert one.ask("pause").pause_requested, "twice is no error"
    with one.db() as session:
        assert lease.wish(session, attempt) is lease.Wish.PAUSE
    one.end(endings.hand_back, attempt, reason="it is to pause")
    job = one.row
    assert (job.status, job.pause_requested, job.infrastructure_failures) == ("paused", False, 0)
    assert job.run_s > 0
    one.ask("resume")
    assert one.begin().number == 2
    assert one.story == ["queued", "running", "pause_requested", "paused", "queued", "running"]


def test_a_wish_to_pause_can_be_taken_back(one: One) -> None:
    attempt = one.begin()
    one.ask("pause")
    assert not one.ask("resume").pause_requested
    with one.db() as session:
        assert lease.wish(session, attempt) is lease.Wish.GO_ON
    # Should the training have stopped already, it goes back to the queue.
    one.end(endings.hand_back, attempt, reason="it is to pause")
    assert one.row.status == "queued"


def test_a_training_that_ends_before_it_can_pause_is_done(one: One) -> None:
    attempt = one.begin()
    one.ask("pause")
    one.end(endings.finish, attempt)
    assert (one.row.status, one.row.pause_requested) == ("succeeded", False)


def test_a_paused_job_can_be_cancelled(one: One) -> None:
    one.ask("pause")
    assert one.ask("cancel").status == "cancelled"


def test_cancel_goes_before_pause(one: One) -> None:
    attempt = one.begin()
    one.ask("pause")
    one.ask("cancel")
    with one.db() as session:
        assert lease.wish(session, attempt) is lease.Wish.CANCEL
    with pytest.raises(Conflict, match="being cancelled"):
        one.ask("pause")
    one.end(endings.hand_back, attempt, reason="x")
    assert one.row.status == "cancelled"


def test_a_failed_job_goes_on_from_its_state_with_its_curve(one: One) -> None:
    attempt = one.begin()
    one.leave(attempt, 8)
    one.end(endings.fail, attempt, TrainerCrashed("It fell."))
    before = one.row
    assert before.error is not None
    job = one.ask("retry")
    assert (job.status, job.run, job.images_seen, job.error) == ("queued", 2, 8, None)
    assert (job.finished_at, job.started_at, job.run_s, job.attempt) == (None, None, 0, 1)
    for table in (Checkpoint, Evaluation, Loss):
        assert {run for run, _ in one.runs(table)} == {2}
    again = one.begin()
    assert (again.run, again.number) == (2, 2)
    with one.db() as session:
        assert [state.images_seen for state in records.latest_states(session, one.id, run=2)] == [8]
    one.leave(again, 16)
    one.end(endings.finish, again)
    assert one.runs(Evaluation) == [(2, 8), (2, 16)]
    assert one.row.status == "succeeded"


def test_a_retry_evaluates_what_the_end_of_the_run_before_skipped(one: One) -> None:
    attempt = one.begin()
    one.leave(attempt, 8, evaluated=False)
    one.ask("cancel")
    one.end(endings.end_cancelled, attempt)
    one.ask("retry")
    with one.db.begin() as session:
        held = evaluations.claim(session, worker="m", lease_s=60)
    assert held is not None
    assert (held.run, held.images_seen, held.attempt) == (2, 8, 1)


def test_what_is_evaluated_again_has_waited_since_the_retry_and_keeps_its_order(one: One) -> None:
    attempt = one.begin()
    for images_seen in (8, 16, 24):
        one.leave(attempt, images_seen, evaluated=False)
    one.ask("cancel")
    one.end(endings.end_cancelled, attempt)
    with one.db.begin() as session:
        week = func.make_interval(0, 0, 1)
        session.execute(update(Evaluation).values(created_at=Evaluation.created_at - week))
        # The same snapshot under a newer protocol, by which the curve is read.
        old = session.scalars(select(Evaluation).where(Evaluation.images_seen == 16)).one()
        evaluations.plan(
            session,
            job_id=one.id,
            run=1,
            images_seen=16,
            checkpoint_id=old.checkpoint_id,  # type: ignore[arg-type]
            protocol={},
            protocol_hash="newer",
        )
    one.ask("retry")
    with one.db() as session:
        lag = next(gauge for gauge in state.GAUGES if gauge.name == "slaegan_evaluation_lag_seconds")
        assert 0 < state.read(session, lag, lease_s=60)[0][0] < 60
        again = session.scalars(
            select(Evaluation).where(Evaluation.status == "queued").order_by(Evaluation.created_at)
        ).all()
        assert [row.images_seen for row in again if row.protocol_hash == "p"] == [8, 24]
        of_16 = session.scalars(
            select(Evaluation.protocol_hash)
            .where(Evaluation.images_seen == 16)
            .order_by(Evaluation.created_at)
        ).all()
        assert of_16 == ["p", "newer"]


def test_pictures_looked_up_on_demand_are_no_evaluation_lag(one: One) -> None:
    attempt = one.begin()
    one.leave(attempt, 8, evaluated=False)
    with one.db.begin() as session:
        session.execute(update(Evaluation).values(kind="backtracking"))
        lag = next(gauge for gauge in state.GAUGES if gauge.name == "slaegan_evaluation_lag_seconds")
        assert state.read(session, lag, lease_s=60)[0][0] == 0


def test_a_fresh_retry_begins_at_zero_and_leaves_the_last_run_its_curve(one: One) -> None:
    attempt = one.begin()
    one.leave(attempt, 8)
    one.ask("cancel")
    one.end(endings.end_cancelled, attempt)
    job = one.ask("retry", fresh=True)
    assert (job.images_seen, job.losses, job.alarms, job.cancel_requested) == (0, {}, [], False)
    assert one.runs(Evaluation) == [(1, 8)]
    with one.db() as session:
        assert records.latest_states(session, one.id, run=2) == []


def test_an_extension_goes_on_to_a_larger_total(one: One) -> None:
    attempt = one.begin()
    one.leave(attempt, 16)
    one.end(endings.finish, attempt)
    with pytest.raises(InvalidRequest, match="16 images already"):
        one.ask("extend", total_images=16)
    rules = StoppingConfig(plateau_evaluations=None)
    job = one.ask("extend", total_images=1_000_000, stopping=rules)
    assert (job.status, job.run, job.total_images, job.images_seen) == ("queued", 2, 1_000_000, 16)
    assert job.config["total_images"] == 1_000_000
    assert job.config["stopping"]["plateau_evaluations"] is None
    assert one.begin().config["total_images"] == 1_000_000
    assert one.runs(Evaluation) == [(2, 16)]


@pytest.mark.parametrize(
    ("reason", "kept"),
    [("plateau: for the test", False), ("its max_run_s of 9 s is over", True), (None, True)],
)
def test_an_extension_goes_beyond_the_rule_that_ended_the_job(
    one: One, reason: str | None, *, kept: bool
) -> None:
    attempt = one.begin()
    one.leave(attempt, 16)
    with one.db.begin() as session:
        session.execute(update(Job).values(stop_reason=reason))
    one.end(endings.finish, attempt)
    job = one.ask("extend", total_images=1_000)
    assert (job.config["stopping"]["plateau_evaluations"] is not None) is kept
    assert job.stop_reason is None


def test_nothing_is_extended_without_a_state(one: One) -> None:
    one.end(endings.finish, one.begin())
    with pytest.raises(Conflict, match="state"):
        one.ask("extend", total_images=10**8)


@pytest.mark.parametrize("what", ["retry", "extend"])
def test_no_new_run_on_deleted_pictures(one: One, what: str) -> None:
    attempt = one.begin()
    one.leave(attempt, 8)
    if what == "retry":
        one.end(endings.fail, attempt, TrainerCrashed("x"))
    else:
        one.end(endings.finish, attempt)
    with one.db.begin() as session:
        session.execute(update(Dataset).values(deleted_at=func.now()))
    with pytest.raises(Conflict, match="pictures"):
        one.ask(what, **({"total_images": 10**8} if what == "extend" else {}))


def test_no_new_run_from_a_checkpoint_that_is_gone(db: Sessions, submit: Callable[..., Job]) -> None:
    source = One(db, submit())
    attempt = source.begin()
    source.leave(attempt, 8)
    source.end(endings.finish, attempt)
    with db() as session:
        begin = session.scalars(select(Checkpoint.id).where(Checkpoint.kind == "generator")).one()
    tuned = One(db, submit(init_from=begin))
    tuned.ask("cancel")
    with db.begin() as session:
        session.delete(session.get_one(Checkpoint, begin))
    with pytest.raises(Conflict, match="began from"):
        tuned.ask("retry")


def test_a_new_run_waits_within_the_tenants_share(one: One, submit: Callable[..., Job]) -> None:
    one.ask("cancel")
    submit()
    with pytest.raises(QuotaExceeded):
        one.ask("retry", max_queued=1)


@pytest.mark.parametrize(
    ("state", "refused"),
    [
        ("queued", ["retry", "extend"]),
        ("running", ["retry", "extend"]),
        ("evaluating", ["pause", "resume", "retry", "extend"]),
        ("paused", ["retry", "extend"]),
        ("succeeded", ["pause", "resume", "retry", "cancel"]),
        ("failed", ["pause", "resume", "extend", "cancel"]),
        ("cancelled", ["pause", "resume", "extend"]),
    ],
)
def test_what_each_state_refuses(one: One, state: str, refused: list[str]) -> None:
    match state:
        case "running":
            one.begin()
        case "evaluating":
            attempt = one.begin()
            one.leave(attempt, 8, evaluated=False)
            one.end(endings.finish, attempt)
        case "paused":
            one.ask("pause")
        case "succeeded":
            one.end(endings.finish, one.begin())
        case "failed":
            one.end(endings.fail, one.begin(), TrainerCrashed("x"))
        case "cancelled":
            one.ask("cancel")
    assert one.row.status == state
    story = one.story
    for what in refused:
        with pytest.raises(Conflict):
            one.ask(what, **({"total_images": 10**8} if what == "extend" else {}))
    assert one.story == story


@pytest.mark.parametrize("what", ["cancel", "pause", "resume", "retry", "extend"])
def test_only_the_owner_asks(one: One, what: str) -> None:
    one.tenant_id = uuid4()
    with pytest.raises(NotFound):
        one.ask(what, **({"total_images": 10**8} if what == "extend" else {}))
