"""Several who write to one resumable upload, breaks, kills and other machines."""

from __future__ import annotations

import hashlib
import socket
import time
from typing import TYPE_CHECKING

from core.uploads import appending, files
from tests.integration.api.conftest import problem
from tests.integration.api.tus import MIB, VERSION, b64, begin, here, offset, owner, send
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.integration.api.conftest import Api, Person

    Make = Callable[..., AbstractContextManager[Api]]

__all__ = ["owner"]  # a fixture


def raw_patch(api: Api, person: Person, url: str, *, at: int, length: int) -> socket.socket:
    """A request whose body is still to be sent."""
    assert api.url.port is not None
    connection = socket.create_connection((api.url.host, api.url.port), timeout=20)
    connection.sendall(
        f"PATCH {url} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {person.headers['Authorization']}\r\n"
        f"Tus-Resumable: 1.0.0\r\nContent-Type: application/offset+octet-stream\r\nUpload-Offset: {at}\r\n"
        f"Content-Length: {length}\r\n\r\n".encode()
    )
    return connection


def test_a_second_writer_is_refused_at_once_and_a_break_keeps_what_came(api: Api, owner: Person) -> None:
    data = bytes(range(256)) * (6 * MIB // 256)
    url = begin(owner, len(data))
    connection = raw_patch(api, owner, url, at=0, length=len(data))
    with connection:
        connection.sendall(data[: 5 * MIB + 77])
        # What a few MiB were synced of is told while the request goes on.
        wait_until(lambda: offset(owner, url) >= appending.SYNC_BYTES)
        counted = offset(owner, url)
        began = time.monotonic()
        for answer in (send(owner, url, b"x", offset=counted), owner.delete(url, headers=VERSION)):
            problem(answer, 423, "locked")
        problem(owner.post(f"{url}/dataset"), 409, "conflict")
        assert time.monotonic() - began < 5
    wait_until(lambda: offset(owner, url) == 5 * MIB + 77)
    wait_until(lambda: send(owner, url, data[5 * MIB + 77 :], offset=5 * MIB + 77).status_code == 204)
    assert here() == [data]


def test_a_break_in_what_has_a_checksum_keeps_nothing_of_it(api: Api, owner: Person) -> None:
    url = begin(owner, 2 * MIB)
    digest = f"sha256 {b64(hashlib.sha256(bytes(2 * MIB)).digest())}"
    connection = raw_patch(api, owner, url, at=0, length=2 * MIB)
    connection.close()
    wait_until(lambda: send(owner, url, b"0", offset=0).status_code == 204)
    answer = send(owner, url, bytes(MIB), offset=1, **{"Upload-Checksum": digest})
    problem(answer, 460, "checksum_mismatch")
    assert (offset(owner, url), here()) == (1, [b"0"])


def test_what_lies_beyond_the_count_is_cut_off(owner: Person) -> None:
    """As it is after a kill between writing and counting."""
    url = begin(owner, 8)
    send(owner, url, b"0123", offset=0)
    path = next(files.home().glob("*"))
    with path.open("ab") as file:
        file.write(b"garbage that is longer than the upload")
    assert offset(owner, url) == 4
    assert send(owner, url, b"45", offset=4).status_code == 204
    assert here() == [b"012345"]


def test_bytes_that_are_on_another_machine(owner: Person) -> None:
    url = begin(owner, 4)
    send(owner, url, b"0123", offset=0)
    next(files.home().glob("*")).unlink()
    assert owner.head(url, headers=VERSION).status_code == 404
    for answer in (owner.get(url), send(owner, url, b"", offset=4), owner.post(f"{url}/dataset")):
        assert "this machine" in problem(answer, 404, "not_found")["detail"]
