"""Pins, and trainings that begin from a checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

from core.jobs.claim import claim as claim_job
from core.jobs.service import submitted_with
from tests.integration.api import story
from tests.integration.api.conftest import problem
from tests.picture_files import form, pngs

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from tests.integration.api.conftest import Person


def test_a_pin_is_set_and_taken_back(owner: Person, session: Session) -> None:
    job = story.submit(owner)
    made = story.checkpoint(session, story.start(session, job), b"x")
    for pinned in (True, True, False):
        answer = owner.patch(f"/v1/checkpoints/{made}", json={"pinned": pinned})
        assert (answer.status_code, answer.json()["pinned"]) == (200, pinned)
        assert owner.get(f"/v1/checkpoints/{made}").json()["pinned"] is pinned
    problem(owner.patch(f"/v1/checkpoints/{made}", json={"pinned": True, "kind": "x"}), 422, "invalid")
    problem(owner.patch(f"/v1/checkpoints/{uuid4()}", json={"pinned": True}), 404, "not_found")


def test_another_tenant_pins_nothing_and_begins_from_nothing(
    owner: Person, stranger: Person, session: Session
) -> None:
    job = story.submit(owner)
    made = story.checkpoint(session, story.start(session, job), b"x")
    problem(stranger.patch(f"/v1/checkpoints/{made}", json={"pinned": True}), 404, "not_found")
    assert owner.get(f"/v1/checkpoints/{made}").json()["pinned"] is False
    body = {"dataset_id": story.upload(stranger), "config": {"resolution": 64}, "init_from": str(made)}
    problem(stranger.post("/v1/jobs", json=body), 404, "not_found")


def test_pictures_that_the_weights_have_seen_cannot_be_held_out(owner: Person, session: Session) -> None:
    dataset = owner.post("/v1/datasets", files=form(pngs(40))).json()["id"]

    def body(held_out: float, **more: Any) -> dict[str, Any]:
        return {"dataset_id": dataset, "config": {"resolution": 64, "held_out": held_out}, **more}

    first = owner.post("/v1/jobs", json=body(0.3, priority=100)).json()
    made = story.checkpoint(session, story.start(session, first), b"x")
    told = problem(owner.post("/v1/jobs", json=body(0.5, init_from=str(made))), 422, "invalid")
    assert told["details"]["seen"] > 0
    assert "its own held_out was 0.3" in told["detail"]
    assert owner.post("/v1/jobs", json=body(0.3, init_from=str(made))).status_code == 201
    assert owner.post("/v1/jobs", json=body(0, init_from=str(made))).status_code == 201


def test_a_job_begins_from_a_checkpoint_of_the_same_shape(owner: Person, session: Session) -> None:
    job = story.submit(owner)
    made = story.checkpoint(session, story.start(session, job), b"x")
    body = {"dataset_id": job["dataset_id"], "init_from": str(made)}
    other = owner.post("/v1/jobs", json={**body, "config": {"resolution": 64, "width": 0.25}})
    detail = problem(other, 422, "invalid")
    assert detail["details"]["differing"] == {"width": [0.5, 0.25]}
    assert "width is 0.5 there, 0.25 here" in detail["detail"]
    frozen = {**body, "init_from": None, "config": {"resolution": 64, "freeze_discriminator": 2}}
    refused = problem(owner.post("/v1/jobs", json=frozen), 422, "invalid")
    assert "name a checkpoint to begin from" in refused["errors"][0]["what"]
    # A generator's file holds no discriminator, so the decoders may differ.
    config = {"resolution": 64, "decoders": False}
    tuned = owner.post("/v1/jobs", json={**body, "config": config, "priority": 100})
    assert (tuned.status_code, tuned.json()["init_from"]) == (201, str(made))
    attempt = claim_job(session, worker="w2", lease_s=600)
    session.commit()
    assert attempt is not None
    assert (str(attempt.job_id), submitted_with(session, attempt.job_id)) == (tuned.json()["id"], made)
