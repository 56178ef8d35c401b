"""Deliveries, from the outbox to a real receiver."""

from __future__ import annotations

import json
import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select, update
from standardwebhooks import WebhookVerificationError

from core.broker import celery_app
from core.db import sessions
from core.jobs import endings
from core.jobs.claim import claim as claim_job
from core.jobs.tables import JobEvent
from core.keys import Tenant
from core.schemas.webhooks import Webhook
from core.settings import settings
from core.webhooks import outbox, service, signing
from core.webhooks.outbox import Claim, Outcome
from core.webhooks.tables import WebhookDelivery, WebhookSecret
from tests.receiver import Answer, Receiver, receiving
from worker.tasks import deliver_webhooks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from core.jobs.tables import Job
    from tests.integration.jobs.conftest import Sessions

    Submit = Callable[..., Job]

HOUR_S = 3600
pytestmark = pytest.mark.usefixtures("_deliverer")


def configure(monkeypatch: pytest.MonkeyPatch, **values: object) -> None:
    for name, value in values.items():
        monkeypatch.setenv(f"SLAEGAN_{name.upper()}", str(value))
    settings.cache_clear()


@pytest.fixture
def _deliverer(_worker_settings: None, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(monkeypatch, webhook_private_addresses=True, webhook_retries_s=[0, 0], webhook_timeout_s=20)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def secret(db: Sessions, tenant_id: UUID) -> str:
    with db.begin() as session:
        return signing.secret_of(session, tenant_id).secret


def hook(receiver: Receiver, *, path: str = "/hook", host: str = "127.0.0.1") -> Webhook:
    return Webhook(url=receiver.url(path, host=host), events=["queued"])


def only(db: Sessions) -> WebhookDelivery:
    with db() as session:
        return session.scalars(select(WebhookDelivery)).one()


def test_an_event_is_delivered_once_and_signed(
    db: Sessions, submit: Submit, receiver: Receiver, secret: str
) -> None:
    job = submit(webhook=hook(receiver, path="/hook?key=1"), name="cats")
    deliver_webhooks()
    deliver_webhooks()
    (request,) = receiver.received
    delivery = only(db)
    with db() as session:
        at = session.get_one(JobEvent, (job.id, 1)).at
    assert request.verified(secret) == {
        "type": "job.queued",
        "timestamp": at.isoformat(),
        "data": {"job_id": str(job.id), "job_name": "cats", "seq": 1, "payload": {"reason": "created"}},
    }
    with pytest.raises(WebhookVerificationError):
        request.verified(signing._new_secret())
    assert request.path == "/hook?key=1"
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["Host"] == f"127.0.0.1:{receiver.port}"
    assert (request.id, delivery.status, delivery.attempts) == (str(delivery.id), "delivered", 1)
    assert (delivery.last_status_code, delivery.last_error, delivery.next_attempt_at) == (200, None, None)


def test_what_failed_is_sent_again_under_the_same_id(
    db: Sessions, submit: Submit, receiver: Receiver, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(monkeypatch, webhook_timeout_s=0.5)
    never = threading.Event()
    receiver.answers["/hook"] += [Answer(500), Answer(wait=never)]
    submit(webhook=hook(receiver))
    deliver_webhooks()
    never.set()
    assert [request.id for request in receiver.received] == [str(only(db).id)] * 3
    assert len({request.body for request in receiver.received}) == 1
    for request in receiver.received:
        request.verified(secret)
    assert (only(db).status, only(db).attempts) == ("delivered", 3)


def test_what_fails_to_the_last_is_dead_until_it_is_asked_for(
    db: Sessions, submit: Submit, receiver: Receiver, tenant_id: UUID
) -> None:
    receiver.answers["/hook"] += [Answer(500)] * 3
    submit(webhook=hook(receiver))
    deliver_webhooks()
    dead = only(db)
    assert (dead.status, dead.attempts, dead.last_status_code) == ("dead", 3, 500)
    assert (dead.last_error, dead.next_attempt_at) == ("The endpoint answered 500.", None)
    for _ in range(2):  # a dead one, then a delivered one
        with db.begin() as session:
            service.redeliver(session, tenant_id=tenant_id, delivery_id=dead.id)
        deliver_webhooks()
        assert (only(db).status, only(db).attempts) == ("delivered", 1)
    assert [request.id for request in receiver.received] == [str(dead.id)] * 5


def test_an_endpoint_that_is_gone_is_left_alone(db: Sessions, submit: Submit, receiver: Receiver) -> None:
    receiver.answers["/hook"].append(Answer(410))
    submit(webhook=hook(receiver))
    deliver_webhooks()
    assert (only(db).status, only(db).attempts, len(receiver.received)) == ("dead", 1, 1)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(db: Sessions, submit: Submit, receiver: Receiver, status: int) -> None:
    receiver.answers["/hook"] += [Answer(status, {"Location": receiver.url("/other")})] * 3
    submit(webhook=hook(receiver))
    deliver_webhooks()
    assert [request.path for request in receiver.received] == ["/hook"] * 3
    assert (only(db).status, only(db).last_status_code) == ("dead", status)
    assert "not followed" in (only(db).last_error or "")


def test_who_lost_a_delivery_writes_nothing_of_it(db: Sessions, submit: Submit, receiver: Receiver) -> None:
    submit(webhook=hook(receiver))
    (lost,) = take(db, lease_s=0)
    (held,) = take(db, lease_s=60)
    assert take(db, lease_s=60) == [], "it is on its way"
    assert (lost.delivery_id, lost.body, held.attempt) == (held.delivery_id, held.body, 2)
    for claim, outcome, kept in ((lost, Outcome(200), False), (held, Outcome(500, error="no"), True)):
        with db.begin() as session:
            assert outbox.settle(session, claim, outcome, retries_s=[60] * 3) is kept
    assert (only(db).status, only(db).last_status_code) == ("pending", 500)


@pytest.mark.usefixtures("secret")
def test_two_workers_share_what_is_due(db: Sessions, submit: Submit, receiver: Receiver) -> None:
    for _ in range(4):
        submit(webhook=hook(receiver))
    with db() as one, db() as other:
        first = outbox.claim(one, limit=3, per_tenant=4, lease_s=60, overlap_s=0)
        second = outbox.claim(other, limit=4, per_tenant=4, lease_s=60, overlap_s=0)
        one.commit()
        other.commit()
    assert (len(first), len(second)) == (3, 1)
    assert len({claim.delivery_id for claim in first + second}) == 4


def take(db: Sessions, *, lease_s: float) -> list[Claim]:
    with db.begin() as session:
        return outbox.claim(session, limit=10, per_tenant=4, lease_s=lease_s, overlap_s=0)


def test_retry_after_is_respected_within_reason(
    db: Sessions, submit: Submit, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(monkeypatch, webhook_retries_s=[0, HOUR_S])
    receiver.answers["/minute"].append(Answer(429, {"Retry-After": "60"}))
    receiver.answers["/year"].append(Answer(503, {"Retry-After": "Wed, 21 Oct 2099 07:28:00 GMT"}))
    receiver.answers["/nonsense"].append(Answer(503, {"Retry-After": "soon"}))
    for path in ("/minute", "/year", "/nonsense"):
        submit(webhook=hook(receiver, path=path))
    deliver_webhooks()
    with db() as session:
        rest = WebhookDelivery.next_attempt_at - func.clock_timestamp()
        pauses = {
            url.rpartition("/")[2]: pause for url, pause in session.execute(select(WebhookDelivery.url, rest))
        }
    assert pauses["nonsense"] is None, "it was tried again at once, and delivered"
    assert timedelta(seconds=30) < pauses["minute"] <= timedelta(seconds=60)
    assert timedelta(minutes=50) < pauses["year"] <= timedelta(hours=1.2)


def test_a_slow_endpoint_holds_up_its_own_tenant_only(
    db: Sessions, submit: Submit, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(monkeypatch, webhook_concurrency=4, webhooks_per_tenant=2)
    release = threading.Event()
    receiver.answers["/slow"] += [Answer(wait=release)] * 6
    for _ in range(6):
        submit(webhook=hook(receiver, path="/slow"))
    other = uuid4()
    quick = submit(webhook=hook(receiver, path="/quick"))
    with db.begin() as session:
        session.add(Tenant(id=other, name="other"))
        session.flush()
        session.execute(
            update(WebhookDelivery).where(WebhookDelivery.job_id == quick.id).values(tenant_id=other)
        )
    thread = threading.Thread(target=deliver_webhooks)
    thread.start()
    try:
        deadline = time.monotonic() + 15
        while not receiver.at("/quick"):
            assert time.monotonic() < deadline, "the other tenant's delivery waits for the slow one"
            time.sleep(0.01)
        assert len(receiver.at("/slow")) == 2, "no more of one tenant's are under way"
    finally:
        release.set()
        thread.join()
    assert len(receiver.at("/slow")) == 6
    with db() as session:
        assert set(session.scalars(select(WebhookDelivery.status))) == {"delivered"}


def test_after_a_rotation_both_secrets_sign_for_a_while(
    db: Sessions,
    submit: Submit,
    receiver: Receiver,
    tenant_id: UUID,
    secret: str,
) -> None:
    with db.begin() as session:
        new = signing.rotate(session, tenant_id).secret
    assert new != secret
    submit(webhook=hook(receiver))
    deliver_webhooks()
    receiver.received[0].verified(secret)
    receiver.received[0].verified(new)
    with db.begin() as session:
        session.execute(update(WebhookSecret).values(created_at=WebhookSecret.created_at - timedelta(days=1)))
    submit(webhook=hook(receiver))
    deliver_webhooks()
    receiver.received[1].verified(new)
    with pytest.raises(WebhookVerificationError):
        receiver.received[1].verified(secret)


def test_private_addresses_are_refused_at_delivery_too(
    db: Sessions, submit: Submit, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name may lead elsewhere by then; here the check at submission is passed by."""
    configure(monkeypatch, webhook_private_addresses=False)
    submit(webhook=hook(receiver, host="localhost"))
    deliver_webhooks()
    assert receiver.received == []
    assert only(db).status == "dead"
    assert only(db).last_error == "localhost leads to an address that is not public."


def test_nobody_listens(db: Sessions, submit: Submit, receiver: Receiver) -> None:
    webhook = hook(receiver)
    receiver.server_close()
    submit(webhook=webhook)
    deliver_webhooks()
    assert (only(db).status, only(db).attempts, only(db).last_status_code) == ("dead", 3, None)
    assert (only(db).last_error or "").startswith("The endpoint could not be reached: ")


def test_the_outbox_has_what_was_asked_for_and_only_with_its_event(
    db: Sessions, submit: Submit, receiver: Receiver
) -> None:
    job = submit(webhook=Webhook(url=receiver.url(), events=["running", "queued"]))
    plain = submit(priority=-1)
    with db() as session:
        claim_job(session, worker="w", lease_s=60)
        assert len(session.scalars(select(WebhookDelivery)).all()) == 2
        session.rollback()
    with db() as session:
        assert session.scalars(select(WebhookDelivery.event)).all() == ["queued"]
    with db.begin() as session:
        attempt = claim_job(session, worker="w", lease_s=60)
        assert attempt is not None
        endings.hand_back(session, attempt, reason="preempted")
        claim_job(session, worker="w", lease_s=60)
        claim_job(session, worker="w2", lease_s=60)  # the other job, which has no webhook
    with db() as session:
        told = session.execute(
            select(WebhookDelivery.event, WebhookDelivery.event_seq)
            .where(WebhookDelivery.job_id == job.id)
            .order_by(WebhookDelivery.event_seq)
        ).all()
        asked = select(JobEvent.type, JobEvent.seq).where(JobEvent.type.in_(["running", "queued"]))
        assert told == session.execute(asked.where(JobEvent.job_id == job.id).order_by(JobEvent.seq)).all()
        assert len(told) == 4
        assert not session.scalars(select(WebhookDelivery).where(WebhookDelivery.job_id == plain.id)).all()


def test_the_hint_leaves_with_the_commit(
    db: Sessions, submit: Submit, receiver: Receiver, empty_broker_url: str
) -> None:
    assert empty_broker_url

    def hints() -> int:
        with celery_app().connection_for_read() as connection:
            return int(connection.default_channel.client.llen("chores"))

    submit()
    submit(webhook=Webhook(url=receiver.url(), events=["running"]), priority=1)
    with db() as session:
        claim_job(session, worker="w", lease_s=60)
        session.rollback()
        session.commit()
    assert hints() == 0
    with db() as session:
        claim_job(session, worker="w", lease_s=60)
        assert hints() == 0
        session.commit()
    assert hints() == 1
    (message,) = _messages(receiver, "chores")
    assert message["headers"]["task"] == "worker.tasks.deliver_webhooks"


def _messages(receiver: Receiver, queue: str) -> list[dict[str, dict[str, str]]]:
    assert receiver.received == []
    with celery_app().connection_for_read() as connection:
        return [json.loads(text) for text in connection.default_channel.client.lrange(queue, 0, -1)]


def test_sessions_of_the_service_write_the_outbox_too(submit: Submit, receiver: Receiver) -> None:
    job = submit(webhook=Webhook(url=receiver.url()))
    with sessions().begin() as session:
        attempt = claim_job(session, worker="w", lease_s=60)
        assert attempt is not None
        endings.finish(session, attempt)
    deliver_webhooks()
    (request,) = receiver.received
    assert json.loads(request.body)["type"] == "job.succeeded"
    assert json.loads(request.body)["data"]["job_id"] == str(job.id)
