"""A job's log on its way from the database to the store, and read from both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import InternalError

from core.db import sessions
from core.errors import LeaseLost, StoreFull, StoreUnavailable
from core.jobs import endings, records
from core.jobs.tables import Job, JobEvent, LogLine
from core.logs import shipping
from core.logs.reading import read_lines
from core.logs.tables import LogChunk
from core.settings import settings
from core.storage import store
from tests.integration.jobs.test_effects import effects_of, stored
from tests.integration.jobs.test_lease import claim
from worker import training
from worker.stopping import Flag

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sqlalchemy.orm import Session

    from core.jobs.lease import Attempt
    from tests.integration.jobs.conftest import Sessions
    from worker.effects import TrainingEffects

pytestmark = pytest.mark.usefixtures("_small_logs")
CHUNK, MOST = 10, 40


@pytest.fixture
def _small_logs(monkeypatch: pytest.MonkeyPatch, _worker_settings: None) -> None:
    monkeypatch.setenv("SLAEGAN_LOG_CHUNK_LINES", str(CHUNK))
    monkeypatch.setenv("SLAEGAN_MAX_LOG_LINES", str(MOST))
    settings.cache_clear()


@pytest.fixture
def attempt(db: Sessions, submit: Callable[..., Job]) -> Attempt:
    submit()
    return claim(db)


@pytest.fixture
def effects(attempt: Attempt, tmp_path: Path) -> TrainingEffects:
    return effects_of(attempt, tmp_path)


def say(effects: TrainingEffects, first: int, last: int) -> None:
    """Lines as a training prints them, a few at a time."""
    for start in range(first, last + 1, 4):
        effects.carry_out([], [f"line {n}" for n in range(start, min(start + 4, last + 1))])


def read(attempt: Attempt, *, after: int = 0) -> list[tuple[int, str]]:
    return [(line.seq, line.line) for line in read_lines(attempt.job_id, after=after)]


def numbered(first: int, last: int) -> list[tuple[int, str]]:
    return [(n, f"line {n}") for n in range(first, last + 1)]


def in_database(db: Sessions) -> list[int]:
    with db() as session:
        return list(session.scalars(select(LogLine.seq).order_by(LogLine.seq)))


def chunks(db: Sessions) -> list[tuple[int, int]]:
    with db() as session:
        rows = session.scalars(select(LogChunk).order_by(LogChunk.first_seq))
        return [(row.first_seq, row.last_seq) for row in rows]


def test_lines_leave_for_the_store_and_are_read_as_one(
    db: Sessions, attempt: Attempt, effects: TrainingEffects
) -> None:
    say(effects, 1, 25)
    assert (chunks(db), in_database(db)) == ([(1, 10), (11, 20)], list(range(21, 26)))
    assert read(attempt) == numbered(1, 25)
    for after in (1, 10, 11, 24):
        assert read(attempt, after=after) == numbered(after + 1, 25)
    assert effects.ship_log()
    assert effects.ship_log(), "nothing to move is no error"
    assert (in_database(db), read(attempt)) == ([], numbered(1, 25))
    say(effects, 26, 27)
    assert read(attempt, after=24) == numbered(25, 27), "numbers go on where the database holds none"
    assert len(stored(attempt)) == len(chunks(db))


def test_the_middle_of_a_long_log_is_cut(db: Sessions, attempt: Attempt, effects: TrainingEffects) -> None:
    say(effects, 1, 120)
    kept = chunks(db)
    assert sum(last - first + 1 for first, last in kept) <= MOST
    assert len(stored(attempt)) == len(kept), "the files of what was cut are gone"
    lines = read(attempt)
    (gap,) = (i for i, (seq, _) in enumerate(lines) if i and seq != lines[i - 1][0] + 1)
    begin, (last_cut, told), end = lines[:gap], lines[gap], lines[gap + 1 :]
    assert begin == numbered(1, begin[-1][0])
    assert end == numbered(last_cut + 1, 120)
    assert told == f"… {last_cut - begin[-1][0]} lines are cut here"
    assert len(begin) >= MOST // 2 - CHUNK
    assert len(end) >= MOST // 2 - CHUNK
    inside = read(attempt, after=last_cut - 3)
    assert inside == [(last_cut, "… 3 lines are cut here"), *end]
    assert read(attempt, after=last_cut) == end


def test_a_lost_workers_tail_is_moved_by_the_next_attempt(
    db: Sessions, attempt: Attempt, effects: TrainingEffects, tmp_path: Path
) -> None:
    say(effects, 1, 7)
    with db.begin() as session:
        endings.hand_back(session, attempt, reason="lost")
    with pytest.raises(LeaseLost):
        effects.carry_out([], ["too late"])
    with pytest.raises(LeaseLost):
        effects.ship_log()
    assert (stored(attempt), in_database(db)) == ([], list(range(1, 8)))
    then = effects_of(claim(db), tmp_path)
    say(then, 8, 10)
    assert (chunks(db), read(attempt)) == ([(1, 10)], numbered(1, 10))
    attempts = [line.attempt for line in read_lines(attempt.job_id, after=0)]
    assert attempts == [1] * 7 + [2] * 3


def test_a_store_that_takes_nothing_costs_no_line(
    db: Sessions, attempt: Attempt, effects: TrainingEffects, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def full(*_: object) -> None:
        asked.append(1)
        raise StoreFull("full, for the test")

    with monkeypatch.context() as patch:
        patch.setattr(type(store()), "put", full)
        say(effects, 1, 24)
    assert len(asked) == 2, "not at every line"
    assert (chunks(db), in_database(db)) == ([], list(range(1, 25)))
    assert effects.ship_log()
    assert (chunks(db), read(attempt)) == ([(1, 10), (11, 20), (21, 24)], numbered(1, 24))


def test_of_two_who_move_the_same_lines_one_succeeds(
    db: Sessions, attempt: Attempt, effects: TrainingEffects, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(effects, 1, 5)
    put, meanwhile = type(store()).put, [effects.ship_log]

    def overtaken(self: object, key: str, source: Path) -> None:
        put(self, key, source)  # type: ignore[arg-type]
        if meanwhile:
            meanwhile.pop()()

    monkeypatch.setattr(type(store()), "put", overtaken)
    assert effects.ship_log()
    assert (chunks(db), in_database(db), read(attempt)) == ([(1, 5)], [], numbered(1, 5))
    assert len(stored(attempt)) == 1


def test_an_answer_that_is_lost_loses_nothing(
    db: Sessions, attempt: Attempt, effects: TrainingEffects, tmp_path: Path
) -> None:
    say(effects, 1, 5)

    def twice(work: Callable[..., list[str]]) -> list[str]:
        with sessions().begin() as session:
            work(session)
        with sessions().begin() as session:
            return work(session)

    moved = shipping.ship_tail(
        attempt.job_id, run=1, attempt=1, hold=lambda _: None, transact=twice, folder=tmp_path
    )  # type: ignore[arg-type]
    assert (moved, chunks(db), read(attempt)) == (5, [(1, 5)], numbered(1, 5))
    assert len(stored(attempt)) == 1


def test_a_reader_is_not_led_astray_by_what_moves_meanwhile(
    db: Sessions, attempt: Attempt, effects: TrainingEffects
) -> None:
    say(effects, 1, 9)
    lines = read_lines(attempt.job_id, after=0)
    assert next(lines).seq == 1
    effects.ship_log()
    say(effects, 10, 13)
    effects.ship_log()
    assert [line.seq for line in lines] == list(range(2, 14))
    reader = read_lines(attempt.job_id, after=0)
    assert next(reader).seq == 1, "it is in the first chunk"
    say(effects, 14, 120)
    seen = [line.seq for line in reader]
    assert seen == sorted(seen)
    assert seen[-1] == 120
    with db() as session:
        assert session.scalar(select(func.count()).select_from(LogChunk)) == len(chunks(db))


def test_a_damaged_or_missing_chunk_is_told(
    db: Sessions, attempt: Attempt, effects: TrainingEffects, tmp_path: Path
) -> None:
    say(effects, 1, 5)
    effects.ship_log()
    (key,) = stored(attempt)
    (tmp_path / "other").write_bytes(b"something else")
    store().put(key, tmp_path / "other")
    with pytest.raises(StoreUnavailable, match="lines 1 to 5"):
        read(attempt)
    store().delete(key)
    with pytest.raises(StoreUnavailable):
        read(attempt)
    assert chunks(db) == [(1, 5)]


@pytest.mark.parametrize("line", ["a\0b", "\ud800 alone", "\u2028\x85\x1b[2J", "x" * 5000, ""])
def test_any_line_can_be_kept(db: Sessions, attempt: Attempt, effects: TrainingEffects, line: str) -> None:
    with db.begin() as session:
        records.record_log(session, attempt, [line, "next"])
    before = read(attempt)
    assert [seq for seq, _ in before] == [1, 2]
    effects.ship_log()
    assert (in_database(db), read(attempt)) == ([], before)


def test_a_log_goes_with_its_job(db: Sessions, attempt: Attempt, effects: TrainingEffects) -> None:
    say(effects, 1, 12)
    with db.begin() as session:
        session.delete(session.get_one(Job, attempt.job_id))
    assert (chunks(db), in_database(db)) == ([], [])


def test_a_log_is_moved_by_the_callers_transactions_alone(
    db: Sessions, attempt: Attempt, effects: TrainingEffects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They wait for a database that is away; a look of its own would not (chaos, seed 1, cycle 35)."""
    say(effects, 1, 5)

    def transact(work: Callable[[Session], object]) -> object:
        with db.begin() as session:
            return work(session)

    monkeypatch.setenv("DATABASE_URL", "postgresql+psycopg://nobody@127.0.0.1:9/none")
    sessions().kw["bind"].dispose()
    settings.cache_clear()
    sessions.cache_clear()
    moved = shipping.ship_tail(
        attempt.job_id, run=1, attempt=1, hold=lambda _: None, transact=transact, folder=tmp_path
    )
    assert (moved, chunks(db), in_database(db)) == (5, [(1, 5)], [])


def test_a_database_that_fails_is_no_failure_of_the_job(
    db: Sessions, attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise InternalError("select", {}, Exception("it fell, for the test"))

    monkeypatch.setattr(training.DatasetFiles, "of", failing)
    training.train(attempt, worker="w", stop=Flag())
    with db() as session:
        job = session.get_one(Job, attempt.job_id)
        assert (job.status, job.infrastructure_failures) == ("queued", 1)
        event = session.scalars(select(JobEvent).order_by(JobEvent.seq.desc()).limit(1)).one()
        assert event.payload["code"] == "database_unavailable"
