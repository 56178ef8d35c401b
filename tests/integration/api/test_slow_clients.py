"""Many slow clients at once, against the API as the process that everyone runs."""

from __future__ import annotations

import selectors
import socket
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import httpx

from core.keys import ensure_local_key
from tests.integration.api.conftest import CLIENT
from tests.integration.api.test_process import running

if TYPE_CHECKING:
    from pathlib import Path

ATTACKERS = 200
HEAD_TIMEOUT_S = 3


def test_two_hundred_trickling_heads_keep_nobody_out(
    tmp_path: Path, database_url: str, broker_url: str
) -> None:
    """Slowloris: each connection sends another header now and then, and never the end of its head."""
    key = ensure_local_key(database_url)
    settings = {"database_url": database_url, "broker_url": broker_url, "head_timeout_s": HEAD_TIMEOUT_S}
    with (
        running(tmp_path, **settings) as (_, url),  # type: ignore[arg-type]  # URLs and a number
        httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, **CLIENT) as person,
        ExitStack() as sockets,
    ):
        assert person.get("/v1/jobs").status_code == 200
        port = httpx.URL(url).port
        assert port is not None
        attackers: set[socket.socket] = set()
        began = time.monotonic()
        for _ in range(ATTACKERS):
            attacker = sockets.enter_context(socket.create_connection(("127.0.0.1", port)))
            attacker.sendall(b"GET /v1/jobs HTTP/1.1\r\nHost: localhost\r\n")
            attackers.add(attacker)
        slowest_s, refusals = 0.0, []
        with selectors.DefaultSelector() as selector:
            for attacker in attackers:
                selector.register(attacker, selectors.EVENT_READ)
            while selector.get_map():
                assert time.monotonic() - began < HEAD_TIMEOUT_S + 5, f"{len(selector.get_map())} are open"
                for registered, _ in selector.select(timeout=0.1):
                    ended = registered.fileobj
                    assert isinstance(ended, socket.socket)
                    refusals.append(ended.recv(65536).split(b" ")[1])
                    selector.unregister(ended)
                    attackers.remove(ended)
                for attacker in attackers:
                    # What was closed since the last look is found at the next.
                    attacker.send(b"X-a: b\r\n")
                asked = time.monotonic()
                assert person.get("/v1/jobs").status_code == 200
                slowest_s = max(slowest_s, time.monotonic() - asked)
        assert refusals == [b"408"] * ATTACKERS
        assert slowest_s < 1
