"""The schema knows the table of transitions: nothing else passes, and nothing without its event."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from core.schemas.jobs import Status

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from sqlalchemy.orm import Session

    from core.jobs.tables import Job
    from tests.integration.jobs.conftest import Sessions

SAME_RUN = {
    "queued": {"running", "paused", "cancelled", "failed"},
    "running": {"queued", "evaluating", "paused", "cancelled", "failed"},
    "evaluating": {"succeeded", "cancelled"},
    "paused": {"queued", "cancelled"},
}
NEXT_RUN = {status.value: {"queued"} for status in Status if status.final}
PATHS: dict[str, list[str]] = {
    "queued": [],
    "running": ["running"],
    "evaluating": ["running", "evaluating"],
    "paused": ["paused"],
    "succeeded": ["running", "evaluating", "succeeded"],
    "failed": ["running", "failed"],
    "cancelled": ["cancelled"],
}
CHANGE = """
with wanted as (select cast(:status as text) as status)
update jobs set status = wanted.status, run = run + :further, event_seq = event_seq + :told,
  lease_token = case when wanted.status = 'running' then gen_random_uuid() end,
  lease_expires_at = case when wanted.status = 'running' then now() end,
  claimed_at = case when wanted.status = 'running' then now() end,
  finished_at = case when wanted.status in ('succeeded', 'failed', 'cancelled') then now() end,
  error = case when wanted.status = 'failed' then '{}'::jsonb end
from wanted where id = :id
"""
EVENT = "insert into job_events (job_id, seq, type, payload) select id, event_seq, 'x', '{}' from jobs where id = :id"


def go(
    session: Session, job_id: UUID, status: str, *, further: int = 0, told: int = 1, event: bool = True
) -> None:
    values: dict[str, Any] = {"id": job_id, "status": status, "further": further, "told": told}
    session.execute(text(CHANGE), values)
    if event:
        session.execute(text(EVENT), {"id": job_id})
    session.commit()


@pytest.mark.parametrize("before", PATHS)
def test_only_what_the_table_allows(db: Sessions, submit: Callable[..., Job], before: str) -> None:
    for after, further in product(PATHS, [0, 1, 2]):
        if before == after and not further:
            continue
        job_id = submit().id
        with db() as session:
            for status in PATHS[before]:
                go(session, job_id, status)
            if after in ({0: SAME_RUN, 1: NEXT_RUN}.get(further, {}).get(before, set())):
                go(session, job_id, after, further=further)
            else:
                with pytest.raises(IntegrityError, match="cannot go from"):
                    go(session, job_id, after, further=further)


def test_no_transition_without_its_event(db: Sessions, submit: Callable[..., Job]) -> None:
    job_id = submit().id
    with db() as session:
        with pytest.raises(IntegrityError, match="without an event"):
            go(session, job_id, "paused", told=0, event=False)
        session.rollback()
        with pytest.raises(IntegrityError, match="event 2 is missing"):
            go(session, job_id, "paused", event=False)


def test_events_stay_as_they_were_written(db: Sessions, submit: Callable[..., Job]) -> None:
    submit()
    with db() as session, pytest.raises(IntegrityError, match="never changed"):
        session.execute(text("update job_events set type = 'other'"))
