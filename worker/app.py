"""The entry of every Celery process: `python -P -m worker.app train|metrics|control|chores|beat`.

A train or metrics worker is a parent (takes hints, beats its heart) with one pool child, which supervises the
child process that computes. Control runs the sweep, chores what may take longer; beat only says when.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
from typing import Any

from billiard import active_children
from celery import signals

from core.broker import celery_app
from core.settings import settings
from worker import stopping
from worker.heartbeat import Heartbeat, worker_name


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
    parser.add_argument("kind", choices=("train", "metrics", "control", "chores", "beat"))
    kind = parser.parse_args().kind
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # It would write the addresses of webhooks, which may hold secrets.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    settings().data_dir.mkdir(parents=True, exist_ok=True)
    app = celery_app()
    # Celery's command line would read BROKER_URL itself, and take the form of it that redis-py wants.
    arguments = ["--broker", settings().celery_broker_url()]
    if kind == "beat":
        # The plain scheduler keeps its times in memory; there is no file that a kill could tear.
        arguments += ["beat", "--scheduler", "celery.beat:Scheduler", "--pidfile="]
    else:
        supervises = kind in ("train", "metrics")
        pool = "prefork" if supervises else "solo"
        arguments += ["worker", "--queues", kind, "--pool", pool, "--concurrency", "1"]
        arguments += ["--hostname", f"{worker_name(kind)}@%h"]
        arguments += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        if supervises:
            Heartbeat.kind = kind
            app.steps["consumer"].add(Heartbeat)
    app.start([*arguments, "--loglevel", "INFO" if kind in ("train", "metrics") else "WARNING"])


if __name__ == "__main__":
    main()
