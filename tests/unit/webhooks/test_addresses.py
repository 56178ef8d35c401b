from __future__ import annotations

import ipaddress
import socket
from typing import Any

import anyio
import pytest

from core.errors import InvalidRequest
from core.webhooks.addresses import check_url, is_public, resolve

PRIVATE = [
    "http://127.0.0.1/hook",
    "http://127.0.0.1:8000",
    "https://10.0.0.1/",
    "http://169.254.169.254/latest/meta-data",
    "http://192.168.1.1/",
    "http://100.64.0.1/",
    "http://0.0.0.0/",
    "http://224.0.0.1/",
    "http://[::1]/",
    "http://[::]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:10.0.0.1]/",
    "http://[64:ff9b::a00:1]/",
    "http://[2002:7f00:1::]/",
    "http://[fe80::1]/",
    "http://[fc00::1]/",
    "http://[ff0e::1]/",
    "http://localhost/",
    "http://LocalHost.:80/",
    "http://api.localhost/",
    "http://printer.local/",
]
MALFORMED = [
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0x7f.1/",
    "http://0177.0.0.1/",
    "http://017700000001/",
    "http://127.1/",
    "http://example.com.0x7f/",
    "http://%31%32%37.0.0.1/",
    "http://[fe80::1%25eth0]/",
    "ftp://example.com/",
    "file:///etc/passwd",
    "//example.com/",
    "example.com/hook",
    "http:///hook",
    "http://user:secret@example.com/",
    "http://user@example.com/",
    "http://example.com/#part",
    "http://example.com/#",
    "http://exam ple.com/",
    "http://example.com\\@10.0.0.1/",
    "http://example.com/\r\nHost: other",
    "http://example.com:99999999/",
    "http://-.example.com/",
    "",
]
FINE = [
    "https://example.com/hooks/slaegan?key=1",
    "http://example.com:8080",
    "https://xn--r8jz45g.jp/",
    "https://例え.jp/hook",
    "https://8.8.8.8/",
    "https://[2606:4700::1111]:8443/hook",
    "https://[::ffff:8.8.8.8]/",
    "https://a_b.example.com./",
]


@pytest.mark.parametrize("url", PRIVATE)
def test_private_hosts_are_refused_unless_they_are_allowed(url: str) -> None:
    with pytest.raises(InvalidRequest, match="webhook"):
        check_url(url, private=False)
    check_url(url, private=True)


@pytest.mark.parametrize("url", MALFORMED)
def test_what_needs_interpretation_is_refused_always(url: str) -> None:
    for private in (False, True):
        with pytest.raises(InvalidRequest, match="webhook"):
            check_url(url, private=private)


@pytest.mark.parametrize("url", FINE)
def test_public_hosts_are_taken(url: str) -> None:
    check_url(url, private=False)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("64:ff9b::808:808", True),
        ("2002:808:808::", True),
        ("2001:0:7f00:1::", False),
        ("::808:808", False),
        ("2001:db8::1", False),
        ("240.0.0.1", False),
    ],
)
def test_addresses_within_addresses_count(address: str, public: bool) -> None:  # noqa: FBT001  # a column
    assert is_public(ipaddress.ip_address(address)) is public


def answering(*addresses: str) -> Any:
    def getaddrinfo(host: str, port: object, **_: object) -> list[Any]:
        assert (host, port) == ("hooks.example", None)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]

    return getaddrinfo


def resolved(host: str, *, private: bool = False) -> str:
    async def ask() -> str:
        return await resolve(host, private=private, threads=anyio.CapacityLimiter(1))

    return anyio.run(ask)


def test_all_addresses_of_a_name_must_be_public(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", answering("8.8.8.8", "8.8.4.4"))
    assert resolved("hooks.example") == "8.8.8.8"
    monkeypatch.setattr(socket, "getaddrinfo", answering("8.8.8.8", "10.1.2.3"))
    with pytest.raises(InvalidRequest) as refused:
        resolved("hooks.example")
    assert "10.1.2.3" not in refused.value.message, "where a name leads to within the network is not told"
    assert resolved("hooks.example", private=True) == "8.8.8.8"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1", "2130706433", "0x7f.1", "0177.0.0.1"])
def test_every_way_to_write_this_machine_is_known_when_it_is_looked_up(host: str) -> None:
    with pytest.raises(InvalidRequest, match="not public"):
        resolved(host)
