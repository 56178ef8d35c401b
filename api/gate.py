"""Who may come in, how often, and with how much: decided from the headers, before a byte of the body is read.

FastAPI parses a form before any dependency runs, so an unkeyed upload would be spooled to disk: hence a middleware.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import anyio.to_thread
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter
from sqlalchemy import exc as database
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from api.errors import database_away, problem_response
from core import keys
from core.db import reading
from core.errors import Forbidden, RateLimited, SlaeganError, TooLarge, Unauthenticated, UnsupportedMedia

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from core.settings import Settings

PROBES = frozenset({"/healthz", "/readyz"})
PUBLIC = PROBES | {"/", "/docs", "/openapi.json"}
UPLOAD = ("POST", "/v1/datasets")
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
UNKEYED_SHARE = 100
KEY_THREADS = 3
_MAX_TOKEN_LENGTH = 200


class Gate:
    """ASGI middleware: authentication, rate limit, scope, and the rules for bodies.

    Args:
        app: what lies behind the gate.
        settings: rates and sizes.
    """

    def __init__(self, app: ASGIApp, *, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._limiter = FixedWindowRateLimiter(MemoryStorage())
        self._keyed = RateLimitItemPerMinute(settings.requests_per_minute)
        self._unkeyed = RateLimitItemPerMinute(max(1, settings.requests_per_minute // UNKEYED_SHARE))
        # Keys are looked up in threads of their own: uploads being decoded must not keep others from the door.
        self._threads = anyio.CapacityLimiter(KEY_THREADS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            await self._admit(scope, headers)
            limit_bytes = self._body_limit(scope, headers)
        except SlaeganError as error:
            await problem_response(scope, error)(scope, receive, send)
            return
        await self._app(scope, _counted(receive, limit_bytes=limit_bytes), send)

    async def _admit(self, scope: Scope, headers: Headers) -> None:
        if scope["path"] in PROBES:
            return
        token = _bearer(headers)
        identity = await self._identify(token) if token else None
        if identity is None:
            # The peer's own address: X-Forwarded-For says whatever the client likes.
            self._count(self._unkeyed, scope["client"][0] if scope["client"] else "local")
            if scope["path"] in PUBLIC:
                return
            raise Unauthenticated(
                "Send a valid API key: `Authorization: Bearer slg_…`."
                if token is None
                else "This API key is unknown, expired or revoked."
            )
        self._count(self._keyed, str(identity.key_id))
        needed = "read" if scope["method"] in SAFE_METHODS else "write"
        if needed not in identity.scopes:
            raise Forbidden(
                f"This key lacks the scope {needed!r}.", needed=needed, scopes=sorted(identity.scopes)
            )
        scope["state"]["identity"] = identity

    async def _identify(self, token: str) -> keys.Identity | None:
        try:
            return await anyio.to_thread.run_sync(_look_up, token, limiter=self._threads)
        except (database.OperationalError, database.InterfaceError, database.TimeoutError) as error:
            raise database_away(error) from error

    def _count(self, item: RateLimitItemPerMinute, who: str) -> None:
        if not self._limiter.hit(item, who):
            wait_s = self._limiter.get_window_stats(item, who).reset_time - time.time()
            retry_after_s = max(1, math.ceil(wait_s))
            raise RateLimited(
                f"More than {item.amount} requests a minute: try again in {retry_after_s} s.",
                retry_after_s=retry_after_s,
                requests_per_minute=item.amount,
            )

    def _body_limit(self, scope: Scope, headers: Headers) -> int:
        is_upload = (scope["method"], scope["path"]) == UPLOAD
        limit_bytes = self._settings.max_upload_bytes if is_upload else self._settings.max_body_bytes
        declared_bytes = int(headers.get("content-length", "0"))
        if declared_bytes > limit_bytes:
            raise TooLarge(
                f"The body has {declared_bytes} bytes; {limit_bytes} are allowed here.",
                size_bytes=declared_bytes,
                limit_bytes=limit_bytes,
            )
        if declared_bytes or "transfer-encoding" in headers:
            _check_media_type(headers, wanted="multipart/form-data" if is_upload else "application/json")
        return limit_bytes


def _look_up(token: str) -> keys.Identity | None:
    with reading() as session:
        return keys.authenticate(session, token)


def _bearer(headers: Headers) -> str | None:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token.startswith(keys.PREFIX) or len(token) > _MAX_TOKEN_LENGTH:
        return None
    return token


def _check_media_type(headers: Headers, *, wanted: str) -> None:
    given = headers.get("content-type", "").partition(";")[0].strip().lower()
    if given != wanted:
        raise UnsupportedMedia(
            f"Send {wanted}, not {given[:100] or 'a body without a content type'}.", wanted=wanted
        )
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMedia("Send the body as it is, without a Content-Encoding.", wanted="identity")


def _counted(receive: Receive, *, limit_bytes: int) -> Receive:
    """Stop a chunked body, which declares no length, once it is too long."""
    seen_bytes = 0

    async def counted() -> Message:
        nonlocal seen_bytes
        message = await receive()
        seen_bytes += len(message.get("body", b""))
        if seen_bytes > limit_bytes:
            # The framework lets an HTTPException through where it would take any other for a broken body.
            raise HTTPException(
                TooLarge.status, f"The body has more than {limit_bytes} bytes, which are allowed here."
            )
        return message

    return counted
