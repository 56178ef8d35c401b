"""The entry of every Celery process: `python -P -m worker.app train|metrics|generate|control|chores|beat`.

A train, metrics or generate worker is a parent (takes hints, beats its heart) with one pool child, which supervises the
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
from celery.utils.log import get_multiprocessing_logger

from core import logbook, tracing
from core.broker import celery_app
from core.settings import settings
from worker import stopping
from worker.heartbeat import Heartbeat, worker_name

SUPERVISING = ("train", "metrics", "generate")


@signals.setup_logging.connect  # type: ignore[untyped-decorator]
def _leave_logging_alone(**_: Any) -> None:
    """Where anybody listens to this signal, Celery adds no handlers: its loggers end in ours, like all others."""
    pool = get_multiprocessing_logger()
    pool.propagate = True
    pool.setLevel(logging.ERROR)


@signals.worker_process_init.connect  # type: ignore[untyped-decorator]
def _prepare_pool_child(**_: Any) -> None:
    stopping.prepare_pool_child()
    tracing.setup("slaegan-worker")


@signals.worker_process_shutdown.connect  # type: ignore[untyped-decorator]
def _end_pool_child(**_: Any) -> None:
    tracing.stop()


@signals.worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _tell_pool_children(**_: Any) -> None:
    """This signal fires in the parent only, while the supervisor runs in the pool child: pass it on."""
    for child in active_children():
        os.kill(child.pid, signal.SIGUSR2)


def main() -> None:
    """Run one Celery process until SIGTERM."""
    parser = argparse.ArgumentParser(prog="worker.app", description=__doc__)
    parser.add_argument("kind", choices=(*SUPERVISING, "control", "chores", "beat"))
    kind = parser.parse_args().kind
    supervises = kind in SUPERVISING
    logbook.setup(settings().log_format, level=logging.INFO if supervises else logging.WARNING)
    settings().data_dir.mkdir(parents=True, exist_ok=True)
    app = celery_app()
    # Celery's command line would read BROKER_URL itself, and take the form of it that redis-py wants.
    arguments = ["--broker", settings().celery_broker_url()]
    if settings().log_format == "json":
        arguments += ["--quiet"]  # no banner
    if kind == "beat":
        # The plain scheduler keeps its times in memory; there is no file that a kill could tear.
        arguments += ["beat", "--scheduler", "celery.beat:Scheduler", "--pidfile="]
    else:
        pool = "prefork" if supervises else "solo"
        arguments += ["worker", "--queues", kind, "--pool", pool, "--concurrency", "1"]
        arguments += ["--hostname", f"{worker_name(kind)}@%h"]
        arguments += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        if supervises:
            Heartbeat.kind = kind
            app.steps["consumer"].add(Heartbeat)
    app.start(arguments)


if __name__ == "__main__":
    main()
