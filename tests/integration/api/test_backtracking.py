"""Backtracking on demand: asked for over REST, claimed and posted as a worker does it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
import redis

from core.errors import LeaseLost, SlaeganError
from core.evaluations import service
from core.evaluations.on_demand import MAX_PENDING
from core.jobs import endings
from core.settings import settings
from tests.integration.api import story
from tests.integration.api.conftest import problem

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from core.jobs.lease import Attempt
    from tests.integration.api.conftest import Person

METRICS = {"lpips": 0.25, "lpips_sd": 0.05, "lpips_per_picture": [0.2, 0.3]}


@pytest.fixture
def attempt(owner: Person, session: Session) -> Attempt:
    return story.start(session, story.submit(owner))


def ask(owner: Person, attempt: Attempt, **body: Any) -> dict[str, Any]:
    response = owner.post(f"/v1/jobs/{attempt.job_id}/backtracking", json=body)
    assert response.status_code == 201, response.text
    answer: dict[str, Any] = response.json()
    return answer


def claim(session: Session, evaluation_id: str) -> service.Claim:
    """Take evaluations from the queue until it is this one."""
    while (found := service.claim(session, worker="m1", lease_s=600)) is not None:
        session.commit()
        if str(found.evaluation_id) == evaluation_id:
            return found
    raise AssertionError("it was not in the queue")


def test_it_is_queued_done_and_told(owner: Person, session: Session, attempt: Attempt) -> None:
    made = story.checkpoint(session, attempt, b"x", images_seen=8)
    with redis.Redis.from_url(settings().broker_url) as broker:
        waiting = broker.llen("metrics")
        asked = ask(owner, attempt, pictures=2, steps=10)
        assert broker.llen("metrics") == waiting + 1
    assert (asked["kind"], asked["status"], asked["checkpoint_id"]) == ("backtracking", "queued", str(made))
    assert (asked["protocol"]["pictures"], asked["protocol"]["steps"]) == (2, 10)
    held = claim(session, asked["id"])
    service.post(session, held, METRICS, story.store_file(b"png"))
    session.commit()
    done = owner.get(f"/v1/evaluations/{asked['id']}").json()
    assert (done["status"], done["metrics"]) == ("done", METRICS)
    assert owner.get(done["picture"]["url"]).content == b"png"
    assert owner.get(f"/v1/jobs/{attempt.job_id}/backtracking").json()["items"] == [done]
    job = f"/v1/jobs/{attempt.job_id}"
    assert owner.get(f"{job}/metrics").json()["items"] == [], "it is no point of the curve"
    assert owner.get(job).json()["latest"] is None
    kinds = [event["type"] for event in owner.get(f"{job}/events").json()["items"]]
    assert kinds[-2:] == ["backtracking_queued", "backtracked"]


def test_the_best_generator_is_taken_unless_another_is_named(
    owner: Person, session: Session, attempt: Attempt
) -> None:
    made = [story.checkpoint(session, attempt, b"%d" % n, images_seen=8 * n) for n in range(3)]
    assert ask(owner, attempt)["checkpoint_id"] == str(made[2]), "none is evaluated: the newest"
    for number, fid in enumerate((9.0, 4.0, 6.0)):
        story.evaluation(session, attempt, made[number], images_seen=8 * number, fid=fid)
    assert ask(owner, attempt)["checkpoint_id"] == str(made[1])
    assert ask(owner, attempt, checkpoint_id=str(made[0]))["images_seen"] == 0


def test_the_same_question_is_one_evaluation_until_it_failed(
    owner: Person, session: Session, attempt: Attempt
) -> None:
    story.checkpoint(session, attempt, b"x")
    first = ask(owner, attempt, steps=3)
    assert ask(owner, attempt, steps=3) == first
    assert ask(owner, attempt, steps=4)["id"] != first["id"]
    service.give_up(session, claim(session, first["id"]), SlaeganError("no luck"))
    session.commit()
    assert owner.get(f"/v1/evaluations/{first['id']}").json()["error"]["message"] == "no luck"
    last = owner.get(f"/v1/jobs/{attempt.job_id}/events").json()["items"][-1]
    assert (last["type"], last["payload"]["evaluation_id"]) == ("backtracking_failed", first["id"])
    again = ask(owner, attempt, steps=3)
    assert (again["id"], again["status"], again["error"]) == (first["id"], "queued", None)


def test_what_cannot_be_asked(owner: Person, session: Session, attempt: Attempt) -> None:
    path = f"/v1/jobs/{attempt.job_id}/backtracking"
    problem(owner.post(path), 409, "conflict")  # no generator yet
    made = story.checkpoint(session, attempt, b"x")
    problem(owner.post(path, json={"checkpoint_id": str(uuid4())}), 404, "not_found")
    told = problem(owner.post(path, json={"of": "held_out"}), 422, "invalid")
    assert "keeps no pictures" in told["detail"]
    problem(owner.post(path, json={"steps": 0}), 422, "invalid")
    problem(owner.post(path, json={"pictures": 200, "steps": 2000}), 422, "invalid")
    for steps in range(1, MAX_PENDING + 1):
        ask(owner, attempt, steps=steps, checkpoint_id=str(made))
    told = problem(owner.post(path, json={"steps": 100}), 409, "conflict")
    assert f"{MAX_PENDING} backtrackings" in told["detail"]


def test_a_job_succeeds_while_one_waits_and_its_generator_stays(
    owner: Person, session: Session, attempt: Attempt
) -> None:
    story.checkpoint(session, attempt, b"x")
    asked = ask(owner, attempt)
    endings.finish(session, attempt)
    session.commit()
    assert owner.get(f"/v1/jobs/{attempt.job_id}").json()["status"] == "succeeded"
    service.post(session, claim(session, asked["id"]), METRICS)
    session.commit()
    assert owner.get(f"/v1/evaluations/{asked['id']}").json()["status"] == "done"
    assert owner.get(f"/v1/checkpoints/{asked['checkpoint_id']}/file").content == b"x"


def test_points_of_a_curve_come_first(owner: Person, session: Session, attempt: Attempt) -> None:
    made = story.checkpoint(session, attempt, b"x")
    asked = ask(owner, attempt)
    story.evaluation(session, attempt, made, images_seen=0, fid=None)
    claimed = service.claim(session, worker="m1", lease_s=600)
    session.commit()
    assert claimed is not None
    assert claimed.kind == "metrics"
    assert claim(session, asked["id"]).kind == "backtracking"


def test_a_generator_that_was_kept_for_it_alone_goes_with_it(
    owner: Person, session: Session, attempt: Attempt
) -> None:
    made = [story.checkpoint(session, attempt, b"%d" % n, images_seen=8 * n) for n in range(7)]
    asked = ask(owner, attempt, checkpoint_id=str(made[1]))
    for number, fid in enumerate((9.0, 8.0, 4.0, 5.0, 6.0, 7.0, 7.5)):
        story.evaluation(session, attempt, made[number], images_seen=8 * number, fid=fid)
    assert owner.get(f"/v1/checkpoints/{made[1]}/file").content == b"1"
    assert owner.delete(f"/v1/evaluations/{asked['id']}").json()["checkpoint_id"] is None
    problem(owner.get(f"/v1/checkpoints/{made[1]}/file"), 404, "not_found")
    assert owner.get(f"/v1/checkpoints/{made[2]}/file").content == b"2"


def test_it_can_be_called_off(owner: Person, session: Session, attempt: Attempt) -> None:
    made = story.checkpoint(session, attempt, b"x")
    asked = ask(owner, attempt)
    held = claim(session, asked["id"])
    path = f"/v1/evaluations/{asked['id']}"
    for _ in range(2):
        answer = owner.delete(path)
        assert (answer.status_code, answer.json()["status"]) == (200, "skipped")
    with pytest.raises(LeaseLost):
        service.post(session, held, METRICS)
    session.rollback()
    again = ask(owner, attempt)
    assert (again["id"], again["status"]) == (asked["id"], "queued")
    service.post(session, claim(session, asked["id"]), METRICS)
    session.commit()
    problem(owner.delete(path), 409, "conflict")
    story.evaluation(session, attempt, made, images_seen=0, fid=9.0)
    [point] = owner.get(f"/v1/jobs/{attempt.job_id}/metrics").json()["items"]
    problem(owner.delete(f"/v1/evaluations/{point['evaluation_id']}"), 409, "conflict")


def test_pictures_stay_while_one_waits_and_are_missed_when_deleted(
    owner: Person, session: Session, attempt: Attempt
) -> None:
    story.checkpoint(session, attempt, b"x")
    asked = ask(owner, attempt)
    endings.finish(session, attempt)
    session.commit()
    dataset = f"/v1/datasets/{owner.get(f'/v1/jobs/{attempt.job_id}').json()['dataset_id']}"
    told = problem(owner.delete(dataset), 409, "conflict")
    assert "1 evaluations" in told["detail"]
    assert owner.delete(f"/v1/evaluations/{asked['id']}").status_code == 200
    assert owner.delete(dataset).status_code == 204
    told = problem(owner.post(f"/v1/jobs/{attempt.job_id}/backtracking"), 409, "conflict")
    assert "are deleted" in told["detail"]
