from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from sqlalchemy import insert, update

from api.sources import PAGE
from client.sse import parse
from core.jobs import endings, records
from core.jobs.tables import Job, JobEvent
from core.schemas.jobs import EventOut
from tests.integration.api import story
from tests.integration.api.conftest import CLIENT, new_person, problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session

    from tests.integration.api.conftest import Api, Person

PATIENCE_S = 10


def follow(person: Person, job: dict[str, Any], *, after: int | None = None) -> Iterator[EventOut]:
    headers = {} if after is None else {"Last-Event-ID": str(after)}
    url = f"/v1/jobs/{job['id']}/events/stream"
    with person.stream("GET", url, headers=headers, timeout=PATIENCE_S) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        for event in parse(response.iter_lines()):
            told = EventOut.model_validate_json(event.data)
            assert (event.id, event.event) == (str(told.seq), told.type)
            yield told


def wait_for_streams(api: Api, count: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while (open_streams := sum(len(c.queues) for c in api.app.state.feed._channels.values())) != count:
        assert time.monotonic() < deadline, f"{open_streams} streams are open, not {count}"
        time.sleep(0.01)


def test_a_stream_replays_follows_and_ends(api: Api, owner: Person, session: Session) -> None:
    job = story.submit(owner)
    stream = follow(owner, job)
    first = next(stream)
    assert (first.seq, first.type, first.payload) == (1, "queued", {"reason": "created"})
    wait_for_streams(api, 1)
    attempt = story.start(session, job)
    committed = time.monotonic()
    assert next(stream).type == "running"
    assert time.monotonic() - committed < 2
    story.checkpoint(session, attempt, b"x")
    endings.finish(session, attempt)
    session.commit()
    rest = list(stream)
    assert [(event.seq, event.type) for event in rest] == [
        (3, "checkpoint"),
        (4, "evaluating"),
        (5, "succeeded"),
    ]
    wait_for_streams(api, 0)
    page = owner.get(f"/v1/jobs/{job['id']}/events").json()["items"]
    assert [EventOut.model_validate(event) for event in page][2:] == rest


def test_last_event_id_replays_only_what_is_missing(owner: Person) -> None:
    job = story.submit(owner, priority=0)
    owner.post(f"/v1/jobs/{job['id']}/cancel")
    assert [event.seq for event in follow(owner, job)] == [1, 2]
    assert [event.seq for event in follow(owner, job, after=0)] == [1, 2]
    assert [event.seq for event in follow(owner, job, after=1)] == [2]
    url = f"/v1/jobs/{job['id']}/events/stream"
    for last in ("2", "7"):
        assert owner.get(url, headers={"Last-Event-ID": last}).status_code == 204, (
            "nothing will come any more"
        )
    problem(owner.get(url, headers={"Last-Event-ID": "x"}), 422, "invalid")
    problem(owner.get(url, headers={"Last-Event-ID": "-1"}), 422, "invalid")


def test_a_long_history_is_replayed_page_by_page(owner: Person, session: Session) -> None:
    job = story.submit(owner, priority=0)
    notes = 2 * PAGE + 200
    session.execute(
        insert(JobEvent),
        [{"job_id": job["id"], "seq": 2 + i, "type": "note", "payload": {}} for i in range(notes)],
    )
    session.execute(update(Job).where(Job.id == job["id"]).values(event_seq=1 + notes))
    session.commit()
    owner.post(f"/v1/jobs/{job['id']}/cancel")
    assert [event.seq for event in follow(owner, job)] == list(range(1, notes + 3))


def test_nothing_is_lost_or_doubled_between_history_and_feed(
    api: Api, owner: Person, session: Session
) -> None:
    """Streams join and leave while events are committed as fast as they can be."""
    job = story.submit(owner)
    attempt = story.start(session, job)
    seen: list[list[int]] = []

    def watch(pause_s: float) -> None:
        time.sleep(pause_s)
        with new_person(api, tenant_id=owner.tenant_id) as person:
            seen.append([event.seq for event in follow(person, job)])

    watchers = [threading.Thread(target=watch, args=(i * 0.05,)) for i in range(8)]
    for watcher in watchers:
        watcher.start()
    for i in range(60):
        records.record_facts(session, attempt, {"device": "cpu", "i": i})
        session.commit()
    wait_for_streams(api, len(watchers))
    endings.finish(session, attempt)
    session.commit()
    for watcher in watchers:
        watcher.join(PATIENCE_S)
    assert seen == [list(range(1, 65))] * len(watchers)


def test_streams_hold_no_connection_and_leave_when_their_client_does(api: Api, owner: Person) -> None:
    job = story.submit(owner, priority=0)
    streams = 60  # Twice as many as the pool has connections.
    limits = httpx.Limits(max_connections=streams + 1)
    with httpx.Client(base_url=api.url, headers=owner.headers, limits=limits, **CLIENT) as client:
        url = f"/v1/jobs/{job['id']}/events/stream"
        opened = [client.send(client.build_request("GET", url), stream=True) for _ in range(streams)]
        lines = [response.iter_lines() for response in opened]
        assert [next(line) for line in lines] == ["event: queued"] * streams
        wait_for_streams(api, streams)
        assert owner.get(f"/v1/jobs/{job['id']}").status_code == 200
        for response in opened:
            response.close()
    wait_for_streams(api, 0)


def test_pages_of_events(owner: Person, session: Session) -> None:
    job = story.submit(owner)
    attempt = story.start(session, job)
    endings.finish(session, attempt)
    session.commit()
    path = f"/v1/jobs/{job['id']}/events"
    page = owner.get(path, params={"limit": 3}).json()
    assert [event["seq"] for event in page["items"]] == [1, 2, 3]
    rest = owner.get(path, params={"limit": 3, "after": 0, "cursor": page["next_cursor"]}).json()
    assert ([event["seq"] for event in rest["items"]], rest["next_cursor"]) == ([4], None)
    assert [event["seq"] for event in owner.get(path, params={"after": 2}).json()["items"]] == [3, 4]
    problem(owner.get(path, params={"cursor": "x"}), 422, "invalid")


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS"])
def test_a_stream_is_only_there_to_be_read(method: str, owner: Person) -> None:
    job = story.submit(owner, priority=0)
    response = owner.request(method, f"/v1/jobs/{job['id']}/events/stream")
    assert (response.status_code, response.headers["allow"]) == (405, "GET")
