from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from sqlalchemy import select, update

from client import SlaeGan
from core.db import sessions
from core.schemas.jobs import JobIn
from core.schemas.webhooks import Webhook
from core.webhooks import outbox
from core.webhooks.tables import WebhookDelivery
from tests.integration.api import story
from tests.integration.api.conftest import new_person, problem

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from tests.integration.api.conftest import Api, Person

URL = "https://example.com/hook"
WEBHOOK = {"url": URL, "events": ["queued"]}


def delivery_of(person: Person, job: dict[str, Any]) -> dict[str, Any]:
    (delivery,) = person.get(f"/v1/jobs/{job['id']}/deliveries").json()["items"]
    found: dict[str, Any] = delivery
    return found


def test_a_job_tells_where_its_events_go(owner: Person) -> None:
    ends = {"url": URL, "events": ["succeeded", "failed", "cancelled", "paused", "alarm"]}
    assert story.submit(owner, webhook={"url": URL})["webhook"] == ends
    assert story.submit(owner, webhook={"url": URL, "events": ["failed", "failed"]})["webhook"] == {
        "url": URL,
        "events": ["failed"],
    }
    job = story.submit(owner)
    assert job["webhook"] is None
    assert owner.get(f"/v1/jobs/{job['id']}/deliveries").json() == {"items": [], "next_cursor": None}


@pytest.mark.parametrize(
    "webhook",
    [
        {"url": "http://127.0.0.1/hook"},
        {"url": "http://[::ffff:127.0.0.1]/"},
        {"url": "http://2130706433/"},
        {"url": "http://localhost/"},
        {"url": "http://user:password@example.com/"},
        {"url": "https://example.com/#there"},
        {"url": "gopher://example.com/"},
        {"url": URL + "x" * 2_000},
        {"url": URL, "events": []},
        {"url": URL, "events": ["everything"]},
        {"url": URL, "secret": "mine"},
        {},
    ],
)
def test_bad_webhooks_are_refused_at_submission(owner: Person, webhook: dict[str, Any]) -> None:
    before = len(owner.get("/v1/jobs").json()["items"])
    response = owner.post("/v1/jobs", json={"dataset_id": story.upload(owner), "webhook": webhook})
    problem(response, 422, "invalid")
    assert len(owner.get("/v1/jobs").json()["items"]) == before


def test_a_delivery_tells_what_became_of_it(owner: Person, session: Session) -> None:
    job = story.submit(owner, webhook={"url": URL, "events": ["queued", "cancelled"]})
    owner.post(f"/v1/jobs/{job['id']}/cancel")
    path = f"/v1/jobs/{job['id']}/deliveries"
    first = owner.get(path, params={"limit": 1}).json()
    (older,) = owner.get(path, params={"limit": 1, "cursor": first["next_cursor"]}).json()["items"]
    assert [first["items"][0]["event"], older["event"]] == ["cancelled", "queued"]
    assert (older["status"], older["attempts"], older["url"]) == ("pending", 0, URL)
    session.execute(
        update(WebhookDelivery)
        .where(WebhookDelivery.id == UUID(older["id"]))
        .values(
            status="dead", attempts=8, next_attempt_at=None, last_status_code=500, last_error="It answered."
        )
    )
    session.commit()
    dead = owner.get(path).json()["items"][1]
    assert (dead["status"], dead["last_status_code"], dead["last_error"]) == ("dead", 500, "It answered.")
    again = owner.post(f"/v1/deliveries/{older['id']}/redeliver")
    assert again.status_code == 200
    assert (again.json()["id"], again.json()["status"], again.json()["attempts"]) == (
        older["id"],
        "pending",
        0,
    )


def test_what_is_on_its_way_is_not_sent_twice(owner: Person, session: Session) -> None:
    delivery = delivery_of(owner, story.submit(owner, webhook=WEBHOOK))
    with sessions().begin() as worker:
        claims = outbox.claim(worker, limit=100, per_tenant=1, lease_s=60, overlap_s=0)
    assert delivery["id"] in {str(claim.delivery_id) for claim in claims}
    problem(owner.post(f"/v1/deliveries/{delivery['id']}/redeliver"), 409, "conflict")
    session.execute(
        update(WebhookDelivery)
        .where(WebhookDelivery.id == UUID(delivery["id"]))
        .values(next_attempt_at=WebhookDelivery.created_at)
    )
    session.commit()
    assert owner.post(f"/v1/deliveries/{delivery['id']}/redeliver").status_code == 200, "its worker was lost"
    with sessions()() as look:
        assert look.scalars(
            select(WebhookDelivery.status).where(WebhookDelivery.id == UUID(delivery["id"]))
        ).all() == ["pending"]


def test_another_tenant_cannot_redeliver(owner: Person, stranger: Person) -> None:
    delivery = delivery_of(owner, story.submit(owner, webhook=WEBHOOK))
    problem(stranger.post(f"/v1/deliveries/{delivery['id']}/redeliver"), 404, "not_found")
    problem(stranger.get(f"/v1/jobs/{delivery['job_id']}/deliveries"), 404, "not_found")


def test_the_secret_is_the_tenants_and_the_admins(api: Api, owner: Person, stranger: Person) -> None:
    first = owner.get("/v1/webhook-secret").json()
    assert first == owner.get("/v1/webhook-secret").json()
    assert first["secret"].startswith("whsec_")
    assert first["previous_until"] is None
    second = owner.post("/v1/webhook-secret/rotate").json()
    assert second["secret"] != first["secret"]
    assert second["previous_until"] > second["created_at"]
    assert owner.get("/v1/webhook-secret").json() == second
    assert stranger.get("/v1/webhook-secret").json()["secret"] not in {first["secret"], second["secret"]}
    with new_person(api, "read", "write", tenant_id=owner.tenant_id) as user:
        for response in (user.get("/v1/webhook-secret"), user.post("/v1/webhook-secret/rotate")):
            body = problem(response, 403, "forbidden")
            assert body["details"] == {"needed": "admin", "scopes": ["read", "write"]}
    assert owner.get("/v1/webhook-secret").json() == second


def test_the_client_reaches_all_of_it(api: Api, owner: Person) -> None:
    key = owner.headers["Authorization"].removeprefix("Bearer ")
    with SlaeGan(str(api.url), key) as client:
        job = client.create_job(
            JobIn(dataset_id=UUID(story.upload(owner)), webhook=Webhook(url=URL, events=["queued"]))
        )
        assert job.webhook is not None
        assert job.webhook.url == URL
        (delivery,) = client.deliveries(job.id)
        assert client.redeliver(delivery.id).id == delivery.id
        assert client.rotate_webhook_secret() == client.webhook_secret()
