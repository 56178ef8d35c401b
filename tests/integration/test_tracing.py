"""One trace from a request to the ticks of the training that it asked for, as a real collector receives it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from sqlalchemy import text

from core import db, tracing
from core.settings import settings
from tests.integration.api import story
from tests.integration.api.conftest import new_person, running_api
from worker import tasks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from opentelemetry.proto.trace.v1.trace_pb2 import Span

PARENT = "00-11112222333344445555666677778888-aaaabbbbccccdddd-01"
# It trains nothing, and says what a training says; its log tells what it was given.
CHILD = """
import json, os, sys
ticks_fd = int(sys.argv[sys.argv.index("--ticks-fd") + 1])
def say(**tick):
    os.write(ticks_fd, json.dumps(tick).encode() + b"\\n")
print("the parent is", os.environ.get("TRACEPARENT"))
for name in ("generator.safetensors", "grid.png", "1.state"):
    open(name, "w").write("x")
say(tick="facts", facts={"device": "cpu"})
say(tick="progress", images_seen=8, images_per_s=4.0, losses={"real": 0.5})
say(tick="state", images_seen=8, state="1.state")
say(tick="progress", images_seen=16, images_per_s=5.0, losses={"real": 0.25})
say(tick="snapshot", images_seen=16, generator="generator.safetensors", grid="grid.png")
say(tick="progress", images_seen=24, images_per_s=6.0, losses={"real": 0.125})
say(tick="finished", images_seen=24)
"""
EVALUATOR = """
import json, os, sys
spec = json.load(open(sys.argv[1]))
ticks_fd = int(sys.argv[sys.argv.index("--ticks-fd") + 1])
metrics = {"fid": 9.0, "kid": 0.01, "kid_sd": 0.001, "lpips": 0.5}
os.write(ticks_fd, json.dumps({"tick": "metrics", "metrics": metrics, "protocol": spec["protocol"]}).encode() + b"\\n")
"""


@contextmanager
def collector() -> Iterator[tuple[str, list[ExportTraceServiceRequest]]]:
    """An OTLP/HTTP receiver on loopback: its URL, and what it has received."""
    received: list[ExportTraceServiceRequest] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.path == "/v1/traces"
            received.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", received
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def attributes(span: Span) -> dict[str, object]:
    found = {a.key: a.value for a in span.attributes}
    return {key: getattr(value, value.WhichOneof("value")) for key, value in found.items()}


def test_one_trace_from_the_request_to_the_ticks(
    tmp_path: Path, database_url: str, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "told_child.py").write_text(CHILD)
    (tmp_path / "told_evaluator.py").write_text(EVALUATOR)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    for name in ("DATABASE_URL", "BROKER_URL", "STORAGE_URL"):
        monkeypatch.setenv(name, "none")
    with collector() as (url, received):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        settings.cache_clear()
        tracing.setup("slaegan-test")
        modules = {"train_module": "told_child", "evaluate_module": "told_evaluator"}
        urls = {"database_url": database_url, "broker_url": broker_url}
        values = {**urls, **modules, "trusted_proxies": "127.0.0.1/32"}
        with running_api(tmp_path, **values) as api, new_person(api) as person, db.sessions()() as session:
            given = {"traceparent": PARENT, "X-Request-ID": "the-request"}
            person.headers.update(given)
            job = story.submit(person, config={"resolution": 64, "evaluation": {"extractor": "vgg16"}})
            person.get("/v1/jobs?key=slg_0123456789")
            assert person.get("/healthz").status_code == 200
            (origin,) = session.execute(text("select origin from jobs")).one()
            session.rollback()
            tasks.train()
            tasks.metrics()
            told = person.get(f"/v1/jobs/{job['id']}").json()
            assert told["status"] == "succeeded", told
            log = person.get(f"/v1/jobs/{job['id']}/logs").json()["items"][0]["line"]
        assert tracing.provider() is None, "the end of the API exports what is left"
    scopes = [s for r in received for resource in r.resource_spans for s in resource.scope_spans]
    spans = [span for scope in scopes for span in scope.spans]
    [resource] = {a.value.string_value for r in received for p in r.resource_spans for a in p.resource.attributes
                  if a.key == "service.name"}  # fmt: skip
    assert resource == "slaegan-test"
    assert {span.trace_id.hex() for span in spans} == {PARENT.split("-")[1]}
    by_name: dict[str, list[Span]] = {}
    for span in spans:
        by_name.setdefault(span.name, []).append(span)
    [request] = by_name["POST /v1/jobs"]
    [attempt] = by_name["attempt"]
    [evaluation] = by_name["evaluation"]
    assert request.parent_span_id.hex() == PARENT.split("-")[2]
    assert origin["request_id"] == "the-request"
    assert origin["TRACEPARENT"].split("-")[2] == request.span_id.hex()
    assert attempt.parent_span_id == evaluation.parent_span_id == request.span_id
    assert attributes(attempt)["job"] == attributes(evaluation)["job"] == job["id"]
    for name in ("prepare", "start", "train", "state", "snapshot"):
        assert {span.parent_span_id for span in by_name[name]} == {attempt.span_id}, name
    assert log == f"the parent is 00-{attempt.trace_id.hex()}-{attempt.span_id.hex()}-01"
    stretches = [attributes(span) for span in by_name["train"]]
    assert [(s["images_seen"], s["images_per_s"], s["loss.real"]) for s in stretches] == [
        (8, 4.0, 0.5), (16, 5.0, 0.25), (24, 6.0, 0.125),
    ]  # fmt: skip
    assert all(
        attempt.start_time_unix_nano
        <= s.start_time_unix_nano
        <= s.end_time_unix_nano
        <= attempt.end_time_unix_nano
        for s in by_name["train"] + by_name["start"] + by_name["snapshot"]
    )
    assert "GET /healthz" not in by_name
    assert "0123456789" not in str(spans)


def test_strangers_begin_traces_of_their_own(
    tmp_path: Path, database_url: str, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DATABASE_URL", "BROKER_URL", "STORAGE_URL"):
        monkeypatch.setenv(name, "none")
    with collector() as (url, received):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        settings.cache_clear()
        tracing.setup("slaegan-test")
        values = {"database_url": database_url, "broker_url": broker_url, "trusted_proxies": "10.0.0.0/8"}
        with running_api(tmp_path, **values) as api, new_person(api) as person:
            given = {"traceparent": PARENT, "tracestate": "theirs=1", "baggage": "theirs=1"}
            assert person.get("/v1/jobs", headers=given).status_code == 200
    spans = [s for r in received for p in r.resource_spans for scope in p.scope_spans for s in scope.spans]
    [request] = [span for span in spans if span.name == "GET /v1/jobs"]
    assert (request.parent_span_id, request.trace_state) == (b"", "")
    assert request.trace_id.hex() != PARENT.split("-")[1]


def test_a_collector_that_is_away_holds_up_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "BROKER_URL", "STORAGE_URL"):
        monkeypatch.setenv(name, "none")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    settings.cache_clear()
    tracing.setup("slaegan-test")
    try:
        assert tracing.provider() is not None
        with tracing.span("work"):
            pass
    finally:
        tracing.stop()
        settings.cache_clear()
    assert tracing.provider() is None


ALONE = """
import sys
class Missing:
    def find_spec(self, name, *_):
        if name.startswith("opentelemetry"):
            raise ImportError(f"there is no {name}")
sys.meta_path.insert(0, Missing())
from core import tracing
import worker.tasks
tracing.setup("alone")
with tracing.span("work", parent={"TRACEPARENT": "x"}, number=1):
    tracing.note(ending="well")
    tracing.past("tick", began_ns=1, ended_ns=2)
print(tracing.provider(), tracing.origin(), tracing.environment())
tracing.stop()
"""


@pytest.mark.parametrize("endpoint", ["", "http://127.0.0.1:9"])
def test_the_base_install_works_without_the_libraries(endpoint: str, tmp_path: Path) -> None:
    urls = dict.fromkeys(("DATABASE_URL", "BROKER_URL", "STORAGE_URL"), "none")
    environment = {
        **os.environ,
        **urls,
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run(
        [sys.executable, "-c", ALONE],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "None None {}\n"
    assert ("install slaegan[otel]" in done.stderr) == bool(endpoint)
