"""The time that attempts hold devices: a row each, written with the claim and the ending, and its sums."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from sqlalchemy import func, select, update

from core.errors import OutOfMemory, StoreUnavailable
from core.evaluations import service as evaluations
from core.evaluations.tables import Evaluation
from core.jobs import endings
from core.jobs.service import drop_evaluations
from core.jobs.sweep import sweep
from core.jobs.tables import Job, JobAttempt, Worker
from tests.integration.api import story
from tests.integration.api.conftest import new_person, problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.orm import Session

    from core.jobs.lease import Attempt
    from tests.integration.api.conftest import Api, Person

MIDNIGHT = datetime(2031, 5, 2, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _worker(session: Session) -> Iterator[None]:
    session.add(Worker(name="w1", kind="train", device="cuda:1", host="h", pid=1))
    session.commit()
    yield
    session.rollback()
    session.delete(session.get_one(Worker, "w1"))
    session.commit()


def attempts(person: Person, job: dict[str, Any]) -> list[dict[str, Any]]:
    response = person.get(f"/v1/jobs/{job['id']}/attempts")
    assert response.status_code == 200, response.text
    items: list[dict[str, Any]] = response.json()["items"]
    return items


def run_sweep(session: Session, *, max_failures: int = 5) -> None:
    sweep(session, lease_s=60, max_failures=max_failures, max_evaluation_attempts=3)
    session.commit()


def held(session: Session, which: Any, *, begin: datetime, end: datetime | None) -> None:
    """Have an attempt held its device at another time."""
    session.execute(update(JobAttempt).where(which).values(started_at=begin, ended_at=end))
    session.commit()


def cancel(session: Session, attempt: Attempt) -> None:
    session.execute(update(Job).where(Job.id == attempt.job_id).values(cancel_requested=True))
    endings.hand_back(session, attempt, reason="x")


def pause(session: Session, attempt: Attempt) -> None:
    session.execute(update(Job).where(Job.id == attempt.job_id).values(pause_requested=True))
    endings.hand_back(session, attempt, reason="x")


def lose_lease(session: Session, attempt: Attempt) -> None:
    past = func.clock_timestamp() - timedelta(seconds=1)
    session.execute(update(Job).where(Job.id == attempt.job_id).values(lease_expires_at=past))
    run_sweep(session)


@pytest.mark.parametrize(
    ("end", "outcome"),
    [
        (endings.finish, "finished"),
        (lambda session, attempt: endings.hand_back(session, attempt, reason="x"), "requeued"),
        (lambda session, attempt: endings.lose(session, attempt, StoreUnavailable("x"), max_failures=5), "requeued"),
        (lambda session, attempt: endings.lose(session, attempt, StoreUnavailable("x"), max_failures=1), "failed"),
        (lambda session, attempt: endings.run_out_of_memory(session, attempt, OutOfMemory("x")), "requeued"),
        (cancel, "cancelled"),
        (pause, "paused"),
        (lose_lease, "lost"),
    ],
)  # fmt: skip
def test_each_ending_ends_the_row(
    owner: Person, session: Session, end: Callable[[Session, Attempt], None], outcome: str
) -> None:
    job = story.submit(owner)
    assert attempts(owner, job) == []
    attempt = story.start(session, job)
    [running] = attempts(owner, job)
    assert (running["kind"], running["number"], running["run"]) == ("training", 1, 1)
    assert (running["worker"], running["device"], running["ended_at"]) == ("w1", "cuda:1", None)
    assert (running["outcome"], running["evaluation_id"]) == (None, None)
    assert running["device_s"] > 0
    end(session, attempt)
    session.commit()
    [ended] = attempts(owner, job)
    assert ended["outcome"] == outcome
    lasted = datetime.fromisoformat(ended["ended_at"]) - datetime.fromisoformat(ended["started_at"])
    assert ended["device_s"] == pytest.approx(lasted.total_seconds())
    # Two ways of counting the same: each reads the clock by itself.
    assert owner.get(f"/v1/jobs/{job['id']}").json()["run_s"] == pytest.approx(ended["device_s"], abs=0.5)
    owner.post(f"/v1/jobs/{job['id']}/cancel")


def test_every_attempt_has_a_row_of_its_own(owner: Person, session: Session) -> None:
    job = story.submit(owner)
    for _ in range(2):
        endings.hand_back(session, story.start(session, job), reason="x")
        session.commit()
    story.start(session, job, worker="unknown")
    assert [(row["number"], row["outcome"], row["device"]) for row in attempts(owner, job)] == [
        (1, "requeued", "cuda:1"),
        (2, "requeued", "cuda:1"),
        (3, None, None),
    ]


def test_evaluations_are_counted(owner: Person, session: Session) -> None:
    job = story.submit(owner)
    attempt = story.start(session, job)
    made = story.checkpoint(session, attempt, b"x")
    story.evaluation(session, attempt, made, images_seen=0, fid=None)

    def claim() -> evaluations.Claim:
        session.execute(
            update(Evaluation)
            .where(Evaluation.status == "queued", Evaluation.job_id != attempt.job_id)
            .values(status="skipped")
        )
        found = evaluations.claim(session, worker="w1", lease_s=60)
        assert found is not None
        session.commit()
        return found

    evaluations.hand_back(session, claim())
    session.commit()
    evaluations.lose(session, claim(), StoreUnavailable("x"), max_attempts=3, pause_s=0)
    session.commit()
    run_sweep(session)  # the pause is over
    evaluations.post(session, claim(), {"fid": 1.0, "kid": 0.1})
    session.commit()
    told = [(row["kind"], row["number"], row["outcome"]) for row in attempts(owner, job)]
    assert told == [
        ("training", 1, None),
        ("metrics", 1, "requeued"),
        ("metrics", 1, "requeued"),
        ("metrics", 2, "finished"),
    ]
    story.evaluation(session, attempt, made, images_seen=8, fid=None)
    claim()
    drop_evaluations(session, attempt.job_id, reason="x")
    session.commit()
    assert attempts(owner, job)[-1]["outcome"] is None, "its evaluator has not noticed yet"
    run_sweep(session)
    assert attempts(owner, job)[-1]["outcome"] == "dropped"


def test_sums_by_job_and_by_day(owner: Person, stranger: Person, session: Session) -> None:
    jobs = []
    for name in ("first", "second"):
        job = story.submit(owner, name=name)
        jobs.append(job)
        endings.finish(session, story.start(session, job))
        session.commit()
    one, two = (JobAttempt.job_id == UUID(job["id"]) for job in jobs)
    # An hour over midnight; and ten minutes on the next day, on a CPU.
    held(session, one, begin=MIDNIGHT - timedelta(minutes=20), end=MIDNIGHT + timedelta(minutes=40))
    held(session, two, begin=MIDNIGHT + timedelta(hours=2), end=MIDNIGHT + timedelta(hours=2, minutes=10))
    session.execute(update(JobAttempt).where(two).values(device="cpu"))
    session.commit()
    asked = {
        "since": (MIDNIGHT - timedelta(days=2)).isoformat(),
        "until": (MIDNIGHT + timedelta(days=1)).isoformat(),
    }
    told = owner.get("/v1/usage", params=asked).json()
    assert datetime.fromisoformat(told["since"]) == MIDNIGHT - timedelta(days=2)
    assert told["total"] == {
        "device_s": 4200, "training_s": 4200, "evaluation_s": 0, "by_device": {"cuda": 3600, "cpu": 600},
    }  # fmt: skip
    assert [(item["job_id"], item["name"], item["device_s"], item["attempts"]) for item in told["items"]] == [
        (jobs[1]["id"], "second", 600, 1),
        (jobs[0]["id"], "first", 3600, 1),
    ]
    first = owner.get("/v1/usage", params={**asked, "limit": 1}).json()
    rest = owner.get("/v1/usage", params={**asked, "limit": 1, "cursor": first["next_cursor"]}).json()
    assert first["items"] + rest["items"] == told["items"]
    assert rest["next_cursor"] is None
    days = owner.get("/v1/usage", params={**asked, "group": "day"}).json()
    assert days["total"] == told["total"]
    assert [(item["day"], item["device_s"], item["by_device"]) for item in days["items"]] == [
        ("2031-04-30", 0, {}),
        ("2031-05-01", 1200, {"cuda": 1200}),
        ("2031-05-02", 3000, {"cuda": 2400, "cpu": 600}),
    ]
    # Only what lies within counts.
    part = {"since": MIDNIGHT.isoformat(), "until": (MIDNIGHT + timedelta(minutes=30)).isoformat()}
    assert owner.get("/v1/usage", params=part).json()["total"]["device_s"] == 1800
    nothing = stranger.get("/v1/usage", params=asked).json()
    assert (nothing["total"]["device_s"], nothing["items"]) == (0, [])


def test_what_still_runs_counts_until_now(api: Api, owner: Person, session: Session) -> None:
    job = story.submit(owner)
    attempt = story.start(session, job)
    now = session.scalars(select(func.clock_timestamp())).one()
    held(session, JobAttempt.id == attempt.token, begin=now - timedelta(hours=1), end=None)
    with new_person(api, "read", tenant_id=owner.tenant_id) as reader:
        told = reader.get("/v1/usage").json()
        later = reader.get("/v1/usage", params={"until": (now + timedelta(days=1)).isoformat()}).json()
    for answer in (told, later):
        assert answer["total"]["device_s"] == pytest.approx(3600, abs=60)
        assert answer["items"][0]["job_id"] == job["id"]
    assert datetime.fromisoformat(told["until"]) - datetime.fromisoformat(told["since"]) == timedelta(days=30)
    endings.finish(session, attempt)
    session.commit()


@pytest.mark.parametrize(
    "query",
    [
        {"since": "2031-01-02T00:00:00Z", "until": "2031-01-02T00:00:00Z"},
        {"since": "2031-01-01T00:00:00Z", "until": "2032-02-01T00:00:00Z"},
        {"since": "2031-01-01T00:00:00"},
        {"until": "yesterday"},
        {"group": "week"},
        {"since": "0001-01-01T00:00:00+14:00", "until": "0001-02-01T00:00:00Z"},
        {"until": "0001-01-02T00:00:00Z"},
        {"since": "9999-12-31T00:00:00Z", "until": "9999-12-31T23:59:59-14:00", "group": "day"},
    ],
)
def test_times_that_make_no_sense(owner: Person, query: dict[str, str]) -> None:
    problem(owner.get("/v1/usage", params=query), 422, "invalid")
