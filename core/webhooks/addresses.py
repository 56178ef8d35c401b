"""Which hosts a webhook may go to. Tenants choose the URLs, so a URL must not reach what only this machine reaches.

What can be told without asking the name service is checked when a job is submitted. The addresses of a name are checked
when it is delivered, and the connection goes to an address that was checked.
"""

from __future__ import annotations

import ipaddress
import re
import socket

import anyio
import anyio.to_thread
import httpx

from core.errors import InvalidRequest

_NAME = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?\.?")
# The last label of a name is never a number: such hosts are other ways to write an IPv4 address (017700000001, 0x7f.1).
_NUMBER = re.compile(r"([0-9]+|0x[0-9a-f]*)\.?")
_LOCAL = (".localhost", ".local", ".internal", ".home.arpa")
_PORTS = 65_536
_UNICAST = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def check_url(url: str, *, private: bool) -> None:
    """Refuse a URL that needs interpretation, or that certainly leads to where webhooks must not go.

    Args:
        url: as a tenant gave it.
        private: whether private addresses, also this machine's own, are allowed.

    Raises:
        InvalidRequest: what is wrong with it.
    """
    _check_form(url)
    host = host_of(url)
    address = _literal(host)
    if address is not None:
        if not private and not is_public(address):
            raise InvalidRequest(
                f"The webhook's host {host} is not a public address: use one that all can reach."
            )
        return
    if not _NAME.fullmatch(host) or _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]):
        raise InvalidRequest(
            f"The webhook's host {host[:100]!r} is neither a name nor an address in its usual form."
        )
    if not private and f".{host.rstrip('.')}".endswith(_LOCAL):
        raise InvalidRequest(
            f"The webhook's host {host} is a name of this machine or network: use a public one."
        )


def _check_form(url: str) -> None:
    """Read by the parser that will also be used to send, so that the two cannot disagree."""
    if not url.isprintable() or " " in url or "\\" in url:
        raise InvalidRequest(
            "The webhook's URL holds spaces, control characters or backslashes: encode them."
        )
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise InvalidRequest(f"The webhook's URL cannot be read: {error}") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise InvalidRequest(
            "The webhook's URL must begin with https:// (or http://) and the name of a host."
        )
    if parsed.port is not None and not 0 < parsed.port < _PORTS:
        raise InvalidRequest(f"The webhook's URL names port {parsed.port}; ports go from 1 to {_PORTS - 1}.")
    if parsed.userinfo:
        raise InvalidRequest(
            "The webhook's URL holds a user name or password, which are not sent: the signature shows who sends."
        )
    if "#" in url:
        raise InvalidRequest("The webhook's URL holds a fragment (#...), which is never sent: leave it out.")


def host_of(url: str) -> str:
    """The host as it is looked up: in lower case, names of other scripts in their ASCII form."""
    return httpx.URL(url).raw_host.decode("ascii").lower()


async def resolve(host: str, *, private: bool, threads: anyio.CapacityLimiter) -> str:
    """The address of a host to connect to.

    Args:
        host: a name or an address.
        private: whether private addresses are allowed.
        threads: how many lookups may run at once; one that takes too long is left behind.

    Raises:
        InvalidRequest: one of its addresses is not public. Which, is not told: it may be a secret of this network.
        OSError: it has none.
    """

    def look_up() -> list[str]:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        return [str(answer[4][0]) for answer in found]

    addresses = await anyio.to_thread.run_sync(look_up, abandon_on_cancel=True, limiter=threads)
    if not private and not all(is_public(ipaddress.ip_address(address)) for address in addresses):
        raise InvalidRequest(f"{host} leads to an address that is not public.")
    return addresses[0]


def is_public(address: Address) -> bool:
    """Whether an address belongs to the Internet at large; addresses within addresses count as well."""
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_global and not address.is_multicast
    if address.ipv4_mapped is not None:
        return is_public(address.ipv4_mapped)
    if address in _NAT64:
        return is_public(ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF))
    inside = [address.sixtofour, *(address.teredo or ())]
    return (
        address in _UNICAST
        and address.is_global
        and address.scope_id is None
        and all(is_public(found) for found in inside if found is not None)
    )


def _literal(host: str) -> Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    # With a zone it would name an interface of this machine.
    return None if "%" in host else address
