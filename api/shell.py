"""What is looked at before keys: whom the request is for, how long its head is, and whether its body keeps coming."""

from __future__ import annotations

import asyncio
import ipaddress
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException

from api.connection import MAX_HEAD_BYTES
from api.errors import problem_response
from api.gate import PROBES
from core.errors import AddressTooLong, HeadTooLarge, Misdirected, SlaeganError, TooSlow

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from core.settings import Settings

MAX_HEADERS = 100
MAX_ADDRESS_BYTES = 8 * 1024
_LONGEST_SHOWN = 100
# For pages of the origins in `cors_origins`. They send a key, which no browser adds by itself: no credentials.
CORS: dict[str, Any] = {
    "allow_methods": ("GET", "HEAD", "POST", "PATCH", "PUT", "DELETE"),
    "allow_headers": ("*",),
    "expose_headers": (
        "Content-Disposition",
        "Content-Range",
        "ETag",
        "Idempotency-Replayed",
        "Location",
        "RateLimit-Limit",
        "RateLimit-Remaining",
        "RateLimit-Reset",
        "Retry-After",
        "Tus-Checksum-Algorithm",
        "Tus-Extension",
        "Tus-Max-Size",
        "Tus-Resumable",
        "Tus-Version",
        "Upload-Expires",
        "Upload-Length",
        "Upload-Metadata",
        "Upload-Offset",
        "X-Content-SHA256",
        "X-Request-ID",
    ),
}


class Shell:
    """ASGI middleware: the host check, limits of the head, and an end to bodies that trickle in.

    Args:
        app: what lies inside.
        settings: hosts and timeouts.
    """

    def __init__(self, app: ASGIApp, *, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        names = settings.allowed_hosts or ("localhost", settings.host.lower())
        self._any_host = "*" in names
        self._names = frozenset(name for name in names if not name.startswith("*."))
        self._suffixes = tuple(name[1:] for name in names if name.startswith("*."))
        self._is_ours = lru_cache(maxsize=1024)(self._is_known)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            host, has_body, size_bytes = b"", False, 0
            for name, value in scope["headers"]:
                size_bytes += len(name) + len(value)
                if name == b"host":
                    host = value
                elif name == b"transfer-encoding" or (name == b"content-length" and value != b"0"):
                    has_body = True
            try:
                self._check(scope, host, size_bytes)
            except SlaeganError as error:
                await problem_response(scope, error)(scope, receive, send)
                return
            if has_body:
                receive = _Body(receive, settings=self._settings).receive
        await self._app(scope, receive, send)

    def _check(self, scope: Scope, host: bytes, size_bytes: int) -> None:
        if len(scope["headers"]) > MAX_HEADERS:
            count = len(scope["headers"])
            raise HeadTooLarge(
                f"The request has {count} headers; {MAX_HEADERS} are allowed.", limit=MAX_HEADERS
            )
        # The server refuses a long head that comes in pieces; one that comes at once it has read already.
        if size_bytes > MAX_HEAD_BYTES:
            raise HeadTooLarge(
                f"The request's headers have {size_bytes} bytes; {MAX_HEAD_BYTES} are allowed.",
                limit_bytes=MAX_HEAD_BYTES,
            )
        length = len(scope["raw_path"]) + len(scope["query_string"])
        if length > MAX_ADDRESS_BYTES:
            raise AddressTooLong(
                f"The address has {length} bytes; {MAX_ADDRESS_BYTES} are allowed.",
                limit_bytes=MAX_ADDRESS_BYTES,
            )
        if not self._is_ours(host) and scope["path"] not in PROBES:
            shown = host.decode("latin-1")[:_LONGEST_SHOWN]
            raise Misdirected(
                f"This service does not answer for the host {shown!r}. Those who run it name its hosts in "
                "SLAEGAN_ALLOWED_HOSTS."
            )

    def _is_known(self, header: bytes) -> bool:
        """Whether a Host header names this service.

        A page that rebinds a name of its own to our address (DNS rebinding) sends that name: an address is no name.
        """
        host = _without_port(header.decode("latin-1").lower()).rstrip(".")
        return self._any_host or host in self._names or host.endswith(self._suffixes) or _is_address(host)


class _Body:
    """A body that has to keep coming; only the time that the service waits for the client counts.

    Args:
        receive: the server's.
        settings: how long a pause may be, and the least rate over the whole.
    """

    def __init__(self, receive: Receive, *, settings: Settings) -> None:
        self._receive = receive
        self._patience_s = settings.body_timeout_s
        self._min_bytes_per_s = settings.min_bytes_per_s
        self._waited_s = 0.0
        self._size_bytes = 0
        self._is_complete = False

    async def receive(self) -> Message:
        if self._is_complete:
            return await self._receive()
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            async with asyncio.timeout(self._patience_s):
                message = await self._receive()
        except TimeoutError:
            raise _too_slow(f"Nothing of the body came for {self._patience_s:g} s.") from None
        self._waited_s += clock() - began
        self._size_bytes += len(message.get("body", b""))
        self._is_complete = not message.get("more_body", False)
        too_few = self._size_bytes < self._waited_s * self._min_bytes_per_s
        if not self._is_complete and self._waited_s > self._patience_s and too_few:
            raise _too_slow(
                f"The body came at less than {self._min_bytes_per_s} bytes a second over {self._waited_s:.0f} s."
            )
        return message


def _too_slow(message: str) -> HTTPException:
    # The framework lets an HTTPException through where it would take any other for a broken body.
    return HTTPException(TooSlow.status, message)


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
