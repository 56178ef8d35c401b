"""Clients that do not play along, against a real server with a small application."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from api.connection import MAX_HEAD_BYTES, Connection
from api.envelope import Envelope
from api.errors import install
from api.instruments import Instruments
from api.shell import MAX_ADDRESS_BYTES, MAX_HEADERS, Shell
from core.settings import Settings
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

MIB = 1024 * 1024
GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /size HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"

INSTRUMENTS = Instruments(version="0", commit="")


def application(settings: Settings) -> FastAPI:
    app = FastAPI()
    app.state.streams_ended = 0

    @app.get("/healthz")
    async def healthz() -> str:
        return "ok"

    @app.get("/scheme")
    async def scheme(request: Request) -> str:
        return request.url.scheme

    @app.post("/size")
    async def size(request: Request) -> int:
        return len(await request.body())

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def forever() -> AsyncIterator[bytes]:
            try:
                while True:
                    await asyncio.sleep(0)
                    yield bytes(16 * MIB)
            finally:
                app.state.streams_ended += 1

        return StreamingResponse(forever())

    install(app)
    app.add_middleware(Shell, settings=settings)
    app.add_middleware(Envelope, instruments=INSTRUMENTS, hsts_s=settings.hsts_s)
    return app


class Served:
    """A running server, and connections to it."""

    def __init__(self, app: FastAPI, port: int) -> None:
        self.app = app
        self.port = port

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def ask(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        with self.connect() as connection:
            connection.sendall(request)
            return answer(connection)


@contextmanager
def served(**values: Any) -> Iterator[Served]:
    settings = Settings(database_url="-", broker_url="-", storage_url="-", **values)
    app = application(settings)
    connection = partial(Connection, settings=settings, instruments=INSTRUMENTS)
    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, http=connection, log_config=None,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES, access_log=False, server_header=False, proxy_headers=False,
        timeout_graceful_shutdown=1, ws="none",
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    try:
        yield Served(app, server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive()


def answer(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of all that comes until the server closes."""
    data = b""
    while chunk := connection.recv(65536):
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return int(status.split()[1]), headers, body


def one_answer(connection: socket.socket) -> bytes:
    """All of the next answer, which tells its length; head and body may come apart."""
    data = b""
    while True:
        head, end, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        if end and length and len(body) >= int(length[1]):
            return data
        chunk = connection.recv(65536)
        assert chunk, f"the server closed after {data!r}"
        data += chunk


def test_a_head_that_is_too_long_is_answered_with_a_problem() -> None:
    with served() as server:
        # Twice what is allowed: what the server leaves unread must not cost the client its answer.
        status, headers, body = server.ask(GET + b"X: " + b"x" * 2 * MAX_HEAD_BYTES)
        problem = json.loads(body)
        assert (status, problem["code"]) == (431, "head_too_large")
        assert headers["content-type"] == "application/problem+json"
        assert headers["x-request-id"] == problem["request_id"]
        assert headers["x-frame-options"] == "deny"
        assert headers["connection"] == "close"


@pytest.mark.parametrize(
    "request_",
    [b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", GET + b"Host: other\r\n\r\n",
     GET + b"a b: c\r\n\r\n", b"POST /size HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n"],
)  # fmt: skip
def test_what_is_no_http_is_answered_with_a_problem(request_: bytes) -> None:
    with served() as server:
        status, _, body = server.ask(request_)
        assert (status, json.loads(body)["code"]) == (400, "bad_request")


def test_a_body_that_breaks_off_in_its_framing_is_answered_once() -> None:
    with served() as server:
        head = b"POST /size HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        status, _, body = server.ask(head + b"3\r\nabc\r\nnonsense\r\n")
        assert (status, json.loads(body)["code"]) == (400, "bad_request")
        assert server.ask(GET + b"Connection: close\r\n\r\n")[0] == 200


def test_heads_have_limits() -> None:
    with served() as server:
        many = b"".join(b"x-%d: 1\r\n" % i for i in range(MAX_HEADERS + 1))
        status, _, body = server.ask(GET + b"Connection: close\r\n" + many + b"\r\n")
        assert (status, json.loads(body)["code"]) == (431, "head_too_large")
        address = b"/healthz?" + b"x" * MAX_ADDRESS_BYTES
        status, _, body = server.ask(
            b"GET " + address + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        assert (status, json.loads(body)["code"]) == (414, "address_too_long")


def test_a_head_that_trickles_in_is_cut_off() -> None:
    with served(head_timeout_s=0.5) as server, server.connect() as connection, server.connect() as silent:
        began = time.monotonic()
        connection.sendall(GET)
        while not readable(connection):
            connection.sendall(b"x: y\r\n")
            assert time.monotonic() - began < 5, "it was not cut off"
        status, _, body = answer(connection)
        assert 0.4 < time.monotonic() - began < 3
        assert (status, json.loads(body)["code"]) == (408, "too_slow")
        assert silent.recv(1) == b"", "who says nothing at all is not kept"


def readable(connection: socket.socket) -> bool:
    connection.settimeout(0.05)
    try:
        return bool(connection.recv(1, socket.MSG_PEEK))
    except TimeoutError:
        return False
    finally:
        connection.settimeout(10)


def test_a_second_head_has_as_much_time_as_the_first() -> None:
    with served(head_timeout_s=0.5) as server, server.connect() as connection:
        connection.sendall(GET + b"\r\n")
        assert b'"ok"' in one_answer(connection)
        connection.sendall(GET)
        assert answer(connection)[0] == 408


def test_a_body_that_pauses_is_cut_off() -> None:
    with served(body_timeout_s=0.5) as server, server.connect() as connection:
        connection.sendall(POST + b"abc")
        status, _, body = answer(connection)
        assert (status, json.loads(body)["code"]) == (408, "too_slow")


@pytest.mark.parametrize(("rate", "expected"), [(100_000, 408), (100, 200)])
def test_a_body_may_be_slow_but_not_too_slow(rate: int, expected: int) -> None:
    """Fifty bytes every 50 ms, without a long pause."""
    with served(body_timeout_s=0.3, min_bytes_per_s=rate) as server, server.connect() as connection:
        connection.sendall(POST)
        for _ in range(20):
            if readable(connection):
                break
            connection.sendall(b"x" * 50)
        data = one_answer(connection)
        assert int(data.split()[1]) == expected
        assert (expected == 408) == (b"bytes a second" in data)


def test_a_client_that_does_not_read_is_cut_off() -> None:
    with served(write_timeout_s=0.5) as server, server.connect() as connection:
        connection.sendall(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_until(lambda: server.app.state.streams_ended == 1)


def test_a_client_that_reads_slowly_is_not() -> None:
    """A chunk of the answer takes far longer than the timeout, but at each look at it something more has been read.

    On loopback a client's kernel tells in steps of 64 KiB that there is room again.
    """
    with served(write_timeout_s=1) as server, server.connect() as connection:
        connection.sendall(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        deadline = time.monotonic() + 2.5
        while time.monotonic() < deadline:
            assert len(connection.recv(16384)) > 0
            time.sleep(0.01)
        assert server.app.state.streams_ended == 0


def test_when_all_are_taken_the_quietest_gives_way() -> None:
    with served(max_connections=3) as server, ExitStack() as open_ones:
        first = open_ones.enter_context(server.connect())
        first.sendall(GET + b"\r\n")
        assert b"200 OK" in one_answer(first)
        # The clock of some loops counts milliseconds.
        time.sleep(0.01)
        others = [open_ones.enter_context(server.connect()) for _ in range(2)]
        for _ in range(5):
            assert server.ask(GET + b"Connection: close\r\n\r\n")[0] == 200
        assert first.recv(1) == b""
        for other in others:
            other.sendall(GET + b"\r\n")
            assert b"200 OK" in one_answer(other)


def test_when_all_are_busy_the_next_is_refused() -> None:
    with served(max_connections=2) as server, ExitStack() as open_ones:
        busy = [open_ones.enter_context(server.connect()) for _ in range(2)]
        for connection in busy:
            connection.sendall(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(15) == b"HTTP/1.1 200 OK"
        status, headers, body = server.ask(GET + b"\r\n")
        assert (status, json.loads(body)["code"]) == (503, "overloaded")
        assert (headers["retry-after"], headers["connection"]) == ("5", "close")
        for connection in busy:
            connection.close()
        wait_until(lambda: server.ask(GET + b"Connection: close\r\n\r\n")[0] == 200)
