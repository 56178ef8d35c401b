"""Who may come in, how often, and with how much: decided from the headers, before a byte of the body is read.

FastAPI parses a form before any dependency runs, so an unkeyed upload would be spooled to disk: hence a middleware.
"""

from __future__ import annotations

import math
import re
import time
from typing import TYPE_CHECKING

import anyio.to_thread
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from sqlalchemy import exc as database
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from api import scrape
from api.addresses import counted_as
from api.errors import database_away, problem_response
from api.routes import docs
from core import keys
from core.db import reading
from core.errors import Forbidden, RateLimited, SlaeganError, TooLarge, Unauthenticated, UnsupportedMedia

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from api.identities import Identities
    from core.settings import Settings

PROBES = frozenset({"/healthz", "/readyz"})
PUBLIC = PROBES | docs.ADDRESSES | {"/", "/openapi.json"}
# Method, path and media type of the requests that bring files; every other body is JSON.
UPLOADS = (
    ("POST", re.compile("/v1/datasets(/[^/]+/versions)?"), "multipart/form-data"),
    ("POST", re.compile("/v1/uploads"), "application/offset+octet-stream"),
    ("PATCH", re.compile("/v1/uploads/[^/]+"), "application/offset+octet-stream"),
)
# Of those of JSON the ones that may hold a picture.
PICTURES = ("POST", re.compile("/v1/jobs/[^/]+/generations"))
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
UNKEYED_SHARE = 100
# So many times its rate an address guesses before its unknown keys are not even looked up. Not at once: those behind
# one address would lock each other out.
GUESSES_SHARE = 10
KEY_THREADS = 3
_MAX_TOKEN_LENGTH = 200


class Gate:
    """ASGI middleware: authentication, rate limit, scope, and the rules for bodies.

    Args:
        app: what lies behind the gate.
        settings: rates and sizes.
        identities: of keys that were seen a moment ago.
        on_refusal: called with the code of each refusal.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        settings: Settings,
        identities: Identities,
        on_refusal: Callable[[str], None],
    ) -> None:
        self._on_refusal = on_refusal
        self._app = app
        self._settings = settings
        # A fixed window by hand: the library's strategy would look up the count, and again what is left of it.
        self._counts = MemoryStorage()
        self._keyed = RateLimitItemPerMinute(settings.requests_per_minute)
        self._unkeyed = RateLimitItemPerMinute(max(1, settings.requests_per_minute // UNKEYED_SHARE))
        # Keys are looked up in threads of their own: uploads being decoded must not keep others from the door.
        self._threads = anyio.CapacityLimiter(KEY_THREADS)
        self._identities = identities

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            await self._admit(scope, headers)
            limit_bytes = self._body_limit(scope, headers)
        except SlaeganError as error:
            self._on_refusal(error.code)
            await problem_response(scope, error)(scope, receive, send)
            return
        await self._app(scope, _counted(receive, limit_bytes=limit_bytes), send)

    async def _admit(self, scope: Scope, headers: Headers) -> None:
        if scope["path"] in PROBES:
            return
        if scope["path"] == scrape.PATH:
            self._admit_scraper(scope, headers)
            return
        token = _bearer(headers)
        identity = await self._identify(scope, token) if token else None
        if identity is None:
            self._count_unkeyed(scope)
            if scope["path"] in PUBLIC:
                return
            raise Unauthenticated(
                "Send a valid API key: `Authorization: Bearer slg_…`."
                if token is None
                else "This API key is unknown, expired or revoked."
            )
        self._count(scope, self._keyed, str(identity.key_id))
        needed = "read" if scope["method"] in SAFE_METHODS else "write"
        if needed not in identity.scopes:
            raise Forbidden(
                f"This key lacks the scope {needed!r}.", needed=needed, scopes=sorted(identity.scopes)
            )
        scope["state"]["identity"] = identity
        scope["app"].state.key_uses.note(identity.key_id)

    def _admit_scraper(self, scope: Scope, headers: Headers) -> None:
        token = self._settings.metrics_token.get_secret_value()
        if token:
            self._refuse_guesses(scope, beyond=self._unkeyed.amount)
        try:
            scrape.check_scraper(scope, headers, token=token)
        except Unauthenticated:
            # Guesses are counted like those of keys.
            self._count_unkeyed(scope)
            raise

    async def _identify(self, scope: Scope, token: str) -> keys.Identity | None:
        known = self._identities.get(token)
        if known is not None:
            return known
        self._refuse_guesses(scope, beyond=GUESSES_SHARE * self._unkeyed.amount)
        try:
            identity = await anyio.to_thread.run_sync(_look_up, token, limiter=self._threads)
        except (database.OperationalError, database.InterfaceError, database.TimeoutError) as error:
            raise database_away(error) from error
        if identity is not None:
            self._identities.put(token, identity)
        return identity

    def _refuse_guesses(self, scope: Scope, *, beyond: int) -> None:
        """Refuse without a look at the token, and count, if the address has used up more than its rate."""
        if self._counts.get(self._unkeyed.key_for(_address(scope))) >= beyond:
            self._count_unkeyed(scope)

    def _count_unkeyed(self, scope: Scope) -> None:
        self._count(scope, self._unkeyed, _address(scope))

    def _count(self, scope: Scope, item: RateLimitItemPerMinute, who: str) -> None:
        """Count a request, and leave in the scope what the answer will say of the rate."""
        key = item.key_for(who)
        count = self._counts.incr(key, item.get_expiry())
        reset_s = max(1, math.ceil(self._counts.get_expiry(key) - time.time()))
        scope["state"]["headers"] += (
            (b"ratelimit-limit", b"%d" % item.amount),
            (b"ratelimit-remaining", b"%d" % max(0, item.amount - count)),
            (b"ratelimit-reset", b"%d" % reset_s),
        )
        if count > item.amount:
            raise RateLimited(
                f"More than {item.amount} requests a minute: try again in {reset_s} s.",
                retry_after_s=reset_s,
                requests_per_minute=item.amount,
            )

    def _body_limit(self, scope: Scope, headers: Headers) -> int:
        file_type = _file_type(scope)
        if file_type:
            limit_bytes = self._settings.max_upload_bytes
        elif scope["method"] == PICTURES[0] and PICTURES[1].fullmatch(scope["path"]):
            limit_bytes = self._settings.max_picture_body_bytes
        else:
            limit_bytes = self._settings.max_body_bytes
        declared_bytes = int(headers.get("content-length", "0"))
        if declared_bytes > limit_bytes:
            raise TooLarge(
                f"The body has {declared_bytes} bytes; {limit_bytes} are allowed here.",
                size_bytes=declared_bytes,
                limit_bytes=limit_bytes,
            )
        if declared_bytes or "transfer-encoding" in headers:
            _check_media_type(headers, wanted=file_type or "application/json")
        return limit_bytes


def _address(scope: Scope) -> str:
    """The peer's own address, or what a trusted proxy says of it."""
    return counted_as(scope["client"][0]) if scope["client"] else "local"


def _file_type(scope: Scope) -> str | None:
    """The media type of the file that a request may bring; None where it may bring none."""
    return next(
        (
            media_type
            for method, path, media_type in UPLOADS
            if method == scope["method"] and path.fullmatch(scope["path"])
        ),
        None,
    )


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
