"""The outermost layer: a request id, security headers, one log line a request, an answer to what nobody foresaw."""

from __future__ import annotations

import logging
import re
import time
from typing import TYPE_CHECKING
from uuid import uuid4

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from api.errors import of_http, problem_response
from api.instruments import UNROUTED
from core import logbook
from core.errors import SlaeganError

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from api.instruments import Instruments

_logger = logging.getLogger("slaegan.api")
# A trusted proxy's id goes through, so that its log and ours can be read together; of others api.proxies removes it.
_SANE_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")

# Of every answer, unless its route says otherwise: nothing here is a page, and nothing is for other origins' pages.
SECURITY_HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (
        b"permissions-policy",
        b"camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    ),
    (b"cache-control", b"no-store"),
)


class Envelope:
    """ASGI middleware around everything else.

    HEAD is served as GET (the server drops the body); `scope["state"]["head"]` tells routes that would stream.

    Args:
        app: what lies inside.
        instruments: count what passes.
        hsts_s: for how long browsers shall come back over TLS only; 0 for none.
    """

    def __init__(self, app: ASGIApp, *, instruments: Instruments, hsts_s: int = 0) -> None:
        self._app = app
        self._instruments = instruments
        # Over plain HTTP the header is to be left out (RFC 6797, section 7.2).
        self._over_tls = (
            (*SECURITY_HEADERS, (b"strict-transport-security", b"max-age=%d" % hsts_s))
            if hsts_s
            else SECURITY_HEADERS
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        defaults = self._over_tls if scope["scheme"] == "https" else SECURITY_HEADERS
        exchange = _Exchange(scope, receive, send, defaults=defaults)
        self._instruments.began()
        with logbook.bound(request_id=exchange.request_id):
            try:
                await self._serve(exchange)
            finally:
                exchange.log()
                exchange.count(self._instruments)

    async def _serve(self, exchange: _Exchange) -> None:
        try:
            await self._app(exchange.scope, exchange.receive, exchange.send)
        except HTTPException as refusal:
            # Of a body that is too long or too slow, where a middleware and not the application reads it.
            if exchange.status:
                raise
            await exchange.answer(problem_response(exchange.scope, of_http(refusal)))
        except Exception:
            _logger.exception("the request failed")
            if exchange.status:
                # The head of the answer is out: only a broken connection can still tell the client.
                raise
            error = SlaeganError("The service failed; its log tells more under this request id.")
            await exchange.answer(problem_response(exchange.scope, error))


class _Exchange:
    """One request and its answer; `scope["state"]["headers"]` are of every answer to this request."""

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, *, defaults: tuple[tuple[bytes, bytes], ...]
    ) -> None:
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        self.request_id = given if _SANE_ID.fullmatch(given) else uuid4().hex
        is_head = scope["method"] == "HEAD" and not scope["path"].endswith("/stream")
        state = {**scope.get("state", {}), "request_id": self.request_id, "head": is_head, "headers": []}
        self.scope = {**scope, "method": "GET" if is_head else scope["method"], "state": state}
        self.status = 0
        self._receive = receive
        self._send = send
        self._defaults = defaults
        self._began = time.perf_counter()
        self._answered = self._began
        self._received_bytes = self._sent_bytes = 0
        self._unread = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"

    async def receive(self) -> Message:
        message = await self._receive()
        self._received_bytes += len(message.get("body", b""))
        self._unread = self._unread and message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._answered = time.perf_counter()
            headers = [*message["headers"], *self.scope["state"]["headers"]]
            headers.append((b"x-request-id", self.request_id.encode()))
            given = {name for name, _ in headers}
            headers += [default for default in self._defaults if default[0] not in given]
            if self._unread and b"connection" not in given:
                # Else the server would go on reading the refused body to find the next request behind it.
                headers.append((b"connection", b"close"))
            message["headers"] = headers
        else:
            self._sent_bytes += len(message.get("body", b""))
        await self._send(message)

    async def answer(self, response: Response) -> None:
        """Send an answer of the envelope's own."""
        await response(self.scope, self.receive, self.send)

    def log(self) -> None:
        identity = self.scope["state"].get("identity")
        facts = {
            "request_id": self.request_id,
            "method": self.scope["method"],
            # As it came, percent-encoded.
            "path": self.scope["raw_path"].decode("latin-1"),
            "status": self.status,
            "duration_ms": round((time.perf_counter() - self._began) * 1000, 1),
            "key": str(identity.key_id) if identity else None,
        }
        _logger.info("answered", extra={"fields": facts})

    def count(self, instruments: Instruments) -> None:
        route = getattr(self.scope.get("route"), "path", UNROUTED)
        # A stream lasts as long as its client likes.
        end = self._answered if route.endswith("/stream") else time.perf_counter()
        instruments.ended(
            method=self.scope["method"],
            route=route,
            status=self.status,
            took_s=end - self._began,
            received_bytes=self._received_bytes,
            sent_bytes=self._sent_bytes,
        )
