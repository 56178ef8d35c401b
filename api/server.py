"""The server under the application: uvicorn, with our connections, and an end that waits for no stream."""

from __future__ import annotations

import resource
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import uvicorn

from api.connection import MAX_HEAD_BYTES, Connection
from api.proxies import Strangers
from core.settings import settings

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from fastapi import FastAPI
    from uvicorn._types import ASGI3Application

    from api.feed import Feed

SHUTDOWN_S = 10
# A download has its file open, too.
_FILES_A_CONNECTION = 2
_OTHER_FILES = 256


class _Server(uvicorn.Server):
    """Ends the event streams first: uvicorn would wait for them until its patience is over."""

    def __init__(self, config: uvicorn.Config, *, feeds: Sequence[Feed[Any]]) -> None:
        super().__init__(config)
        self._feeds = feeds

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for feed in self._feeds:
            feed.close()
        await super().shutdown(sockets)


def serve(app: FastAPI, **options: Any) -> uvicorn.Server:
    """A server for the application, not yet running.

    Args:
        app: of `create_app`.
        options: for uvicorn, over the settings'.
    """
    chosen: dict[str, Any] = {
        "host": settings().host,
        "port": settings().port,
        "http": partial(Connection, settings=settings(), instruments=app.state.instruments),
        "loop": "uvloop",
        "ws": "none",
        "h11_max_incomplete_event_size": MAX_HEAD_BYTES,
        "timeout_graceful_shutdown": SHUTDOWN_S,
        "proxy_headers": False,
        "server_header": False,
        "access_log": False,
        "log_config": None,
    }
    outermost = Strangers(app, networks=settings().trusted_proxies)
    config = uvicorn.Config(cast("ASGI3Application", outermost), **chosen | options)
    return _Server(config, feeds=(app.state.feed, app.state.log_feed))


def allow_files() -> None:
    """Let the process have as many files open as its connections need; many systems begin with 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(soft, _FILES_A_CONNECTION * settings().max_connections + _OTHER_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
