"""The chores worker as a process: deliveries outlive it, and it outlives what a delivery meets."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

import pytest
import redis

from benchmarks.stack import Services
from core.schemas.jobs import JobIn
from core.schemas.webhooks import Webhook
from tests.e2e.system import SMALL_TIMES, draw_pictures
from tests.receiver import Answer, Receiver, receiving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from uuid import UUID

    from client import SlaeGan
    from core.schemas.webhooks import DeliveryOut

pytestmark = pytest.mark.slow


@pytest.fixture
def system(database_url: str, empty_broker_url: str, tmp_path: Path) -> Iterator[Services]:
    environment = os.environ | SMALL_TIMES
    environment |= {
        "DATABASE_URL": database_url,
        "BROKER_URL": empty_broker_url,
        "STORAGE_URL": f"file://{tmp_path}/store",
        "SLAEGAN_DATA_DIR": str(tmp_path / "data"),
        "SLAEGAN_WEBHOOK_PRIVATE_ADDRESSES": "true",
        "SLAEGAN_WEBHOOK_POLL_S": "0.5",
        "SLAEGAN_LEASE_S": "1",
        "SLAEGAN_WEBHOOK_TIMEOUT_S": "2",
    }
    system = Services(environment, tmp_path)
    system.start("api", "chores", "beat")
    yield system
    system.stop()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def submit(client: SlaeGan, receiver: Receiver, dataset_id: UUID) -> UUID:
    webhook = Webhook(url=receiver.url(), events=["queued"])
    return client.create_job(JobIn(dataset_id=dataset_id, webhook=webhook)).id


def delivery(client: SlaeGan, job_id: UUID) -> DeliveryOut:
    (found,) = client.deliveries(job_id)
    return found


def test_deliveries_outlive_their_worker(system: Services, receiver: Receiver, tmp_path: Path) -> None:
    never = threading.Event()
    with system.client() as client:
        dataset_id = client.create_dataset(draw_pictures(tmp_path / "pictures"), name="discs").id

        # Killed while it waits for an answer: the next one sends it again, under the same id.
        receiver.answers["/hook"].append(Answer(wait=never))
        job_id = submit(client, receiver, dataset_id)
        system.until(lambda: receiver.received, "the first attempt", timeout_s=60)
        system.processes["chores"].kill()
        system.processes["chores"].wait()
        system.start("chores")
        system.until(lambda: delivery(client, job_id).status == "delivered", "the second", timeout_s=60)
        assert [request.id for request in receiver.received] == [str(delivery(client, job_id).id)] * 2
        assert delivery(client, job_id).attempts == 2
        secret = client.webhook_secret().secret
        assert receiver.received[1].verified(secret)["data"]["job_id"] == str(job_id)

        # Asked to end while it waits for an answer: it ends in order, and writes what became of it.
        answered = threading.Event()
        receiver.answers["/hook"].append(Answer(wait=answered))
        job_id = submit(client, receiver, dataset_id)
        system.until(lambda: len(receiver.received) == 3, "an attempt under way", timeout_s=60)
        system.processes["chores"].send_signal(signal.SIGTERM)
        answered.set()
        assert system.processes["chores"].wait(30) == 0
        assert delivery(client, job_id).status == "delivered"

        # No worker, and the hint is lost: beat gives another.
        job_id = submit(client, receiver, dataset_id)
        with redis.Redis.from_url(system.environment["BROKER_URL"]) as broker:
            broker.flushall()
        system.start("chores")
        system.until(lambda: delivery(client, job_id).status == "delivered", "the third", timeout_s=60)
        assert len(receiver.received) == 4
