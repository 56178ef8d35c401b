from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
import redis
from sqlalchemy import func

from core.errors import StoreFull
from core.jobs import endings, records
from core.jobs.tables import Job, Worker
from core.schemas.families import FAMILIES
from core.schemas.jobs import JobOut
from core.schemas.slaegan import SlaeganConfig
from core.settings import settings
from tests.integration.api import story
from tests.integration.api.conftest import problem
from tests.waiting import wait_until

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from tests.integration.api.conftest import Person


def test_submit_resolves_stores_and_wakes_the_queue(owner: Person, session: Session) -> None:
    dataset_id = story.upload(owner)
    with redis.Redis.from_url(settings().broker_url) as broker:
        waiting = broker.llen("train")
        response = owner.post("/v1/jobs", json={"dataset_id": dataset_id, "name": "Gloves", "priority": -5})
        wait_until(lambda: broker.llen("train") == waiting + 1)  # told after the answer
    assert response.status_code == 201, response.text
    job = JobOut.model_validate(response.json())
    assert (job.name, job.status, job.priority, str(job.dataset_id)) == ("Gloves", "queued", -5, dataset_id)
    assert (job.progress, job.eta_s, job.latest, job.best, job.attempt) == (0, None, None, None, 0)
    expected = SlaeganConfig().model_dump(mode="json")
    # The weights folder of this test holds no Inception; the processor decides on the precision.
    precision = job.config["evaluation"]["precision"]
    assert precision in {"bf16", "fp32"}
    expected["evaluation"] |= {"extractor": "vgg16", "precision": precision}
    assert job.config == expected == session.get_one(Job, job.id).config
    assert owner.get(f"/v1/jobs/{job.id}").json() == response.json()
    assert [e["type"] for e in owner.get(f"/v1/jobs/{job.id}/events").json()["items"]] == ["queued"]


def test_an_extractor_that_was_chosen_is_kept(owner: Person) -> None:
    job = story.submit(owner, config={"evaluation": {"extractor": "alexnet"}}, priority=0)
    assert job["config"]["evaluation"]["extractor"] == "alexnet"


def test_weights_of_an_extractor_must_be_there_and_are_named_on_the_job(owner: Person) -> None:
    config = {"evaluation": {"extractor": "dinov2_vits14"}}
    body = {"dataset_id": story.upload(owner), "config": config}
    refused = owner.post("/v1/jobs", json=body)
    assert refused.status_code == 422
    file = settings().weights_dir / "dinov2_vits14_pretrain.pth"
    assert str(file.parent) in refused.json()["detail"]
    assert file.name in refused.json()["detail"]
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"weights")
    job = story.submit(owner, config=config, priority=0)
    file.unlink()
    assert job["config"]["evaluation"]["weights_sha256"] == hashlib.sha256(b"weights").hexdigest()


def test_a_share_that_leaves_too_few_pictures_is_refused(owner: Person) -> None:
    body = {"dataset_id": story.upload(owner), "config": {"held_out": 0.5}}
    told = problem(owner.post("/v1/jobs", json=body), 422, "invalid")
    assert "both must be at least 4" in told["detail"]


WRONG_BODIES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "no dataset": ({"dataset_id": None}, ["body.dataset_id"]),
    "no power of two": ({"config": {"resolution": 100}}, ["body.config.resolution"]),
    "an unknown key": ({"config": {"resolutoin": 64}}, ["body.config.resolutoin"]),
    "an unknown nested key": ({"config": {"evaluation": {"x": 1}}}, ["body.config.evaluation.x"]),
    "an unknown top key": ({"webhooks": 1}, ["body.webhooks"]),
    "an unknown family": ({"config": {"family": "biggan"}}, ["body.config.family"]),
    "two wrong values": (
        {"config": {"batch": 1, "learning_rate": -1}, "priority": 1000},
        ["body.priority", "body.config.batch", "body.config.learning_rate"],
    ),
    "a text for a number": ({"priority": "high"}, ["body.priority"]),
    "a list": ({"config": []}, ["body.config"]),
    "a huge number": ({"priority": 10**400}, ["body.priority"]),
    "less than a batch": ({"config": {"total_images": 4}}, ["body.config"]),
    "a NUL": ({"name": "a\x00b"}, ["body.name"]),
    "a lone surrogate": ({"name": "\ud800"}, ["body.name"]),
    "a long name": ({"name": "x" * 201}, ["body.name"]),
}


@pytest.mark.parametrize("case", WRONG_BODIES)
def test_wrong_bodies_are_told_value_by_value(case: str, owner: Person) -> None:
    values, where = WRONG_BODIES[case]
    content = json.dumps({"dataset_id": story.upload(owner), **values})
    body = problem(
        owner.post("/v1/jobs", content=content, headers={"Content-Type": "application/json"}), 422, "invalid"
    )
    assert sorted(entry["where"] for entry in body["errors"]) == sorted(where)
    assert all(entry["what"] for entry in body["errors"])


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"", 422, "invalid"),
        (b"{", 422, "invalid"),
        (b"\xff\xfe", 422, "invalid"),
        (b'{"name": "\xc3\x28"}', 400, "bad_request"),
        (b"[" * 100_000, 400, "bad_request"),
        (b'{"priority": ' + b"9" * 5_000 + b"}", 400, "bad_request"),
        (b'{"dataset_id": 1, "priority": NaN, "config": {"learning_rate": Infinity}}', 422, "invalid"),
        (b"null", 422, "invalid"),
        (b'"text"', 422, "invalid"),
        (b'{"' + b"x" * 500_000 + b'": 1}', 422, "invalid"),
        (b'{"config": {' + b",".join(b'"k%d": 1' % i for i in range(50_000)) + b"}}", 422, "invalid"),
    ],
    ids=[
        "empty",
        "cut",
        "utf-16",
        "no utf-8",
        "deep",
        "long number",
        "nan",
        "null",
        "text",
        "long key",
        "many keys",
    ],
)
def test_broken_json_is_the_callers_fault(content: bytes, status: int, code: str, owner: Person) -> None:
    response = owner.post("/v1/jobs", content=content, headers={"Content-Type": "application/json"})
    problem(response, status, code)
    assert len(response.content) < 50_000, "megabytes are not sent back"


def test_a_dataset_that_is_not_there(owner: Person, stranger: Person) -> None:
    unknown = str(uuid4())
    foreign = story.upload(stranger)
    problems = [
        problem(owner.post("/v1/jobs", json={"dataset_id": i}), 404, "not_found") for i in (unknown, foreign)
    ]
    assert [body["detail"] for body in problems] == [f"There is no dataset {i}." for i in (unknown, foreign)]


def test_cancel(owner: Person) -> None:
    job = story.submit(owner, priority=0)
    cancelled = owner.post(f"/v1/jobs/{job['id']}/cancel").json()
    assert (cancelled["status"], cancelled["finished_at"] is not None) == ("cancelled", True)
    assert owner.post(f"/v1/jobs/{job['id']}/cancel").json()["status"] == "cancelled", "twice is no error"


def test_cancel_of_a_running_job_is_a_request(owner: Person, session: Session) -> None:
    job = story.submit(owner)
    attempt = story.start(session, job)
    answer = owner.post(f"/v1/jobs/{job['id']}/cancel").json()
    assert (answer["status"], answer["cancel_requested"]) == ("running", True)
    endings.finish(session, attempt)
    session.commit()
    assert owner.get(f"/v1/jobs/{job['id']}").json()["status"] == "cancelled", "it came before the end"


def test_cancel_of_a_finished_job_is_a_conflict(owner: Person, session: Session) -> None:
    job = story.submit(owner)
    endings.finish(session, story.start(session, job))
    session.commit()
    problem(owner.post(f"/v1/jobs/{job['id']}/cancel"), 409, "conflict")


def test_pause_and_resume(owner: Person, session: Session) -> None:
    job = story.submit(owner)
    path = f"/v1/jobs/{job['id']}"
    assert owner.post(f"{path}/pause").json()["status"] == "paused"
    assert owner.post(f"{path}/resume").json()["status"] == "queued"
    attempt = story.start(session, job)
    answer = owner.post(f"{path}/pause").json()
    assert (answer["status"], answer["pause_requested"]) == ("running", True)
    endings.hand_back(session, attempt, reason="it is to pause")
    session.commit()
    assert owner.get("/v1/jobs", params={"status": "paused"}).json()["items"][0]["id"] == job["id"]
    problem(owner.delete(f"/v1/datasets/{job['dataset_id']}"), 409, "conflict")
    assert owner.post(f"{path}/cancel").json()["status"] == "cancelled"
    problem(owner.post(f"{path}/resume"), 409, "conflict")


def test_retry_and_the_curves_of_both_runs(owner: Person, session: Session) -> None:
    job = story.submit(owner, max_queue_s=3600, max_run_s=7200)
    path = f"/v1/jobs/{job['id']}"
    problem(owner.post(f"{path}/retry"), 409, "conflict")
    attempt = story.start(session, job)
    made = story.checkpoint(session, attempt, b"x", images_seen=8)
    story.evaluation(session, attempt, made, images_seen=8, fid=9.0)
    records.record_progress(session, attempt, images_seen=8, images_per_s=1, losses={8: {"d": 1.0}})
    story.sample(session, attempt, b"x", images_seen=8)
    endings.fail(session, attempt, StoreFull("There is no room."), last_lines=["the last line"])
    session.commit()
    failed = owner.get(path).json()
    assert (failed["error"]["code"], failed["error"]["last_lines"]) == ("store_full", ["the last line"])
    assert "retry the job" in failed["error"]["advice"]
    # There is no state to go on from: the new run begins at zero.
    again = owner.post(f"{path}/retry").json()
    assert (again["status"], again["run"], again["images_seen"], again["error"]) == ("queued", 2, 0, None)
    assert (again["max_queue_s"], again["max_run_s"], again["best"]) == (3600, 7200, None)
    for what in ("metrics", "losses", "checkpoints", "samples"):
        assert owner.get(f"{path}/{what}").json()["items"] == [], what
        (item,) = owner.get(f"{path}/{what}", params={"run": 1}).json()["items"]
        assert item["images_seen"] == 8
    owner.post(f"{path}/cancel")
    assert owner.post(f"{path}/retry", json={"fresh": True}).json()["run"] == 3
    problem(owner.post(f"{path}/retry", json={"afresh": True}), 422, "invalid")
    owner.post(f"{path}/cancel")


def test_extend(owner: Person, session: Session) -> None:
    job = story.submit(owner, config={"resolution": 64, "total_images": 1000})
    path = f"/v1/jobs/{job['id']}"
    attempt = story.start(session, job)
    file = story.store_file(b"a state")
    records.record_checkpoint(session, attempt, file, kind="state", images_seen=1000)
    endings.finish(session, attempt)
    session.commit()
    problem(owner.post(f"{path}/extend", json={"total_images": 1000}), 422, "invalid")
    problem(owner.post(f"{path}/extend"), 422, "invalid")
    more = {"total_images": 2000, "stopping": {"plateau_evaluations": None}}
    answer = owner.post(f"{path}/extend", json=more).json()
    assert (answer["status"], answer["run"], answer["images_seen"]) == ("queued", 2, 1000)
    assert (answer["total_images"], answer["config"]["total_images"], answer["progress"]) == (2000, 2000, 0.5)
    assert answer["config"]["stopping"]["plateau_evaluations"] is None
    owner.post(f"{path}/cancel")


def test_extend_to_less_than_a_batch(owner: Person, session: Session) -> None:
    """What the configuration cannot have is the asker's to mend."""
    job = story.submit(owner, config={"resolution": 64, "batch": 8})
    attempt = story.start(session, job)
    records.record_checkpoint(session, attempt, story.store_file(b"s"), kind="state", images_seen=2)
    endings.finish(session, attempt)
    session.commit()
    body = problem(owner.post(f"/v1/jobs/{job['id']}/extend", json={"total_images": 4}), 422, "invalid")
    assert "total_images 4 is below one batch of 8" in body["detail"]
    assert owner.get(f"/v1/jobs/{job['id']}").json()["status"] == "succeeded"


def test_models_tell_their_configuration(owner: Person) -> None:
    models = {model["family"]: model for model in owner.get("/v1/models").json()["items"]}
    assert models.keys() == FAMILIES.keys()
    model = models["slaegan"]
    assert (model["title"], model["labels"], model["source"]["year"]) == ("SLAE-GAN", "ignored", 2023)
    assert (models["sagan"]["labels"], models["sagan"]["source"]["arxiv"]) == ("taken", "1805.08318")
    assert model["defaults"] == SlaeganConfig().model_dump(mode="json")
    assert model["config_schema"]["properties"]["resolution"]["enum"] == [64, 128, 256, 512, 1024]


def test_workers_are_alive_while_their_heartbeat_is_young(
    owner: Person, stranger: Person, session: Session
) -> None:
    name = f"w-{uuid4()}"
    old = timedelta(seconds=settings().lease_s + 1)
    for worker, age in ((name, timedelta()), (f"{name}-gone", old)):
        facts = {"kind": "train", "device": "cpu", "host": "h", "pid": 1}
        session.add(Worker(name=worker, last_heartbeat_at=func.now() - age, **facts))
    session.commit()
    job = story.submit(owner)
    story.start(session, job, worker=name)

    def workers(person: Person) -> list[tuple[bool, str | None]]:
        items = person.get("/v1/workers").json()["items"]
        return [(item["alive"], item["current_job_id"]) for item in items if item["name"].startswith(name)]

    assert workers(owner) == [(True, job["id"]), (False, None)]
    assert workers(stranger) == [(True, None), (False, None)], "another tenant's job was named"
