"""The tasks: claim and delegate. What a message says beyond "look" is not used."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import anyio
from celery import shared_task

from core import logbook, tracing
from core.broker import wake
from core.db import sessions
from core.evaluations import service as evaluations
from core.garbage.collect import collect
from core.garbage.report import Bounds
from core.jobs.claim import claim as claim_job
from core.jobs.sweep import sweep as sweep_queue
from core.renderings import service as renderings
from core.settings import settings
from core.webhooks.deliver import deliver_due
from worker import stopping
from worker.evaluating import evaluate
from worker.heartbeat import worker_name
from worker.rendering import render
from worker.training import train as train_attempt

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def _known(what: str, facts: dict[str, Any], *, origin: dict[str, Any] | None) -> Iterator[None]:
    """Put the facts of some work on its lines and its span, and the request that has asked for it."""
    request = {"request_id": origin["request_id"]} if origin and "request_id" in origin else {}
    with logbook.bound(**facts, **request), tracing.span(what, parent=origin, **facts):
        yield


@shared_task(name="worker.tasks.train")  # type: ignore[untyped-decorator]
def train() -> None:
    """Train queued jobs, one after the other, until none is left or the worker should stop."""
    name = worker_name("train")
    with stopping.orderly() as stop:
        while not stop.is_set:
            with sessions().begin() as session:
                attempt = claim_job(
                    session,
                    worker=name,
                    lease_s=settings().lease_s,
                    max_running=settings().max_running_jobs,
                )
            if attempt is None:
                return
            facts = {"job": attempt.job_id, "run": attempt.run, "attempt": attempt.number, "worker": name}
            with _known("attempt", facts, origin=attempt.origin):
                train_attempt(attempt, worker=name, stop=stop)


@shared_task(name="worker.tasks.metrics")  # type: ignore[untyped-decorator]
def metrics() -> None:
    """Evaluate queued snapshots, one after the other, until none is left or the worker should stop."""
    name = worker_name("metrics")
    with stopping.orderly() as stop:
        while not stop.is_set:
            with sessions().begin() as session:
                claim = evaluations.claim(session, worker=name, lease_s=settings().lease_s)
            if claim is None:
                return
            facts = {"job": claim.job_id, "run": claim.run, "evaluation": claim.evaluation_id, "worker": name}
            with _known("evaluation", {**facts, "images_seen": claim.images_seen}, origin=claim.origin):
                evaluate(claim, worker=name, stop=stop)


@shared_task(name="worker.tasks.generate")  # type: ignore[untyped-decorator]
def generate() -> None:
    """Render what is queued, one after the other, until nothing is left or the worker should stop."""
    name = worker_name("generate")
    with stopping.orderly() as stop:
        while not stop.is_set:
            with sessions().begin() as session:
                claim = renderings.claim(session, worker=name, lease_s=settings().lease_s)
            if claim is None:
                return
            facts = {"job": claim.job_id, claim.what: claim.rendering_id, "worker": name}
            with _known("rendering", facts, origin=claim.origin):
                render(claim, worker=name, stop=stop)


@shared_task(name="worker.tasks.sweep")  # type: ignore[untyped-decorator]
def sweep() -> None:
    """Take back what lost workers held, then wake as many idle workers as there is work."""
    with sessions().begin() as session:
        hints = sweep_queue(
            session,
            lease_s=settings().lease_s,
            max_failures=settings().max_infrastructure_failures,
            max_evaluation_attempts=settings().max_evaluation_attempts,
        )
    wake("train", times=hints.train)
    wake("metrics", times=hints.metrics)
    wake("generate", times=hints.generate)


@shared_task(name="worker.tasks.deliver_webhooks")  # type: ignore[untyped-decorator]
def deliver_webhooks() -> None:
    """Send what is due of the outbox; a run is short, so that other chores get their turn."""
    if not anyio.run(deliver_due):
        wake("deliver_webhooks")


@shared_task(name="worker.tasks.collect_garbage")  # type: ignore[untyped-decorator]
def collect_garbage() -> None:
    """Remove what nobody needs; where there is more of it than one run takes, ask for another."""
    bounds = Bounds(grace_s=settings().garbage_grace_s, limit=settings().garbage_limit)
    report = collect(bounds, data_dir=settings().data_dir.absolute())
    if report.more and not report.problems:
        wake("collect_garbage")
