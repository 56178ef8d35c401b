"""Valkey in the data folder: one unix socket for its owner, no TCP.

Nothing is written to disk: messages are only hints to look at the database (which is the truth), and the workers'
sweep sends new ones after a restart.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import redis

from client.local.binaries import valkey_binary
from client.local.programs import Program
from core.errors import StackFailed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def program(sockets: Path) -> Program:
    """The server, in the foreground."""
    server = (
        valkey_binary(), "--port", "0", "--unixsocket", str(sockets / "valkey.sock"), "--unixsocketperm", "600",
        "--maxmemory-policy", "noeviction", "--save", "", "--appendonly", "no", "--daemonize", "no",
    )  # fmt: skip
    return Program("valkey", server, group="broker")


def url(sockets: Path) -> str:
    """The address as redis-py takes it."""
    return f"unix://{sockets / 'valkey.sock'}"


def wait_until_ready(url: str, *, check_alive: Callable[[], None], timeout_s: float = 60) -> None:
    """Wait until the server answers.

    Args:
        url: as `url` gives it.
        check_alive: raises when there is nothing to wait for any more.
        timeout_s: how long.

    Raises:
        StackFailed: not in time.
    """
    deadline = time.monotonic() + timeout_s
    with redis.Redis.from_url(url, socket_timeout=5) as client:
        while True:
            try:
                client.ping()
            except redis.RedisError as error:
                check_alive()
                if time.monotonic() > deadline:
                    raise StackFailed(f"Valkey does not answer after {timeout_s:g} s: {error}") from error
                time.sleep(0.05)
            else:
                return
