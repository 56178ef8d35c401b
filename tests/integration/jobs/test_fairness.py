"""Whose job is next, and how many of one tenant's may run and wait."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select

from core.errors import NotFound, QuotaExceeded
from core.evaluations import service as evaluations
from core.jobs import endings, lease, service, workers
from core.jobs.claim import claim
from core.jobs.tables import Job, Worker
from core.keys import Tenant
from core.schemas.slaegan import SlaeganConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.jobs.conftest import Sessions


@pytest.fixture
def submit_for(db: Sessions, submit: Callable[..., Job]) -> Callable[..., Job]:
    """Queues a job of another tenant, on the same pictures."""
    source = submit()
    with db.begin() as session:
        endings.hand_back(session, _take(session), reason="only its dataset is wanted")
        service.advance(
            session, source.id, values={"status": "paused"}, event="paused"
        )  # out of the queue's way

    def submit_for(tenant_id: UUID, **values: object) -> Job:
        with db.begin() as session:
            return service.create(
                session,
                tenant_id=tenant_id,
                dataset_id=source.dataset_id,
                config=SlaeganConfig(resolution=64),
                **({"name": "", "priority": 0} | values),  # type: ignore[arg-type]
            )

    return submit_for


def _take(session: object) -> lease.Attempt:
    attempt = claim(session, worker="w", lease_s=60)  # type: ignore[arg-type]
    assert attempt is not None
    return attempt


def tenant(db: Sessions) -> UUID:
    with db.begin() as session:
        made = Tenant(id=uuid4(), name=str(uuid4()))
        session.add(made)
    return made.id


def order(db: Sessions, **options: int) -> list[UUID]:
    """The jobs that are claimed, one after the other, until there is none."""
    found = []
    while True:
        with db.begin() as session:
            attempt = claim(session, worker="w", lease_s=60, **options)  # type: ignore[arg-type]
        if attempt is None:
            return found
        found.append(attempt.job_id)


def test_tenants_take_turns_within_a_priority(db: Sessions, submit_for: Callable[..., Job]) -> None:
    many, few = tenant(db), tenant(db)
    crowd = [submit_for(many).id for _ in range(4)]
    lone = [submit_for(few).id for _ in range(2)]
    urgent = submit_for(many, priority=1).id
    # The crowd has one running by then, so the lone tenant's come before its next.
    assert order(db) == [urgent, lone[0], crowd[0], lone[1], *crowd[1:]]


def test_no_tenant_runs_more_than_it_may_even_when_workers_race(
    db: Sessions, submit_for: Callable[..., Job]
) -> None:
    greedy, other = tenant(db), tenant(db)
    for _ in range(6):
        submit_for(greedy)
    submit_for(other)

    def race(_: int) -> UUID | None:
        with db.begin() as session:
            attempt = claim(session, worker="w", lease_s=60, max_running=2)
            return attempt and attempt.tenant_id

    with ThreadPoolExecutor(8) as pool:
        claimed = [found for found in pool.map(race, range(8)) if found]
    assert sorted(map(str, claimed)) == sorted(map(str, [greedy, greedy, other]))


def test_no_tenant_has_more_waiting_than_it_may_even_when_requests_race(
    db: Sessions, submit_for: Callable[..., Job]
) -> None:
    greedy = tenant(db)

    def submit(_: int) -> bool:
        try:
            submit_for(greedy, max_queued=5)
        except QuotaExceeded:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(submit, range(20))) == 5
    submit_for(tenant(db), max_queued=5)  # another tenant has a share of its own


def test_a_drained_worker_takes_nothing_until_it_may_again(db: Sessions, submit: Callable[..., Job]) -> None:
    submit()
    with db.begin() as session:
        session.add(Worker(name="w", kind="train", device="cpu", host="h", pid=1))
    for how in ("finish", "hand_back"):
        with db.begin() as session:
            workers.drain(session, "w", how)  # type: ignore[arg-type]
        with db.begin() as session:
            assert claim(session, worker="w", lease_s=60) is None
            assert evaluations.claim(session, worker="w", lease_s=60) is None
    with db.begin() as session:
        workers.drain(session, "w", None)
        attempt = _take(session)
    wishes = []
    for how in (None, "finish", "hand_back"):
        with db.begin() as session:
            workers.drain(session, "w", how)  # type: ignore[arg-type]
            wishes.append(lease.wish(session, attempt))
    assert wishes == [lease.Wish.GO_ON, lease.Wish.GO_ON, lease.Wish.HAND_BACK]
    with db.begin() as session, pytest.raises(NotFound, match="known are: w"):
        workers.drain(session, "v", "finish")
    with db() as session:
        assert session.scalars(select(Job.status)).all() == ["running"]
