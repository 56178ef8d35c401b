"""What proxies in front of the service say of a request: believed from configured networks only."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, cast

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

if TYPE_CHECKING:
    from collections.abc import Sequence
    from ipaddress import IPv4Network, IPv6Network

    from starlette.types import ASGIApp, Receive, Scope, Send
    from uvicorn._types import ASGI3Application


# What would write into our traces and logs. A client's own would let it join its requests to another's trace.
_TRACING = frozenset({b"traceparent", b"tracestate", b"baggage", b"x-request-id"})


class Strangers:
    """ASGI middleware around the whole application: headers of tracing count only from trusted peers.

    The framework reads them before any middleware of the application runs.

    Args:
        app: what lies inside.
        networks: of the proxies.
    """

    def __init__(self, app: ASGIApp, *, networks: Sequence[IPv4Network | IPv6Network]) -> None:
        self._app = app
        self._networks = tuple(networks)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not _is_trusted(scope["client"], self._networks):
            headers = [header for header in scope["headers"] if header[0] not in _TRACING]
            scope = {**scope, "headers": headers}
        await self._app(scope, receive, send)


class Proxies:
    """ASGI middleware: X-Forwarded-For, -Proto and -Host of trusted peers replace client, scheme and Host.

    uvicorn's own takes the right-most address that is no trusted proxy's, which is the one that a client cannot forge.

    Args:
        app: what lies inside.
        networks: of the proxies.
    """

    def __init__(self, app: ASGIApp, *, networks: Sequence[IPv4Network | IPv6Network]) -> None:
        self._app = app
        self._networks = tuple(networks)
        trusted = [str(network) for network in networks]
        self._forwarded = cast(
            "ASGIApp", ProxyHeadersMiddleware(cast("ASGI3Application", app), trusted_hosts=trusted)
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _is_trusted(scope["client"], self._networks):
            await self._app(scope, receive, send)
            return
        hosts = [value for name, value in scope["headers"] if name == b"x-forwarded-host"]
        if hosts:
            headers = [header for header in scope["headers"] if header[0] != b"host"]
            # The nearest proxy's word comes last.
            scope = {**scope, "headers": [*headers, (b"host", hosts[-1].rpartition(b",")[2].strip())]}
        await self._forwarded(scope, receive, send)


def _is_trusted(client: tuple[str, int] | None, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    if client is None or not networks:
        return False
    address = ipaddress.ip_address(client[0])
    return any(address in network for network in networks)
