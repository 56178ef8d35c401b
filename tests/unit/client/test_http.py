"""The client against a real HTTP server that misbehaves on demand."""

from __future__ import annotations

import hashlib
import json
import threading
import zipfile
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

import pytest

from client import SlaeGan
from client.transfer import as_archive, download
from client.transport import SyncTransport
from core.errors import Conflict, InfrastructureError, InvalidRequest
from core.schemas.families import FAMILIES
from core.schemas.jobs import JobIn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BODY = bytes(range(256)) * 4096
SHA256 = hashlib.sha256(BODY).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Gives BODY, but breaks off after `limit` bytes the first `breaks` times; /problem refuses; /page is HTML."""

    limit = 300_000
    breaks: ClassVar[list[None]] = []
    body = BODY
    ranges: ClassVar[list[str | None]] = []
    sent: ClassVar[list[bytes]] = []

    def do_POST(self) -> None:
        self.sent.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.do_GET()

    def do_GET(self) -> None:
        match self.path:
            case "/file":
                self._file()
            case "/v1/jobs":
                problem = {
                    "type": "urn:slaegan:error:conflict", "title": "t", "status": 409, "code": "conflict",
                    "detail": "It is in use.", "instance": "/v1/jobs", "request_id": "r", "details": {"by": "job 7"},
                }  # fmt: skip
                self._answer(409, json.dumps(problem).encode())
            case _:
                self._answer(502, b"<html>Bad gateway</html>")

    def _file(self) -> None:
        asked = self.headers.get("Range")
        self.ranges.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if asked and self.headers["If-Range"] != f'"{SHA256}"':
            start = 0
        if start >= len(self.body):
            self._answer(416, b"")
            return
        rest = self.body[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        if self.breaks:
            self.breaks.pop()
            rest = rest[: self.limit]
        self.wfile.write(rest)
        self.close_connection = True

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler] = Handler, **changes: object) -> Iterator[tuple[str, Any]]:
    handler = type("Changed", (handler,), {"breaks": [], "ranges": [], "sent": [], **changes})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", handler
        finally:
            server.shutdown()
            thread.join()


def fetched(service: SyncTransport, **options: Any) -> None:
    service.run(download("/file", service=service.base_url, **options))


def test_a_broken_download_goes_on_where_it_was(tmp_path: Path) -> None:
    told: list[int] = []
    with serving(breaks=[None, None]) as (url, handler), SyncTransport(url, "key") as service:
        fetched(service, to=tmp_path / "g", sha256=SHA256, progress=told.append)
        assert handler.ranges == [None, "bytes=300000-", "bytes=600000-"]
    assert (tmp_path / "g").read_bytes() == BODY
    assert told[-1] == len(BODY)
    assert not (tmp_path / "g.part").exists()


def test_a_download_that_was_complete_is_only_checked(tmp_path: Path) -> None:
    (tmp_path / "g.part").write_bytes(BODY)
    with serving() as (url, _), SyncTransport(url, "key") as service:
        fetched(service, to=tmp_path / "g", sha256=SHA256)
    assert (tmp_path / "g").read_bytes() == BODY


def test_what_is_there_and_right_is_not_fetched_again(tmp_path: Path) -> None:
    told: list[int] = []
    with serving() as (url, handler), SyncTransport(url, "key") as service:
        (tmp_path / "g").write_bytes(BODY)
        fetched(service, to=tmp_path / "g", sha256=SHA256, progress=told.append)
        assert (handler.ranges, told) == ([], [len(BODY)])
        (tmp_path / "g").write_bytes(BODY[:-1] + b"x")
        fetched(service, to=tmp_path / "g", sha256=SHA256)
        assert handler.ranges == [None]
    assert (tmp_path / "g").read_bytes() == BODY


def test_a_damaged_download_is_refused(tmp_path: Path) -> None:
    damaged = BODY[:-1] + b"x"
    with serving(body=damaged) as (url, _), SyncTransport(url, "key") as service:
        with pytest.raises(InfrastructureError, match="damaged"):
            fetched(service, to=tmp_path / "g", sha256=SHA256)
        assert list(tmp_path.iterdir()) == []


def test_a_download_that_breaks_off_for_ever_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    with serving(breaks=[None] * 9, limit=10) as (url, _), SyncTransport(url, "key") as service:
        with pytest.raises(InfrastructureError, match="broke off 5 times"):
            fetched(service, to=tmp_path / "g", sha256=SHA256)
        # What came is kept for the next try.
        assert (tmp_path / "g.part").stat().st_size == 50


def test_problems_are_raised_as_the_service_meant_them() -> None:
    with serving() as (url, _), SlaeGan(url, "key") as client, pytest.raises(Conflict) as caught:
        next(client.jobs())
    assert caught.value.message == "It is in use."
    assert caught.value.details == {"by": "job 7"}


def test_a_stranger_that_answers_is_told_apart() -> None:
    with (
        serving() as (url, _),
        SlaeGan(url, "key") as client,
        pytest.raises(InfrastructureError, match="not in the way of this service"),
    ):
        client.check_ready()


def test_a_folder_becomes_a_zip_of_its_own_files(tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(b"b")
    (tmp_path / "a.png").write_bytes(b"a")
    (tmp_path / ".hidden").write_bytes(b"h")
    (tmp_path / "folder").mkdir()
    with as_archive(tmp_path) as (name, file), zipfile.ZipFile(file) as archive:
        assert name == f"{tmp_path.name}.zip"
        assert archive.namelist() == ["a.png", "b.png"]


def test_nothing_to_upload_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="no files directly in it"), as_archive(tmp_path):
        pass
    with pytest.raises(InvalidRequest, match="no file or folder"), as_archive(tmp_path / "absent"):
        pass


@pytest.mark.parametrize("family", FAMILIES)
def test_a_job_is_asked_for_by_its_family_and_else_by_what_is_set(family: str) -> None:
    for chosen in ({}, {"resolution": 64}):
        asked = JobIn(dataset_id=UUID(int=1), config=FAMILIES[family].model_validate(chosen))
        with serving() as (url, handler), SlaeGan(url, "key") as client:
            # It refuses every job; what counts is what it was sent.
            with pytest.raises(Conflict):
                client.create_job(asked)
            [body] = handler.sent
        assert JobIn.model_validate_json(body) == asked
        assert json.loads(body)["config"] == chosen | {"family": family}
