from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import sqlalchemy

from api.sources import PAGE, Logs
from client import SlaeGan
from client.logs import printed
from client.sse import parse
from core.db import sessions
from core.errors import SlaeganError
from core.jobs import endings, lease, records
from core.logs.shipping import ship_tail
from core.schemas.jobs import LogOut
from core.storage import store
from tests.integration.api import story
from tests.integration.api.conftest import new_person, problem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy.orm import Session

    from core.jobs.lease import Attempt
    from tests.integration.api.conftest import Api, Person

PATIENCE_S = 20


def say(session: Session, attempt: Attempt, first: int, last: int) -> None:
    records.record_log(session, attempt, [f"line {i}" for i in range(first, last + 1)])
    session.commit()


def ship(attempt: Attempt, folder: Path) -> None:
    def transact(work: Any) -> Any:
        with sessions().begin() as session:
            return work(session)

    ship_tail(
        attempt.job_id, run=1, attempt=1, hold=lambda s: lease.fenced(s, attempt), transact=transact, folder=folder
    )  # fmt: skip


def end(session: Session, attempt: Attempt) -> None:
    endings.fail(session, attempt, SlaeganError("for the test"))
    session.commit()


def follow(person: Person, job: dict[str, Any], *, after: int = 0) -> Iterator[LogOut]:
    headers, url = {"Last-Event-ID": str(after)}, f"/v1/jobs/{job['id']}/logs/stream"
    with person.stream("GET", url, headers=headers, timeout=PATIENCE_S) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        for event in parse(response.iter_lines()):
            told = LogOut.model_validate_json(event.data)
            assert (event.id, event.event) == (str(told.seq), "line")
            yield told


def wait_for_streams(api: Api, count: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while sum(len(c.queues) for c in api.app.state.log_feed._channels.values()) != count:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_logs_as_json_and_as_text(owner: Person, session: Session, tmp_path: Path) -> None:
    job = story.submit(owner)
    attempt = story.start(session, job)
    say(session, attempt, 1, 3)
    ship(attempt, tmp_path)
    say(session, attempt, 4, 5)
    end(session, attempt)
    path = f"/v1/jobs/{job['id']}/logs"
    page = owner.get(path, params={"limit": 3}).json()
    rest = owner.get(path, params={"limit": 3, "cursor": page["next_cursor"]}).json()
    assert [line["line"] for line in page["items"] + rest["items"]] == [f"line {i}" for i in range(1, 6)]
    assert owner.get(path, params={"after": 4}).json() == {"items": rest["items"][1:], "next_cursor": None}
    assert owner.get(path, params={"tail": 1}).json() == {"items": rest["items"][1:], "next_cursor": None}
    assert len(owner.get(path, params={"tail": 9}).json()["items"]) == 5
    bare = {"Accept": "text/plain"}
    text = owner.get(path, params={"after": 3}, headers=bare)
    assert (text.headers["content-type"], text.text) == ("text/plain; charset=utf-8", "line 4\nline 5\n")
    assert owner.get(path, params={"limit": 2}, headers=bare).text == "line 1\nline 2\n"
    assert owner.get(path, params={"tail": 4}, headers=bare).text == "".join(
        f"line {i}\n" for i in range(2, 6)
    )
    assert owner.head(path, headers=bare).status_code == 200
    problem(owner.get(path, params={"tail": 0}), 422, "invalid")


def test_a_long_log_is_one_text(owner: Person, session: Session, tmp_path: Path) -> None:
    job = story.submit(owner)
    attempt = story.start(session, job)
    say(session, attempt, 1, 2500)
    ship(attempt, tmp_path)
    say(session, attempt, 2501, 4000)
    path, every = f"/v1/jobs/{job['id']}/logs", [f"line {i}" for i in range(1, 4001)]
    assert owner.get(path, headers={"Accept": "text/plain"}).text.splitlines() == every
    with SlaeGan(str(owner.base_url), owner.headers["Authorization"].removeprefix("Bearer ")) as client:
        assert [line.line for line in printed(client, attempt.job_id, follow=False, tail=None)] == every
        assert [line.line for line in printed(client, attempt.job_id, follow=False, tail=1501)] == every[
            -1501:
        ]
        end(session, attempt)
        assert [line.line for line in printed(client, attempt.job_id, follow=True, tail=2)] == every[-2:]
    for key in list(store().keys(f"jobs/{job['id']}")):
        store().delete(key)
    for accept in ("text/plain", "application/json"):
        problem(owner.get(path, headers={"Accept": accept}), 503, "store_unavailable")


def test_a_stream_replays_follows_and_ends(api: Api, owner: Person, session: Session, tmp_path: Path) -> None:
    job = story.submit(owner)
    attempt = story.start(session, job)
    say(session, attempt, 1, 3)
    stream = follow(owner, job)
    assert [next(stream).line for _ in range(3)] == ["line 1", "line 2", "line 3"]
    wait_for_streams(api, 1)
    say(session, attempt, 4, 4)
    assert next(stream).line == "line 4"
    # The last lines leave for the store before anybody could look, as at the end of every attempt.
    records.record_log(session, attempt, [f"line {i}" for i in range(5, 3 * PAGE + 1)])
    session.commit()
    ship(attempt, tmp_path)
    end(session, attempt)
    assert [line.seq for line in stream] == list(range(5, 3 * PAGE + 1))
    wait_for_streams(api, 0)
    assert [line.seq for line in follow(owner, job, after=3 * PAGE - 2)] == [3 * PAGE - 1, 3 * PAGE]
    url = f"/v1/jobs/{job['id']}/logs/stream"
    assert owner.get(url, headers={"Last-Event-ID": str(3 * PAGE)}).status_code == 204


def test_nothing_is_lost_or_doubled_while_lines_move(
    api: Api, owner: Person, session: Session, tmp_path: Path
) -> None:
    job = story.submit(owner)
    attempt = story.start(session, job)
    seen: list[list[int]] = []

    def watch(pause_s: float) -> None:
        time.sleep(pause_s)
        with new_person(api, tenant_id=owner.tenant_id) as person:
            seen.append([line.seq for line in follow(person, job)])

    watchers = [threading.Thread(target=watch, args=(i * 0.1,)) for i in range(5)]
    for watcher in watchers:
        watcher.start()
    for i in range(60):
        say(session, attempt, 7 * i + 1, 7 * i + 7)
        if i % 8 == 5:
            ship(attempt, tmp_path)
    wait_for_streams(api, len(watchers))
    end(session, attempt)
    for watcher in watchers:
        watcher.join(PATIENCE_S)
    assert seen == [list(range(1, 421))] * len(watchers)


def test_a_job_without_a_line_has_nothing_to_stream_once_it_is_over(owner: Person) -> None:
    job = story.submit(owner, priority=0)
    owner.post(f"/v1/jobs/{job['id']}/cancel")
    assert owner.get(f"/v1/jobs/{job['id']}/logs/stream").status_code == 204
    assert owner.get(f"/v1/jobs/{job['id']}/logs").json() == {"items": [], "next_cursor": None}


def test_streams_cost_two_queries_however_many(owner: Person, session: Session) -> None:
    positions = {}
    for first in range(3):
        attempt = story.start(session, story.submit(owner))
        say(session, attempt, 1, 5)
        positions[attempt.job_id] = first
    statements: list[str] = []
    engine = sessions().kw["bind"]

    def note(_: object, __: object, statement: str, *___: object) -> None:
        statements.append(statement)

    sqlalchemy.event.listen(engine, "before_cursor_execute", note)
    try:
        news = Logs().news(positions)
    finally:
        sqlalchemy.event.remove(engine, "before_cursor_execute", note)
    found = {job_id: [line.seq for line in lines] for job_id, lines in news.items.items()}
    assert found == {job_id: list(range(after + 1, 6)) for job_id, after in positions.items()}
    assert (len(statements), news.over) == (2, set())
