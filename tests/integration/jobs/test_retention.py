"""Which generators stay, and how a curve ends a training."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

from sqlalchemy import func, select, update

from core.errors import Conflict
from core.evaluations import service as evaluations
from core.evaluations.tables import Evaluation
from core.garbage.names import nameless
from core.jobs import endings, lease, records, requests, service
from core.jobs.sweep import sweep
from core.jobs.tables import Checkpoint, Job, JobEvent
from core.schemas.judging import RetentionConfig, StoppingConfig
from core.schemas.slaegan import SlaeganConfig
from tests.integration.jobs.test_lease import claim, claim_evaluation, snapshot

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from tests.integration.jobs.conftest import Sessions


def post(db: Sessions, *, fid: float, **metrics: float) -> list[str]:
    held = claim_evaluation(db)
    with db.begin() as session:
        return evaluations.post(
            session, held, {"fid": fid, "kid": fid / 10, "kid_sd": 0.01, "lpips": 0.5} | metrics
        )


def ages(db: Sessions, job_id: UUID) -> list[int]:
    with db() as session:
        rows = session.scalars(select(Checkpoint.images_seen).where(Checkpoint.job_id == job_id))
        return sorted(rows)


def config(**values: object) -> SlaeganConfig:
    return SlaeganConfig.model_validate({"resolution": 64} | values)


def test_the_best_the_last_and_the_pinned_stay(db: Sessions, submit: Callable[..., Job]) -> None:
    job = submit(config=config(retention=RetentionConfig(best=1, last=1)))
    attempt = claim(db)
    snapshot(db, attempt, 0)
    assert post(db, fid=9.0) == []
    with db.begin() as session:
        (first,) = session.scalars(select(Checkpoint)).all()
        service.pin(session, tenant_id=job.tenant_id, checkpoint_id=first.id, pinned=True)
    snapshot(db, attempt, 8)
    assert post(db, fid=5.0) == []
    snapshot(db, attempt, 16)
    assert post(db, fid=7.0) == []
    assert ages(db, job.id) == [0, 8, 16]
    snapshot(db, attempt, 24)
    assert ages(db, job.id) == [0, 8, 16, 24], "what is still to be evaluated stays"
    (gone,) = post(db, fid=8.0)
    assert ages(db, job.id) == [0, 8, 24]
    with db.begin() as session:
        assert nameless(session, [gone]) == [gone]
        curve = session.scalars(select(Evaluation).order_by(Evaluation.images_seen)).all()
        assert [row.checkpoint_id is None for row in curve] == [False, False, True, False]
        service.pin(session, tenant_id=job.tenant_id, checkpoint_id=first.id, pinned=False)
    snapshot(db, attempt, 32)
    assert len(post(db, fid=8.5)) == 2
    assert ages(db, job.id) == [8, 32]


def test_the_best_are_ranked_as_they_are_shown(db: Sessions, submit: Callable[..., Job]) -> None:
    job = submit(config=config(retention=RetentionConfig(best=1, last=1)))
    attempt = claim(db)
    for seen, fid, recall in ((0, 1.0, 0.2), (8, 1.05, 0.5), (16, 2.0, 0.9)):
        snapshot(db, attempt, seen)
        post(db, fid=fid, recall=recall)
    assert ages(db, job.id) == [8, 16], "within one standard deviation of the lowest KID recall decides"


def test_what_a_job_begins_from_stays_until_it_is_over(db: Sessions, submit: Callable[..., Job]) -> None:
    job = submit(config=config(retention=RetentionConfig(best=1, last=1)))
    attempt = claim(db)
    snapshot(db, attempt, 0)
    post(db, fid=9.0)
    with db.begin() as session:
        source = session.scalars(select(Checkpoint.id)).one()
        tuned = service.create(
            session,
            tenant_id=job.tenant_id,
            dataset_id=job.dataset_id,
            config=config(),
            name="",
            priority=0,
            init_from=source,
        )
    for seen in (8, 16):
        snapshot(db, attempt, seen)
        post(db, fid=8.0 / seen)
    assert ages(db, job.id) == [0, 16]
    with db.begin() as session:
        requests.cancel(session, tenant_id=job.tenant_id, job_id=tuned.id)
    snapshot(db, attempt, 24)
    post(db, fid=0.1)
    assert ages(db, job.id) == [24]
    with db() as session:
        assert session.get_one(Job, tuned.id).init_from is None


def test_a_plateau_asks_the_trainer_to_finish(db: Sessions, submit: Callable[..., Job]) -> None:
    job = submit(config=config(stopping=StoppingConfig(plateau_evaluations=2)))
    attempt = claim(db)
    for seen in (0, 8, 16):
        with db() as session:
            assert lease.wish(session, attempt) is lease.Wish.GO_ON
        snapshot(db, attempt, seen)
        post(db, fid=1.0)
    with db() as session:
        assert lease.wish(session, attempt) is lease.Wish.FINISH
        (event,) = session.scalars(select(JobEvent).where(JobEvent.type == "stopping_early"))
    assert event.payload["reason"].startswith("plateau")
    snapshot(db, attempt, 24)
    post(db, fid=1.0)
    with db.begin() as session:
        count = select(func.count()).where(JobEvent.type == "stopping_early")
        assert session.scalar(count) == 1, "said once"
        endings.finish(session, attempt)
        ended = session.get_one(Job, job.id)
        assert (ended.status, ended.stop_reason) == ("succeeded", event.payload["reason"])


def test_an_evaluation_pauses_before_its_next_try(db: Sessions, submit: Callable[..., Job]) -> None:
    submit()
    snapshot(db, claim(db))
    for attempts in (1, 2, 3):
        held = claim_evaluation(db)
        with db.begin() as session:
            evaluations.lose(session, held, Conflict("x"), max_attempts=3, pause_s=10)
            row = session.scalars(select(Evaluation)).one()
            assert (row.attempts, row.status) == (attempts, "failed" if attempts == 3 else "running")
        with db.begin() as session:
            assert evaluations.claim(session, worker="m", lease_s=60) is None, "not at once"
            past = func.clock_timestamp() - func.make_interval(0, 0, 0, 0, 0, 0, 1)
            session.execute(
                update(Evaluation).where(Evaluation.status == "running").values(lease_expires_at=past)
            )
        with db.begin() as session:
            sweep(session, lease_s=60, max_failures=3, max_evaluation_attempts=3)


def test_a_late_commit_leaves_no_file_without_a_row(db: Sessions, submit: Callable[..., Job]) -> None:
    submit()
    attempt = claim(db)
    key = f"jobs/{uuid4()}"
    with db.begin() as session:
        file = records.StoredFile(key=key, sha256="0" * 64, size_bytes=1)
        records.record_checkpoint(session, attempt, file, kind="state", images_seen=8)
        # The same write again, as after a commit whose answer was lost.
        assert records.record_checkpoint(session, attempt, file, kind="state", images_seen=8) is None
        assert nameless(session, [key, "jobs/other"]) == ["jobs/other"]
