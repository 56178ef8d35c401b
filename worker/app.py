"""The entry of every Celery process: `python -P -m worker.app train|metrics|control|beat`.

A train or metrics worker is a parent (takes hints, beats its heart) with one pool child, which supervises the
child process that computes. Control runs the sweep; beat only says when.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
from pathlib import Path
from typing import Any

from billiard import active_children
from celery import bootsteps, signals
from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from core.broker import celery_app
from core.db import make_engine
from core.jobs.tables import Worker
from core.settings import settings
from worker import stopping

logger = logging.getLogger(__name__)


class Heartbeat(bootsteps.StartStopStep):  # type: ignore[misc]  # celery ships no types
    """Keeps the worker's row young from the consumer's own loop: a deaf worker grows old."""

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

    kind = "train"


def worker_name(kind: str) -> str:
    """The name under which this worker claims work."""
    return settings().worker_name or f"{kind}-{socket.gethostname()}"


@signals.worker_process_init.connect  # type: ignore[untyped-decorator]
def _prepare_pool_child(**_: Any) -> None:
    stopping.prepare_pool_child()


@signals.worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _tell_pool_children(**_: Any) -> None:
    """This signal fires in the parent only, while the supervisor runs in the pool child: pass it on."""
    for child in active_children():
        os.kill(child.pid, signal.SIGUSR2)


def main() -> None:
    """Run one Celery process until SIGTERM."""
    parser = argparse.ArgumentParser(prog="worker.app", description=__doc__)
    parser.add_argument("kind", choices=("train", "metrics", "control", "beat"))
    kind = parser.parse_args().kind
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    Path(settings().data_dir).mkdir(parents=True, exist_ok=True)
    app = celery_app()
    # Celery's command line would read BROKER_URL itself, and take the form of it that redis-py wants.
    arguments = ["--broker", settings().celery_broker_url()]
    if kind == "beat":
        # The plain scheduler keeps its times in memory; there is no file that a kill could tear.
        arguments += ["beat", "--scheduler", "celery.beat:Scheduler", "--pidfile="]
    else:
        pool = "solo" if kind == "control" else "prefork"
        arguments += ["worker", "--queues", kind, "--pool", pool, "--concurrency", "1"]
        arguments += ["--hostname", f"{worker_name(kind)}@%h"]
        arguments += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        if kind != "control":
            Heartbeat.kind = kind
            app.steps["consumer"].add(Heartbeat)
    app.start([*arguments, "--loglevel", "INFO" if kind in ("train", "metrics") else "WARNING"])


if __name__ == "__main__":
    main()
