"""Generations and exports over REST; what a worker does is done through the worker's own functions."""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
import redis
from sqlalchemy import update

from core.errors import DataFailed, LeaseLost
from core.jobs.tables import Checkpoint
from core.renderings import service
from core.renderings.requests import MAX_WAITING_OF_JOB
from core.renderings.tables import Rendering
from core.schemas.families import parse_config
from core.settings import settings
from tests.integration.api import story
from tests.integration.api.conftest import problem
from tests.picture_files import form, png, pngs
from tests.waiting import wait_until
from worker import ingredients

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from core.jobs.lease import Attempt
    from tests.integration.api.conftest import Api, Person

PICTURES = {"kind": "pictures", "seed": 1, "count": 2}
DONE = "done"


@pytest.fixture
def attempt(owner: Person, session: Session) -> Attempt:
    """A running job without a generator."""
    return story.start(session, story.submit(owner))


@pytest.fixture
def generator(session: Session, attempt: Attempt) -> str:
    return str(story.checkpoint(session, attempt, uuid4().bytes, images_seen=8))


def ask(owner: Person, attempt: Attempt, route: str = "generations", **body: Any) -> dict[str, Any]:
    response = owner.post(f"/v1/jobs/{attempt.job_id}/{route}", json=body or PICTURES)
    assert response.status_code == 201, response.text
    answer: dict[str, Any] = response.json()
    return answer


def audited(owner: Person, action: str) -> list[str]:
    return [entry["subject"] for entry in owner.get("/v1/audit", params={"action": action}).json()["items"]]


def test_it_is_queued_done_and_told(
    owner: Person, session: Session, attempt: Attempt, generator: str
) -> None:
    with redis.Redis.from_url(settings().broker_url) as broker:
        waiting = broker.llen("generate")
        asked = ask(owner, attempt)
        wait_until(lambda: broker.llen("generate") == waiting + 1, what="a hint to the workers")
    assert (asked["status"], asked["checkpoint_id"], asked["kind"]) == ("queued", generator, "pictures")
    assert asked["request"]["count"] == 2
    assert asked["request"]["truncation"] == 1.0, "with its defaults"
    assert (asked["files"], asked["expires_at"]) == ([], None)
    problem(owner.get(f"/v1/generations/{asked['id']}/file"), 404, "not_found")
    story.post_rendering(session, asked["id"], data=png())
    path = f"/v1/generations/{asked['id']}"
    done = owner.get(path).json()
    assert (done["status"], done["facts"], done["attempts"]) == (DONE, {"device": "cpu"}, 1)
    sha256 = hashlib.sha256(png()).hexdigest()
    [file] = done["files"]
    assert (file["sha256"], file["size_bytes"], file["url"]) == (sha256, len(png()), f"{path}/file")
    kept = datetime.fromisoformat(done["expires_at"]) - datetime.fromisoformat(done["finished_at"])
    assert kept == timedelta(days=7)
    assert owner.get(f"/v1/jobs/{attempt.job_id}/generations").json()["items"] == [done]
    assert owner.get(f"/v1/jobs/{attempt.job_id}/exports").json()["items"] == []
    problem(owner.get(f"/v1/exports/{asked['id']}"), 404, "not_found")
    assert audited(owner, "create_generation") == [asked["id"]]


def test_files_go_as_other_files_do(
    owner: Person, session: Session, attempt: Attempt, generator: str
) -> None:
    assert generator
    made = story.rendered(owner, session, str(attempt.job_id), "generations", PICTURES, data=png())
    for url in (f"/v1/generations/{made}/file", f"/v1/generations/{made}/files/{story.RENDERED}"):
        answer = owner.get(url)
        sha256 = hashlib.sha256(png()).hexdigest()
        assert answer.content == png()
        assert (answer.headers["etag"], answer.headers["x-content-sha256"]) == (f'"{sha256}"', sha256)
        assert answer.headers["content-type"] == "image/png"
        assert answer.headers["content-disposition"].startswith("inline; filename=")
        assert owner.get(url, headers={"If-None-Match": f'"{sha256}"'}).status_code == 304
        part = owner.get(url, headers={"Range": "bytes=1-3"})
        assert (part.status_code, part.content) == (206, png()[1:4])
        assert owner.head(url).headers["content-length"] == str(len(png()))
    told = problem(owner.get(f"/v1/generations/{made}/files/2.png"), 404, "not_found")
    assert "'2.png'" in told["detail"]


def test_the_same_request_is_one_generation_until_it_failed(
    owner: Person, session: Session, attempt: Attempt, generator: str
) -> None:
    first = ask(owner, attempt)
    assert ask(owner, attempt) == first
    assert ask(owner, attempt, **PICTURES, checkpoint_id=generator) == first, "the best is that one"
    assert ask(owner, attempt, kind="pictures", seed=2, count=2)["id"] != first["id"]
    assert ask(owner, attempt, "exports", format="onnx")["id"] != first["id"]
    assert len(audited(owner, "create_generation")) == 2, "what changes nothing leaves no entry"
    claim = story.claim_rendering(session, first["id"])
    service.give_up(session, claim, DataFailed("no luck"))
    session.commit()
    failed = owner.get(f"/v1/generations/{first['id']}").json()
    assert (failed["status"], failed["error"]["message"]) == ("failed", "no luck")
    again = ask(owner, attempt)
    assert (again["id"], again["status"], again["error"], again["attempts"]) == (
        first["id"],
        "queued",
        None,
        0,
    )
    story.post_rendering(session, first["id"])
    assert ask(owner, attempt)["status"] == DONE


def test_an_idempotency_key_is_answered_once(owner: Person, attempt: Attempt, generator: str) -> None:
    assert generator
    path, headers = f"/v1/jobs/{attempt.job_id}/exports", {"Idempotency-Key": uuid4().hex}
    first = owner.post(path, json={"format": "onnx"}, headers=headers)
    again = owner.post(path, json={"format": "onnx"}, headers=headers)
    assert (first.status_code, again.status_code, again.json()) == (201, 201, first.json())
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["location"] == f"/v1/exports/{first.json()['id']}"
    problem(owner.post(path, json={"format": "safetensors"}, headers=headers), 422, "idempotency_key_reused")


def test_what_cannot_be_is_refused_in_words(owner: Person, session: Session, attempt: Attempt) -> None:
    path = f"/v1/jobs/{attempt.job_id}/generations"
    assert "no generator yet" in problem(owner.post(path, json=PICTURES), 409, "conflict")["detail"]
    story.checkpoint(session, attempt, b"x")
    problem(owner.post(path, json=PICTURES | {"checkpoint_id": str(uuid4())}), 404, "not_found")
    for wrong in (
        {"kind": "pictures", "count": 1_001},
        {"kind": "pictures", "seed": -1},
        {"kind": "pictures", "seed": 2**63 - 1, "count": 2},
        {"kind": "pictures", "truncation": 0},
        {"kind": "sculpture"},
        {"kind": "export", "format": "onnx"},
        {"kind": "interpolation", "seeds": [1]},
        {"kind": "interpolation", "seeds": [1, 2, 3, 4, 5, 6, 7, 8], "frames": 120},
        {"kind": "style_mix", "rows": [1], "columns": [2], "from_side": 5},
        {"kind": "projection"},
        {"kind": "projection", "picture": "no base64!"},
        {"kind": "projection", "picture": "x=="},
    ):
        problem(owner.post(path, json=wrong), 422, "invalid")
    told = problem(owner.post(path, json=PICTURES | {"classes": ["cat"]}), 422, "invalid")
    assert "not trained by class" in told["detail"]
    problem(owner.post(f"/v1/jobs/{attempt.job_id}/exports", json={"format": "pickle"}), 422, "invalid")


def test_a_family_that_cannot_mix_styles_says_so(owner: Person, session: Session) -> None:
    attempt = story.start(session, story.submit(owner, config={"family": "dcgan", "resolution": 64}))
    story.checkpoint(session, attempt, b"x")
    told = problem(
        owner.post(
            f"/v1/jobs/{attempt.job_id}/generations",
            json={"kind": "style_mix", "rows": [1], "columns": [2]},
        ),
        422,
        "invalid",
    )
    assert "'dcgan' cannot mix styles" in told["detail"]


def test_what_waits_is_bounded(owner: Person, session: Session, attempt: Attempt, generator: str) -> None:
    assert generator
    for seed in range(MAX_WAITING_OF_JOB):
        ask(owner, attempt, kind="pictures", seed=seed)
    path = f"/v1/jobs/{attempt.job_id}/generations"
    told = problem(owner.post(path, json={"kind": "pictures", "seed": 1_000}), 409, "conflict")
    assert f"{MAX_WAITING_OF_JOB} generations and exports of this job wait" in told["detail"]
    assert ask(owner, attempt, kind="pictures", seed=0)["status"] == "queued", "that one is there"
    session.execute(
        update(Rendering)
        .where(Rendering.tenant_id == owner.tenant_id)
        .values(status="done", facts={}, finished_at=Rendering.created_at)
    )
    session.commit()
    ask(owner, attempt, kind="pictures", seed=1_000)


def test_a_tenants_share_is_bounded(
    owner: Person, session: Session, attempt: Attempt, generator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert generator
    monkeypatch.setenv("SLAEGAN_MAX_WAITING_RENDERINGS", "2")
    settings.cache_clear()
    try:
        for seed in range(2):
            ask(owner, attempt, kind="pictures", seed=seed)
        path = f"/v1/jobs/{attempt.job_id}/generations"
        told = problem(owner.post(path, json={"kind": "pictures", "seed": 2}), 429, "quota_exceeded")
        assert told["details"] == {"waiting": 2, "max_waiting": 2}
    finally:
        monkeypatch.undo()
        settings.cache_clear()
    assert session.is_active


def test_it_can_be_called_off_and_removed(
    api: Api, owner: Person, session: Session, attempt: Attempt, generator: str
) -> None:
    assert generator
    asked = ask(owner, attempt)
    held = story.claim_rendering(session, asked["id"])
    path = f"/v1/generations/{asked['id']}"
    assert owner.delete(path).status_code == 204
    assert owner.get(path).json()["status"] == "cancelled"
    with pytest.raises(LeaseLost):
        service.check_held(session, held)
    with pytest.raises(LeaseLost):
        service.post(session, held, files=[], facts={})
    session.rollback()
    assert ask(owner, attempt)["status"] == "queued", "it may be asked for again"
    story.post_rendering(session, asked["id"], data=b"to be removed")
    before = len(api.stored)
    assert owner.delete(path).status_code == 204
    assert len(api.stored) == before - 1
    problem(owner.get(path), 404, "not_found")
    problem(owner.delete(path), 404, "not_found")
    assert len(audited(owner, "delete_generation")) == 2
    made = story.rendered(owner, session, str(attempt.job_id), "exports", {"format": "onnx"})
    problem(owner.delete(f"/v1/generations/{made}"), 404, "not_found")
    assert owner.delete(f"/v1/exports/{made}").status_code == 204


def test_a_picture_is_sent_or_named(
    owner: Person, stranger: Person, session: Session, attempt: Attempt, generator: str
) -> None:
    assert generator
    picture = png(size=(90, 70))
    sent = ask(owner, attempt, kind="projection", steps=3, picture=base64.b64encode(picture).decode())
    assert sent["request"]["picture_sha256"] == hashlib.sha256(picture).hexdigest()
    assert "picture" not in sent["request"]
    assert story.claim_rendering(session, sent["id"]).picture == picture
    image = owner.get(f"/v1/datasets/{attempt.dataset_id}/images").json()["items"][0]
    named = {"kind": "projection", "dataset_id": str(attempt.dataset_id), "image_sha256": image["sha256"]}
    assert ask(owner, attempt, **named)["request"]["image_sha256"] == image["sha256"]
    path = f"/v1/jobs/{attempt.job_id}/generations"
    problem(owner.post(path, json=named | {"image_sha256": "0" * 64}), 404, "not_found")
    foreign = story.upload(stranger)
    problem(owner.post(path, json=named | {"dataset_id": foreign}), 404, "not_found")


def test_a_body_may_hold_a_picture_here_alone(owner: Person, attempt: Attempt, generator: str) -> None:
    assert generator
    large = base64.b64encode(b"x" * (2 * 2**20)).decode()
    assert len(large) > settings().max_body_bytes
    assert ask(owner, attempt, kind="projection", picture=large)["status"] == "queued"
    exports = f"/v1/jobs/{attempt.job_id}/exports"
    problem(owner.post(exports, json={"format": "onnx", "x": large}), 413, "too_large")
    too_large = {"kind": "projection", "picture": "A" * settings().max_picture_body_bytes}
    problem(owner.post(f"/v1/jobs/{attempt.job_id}/generations", json=too_large), 413, "too_large")


def test_what_is_done_outlives_its_checkpoint(
    owner: Person, session: Session, attempt: Attempt, generator: str
) -> None:
    made = story.rendered(owner, session, str(attempt.job_id), "generations", PICTURES)
    session.delete(session.get_one(Checkpoint, generator))
    session.commit()
    found = owner.get(f"/v1/generations/{made}").json()
    assert (found["status"], found["checkpoint_id"]) == (DONE, None)
    assert owner.get(f"/v1/generations/{made}/file").content == b"made"


def test_nearest_pictures_are_told_by_their_places_in_the_dataset(owner: Person) -> None:
    """Also where some of it was held out, and those that were trained on have places of their own."""
    made = owner.post("/v1/datasets", files=form(pngs(24))).json()
    listed = owner.get(f"/v1/datasets/{made['id']}/images", params={"limit": 100}).json()["items"]
    config = parse_config({"family": "slaegan", "resolution": 64, "held_out": 0.4})
    training, positions = ingredients.training_pictures(UUID(made["id"]), config=config)
    assert 4 <= len(positions) <= 20
    assert [image.sha256 for image in training.images] == [listed[place]["sha256"] for place in positions]
