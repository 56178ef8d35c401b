"""Pins, and trainings that begin from a checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

from sqlalchemy import func, update
from typer.testing import CliRunner

from client.cli import app
from core.datasets.tables import Dataset
from core.errors import InvalidRequest
from core.jobs.claim import claim as claim_job
from core.jobs.service import submitted_with
from tests.integration.api import story
from tests.integration.api.conftest import problem
from tests.picture_files import form, pngs

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.orm import Session

    from tests.integration.api.conftest import Api, Person


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


def test_held_out_pictures_are_looked_for_in_all_that_the_weights_go_back_to(
    owner: Person, session: Session
) -> None:
    every = list(pngs(80).items())
    first, second = (
        owner.post("/v1/datasets", files=form(dict(some))).json()["id"] for some in (every[:40], every[40:])
    )

    def body(dataset: str, *, priority: int, init_from: object = None, held_out: float = 0) -> dict[str, Any]:
        config = {"resolution": 64, "held_out": held_out}
        begins = None if init_from is None else str(init_from)
        return {"dataset_id": dataset, "config": config, "priority": priority, "init_from": begins}

    oldest = owner.post("/v1/jobs", json=body(first, priority=100)).json()
    made = story.checkpoint(session, story.start(session, oldest), b"x")
    newer = owner.post("/v1/jobs", json=body(second, priority=100, init_from=made)).json()
    tuned = story.checkpoint(session, story.start(session, newer, worker="w2"), b"y")
    asked = body(first, priority=0, init_from=tuned, held_out=0.3)
    told = problem(owner.post("/v1/jobs", json=asked), 422, "invalid")
    assert told["details"]["seen"] > 0
    session.execute(update(Dataset).where(Dataset.id == second).values(deleted_at=func.now()))
    session.commit()
    told = problem(owner.post("/v1/jobs", json=asked), 422, "invalid")
    assert "is no longer known" in told["detail"]


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
    kept = {**body, "config": {"resolution": 64, "freeze_discriminator": 2}}
    assert "a generator alone" in problem(owner.post("/v1/jobs", json=kept), 422, "invalid")["detail"]
    # A generator's file holds no discriminator, so the decoders may differ.
    config = {"resolution": 64, "decoders": False}
    tuned = owner.post("/v1/jobs", json={**body, "config": config, "priority": 100})
    assert (tuned.status_code, tuned.json()["init_from"]) == (201, str(made))
    attempt = claim_job(session, worker="w2", lease_s=600)
    session.commit()
    assert attempt is not None
    assert (str(attempt.job_id), submitted_with(session, attempt.job_id)) == (tuned.json()["id"], made)


def test_train_begins_from_a_job_of_another_family_and_checks_that_before_it_uploads(
    api: Api, owner: Person, session: Session, tmp_path: Path
) -> None:
    shape = {"family": "sagan", "resolution": 64, "attention_side": 16}
    job = story.submit(owner, config=shape)
    made = story.checkpoint(session, story.start(session, job), b"x")
    for name, data in pngs(4).items():
        (tmp_path / name).write_bytes(data)
    key = owner.headers["Authorization"].removeprefix("Bearer ")
    begin = ["train", str(tmp_path), "--url", str(api.url), "--key", key, "--init-from", job["id"]]
    datasets = owner.get("/v1/datasets").json()
    refused = CliRunner().invoke(app, [*begin, "--set", "attention_side=31"])
    assert isinstance(refused.exception, InvalidRequest)
    assert "attention_side: Input should be 16, 32 or 64" in refused.exception.message
    assert owner.get("/v1/datasets").json() == datasets
    done = CliRunner().invoke(app, [*begin, "--set", "attention_side=16", "--set", "batch=4"])
    assert done.exit_code == 0, f"{done.output}{done.exception}"
    tuned = owner.get("/v1/jobs").json()["items"][0]
    assert (tuned["family"], tuned["init_from"], tuned["name"]) == ("sagan", str(made), tmp_path.name)
