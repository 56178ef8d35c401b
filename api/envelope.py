"""The outermost layer: a request id, one log line a request, and an answer even to what nobody foresaw."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders

from api.errors import problem_response
from core.errors import SlaeganError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_logger = logging.getLogger("slaegan.api")


class Envelope:
    """ASGI middleware around everything else.

    HEAD is served as GET (the server drops the body); `scope["state"]["head"]` tells routes that would stream.

    Args:
        app: what lies inside.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send)
        try:
            await self._app(exchange.scope, exchange.receive, exchange.send)
        except Exception:
            _logger.exception("request=%s failed", exchange.request_id)
            if exchange.status:
                # The head of the answer is out: only a broken connection can still tell the client.
                raise
            error = SlaeganError("The service failed; its log tells more under this request id.")
            await problem_response(exchange.scope, error)(exchange.scope, exchange.receive, exchange.send)
        finally:
            exchange.log()


class _Exchange:
    """One request and its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.request_id = uuid4().hex
        is_head = scope["method"] == "HEAD" and not scope["path"].endswith("/stream")
        state = {**scope.get("state", {}), "request_id": self.request_id, "head": is_head}
        self.scope = {**scope, "method": "GET" if is_head else scope["method"], "state": state}
        self.status = 0
        self._receive = receive
        self._send = send
        self._began = time.perf_counter()
        headers = Headers(scope=scope)
        self._unread = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"

    async def receive(self) -> Message:
        message = await self._receive()
        self._unread = self._unread and message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-ID"] = self.request_id
            headers["X-Content-Type-Options"] = "nosniff"
            if self._unread:
                # Else the server would go on reading the refused body to find the next request behind it.
                headers["Connection"] = "close"
        await self._send(message)

    def log(self) -> None:
        identity = self.scope["state"].get("identity")
        _logger.info(
            "request=%s method=%s path=%s status=%d ms=%.1f key=%s",
            self.request_id,
            self.scope["method"],
            # As it came, percent-encoded: a decoded path could forge lines of the log.
            self.scope["raw_path"].decode("latin-1"),
            self.status,
            (time.perf_counter() - self._began) * 1000,
            identity.key_id if identity else "-",
        )
