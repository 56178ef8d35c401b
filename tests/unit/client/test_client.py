"""The client against a real HTTP server that is busy, breaks off, or loses answers; sync and async alike."""

from __future__ import annotations

import asyncio
import inspect
import json
import subprocess
import sys
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID, uuid4

import pytest

import client
from client import AsyncSlaeGan, SlaeGan
from client.http import Operations
from client.operation import Call, Iteration
from core.errors import (
    Conflict,
    InfrastructureError,
    OutOfMemory,
    Overloaded,
    QuotaExceeded,
    RateLimited,
    StoreFull,
    Unauthenticated,
)  # fmt: skip
from core.schemas.jobs import JobIn
from core.schemas.keys import KeyIn
from tests.unit.client.test_http import serving

if TYPE_CHECKING:
    from pathlib import Path

JOB_ID = uuid4()
JOB = {
    "id": str(JOB_ID), "name": "<b>mine</b>", "dataset_id": str(uuid4()), "dataset_version": 1, "family": "slaegan",
    "config": {}, "status": "running", "priority": 0, "run": 1, "attempt": 1, "cancel_requested": False,
    "pause_requested": False, "max_queue_s": None, "max_run_s": None, "run_s": 0, "not_before": None,
    "stop_reason": None, "alarms": [], "init_from": None, "webhook": None, "images_seen": 5, "total_images": 10,
    "progress": 0.5, "images_per_s": None, "eta_s": None, "losses": {}, "latest": None, "best": None,
    "best_reason": None, "error": None, "facts": {}, "worker": "w", "created_at": "2026-03-01T12:00:00Z",
    "started_at": None, "finished_at": None,
}  # fmt: skip
ASKED = JobIn(dataset_id=uuid4())


class Answer:
    """What the server does with one request.

    Args:
        code: of the error that it names; None: it answers with the body.
        lost: it does what is asked, and the connection breaks before the answer.
    """

    def __init__(
        self,
        status: int = 200,
        body: Any = None,
        *,
        code: str | None = None,
        lost: bool = False,
        headers: dict[str, str] | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        problem = {
            "type": "urn:t", "title": "t", "status": status, "code": code, "detail": "No.", "instance": "/i",
            "request_id": "r", "details": details or {},
        }  # fmt: skip
        self.status, self.lost, self.headers = status, lost, headers or {}
        self.body = json.dumps(problem if code else body).encode() if not isinstance(body, bytes) else body


class Scripted(BaseHTTPRequestHandler):
    """Gives the answers of a list, one a request; the last one for ever."""

    answers: ClassVar[list[Answer]] = []
    asked: ClassVar[list[tuple[str, str, dict[str, str]]]] = []

    def _take(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.asked.append((self.command, self.path, dict(self.headers)))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.close_connection = True
        if answer.lost:
            return
        self.send_response(answer.status)
        for name, value in {**answer.headers, "Content-Length": str(len(answer.body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)

    do_GET = do_POST = do_DELETE = do_PATCH = _take

    def log_message(self, *_: object) -> None:
        pass


def asked(url: str, method: str, *args: Any, is_async: bool, **options: Any) -> Any:
    """What a method gives, or raises; what it iterates as a list."""

    async def asynchronously() -> Any:
        async with AsyncSlaeGan(url, "key", **options) as service:
            given = getattr(service, method)(*args)
            return await given if inspect.isawaitable(given) else [item async for item in given]

    if is_async:
        return asyncio.run(asynchronously())
    with SlaeGan(url, "key", **options) as service:
        given = getattr(service, method)(*args)
        return list(given) if inspect.isgenerator(given) or isinstance(given, map) else given


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def is_async(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.retries.FIRST_PAUSE_S", 0.01)


def script(*answers: Answer) -> Any:
    return serving(handler=Scripted, answers=list(answers), asked=[])


def test_a_post_is_sent_again_under_one_key_after_busy_and_lost_answers(*, is_async: bool) -> None:
    answers = (
        Answer(503, code="overloaded", headers={"Retry-After": "0"}), Answer(lost=True),
        Answer(429, code="rate_limited", headers={"Retry-After": "0"}), Answer(201, JOB),
    )  # fmt: skip
    with script(*answers) as (url, handler):
        job = asked(url, "create_job", ASKED, is_async=is_async)
    assert (job.id, type(job).__name__) == (JOB_ID, "AsyncJob" if is_async else "Job")
    keys = {headers["Idempotency-Key"] for _, _, headers in handler.asked}
    assert (len(handler.asked), len(keys)) == (4, 1)
    assert UUID(keys.pop())


def test_two_calls_have_two_keys() -> None:
    with script(Answer(201, JOB)) as (url, handler):
        for _ in range(2):
            asked(url, "create_job", ASKED, is_async=False)
    first, second = (headers["Idempotency-Key"] for _, _, headers in handler.asked)
    assert first != second


@pytest.mark.parametrize(
    ("answer", "error", "tries"),
    [
        (Answer(503, code="overloaded"), Overloaded, 4),
        (Answer(429, code="rate_limited", headers={"Retry-After": "3600"}), RateLimited, 1),
        (Answer(429, code="quota_exceeded"), QuotaExceeded, 1),
        (Answer(409, code="conflict"), Conflict, 1),
        (Answer(lost=True), InfrastructureError, 4),
        (Answer(200, b"<html>"), InfrastructureError, 1),
    ],
)
def test_what_lasts_is_raised_as_the_service_meant_it(
    answer: Answer, error: type[Exception], tries: int, *, is_async: bool
) -> None:
    with script(answer) as (url, handler), pytest.raises(error):
        asked(url, "create_job", ASKED, is_async=is_async)
    assert len(handler.asked) == tries


def test_what_the_service_could_not_know_again_is_not_sent_again() -> None:
    with script(Answer(lost=True)) as (url, handler), pytest.raises(InfrastructureError):
        asked(url, "rotate_webhook_secret", is_async=False)
    assert len(handler.asked) == 1


def test_a_request_that_is_still_being_carried_out_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    key = UUID(int=7)
    monkeypatch.setattr("client.retries.uuid4", lambda: key)
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    busy = Answer(409, code="conflict", details={"key": str(key)})
    with script(Answer(lost=True), busy, Answer(201, JOB)) as (url, _):
        assert asked(url, "create_job", ASKED, is_async=False).id == JOB_ID
    assert waited[1] == 1


def test_a_deletion_whose_answer_got_lost_is_done(*, is_async: bool) -> None:
    gone = Answer(404, code="not_found")
    with script(Answer(lost=True), gone) as (url, handler):
        assert asked(url, "delete_dataset", JOB_ID, is_async=is_async) is None
    assert [method for method, _, _ in handler.asked] == ["DELETE", "DELETE"]


def test_a_key_whose_token_got_lost_is_told() -> None:
    made = {
        "id": str(JOB_ID), "name": "k", "hint": "slg_", "scopes": ["read"], "created_at": "2026-03-01T12:00:00Z",
        "expires_at": None, "last_used_at": None, "revoked_at": None, "replaced_by": None, "token": None,
    }  # fmt: skip
    with (
        script(Answer(lost=True), Answer(201, made)) as (url, _),
        pytest.raises(InfrastructureError, match=f"{JOB_ID} was made, but"),
    ):
        asked(url, "create_key", KeyIn(name="k"), is_async=False)


def test_pages_are_asked_for_one_after_the_other(*, is_async: bool) -> None:
    pages = Answer(body={"items": [JOB, JOB], "next_cursor": "c d"}), Answer(body={"items": [JOB]})
    with script(*pages) as (url, handler):
        found = asked(url, "jobs", is_async=is_async)
    assert [job.id for job in found] == [JOB_ID] * 3
    assert [path for _, path, _ in handler.asked] == ["/v1/jobs", "/v1/jobs?cursor=c+d"]


def test_a_stream_goes_on_after_the_last_event(*, is_async: bool) -> None:
    def event(seq: int) -> bytes:
        told = {"seq": seq, "type": "running", "at": "2026-03-01T12:00:00Z", "payload": {}}
        return f"id: {seq}\nevent: running\ndata: {json.dumps(told)}\n\n".encode()

    over = Answer(body=JOB | {"status": "succeeded"})
    answers = (
        Answer(503, code="overloaded"), Answer(body=event(1) + event(2) + b"id: 3\ndata: cut o"),
        Answer(body=JOB), Answer(429, code="rate_limited"), Answer(lost=True), Answer(body=event(3)),
        over, Answer(body={"items": []}),
    )  # fmt: skip
    with script(*answers) as (url, handler):
        told = asked(url, "follow_events", JOB_ID, is_async=is_async)
    assert [event.seq for event in told] == [1, 2, 3]
    streams = [headers["Last-Event-ID"] for _, path, headers in handler.asked if path.endswith("/stream")]
    assert streams == ["0", "0", "2", "2", "2"]


def test_waiting_raises_what_the_job_failed_with() -> None:
    error = {"code": "out_of_memory", "message": "8 GiB are not enough.", "details": {"width": 2}}
    failed = JOB | {"status": "failed", "error": error}
    with script(Answer(body=JOB), Answer(503, code="overloaded"), Answer(body=failed)) as (url, _):
        with SlaeGan(url, "key", retries=0) as service:
            job = service.job(JOB_ID)
            with pytest.raises(OutOfMemory, match="8 GiB") as caught:
                job.wait(poll_s=0.01)
        assert caught.value.details == {"width": 2}


def test_a_job_that_a_full_store_has_ended_is_not_waited_for_as_if_the_service_were_away() -> None:
    failed = JOB | {"status": "failed", "error": {"code": "store_full", "message": "No room.", "details": {}}}
    with (
        script(Answer(body=failed)) as (url, handler),
        SlaeGan(url, "key") as service,
        pytest.raises(StoreFull, match="No room"),
    ):
        service.wait(JOB_ID, poll_s=0.01, patience_s=60, timeout_s=10)
    assert len(handler.asked) == 1


def test_waiting_ends_in_time_and_is_told_what_comes() -> None:
    with script(Answer(body=JOB)) as (url, _), SlaeGan(url, "key") as service:
        told: list[int] = []
        with pytest.raises(TimeoutError, match="it goes on"):
            service.wait(
                JOB_ID, poll_s=0.01, timeout_s=0.05, progress=lambda job: told.append(job.images_seen)
            )
    assert set(told) == {5}


def test_names_are_escaped_in_a_notebook() -> None:
    with script(Answer(body=JOB), Answer(404, code="not_found")) as (url, _), SlaeGan(url, "key") as service:
        shown = service.job(JOB_ID)._repr_html_()
    assert "&lt;b&gt;mine&lt;/b&gt;" in shown
    assert "<b>" not in shown


def test_address_and_key_are_found_as_the_command_line_finds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SLAEGAN_URL", "SLAEGAN_API_KEY", "SLAEGAN_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    with pytest.raises(Unauthenticated, match="slaegan up"):
        SlaeGan()
    stack = tmp_path / "stack"
    stack.mkdir()
    (stack / "client.json").write_text(json.dumps({"url": "http://127.0.0.1:1", "key": "k"}))
    monkeypatch.setenv("SLAEGAN_DATA", str(stack))
    assert repr(SlaeGan()) == "SlaeGan('http://127.0.0.1:1')"
    monkeypatch.setenv("SLAEGAN_URL", "http://127.0.0.1:2")
    monkeypatch.setenv("SLAEGAN_API_KEY", "k")
    assert repr(SlaeGan()) == "SlaeGan('http://127.0.0.1:2')"


def test_the_public_surface() -> None:
    assert client.__all__ == sorted(client.__all__)
    assert {name: getattr(client, name).__name__ for name in client.__all__} == {
        name: name for name in (
            "AsyncDataset", "AsyncJob", "AsyncSlaeGan", "Dataset", "Job", "Picture", "SlaeGan",
        )
    }  # fmt: skip
    assert dir(client) == client.__all__
    with pytest.raises(AttributeError, match="nothing"):
        _ = client.nothing  # type: ignore[attr-defined]


def test_every_method_says_what_it_does_and_takes_itself_out() -> None:
    for kind in (Operations, client.Job, client.Dataset):
        found = {name: getattr(kind, name) for name in dir(kind)}
        own = {name: one for name, one in found.items() if isinstance(one, Call | Iteration)}
        assert own
        for name, method in own.items():
            assert (method.__doc__ or "").strip().split("\n")[0].endswith("."), name
    with SlaeGan("http://127.0.0.1:1", "key") as service:
        assert next(iter(inspect.signature(service.wait).parameters)) == "job_id"
        job = client.Job.of(client.Job.model_validate(JOB), service)
        assert "job_id" not in inspect.signature(job.wait).parameters
        assert "timeout_s" in inspect.signature(job.wait).parameters


def test_the_client_imports_without_the_service() -> None:
    names = "import sys, client; client.SlaeGan; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", names], capture_output=True, text=True, check=True)
    assert {"httpx", "pydantic"} <= set(done.stdout.split())
    assert set(done.stdout.split()).isdisjoint({"torch", "sqlalchemy", "fastapi", "pandas", "numpy"})
