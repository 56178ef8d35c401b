"""The Celery application, configured so that a message is only a wake-up hint.

Postgres holds the queue; losing, doubling or delaying a message is harmless. What each setting is for:

- acks early, no redelivery: Redis would redeliver a long task while it still runs; the lease does that work.
- no prefetch: an early ack still reserves one message behind a long task.
- no result backend: state lives in Postgres.
- reconnect for ever, and cancel nothing on a lost connection: a broker's blip must stop no training.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from functools import cache
from typing import Any, Literal

from celery import Celery
from kombu.exceptions import OperationalError

from core.settings import settings

logger = logging.getLogger(__name__)

# The queue of each task, which is that of the kind of worker that takes it.
QUEUES = {
    "train": "train",
    "metrics": "metrics",
    "generate": "generate",
    "sweep": "control",
    "deliver_webhooks": "chores",
    "collect_garbage": "chores",
}

VISIBILITY_TIMEOUT_S = 43_200


@cache
def celery_app() -> Celery:
    """The application of this process; connects on first use."""
    app = Celery("slaegan", broker=settings().celery_broker_url())
    app.conf.update(
        task_acks_late=False,
        task_reject_on_worker_lost=False,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_max_retries=None,
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            "visibility_timeout": VISIBILITY_TIMEOUT_S,
            "socket_connect_timeout": 2,
            # A broker that is stopped, not gone, would hold whoever hints for ever.
            "socket_timeout": 10,
        },
        visibility_timeout=VISIBILITY_TIMEOUT_S,
        task_ignore_result=True,
        task_default_queue="control",
        task_routes={f"worker.tasks.{task}": {"queue": queue} for task, queue in QUEUES.items()},
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        enable_utc=True,
        timezone="UTC",
        beat_schedule={
            "sweep": _every(settings().sweep_s, "sweep"),
            "deliver_webhooks": _every(settings().webhook_poll_s, "deliver_webhooks"),
            # Due when beat starts, else a stack that runs for less than that would never come to it.
            "collect_garbage": {
                **_every(settings().garbage_every_s, "collect_garbage"),
                "last_run_at": datetime.fromtimestamp(0, tz=UTC),
            },
        },
        imports=("worker.tasks",),
    )
    return app


def _every(period_s: float, task: str) -> dict[str, Any]:
    """An entry of beat's schedule. What nobody took for long is of no use: it expires.

    By the clock of whoever takes it, which may differ from beat's: so not as soon as the next one is due.
    """
    options = {"expires": max(12 * period_s, 60), "queue": QUEUES[task]}
    return {"task": f"worker.tasks.{task}", "schedule": period_s, "options": options}


def wake(
    task: Literal["train", "metrics", "generate", "deliver_webhooks", "collect_garbage"], *, times: int = 1
) -> None:
    """Hint to the workers that something is queued. Never fails: beat and the sweep replace hints that got lost.

    Args:
        task: which of the workers' tasks has work.
        times: how many workers to wake.
    """
    policy: dict[str, Any] = {
        "max_retries": 1,
        "interval_start": 0,
        "interval_step": 0.1,
        "interval_max": 0.1,
    }
    options: dict[str, Any] = {"queue": QUEUES[task], "retry": True, "retry_policy": policy}
    if task == "deliver_webhooks":
        # One comes with every event, and beat repeats it: no heap of them waits for a worker that is away.
        options["expires"] = max(12 * settings().webhook_poll_s, 60)
    try:
        for _ in range(times):
            celery_app().send_task(f"worker.tasks.{task}", **options)
    except OperationalError as error:
        logger.warning("The broker took no %s hint (it is sent again later): %s", task, error)
