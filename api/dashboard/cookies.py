"""The cookie of a signed-in browser, and which requests it may speak for."""

from __future__ import annotations

from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Any

from core.errors import Forbidden
from core.keys.browser_sessions import PREFIX

if TYPE_CHECKING:
    from starlette.datastructures import Headers
    from starlette.types import Scope

_NAME = "slaegan_session"
_MAX_TOKEN_LENGTH = 100


def name(scope: Scope) -> str:
    """The cookie's name; over TLS one that browsers take from this very host and over TLS only.

    Args:
        scope: of the request, with the scheme that a trusted proxy has told.
    """
    return f"__Host-{_NAME}" if is_secure(scope) else _NAME


def is_secure(scope: Scope) -> bool:
    """Whether the browser came over TLS."""
    return bool(scope["scheme"] == "https")


def token_of(scope: Scope, headers: Headers) -> str | None:
    """The session's token that a request brings, if it looks like one."""
    try:
        cookies: SimpleCookie = SimpleCookie(headers.get("cookie", ""))
    except CookieError:
        return None
    found = cookies.get(name(scope))
    if found is None or not found.value.startswith(PREFIX) or len(found.value) > _MAX_TOKEN_LENGTH:
        return None
    return found.value


def attributes(scope: Scope) -> dict[str, Any]:
    """What setting and deleting the cookie have in common."""
    return {
        "key": name(scope),
        "path": "/",
        "httponly": True,
        "samesite": "strict",
        "secure": is_secure(scope),
    }


def check_origin(scope: Scope, headers: Headers) -> None:
    """Let a change by cookie come from this service's own pages alone.

    Browsers add cookies by themselves. SameSite=Strict keeps them from requests of other sites; pages of another port
    or of a neighbouring name are of the same site, and those are refused here.

    Raises:
        Forbidden: a page of another origin sent it, or nothing tells which one did.
    """
    site = headers.get("sec-fetch-site")
    origin = headers.get("origin")
    own = f"{scope['scheme']}://{headers.get('host', '')}"
    # Sec-Fetch-Site is sent to https and to localhost only; elsewhere Origin is sent with each change. No page can
    # forge either.
    if site == "same-origin" or (site is None and origin is not None and origin.lower() == own.lower()):
        return
    raise Forbidden(
        f"A signed-in browser changes things from this service's own pages only; this request came from "
        f"{(origin or 'a page that it does not name')[:200]!r}. Programs send a key: `Authorization: Bearer slg_…`."
    )
