"""What Prometheus gets, and who else does not."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text
from pydantic import SecretStr, ValidationError
from sqlalchemy import text
from sqlalchemy.orm import Session
from starlette.datastructures import Headers

from api import scrape
from core import db
from core.errors import NotFound
from core.jobs import endings
from core.jobs.tables import Worker
from core.monitoring import totals
from core.settings import Settings
from tests.integration.api import story
from tests.integration.api.conftest import CLIENT, new_person, problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

    from prometheus_client import Metric

    from tests.integration.api.conftest import Api

    Make = Callable[..., AbstractContextManager[Api]]
    Numbers = dict[tuple[str, frozenset[tuple[str, str]]], float]

DEADLINE_S = 20


@pytest.fixture(autouse=True)
def _always_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrape, "FRESH_S", 0.0)


def numbers(families: Iterable[Metric]) -> Numbers:
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def scraped(api: Api, **headers: str) -> Numbers:
    response = httpx.get(api.url.join("/metrics"), headers=headers, **CLIENT)
    assert response.status_code == 200, response.text
    return numbers(read_text(response.text))


def value(found: Numbers, name: str, **labels: str) -> float:
    return found[name, frozenset(labels.items())]


def until(api: Api, name: str, expected: float, **labels: str) -> Numbers:
    """Scrape until a number is as expected: events are counted once they have settled."""
    deadline = time.monotonic() + DEADLINE_S
    while (found := scraped(api)).get((name, frozenset(labels.items()))) != expected:
        assert time.monotonic() < deadline, (name, labels, found)
        time.sleep(0.1)
    return found


def test_requests_by_template_and_never_by_path(own_api: Make) -> None:
    with own_api() as api, new_person(api) as person:
        ids = [str(uuid4()) for _ in range(3)]
        for job_id in ids:
            assert person.get(f"/v1/jobs/{job_id}").status_code == 404
        assert person.head("/v1/jobs").status_code == 200
        assert person.request("BREW", f"/v1/{ids[0]}").status_code == 404
        before = scraped(api)
        duration = "slaegan_http_request_duration_seconds_count"
        job = {"method": "GET", "route": "/v1/jobs/{job_id}", "status": "4xx"}
        assert value(before, duration, **job) == 3
        assert value(before, duration, method="GET", route="/v1/jobs", status="2xx") == 1
        assert value(before, duration, method="other", route="none", status="4xx") == 1
        assert value(before, "slaegan_http_requests_in_flight") == 1, "the scrape itself"
        shown = httpx.get(api.url.join("/metrics"), **CLIENT).text
        assert not any(job_id in shown for job_id in ids)
        assert str(person.tenant_id) not in shown

        story.upload(person)
        after = scraped(api)
        received = "slaegan_http_received_bytes_total"
        assert value(after, received) - value(before, received) > 4 * 100, "four pictures"
        assert value(after, "slaegan_http_sent_bytes_total") > value(before, "slaegan_http_sent_bytes_total")


def test_refusals_by_reason(own_api: Make) -> None:
    with (
        own_api(requests_per_minute=1_000) as api,
        httpx.Client(base_url=api.url, **CLIENT) as nobody,
        new_person(api, "read") as reader,
    ):
        codes = [nobody.get("/v1/jobs").status_code for _ in range(25)]
        assert reader.post("/v1/jobs", json={}).status_code == 403
        found = scraped(api)
        assert value(found, "slaegan_http_refused_total", reason="unauthenticated") == codes.count(401)
        assert value(found, "slaegan_http_refused_total", reason="rate_limited") == codes.count(429) > 0
        assert value(found, "slaegan_http_refused_total", reason="forbidden") == 1


def test_a_job_from_the_queue_to_its_end(own_api: Make) -> None:
    with own_api(lease_s=0.4) as api, new_person(api) as person, db.sessions()() as session:
        assert value(scraped(api), "slaegan_database_up") == 1
        job = story.submit(person)
        waiting = until(api, "slaegan_jobs_submitted_total", 1)
        assert value(waiting, "slaegan_jobs", state="queued") == 1
        assert value(waiting, "slaegan_queue_depth", queue="train") == 1
        assert 0 < value(waiting, "slaegan_queue_oldest_seconds", queue="train") < DEADLINE_S
        attempt = story.start(session, job)
        session.execute(text("update jobs set images_per_s = 12.5 where status = 'running'"))
        made = story.checkpoint(session, attempt, b"weights", images_seen=8)
        story.evaluation(session, attempt, made, images_seen=8, fid=None)
        running = until(api, "slaegan_attempts_started_total", 1)
        assert value(running, "slaegan_jobs", state="running") == 1
        assert value(running, "slaegan_training_images_per_second", worker="w1") == 12.5
        assert value(running, "slaegan_queue_oldest_seconds", queue="train") == 0
        assert value(running, "slaegan_queue_depth", queue="metrics") == 1
        assert value(running, "slaegan_evaluation_lag_seconds") > 0
        endings.hand_back(session, attempt, reason="the worker is told to stop")
        session.commit()
        until(api, "slaegan_requeues_total", 1, code="handed_back")
        endings.fail(session, story.start(session, job, worker="w2"), NotFound("It is gone."))
        session.commit()
        over = until(api, "slaegan_jobs_ended_total", 1, outcome="failed")
        assert value(over, "slaegan_job_failures_total", code="not_found") == 1
        assert value(over, "slaegan_attempts_started_total") == 2
        assert value(over, "slaegan_attempts_ended_total", outcome="requeued") == 1
        assert value(over, "slaegan_attempts_ended_total", outcome="failed") == 1
        assert value(over, "slaegan_jobs_submitted_total") == 1, "what went back was not asked for again"
        (held,) = session.execute(text("select run_s from jobs")).one()
        assert value(over, "slaegan_device_seconds_total") == pytest.approx(held, abs=0.2)
        assert value(over, "slaegan_jobs", state="queued") == 0


def test_a_requeued_job_has_waited_since_then(own_api: Make) -> None:
    with own_api() as api, new_person(api) as person, db.sessions()() as session:
        attempt = story.start(session, story.submit(person))
        session.execute(text("update jobs set queued_at = queued_at - interval '5 h'"))
        endings.hand_back(session, attempt, reason="the worker is told to stop")
        session.commit()
        assert value(scraped(api), "slaegan_queue_oldest_seconds", queue="train") < DEADLINE_S
        story.submit(person)
        session.execute(text("update jobs set queued_at = queued_at - interval '1 h' where attempt = 0"))
        session.commit()
        assert 3600 <= value(scraped(api), "slaegan_queue_oldest_seconds", queue="train") < 3600 + DEADLINE_S


def test_workers_webhooks_and_streams(own_api: Make) -> None:
    with own_api() as api, new_person(api) as person, db.sessions()() as session:
        for name, ago_s in (("w1", 0), ("w2", 0), ("dead", 3600)):
            seen = datetime.now(tz=UTC) - timedelta(seconds=ago_s)
            worker = {"kind": "train", "device": "cpu", "host": "h", "pid": 1}
            session.add(Worker(name=name, last_heartbeat_at=seen, **worker))
        session.commit()
        hook = {"url": "https://example.com/hook", "events": ["queued", "running"]}
        job = story.submit(person, webhook=hook)
        story.start(session, job)
        session.execute(
            text(
                "update webhook_deliveries set status = 'dead', next_attempt_at = null where event = 'queued'"
            )
        )
        session.commit()
        with person.stream("GET", f"/v1/jobs/{job['id']}/events/stream") as stream:
            lines = stream.iter_lines()
            assert next(lines) == "event: queued"
            found = scraped(api)
        assert value(found, "slaegan_workers", kind="train", state="busy") == 1
        assert value(found, "slaegan_workers", kind="train", state="idle") == 1
        assert value(found, "slaegan_workers", kind="metrics", state="idle") == 0
        assert value(found, "slaegan_webhooks", state="dead") == 1
        assert value(found, "slaegan_webhooks", state="due") == 1
        assert value(found, "slaegan_queue_depth", queue="webhooks") == 1
        assert value(found, "slaegan_event_streams", kind="events") == 1
        assert value(found, "slaegan_store_free_bytes") > 0
        until(api, "slaegan_event_streams", 0, kind="events")


def test_openmetrics_where_it_is_accepted(own_api: Make) -> None:
    with own_api() as api:
        accept = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"}
        response = httpx.get(api.url.join("/metrics"), headers=accept, **CLIENT)
        assert response.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
        found = numbers(read_openmetrics(response.text))
        assert value(found, "slaegan_database_up") == 1
        assert any(name == "slaegan_build_info" for name, _ in found)
        plain = httpx.get(api.url.join("/metrics"), **CLIENT)
        assert plain.headers["content-type"].startswith("text/plain")


def test_a_database_that_hangs_does_not_hang_a_scrape(own_api: Make) -> None:
    with own_api() as api, db.sessions()() as session:
        assert value(scraped(api), "slaegan_jobs", state="queued") == 0
        session.execute(text("lock table jobs in access exclusive mode"))
        began = time.monotonic()
        found = scraped(api)
        assert time.monotonic() - began < scrape.TIMEOUT_S + 2
        assert value(found, "slaegan_database_up") == 0
        assert ("slaegan_jobs", frozenset({("state", "queued")})) not in found
        assert value(found, "slaegan_http_requests_in_flight") == 1
        session.rollback()
        until(api, "slaegan_database_up", 1)


SLOW = """from (select pg_sleep(
  case when cast(:until as timestamptz) - cast(:since as timestamptz) > {longest} then 9 else 0 end
) offset 0) slow cross join job_events e
"""


def slow_events(monkeypatch: pytest.MonkeyPatch, *, longest: str) -> None:
    """Let the database take seconds to count a stretch of events that is longer than this."""
    slow = totals._EVENTS.replace("from job_events e\n", SLOW.format(longest=longest))
    assert slow != totals._EVENTS
    monkeypatch.setattr(totals, "_EVENTS", slow)


def test_events_that_take_too_long_to_count_leave_the_gauges(
    own_api: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with own_api(lease_s=0.4) as api, new_person(api) as person:
        assert value(scraped(api), "slaegan_database_up") == 1
        monkeypatch.setattr(scrape, "_STATEMENT_MS", 300)
        with monkeypatch.context() as slow:
            slow_events(slow, longest="interval '0'")
            deadline = time.monotonic() + DEADLINE_S
            while "are not counted" not in caplog.text:
                assert time.monotonic() < deadline
                found = scraped(api)
                assert value(found, "slaegan_database_up") == 1
                assert value(found, "slaegan_jobs", state="queued") == 0
        monkeypatch.setattr(scrape, "_STATEMENT_MS", 2_000)
        story.submit(person)
        until(api, "slaegan_jobs_submitted_total", 1)


def test_a_stretch_that_takes_too_long_is_counted_in_shorter_ones(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = db.make_engine(database_url)
    counts = totals.Totals()
    with Session(engine.execution_options(isolation_level="AUTOCOMMIT")) as session:
        session.execute(text("set statement_timeout = 100"))
        now = session.execute(text("select clock_timestamp()")).scalar_one()
        counts._until = now - timedelta(minutes=10)
        seen = []
        with monkeypatch.context() as slow:
            slow_events(slow, longest="interval '3 min'")
            for _ in range(6):
                counts.advance(session, settle_s=0)
                seen.append(round((counts._until - now).total_seconds() / 60, 1))
        assert seen == [-10, -10, -7.5, -7.5, -5, -5]
        slow_events(monkeypatch, longest="interval '0'")
        for _ in range(3):
            counts.advance(session, settle_s=0)
        assert -5 < (counts._until - now).total_seconds() / 60 < -3, "passed over"
    engine.dispose()


def test_after_any_error_the_next_scrape_asks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    collector = scrape.ServiceCollector(Settings.model_construct())
    answers = iter([ValueError("a bug"), None])

    def read(_: object) -> list[Metric]:
        if (error := next(answers)) is not None:
            raise error
        return [scrape._answers(up=True)]

    async def up() -> float:
        await collector.refresh()
        return collector._families[0].samples[0].value

    monkeypatch.setattr(scrape.ServiceCollector, "_read", read)
    assert [asyncio.run(up()) for _ in range(2)] == [0, 1]


def test_with_a_token_only_who_knows_it(own_api: Make) -> None:
    token = "0123-token-of-metrics"  # noqa: S105  # of this test alone
    with own_api(metrics_token=token) as api, new_person(api) as person:
        for headers in ({}, {"Authorization": f"Bearer {token[:-1]}"}, {"Authorization": token}):
            problem(httpx.get(api.url.join("/metrics"), headers=headers, **CLIENT), 401, "unauthenticated")
        problem(person.get("/metrics"), 401, "unauthenticated")
        known = {"Authorization": f"Bearer {token}"}
        assert value(scraped(api, **known), "slaegan_http_refused_total", reason="unauthenticated") == 4
        assert httpx.get(api.url.join("/v1/jobs"), headers=known, **CLIENT).status_code == 401


def test_many_guesses_of_the_token_are_not_even_compared(own_api: Make) -> None:
    token = "0123-token-of-metrics"  # noqa: S105  # of this test alone
    with own_api(metrics_token=token, requests_per_minute=200) as api:

        def code(given: str) -> int:
            headers = {"Authorization": f"Bearer {given}"}
            return httpx.get(api.url.join("/metrics"), headers=headers, **CLIENT).status_code

        assert [code(token), code("a guess"), code(token), code("a guess")] == [200, 401, 200, 401]
        assert {code("a guess"), code(token)} == {429}


def test_a_short_token_is_refused() -> None:
    urls = dict.fromkeys(("database_url", "broker_url", "storage_url"), "none")
    with pytest.raises(ValidationError, match="fewer than 16 characters"):
        Settings(metrics_token=SecretStr("short"), **urls)  # type: ignore[arg-type]  # strings all
    assert Settings(**urls).metrics_token.get_secret_value() == ""  # type: ignore[arg-type]  # likewise


def test_without_a_token_only_this_machine(own_api: Make) -> None:
    with own_api() as api:
        through = {"X-Forwarded-For": "203.0.113.7"}
        problem(httpx.get(api.url.join("/metrics"), headers=through, **CLIENT), 404, "not_found")
    for address in ("203.0.113.7", "10.0.0.1", "::ffff:203.0.113.7", "localhost"):
        with pytest.raises(NotFound):
            scrape.check_scraper({"client": (address, 1)}, Headers(), token="")
    for address in ("127.0.0.1", "127.8.9.1", "::1"):
        scrape.check_scraper({"client": (address, 1)}, Headers(), token="")
