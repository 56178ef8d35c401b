"""A request's id: in its answer, and on every line that is written meanwhile."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import httpx
from celery import Celery

from core import logbook
from tests.integration.api.conftest import CLIENT, new_person

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    import pytest

    from tests.integration.api.conftest import Api

    Make = Callable[..., AbstractContextManager[Api]]


def test_a_proxys_id_goes_through_where_it_is_sane(own_api: Make) -> None:
    with own_api(trusted_proxies="127.0.0.1/32") as api:

        def answered(given: bytes) -> str:
            response = httpx.get(api.url.join("/healthz"), headers={b"X-Request-ID": given}, **CLIENT)
            return response.headers["x-request-id"]

        for sane in ("0123-abc", "A.b_c-" * 10, "29907fa2b26643a5bee253ce0d660605"):
            assert answered(sane.encode()) == sane
        for odd in (b"", b"short", b"x" * 65, b"two words", b"\xff" * 10, b'"}{"level":"x', b"a/b/c/d/e"):
            made = answered(odd)
            assert len(made) == 32
            assert int(made, 16)


def test_strangers_do_not_choose_ids(own_api: Make) -> None:
    with own_api(trusted_proxies="10.0.0.0/8") as api:
        given = {"X-Request-ID": "0123-abc"}
        made = httpx.get(api.url.join("/healthz"), headers=given, **CLIENT).headers["x-request-id"]
        assert (len(made), int(made, 16) > 0) == (32, True)


def test_the_lines_of_a_request_as_json(own_api: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what a service says in the thread of a route: here that the database refused a value."""
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", root.handlers[:])
    monkeypatch.setattr(root, "level", root.level)
    stream = io.StringIO()
    with own_api(trusted_proxies="127.0.0.1/32") as api, new_person(api) as person:
        logbook.setup("json", stream=stream)
        given = {"X-Request-ID": "from-a-proxy"}
        assert person.get("/v1/jobs?text=secret", headers=given).status_code == 200
        body = {"name": "\0", "dataset_id": "00000000-0000-0000-0000-000000000000"}
        person.post("/v1/jobs", json=body, headers={"X-Request-ID": "another-one"})
        monkeypatch.setattr("api.routes.health.Healthy", None)  # what nobody foresaw
        assert person.get("/healthz", headers={"X-Request-ID": "it-fails-now"}).status_code == 500
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    answered = {line["request_id"]: line for line in lines if line["message"] == "answered"}
    first = answered["from-a-proxy"]
    assert (first["method"], first["path"], first["status"]) == ("GET", "/v1/jobs", 200)
    assert first["duration_ms"] > 0
    assert len(first["key"]) == 36
    assert "secret" not in stream.getvalue()
    assert person.headers["Authorization"].removeprefix("Bearer ") not in stream.getvalue()
    [failure] = [line for line in lines if "exception" in line and line["logger"] == "slaegan.api"]
    assert failure["request_id"] == "it-fails-now"
    assert "TypeError: 'NoneType' object is not callable" in failure["exception"]
    assert answered["it-fails-now"]["status"] == 500


def test_all_that_a_worker_says_is_json(tmp_path: Path, database_url: str, empty_broker_url: str) -> None:
    """Also what Celery says when it starts and ends, and what the pool's process says of its work."""
    environment = {
        **os.environ,
        "DATABASE_URL": database_url,
        "BROKER_URL": empty_broker_url,
        "STORAGE_URL": (tmp_path / "store").as_uri(),
        "SLAEGAN_DATA_DIR": str(tmp_path / "data"),
        "SLAEGAN_LOG_FORMAT": "json",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    output = tmp_path / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "worker.app", "train"],
            cwd=tmp_path, env=environment, stdout=file, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        celery = Celery(broker=environment["BROKER_URL"].replace("unix://", "redis+socket://"))
        celery.send_task("worker.tasks.train", queue="train")
        deadline = time.monotonic() + 60
        while b"worker.tasks.train" not in output.read_bytes() or b"succeeded" not in output.read_bytes():
            assert process.poll() is None, output.read_text()
            assert time.monotonic() < deadline, output.read_text()
            time.sleep(0.05)
        process.terminate()
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
    # What Celery's signal handler prints is no log: it could not take the log's lock.
    said = output.read_text().replace("\nworker: Warm shutdown (MainProcess)\n", "")
    lines = [json.loads(line) for line in said.splitlines()]
    assert {"celery.app.trace", "celery.apps.worker"} <= {line["logger"] for line in lines}
