"""The address of a stack's API."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from core.errors import StackFailed


@dataclass(frozen=True)
class Place:
    """Where the API listens."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """The address for a client on this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104  # no binding here
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    def require_free(self) -> None:
        """Raise StackFailed when the port cannot be had."""
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                self.host, self.port, type=socket.SOCK_STREAM
            )[0]
            with socket.socket(family, kind, protocol) as probe:
                # As servers do: a port whose last connections linger is free.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
        except OSError as error:
            raise StackFailed(
                f"Port {self.port} on {self.host} cannot be used ({error.strerror or error}): "
                "choose another with --port, or stop what listens there."
            ) from error
