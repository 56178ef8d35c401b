"""A worker's name, and the row that shows it to be alive."""

from __future__ import annotations

import logging
import os
import socket
from typing import Any

from celery import bootsteps
from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from core.db import make_engine
from core.jobs.tables import Worker
from core.settings import settings

logger = logging.getLogger(__name__)


class Heartbeat(bootsteps.StartStopStep):  # type: ignore[misc]  # celery ships no types
    """Keeps the worker's row young from the consumer's own loop: a deaf worker grows old."""

    kind = "train"
    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **_: Any) -> None:
        self._timer: Any = None
        # No pool: this process forks, and a connection must not be shared with a child.
        self._engine = make_engine(settings().database_url, poolclass=NullPool)
        consumer.slaegan_heartbeat = self

    def start(self, consumer: Any) -> None:
        self._beat(started=True)
        self._timer = consumer.timer.call_repeatedly(settings().heartbeat_s, self._beat)

    def stop(self, consumer: Any) -> None:  # noqa: ARG002  # celery's signature
        if self._timer is not None:
            self._timer.cancel()

    def _beat(self, *, started: bool = False) -> None:
        facts: dict[str, Any] = {
            "kind": self.kind,
            "device": settings().device,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "last_heartbeat_at": func.clock_timestamp(),
        }
        if started:
            facts["started_at"] = func.clock_timestamp()
        try:
            with Session(self._engine) as session, session.begin():
                statement = insert(Worker).values(name=worker_name(self.kind), **facts)
                session.execute(statement.on_conflict_do_update(index_elements=["name"], set_=facts))
        except OperationalError as error:
            logger.warning("The database took no heartbeat: %s", error)


def worker_name(kind: str) -> str:
    """The name under which this worker claims work."""
    return settings().worker_name or f"{kind}-{socket.gethostname()}"
