"""Whose address it is that sends a request, as far as that can be told."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

# What a provider gives to one customer: within it everybody has as many addresses as they like.
_PREFIX = 64


def counted_as(address: str) -> str:
    """Under which name the requests of an address are counted together.

    Args:
        address: of a peer. What is none, such as the name of a socket, stands for itself.

    Returns:
        An IPv4 address, also of one that is written as IPv6 (::ffff:192.0.2.1); of other IPv6 addresses their /64.
    """
    try:
        parsed: IPv4Address | IPv6Address = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(IPv6Network((int(parsed), _PREFIX), strict=False))
