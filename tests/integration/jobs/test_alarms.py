"""What a curve says against a training, on the job and in its events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from core.evaluations import service as evaluations
from core.evaluations.tables import Evaluation
from core.jobs import records
from core.jobs.tables import Job, JobEvent
from core.schemas.ticks import WarningTick
from tests.integration.jobs.test_lease import claim, claim_evaluation, snapshot
from tests.integration.jobs.test_retention import config, post

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from tests.integration.jobs.conftest import Sessions


def alarms_told(db: Sessions, job_id: UUID) -> list[tuple[str, str, int]]:
    with db() as session:
        events = session.scalars(
            select(JobEvent)
            .where(JobEvent.job_id == job_id, JobEvent.type.in_(("alarm", "alarm_cleared")))
            .order_by(JobEvent.seq)
        )
        return [(event.type, event.payload["kind"], event.payload["images_seen"]) for event in events]


def raised(db: Sessions, job_id: UUID) -> list[str]:
    with db() as session:
        return [alarm["kind"] for alarm in session.get_one(Job, job_id).alarms]


def test_an_alarm_is_told_once_and_stands_on_the_job_until_it_is_cleared(
    db: Sessions, submit: Callable[..., Job]
) -> None:
    job = submit()
    attempt = claim(db)
    for seen, rate, flags in (
        (0, 0.0, []), (8, 0.5, ["copies"]), (16, 0.9, ["copies"]), (24, 0.1, []), (32, 0.3, ["copies"])
    ):  # fmt: skip
        snapshot(db, attempt, seen)
        post(db, fid=9.0 - seen / 8, copy_rate=rate)
        assert raised(db, job.id) == flags
    assert alarms_told(db, job.id) == [
        ("alarm", "copies", 8),
        ("alarm_cleared", "copies", 24),
        ("alarm", "copies", 32),
    ]
    with db() as session:
        (alarm,) = session.get_one(Job, job.id).alarms
        evaluation = session.scalars(select(Evaluation).where(Evaluation.images_seen == 32)).one()
    assert alarm["evaluation_id"] == str(evaluation.id)
    assert alarm["message"].startswith("30% of the generated pictures copy")


def test_several_alarms_at_once_and_a_training_that_goes_back(
    db: Sessions, submit: Callable[..., Job]
) -> None:
    job = submit(config=config(alarms={"collapse_evaluations": 1}))
    attempt = claim(db)
    snapshot(db, attempt, 0)
    post(db, fid=9.0, recall=0.8, copy_rate=0.5)
    snapshot(db, attempt, 8)
    post(db, fid=8.0, recall=0.1, copy_rate=0.5, kid=-1.0)
    assert raised(db, job.id) == ["copies", "kid_below_zero", "collapse"]
    with db.begin() as session:
        warning = WarningTick(code="non_finite", message="it went back", images_seen=4)
        records.record_warning(session, attempt, warning)
    assert raised(db, job.id) == ["copies"], "what came after that time has not been"


def test_a_late_result_of_an_old_snapshot_does_not_speak_for_the_newest(
    db: Sessions, submit: Callable[..., Job]
) -> None:
    job = submit()
    attempt = claim(db)
    snapshot(db, attempt, 0)
    late = claim_evaluation(db)
    snapshot(db, attempt, 8)
    post(db, fid=9.0, copy_rate=0.0)
    with db.begin() as session:
        evaluations.post(
            session, late, {"fid": 9.0, "kid": 1.0, "kid_sd": 0.1, "lpips": 0.5, "copy_rate": 1.0}
        )
    assert raised(db, job.id) == []
    assert alarms_told(db, job.id) == []
