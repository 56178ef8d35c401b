"""Renderings as workers hold them: in turns, under a lease, taken back, kept and collected."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select, update

from core.errors import DataFailed, InfrastructureError, LeaseLost
from core.jobs.retention import pinned_or_needed
from core.jobs.sweep import Hints
from core.jobs.tables import Checkpoint, Worker
from core.keys import Tenant
from core.renderings import requests, service
from core.renderings.tables import RenderedFile, Rendering
from core.schemas.generations import ExportIn, PicturesIn
from core.settings import settings
from tests.integration.jobs.garbage import _folders, attempt, checkpoint, keys, put, run, told
from tests.integration.jobs.test_lease import run_sweep

if TYPE_CHECKING:
    from core.jobs.lease import Attempt
    from core.renderings.service import Claim
    from tests.integration.jobs.conftest import Sessions

__all__ = ["_folders", "attempt"]  # fixtures
LEASE_S = 60.0
MOST = 2  # workers that run_sweep allows to be lost


def ask(db: Sessions, held: Attempt, seed: int = 0) -> UUID:
    with db.begin() as session:
        asked = PicturesIn(seed=seed, count=1)
        row = requests.ask(session, asked, tenant_id=held.tenant_id, job_id=held.job_id, max_waiting=100)
        return row.id


def take(db: Sessions, worker: str = "g1") -> Claim | None:
    with db.begin() as session:
        return service.claim(session, worker=worker, lease_s=LEASE_S)


def taken(db: Sessions) -> Claim:
    claim = take(db)
    assert claim is not None
    return claim


def row(db: Sessions, rendering_id: UUID) -> Rendering:
    with db() as session:
        return session.get_one(Rendering, rendering_id)


def let_the_lease_end(db: Sessions) -> None:
    with db.begin() as session:
        late = Rendering.lease_expires_at - timedelta(seconds=2 * LEASE_S)
        session.execute(update(Rendering).values(lease_expires_at=late))


def post(db: Sessions, claim: Claim) -> str:
    """One file, stored and named."""
    key = put(f"jobs/{claim.job_id}/renderings/{uuid4().hex}/1.png", data=b"12345")
    file = service.NewFile("1.png", "main", "image/png", key, "0" * 64, 5)
    with db.begin() as session:
        service.post(session, claim, files=[file], facts={})
    return key


def test_two_workers_never_get_the_same(db: Sessions, attempt: Attempt) -> None:
    checkpoint(db, attempt, "generator", 8)
    asked = [ask(db, attempt, seed) for seed in range(2)]
    with db.begin() as first, db.begin() as second:
        claims = [
            service.claim(first, worker="g1", lease_s=LEASE_S),
            service.claim(second, worker="g2", lease_s=LEASE_S),
        ]
    assert [claim.rendering_id for claim in claims if claim] == asked, "the oldest first"
    assert take(db) is None


def test_tenants_take_turns(db: Sessions, attempt: Attempt) -> None:
    checkpoint(db, attempt, "generator", 8)
    busy = [ask(db, attempt, seed) for seed in range(3)]
    other = Tenant(id=uuid4(), name="other")
    with db.begin() as session:
        session.add(other)
    with db.begin() as session:
        late = session.get_one(Rendering, busy[2])
        job = late.job_id
        mine = Rendering(
            tenant_id=other.id, job_id=job, images_seen=8, generator_sha256="g", what="generation",
            request={"kind": "pictures"}, request_hash="other", checkpoint_id=late.checkpoint_id,
        )  # fmt: skip
        session.add(mine)
    order = []
    while (claim := take(db)) is not None:
        order.append(claim.rendering_id)
        post(db, claim)
    assert order == [busy[0], mine.id, *busy[1:]], "who has been served least lately is first"


def test_a_worker_that_drains_gets_nothing(db: Sessions, attempt: Attempt) -> None:
    checkpoint(db, attempt, "generator", 8)
    ask(db, attempt)
    with db.begin() as session:
        session.add(Worker(name="g1", kind="generate", device="cpu", host="h", pid=1, drain="finish"))
    assert take(db) is None
    assert take(db, "g2") is not None


def test_a_lost_lease_writes_nothing_and_the_sweep_gives_it_to_another(
    db: Sessions, attempt: Attempt
) -> None:
    checkpoint(db, attempt, "generator", 8)
    asked = ask(db, attempt)
    lost = taken(db)
    let_the_lease_end(db)
    run_sweep(db)
    again = taken(db)
    assert (again.rendering_id, again.attempt) == (asked, 2)
    for write in (
        lambda s: service.heartbeat(s, lost, lease_s=LEASE_S),
        lambda s: service.check_held(s, lost),
        lambda s: service.post(s, lost, files=[], facts={}),
        lambda s: service.give_up(s, lost, DataFailed("late")),
        lambda s: service.hand_back(s, lost),
    ):
        with pytest.raises(LeaseLost), db.begin() as session:
            write(session)
    post(db, again)
    with db() as session:
        assert session.scalars(select(RenderedFile.name)).all() == ["1.png"]
    assert row(db, asked).status == "done"


def test_what_is_lost_too_often_fails(db: Sessions, attempt: Attempt) -> None:
    checkpoint(db, attempt, "generator", 8)
    asked = ask(db, attempt)
    for _ in range(MOST):
        taken(db)
        let_the_lease_end(db)
        run_sweep(db)
    found = row(db, asked)
    assert (found.status, take(db)) == ("failed", None)
    assert "workers were lost" in (found.error or {})["message"]


def test_a_try_that_its_surroundings_cost_comes_after_a_pause(db: Sessions, attempt: Attempt) -> None:
    checkpoint(db, attempt, "generator", 8)
    asked = ask(db, attempt)
    for tried in (1, 2):
        with db.begin() as session:
            service.lose(session, taken_again(db), InfrastructureError("away"), max_attempts=2, pause_s=60)
        assert take(db) is None
        assert row(db, asked).status == ("running" if tried == 1 else "failed")
    assert (row(db, asked).error or {})["message"] == "away"


def taken_again(db: Sessions) -> Claim:
    """Also one whose pause is not over."""
    let_the_lease_end(db)
    run_sweep(db)
    return taken(db)


def test_what_is_handed_back_is_not_counted(db: Sessions, attempt: Attempt) -> None:
    checkpoint(db, attempt, "generator", 8)
    asked = ask(db, attempt)
    with db.begin() as session:
        service.hand_back(session, taken(db))
    assert (row(db, asked).status, row(db, asked).attempts) == ("queued", 0)


def test_hints_go_to_idle_workers(db: Sessions, attempt: Attempt) -> None:
    checkpoint(db, attempt, "generator", 8)
    for seed in range(2):
        ask(db, attempt, seed)
    with db.begin() as session:
        session.add_all(
            Worker(name=name, kind="generate", device="cpu", host="h", pid=1) for name in ("g1", "g2")
        )
    assert run_sweep(db) == Hints(train=0, metrics=0, generate=2)
    taken(db)
    assert run_sweep(db) == Hints(train=0, metrics=0, generate=1)


def test_its_generator_stays_while_it_waits(db: Sessions, attempt: Attempt) -> None:
    checkpoint(db, attempt, "generator", 8)
    ask(db, attempt)
    with db.begin() as session:
        every = session.scalars(select(Checkpoint)).all()
        assert pinned_or_needed(session, every) == {every[0].id}
    post(db, taken(db))
    with db.begin() as session:
        every = session.scalars(select(Checkpoint)).all()
        assert pinned_or_needed(session, every) == set()


def test_one_without_its_generator_is_told_so(db: Sessions, attempt: Attempt) -> None:
    checkpoint(db, attempt, "generator", 8)
    ask(db, attempt)
    with db.begin() as session:
        session.delete(session.scalars(select(Checkpoint)).one())
    assert taken(db).generator_key is None


def test_what_is_done_goes_when_its_time_is_over_unless_its_checkpoint_is_pinned(
    db: Sessions, attempt: Attempt
) -> None:
    generator = checkpoint(db, attempt, "generator", 8)
    asked = ask(db, attempt)
    key = post(db, taken(db))
    with db.begin() as session:
        waiting = requests.ask(
            session,
            ExportIn(format="onnx"),
            tenant_id=attempt.tenant_id,
            job_id=attempt.job_id,
            max_waiting=9,
        )
    assert told(run()) == {}
    with db.begin() as session:
        long_ago = func.clock_timestamp() - timedelta(seconds=settings().generation_keep_s + 1)
        session.execute(update(Rendering).where(Rendering.id == asked).values(finished_at=long_ago))
        session.execute(update(Checkpoint).values(pinned=True))
    assert told(run()) == {}
    with db.begin() as session:
        session.execute(update(Checkpoint).values(pinned=False))
    found = {"generations and exports": (1, 5)}
    assert told(run(dry_run=True)) == found
    assert told(run(dry_run=True)) == found, "a dry run removes nothing"
    assert told(run()) == found
    assert told(run()) == {}
    assert keys() == {generator}
    assert key not in keys()
    with db() as session:
        assert session.scalars(select(Rendering.id)).all() == [waiting.id]
