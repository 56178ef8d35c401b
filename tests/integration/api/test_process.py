"""The API as the process that everyone runs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx

from core.db import make_engine
from core.keys import ensure_local_key
from tests.integration.api.conftest import CLIENT
from tests.picture_files import form, pngs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

START_S = 60


@contextmanager
def running(
    folder: Path,
    *,
    database_url: str,
    broker_url: str,
    look: Callable[[str], None] = lambda _: None,
    **values: object,
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "DATABASE_URL": database_url,
        "BROKER_URL": broker_url,
        "STORAGE_URL": (folder / "store").as_uri(),
        "SLAEGAN_DATA_DIR": str(folder / "data"),
        "SLAEGAN_PORT": str(port),
        **{f"SLAEGAN_{name.upper()}": str(value) for name, value in values.items()},
    }
    log = folder / "api.log"
    with log.open("wb") as output:
        command = [sys.executable, "-P", "-m", "api.main"]
        process = subprocess.Popen(command, cwd=folder, env=environment, stderr=output)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + START_S
        while True:
            try:
                httpx.get(f"{url}/healthz", **CLIENT)
                break
            except httpx.TransportError:
                assert process.poll() is None, f"the API ended: {log.read_text()}"
                assert time.monotonic() < deadline, f"the API did not start: {log.read_text()}"
                look(log.read_text())
                time.sleep(0.05)
        yield process, url
    finally:
        process.kill()
        process.wait()


def test_serves_from_any_folder_and_stops_at_once(tmp_path: Path, database_url: str, broker_url: str) -> None:
    """SIGTERM ends it in time though a stream is open; a folder `api` where it is started is not run."""
    key = ensure_local_key(database_url)
    (tmp_path / "api").mkdir()
    (tmp_path / "api" / "__init__.py").write_text("raise SystemExit('the wrong code')")
    abandoned = tmp_path / "data" / "uploads" / "upload-abandoned"
    abandoned.mkdir(parents=True)
    settings = {"database_url": database_url, "broker_url": broker_url, "stream_heartbeat_s": 0.2}
    with running(tmp_path, **settings) as (process, url):  # type: ignore[arg-type]  # URLs and a number
        assert not abandoned.exists(), "what a killed process left was not cleared"
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, **CLIENT) as client:
            assert client.get("/readyz").json() == {"status": "ok"}
            dataset = client.post("/v1/datasets", files=form(pngs(4))).json()
            job = client.post("/v1/jobs", json={"dataset_id": dataset["id"]}).json()
            with client.stream("GET", f"/v1/jobs/{job['id']}/events/stream") as stream:
                lines = stream.iter_lines()
                assert next(lines) == "event: queued"
                assert next(line for line in lines if line.startswith(":")) == ": ping", (
                    "a silent stream is kept alive"
                )
                began = time.monotonic()
                process.send_signal(signal.SIGTERM)
                assert list(lines) is not None
            # uvicorn stops in order, and then ends by the signal that it got.
            assert process.wait(timeout=10) == -signal.SIGTERM
            assert time.monotonic() - began < 5
    engine = make_engine(database_url)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("select status from jobs").scalar_one() == "queued"
    engine.dispose()


def test_clears_abandoned_uploads_also_later(tmp_path: Path, database_url: str, broker_url: str) -> None:
    with running(tmp_path, database_url=database_url, broker_url=broker_url, garbage_every_s=0.1):
        old, new = (tmp_path / "data" / "uploads" / f"upload-{name}" for name in ("old", "new"))
        for folder in (new, old):
            folder.mkdir(parents=True)
        os.utime(old, (0, 0))
        deadline = time.monotonic() + 20
        while old.exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert new.exists(), "its process may be about to lock it"


def test_listens_beyond_loopback_only_once_there_is_a_live_key(
    tmp_path: Path, database_url: str, broker_url: str
) -> None:
    key = ensure_local_key(database_url)
    engine = make_engine(database_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("update api_keys set expires_at = now() - interval '1 second'")
    settings = {"database_url": database_url, "broker_url": broker_url, "host": "0.0.0.0"}  # noqa: S104  # the point
    made: list[str] = []

    def make_key(log: str) -> None:
        """The log says what to do; nothing answers until that is done."""
        if "python -m core.keys" in log and not made:
            made.append(ensure_local_key(database_url))

    with running(tmp_path, look=make_key, **settings) as (_, url):  # type: ignore[arg-type]  # URLs and a name
        statuses = [
            httpx.get(f"{url}/v1/jobs", headers={"Authorization": f"Bearer {token}"}, **CLIENT).status_code
            for token in (key, *made)
        ]
        assert statuses == [401, 200]
    engine.dispose()


def test_is_alive_but_not_ready_without_its_servers(tmp_path: Path) -> None:
    nowhere = {
        "database_url": "postgresql+psycopg://nobody@127.0.0.1:9/none",
        "broker_url": "redis://127.0.0.1:9/0",
    }
    with running(tmp_path, **nowhere) as (_, url):
        began = time.monotonic()
        response = httpx.get(f"{url}/readyz", **CLIENT)
        assert (response.status_code, time.monotonic() - began < 5) == (503, True)
        assert response.json()["details"]["failing"] == ["broker_unavailable", "database_unavailable"]
        headers = {"Authorization": "Bearer slg_" + "x" * 43}
        keyed = httpx.get(f"{url}/v1/jobs", headers=headers, **CLIENT)
        assert (keyed.status_code, keyed.json()["code"]) == (503, "database_unavailable")
        assert "nobody" not in keyed.text
