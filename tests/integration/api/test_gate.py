"""What happens before a route runs: keys, rates, sizes, methods."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from sqlalchemy import event, func, update

from api.connection import MAX_HEAD_BYTES
from core import db, logbook
from core.keys import ApiKey
from tests.integration.api.conftest import CLIENT, new_person, problem
from tests.picture_files import form, pngs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from tests.integration.api.conftest import Api

    Make = Callable[..., AbstractContextManager[Api]]

MIB = 1024 * 1024


def test_keys_that_open_nothing(own_api: Make) -> None:
    with own_api() as api, new_person(api) as person, httpx.Client(base_url=api.url, **CLIENT) as client:
        token = person.headers["Authorization"].removeprefix("Bearer ")
        wrong = [
            "",
            "Bearer",
            f"Basic {token}",
            token,
            f"Bearer {token[:-1]}",
            f"Bearer {token}x",
            "Bearer slg_" + "x" * 43,
            "Bearer slg_\xe9",
            "Bearer " + "slg_" + "x" * 5000,
            "Bearer slg_' OR 1=1 --",
        ]
        for value in wrong:
            headers = {b"Authorization": value.encode("latin-1")}
            problem(client.get("/v1/jobs", headers=headers), 401, "unauthenticated")
        assert client.get("/v1/jobs", headers={"Authorization": f"bearer  {token}"}).status_code == 200
        problem(client.get(f"/v1/jobs?key={token}"), 401, "unauthenticated")


@pytest.mark.parametrize("column", ["revoked_at", "expires_at"])
def test_revoked_and_expired_keys_stop_when_they_are_looked_up_again(column: str, own_api: Make) -> None:
    with own_api(key_cache_s=0.3) as api, new_person(api) as person:
        assert person.get("/v1/jobs").status_code == 200
        with db.sessions().begin() as session:
            session.execute(update(ApiKey).values({column: func.now() - timedelta(seconds=1)}))
        deadline = time.monotonic() + 5
        while (answer := person.get("/v1/jobs")).status_code == 200:
            assert time.monotonic() < deadline, "the key still opens"
        problem(answer, 401, "unauthenticated")


def test_a_key_is_looked_up_once_in_a_while(own_api: Make) -> None:
    lookups = 0

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        nonlocal lookups
        lookups += "FROM api_keys" in statement

    with own_api(key_cache_s=60) as api, new_person(api) as person:
        engine = db.sessions().kw["bind"]
        event.listen(engine, "before_cursor_execute", note)
        assert [person.get("/v1/jobs").status_code for _ in range(10)] == [200] * 10
        event.remove(engine, "before_cursor_execute", note)
    assert lookups == 1


def test_each_key_has_its_rate(own_api: Make) -> None:
    with own_api(requests_per_minute=5) as api, new_person(api) as one, new_person(api) as other:
        answers = [one.get("/v1/models") for _ in range(12)]
        # The window is the clock's minute: it may turn once while the test runs.
        assert sum(answer.status_code == 200 for answer in answers) in range(5, 11)
        limited = next(answer for answer in answers if answer.status_code != 200)
        body = problem(limited, 429, "rate_limited")
        assert 1 <= int(limited.headers["retry-after"]) == body["details"]["retry_after_s"] <= 60
        assert other.get("/v1/models").status_code == 200, "another key has a rate of its own"


def test_who_fails_too_often_is_slowed_down_and_a_good_key_is_not(own_api: Make) -> None:
    with (
        own_api(requests_per_minute=400) as api,
        new_person(api) as person,
        httpx.Client(base_url=api.url, headers={"X-Forwarded-For": "1.2.3.4"}, **CLIENT) as client,
    ):
        codes = [client.get("/v1/jobs").status_code for _ in range(4)]
        # What a client says of its own address buys it no second allowance.
        codes += [
            client.get("/v1/jobs", headers={"X-Forwarded-For": f"1.2.3.{i}"}).status_code for i in range(8)
        ]
        assert set(codes) == {401, 429}
        assert codes.count(401) in range(4, 9)
        assert person.get("/v1/jobs").status_code == 200
        assert {client.get("/healthz").status_code for _ in range(30)} == {200}, "probes are not limited"


def test_far_too_many_guesses_are_not_even_looked_up(own_api: Make) -> None:
    lookups = 0

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        nonlocal lookups
        lookups += "FROM api_keys" in statement

    with (
        own_api(requests_per_minute=200, key_cache_s=60) as api,
        new_person(api) as person,
        new_person(api) as neighbour,
        httpx.Client(base_url=api.url, **CLIENT) as client,
    ):
        assert person.get("/v1/models").status_code == 200
        engine = db.sessions().kw["bind"]
        event.listen(engine, "before_cursor_execute", note)
        guesses = [
            client.get("/v1/models", headers={"Authorization": f"Bearer slg_{i}"}).status_code
            for i in range(19)
        ]
        assert guesses == [401] * 2 + [429] * 17
        assert neighbour.get("/v1/models").status_code == 200, "a key is heard beside the guesses of others"
        before = lookups
        guesses = [
            client.get("/v1/models", headers={"Authorization": f"Bearer slg_{i}"}).status_code
            for i in range(9)
        ]
        event.remove(engine, "before_cursor_execute", note)
        assert (set(guesses), before, lookups) == ({429}, 20, 21)
        assert person.get("/v1/models").status_code == 200, "a key that is known goes on"


def raw(api: Api) -> socket.socket:
    assert api.url.port is not None
    return socket.create_connection((api.url.host, api.url.port), timeout=10)


def answer(connection: socket.socket) -> tuple[int, bytes]:
    data = b""
    while chunk := connection.recv(65536):
        data += chunk
    return int(data.split()[1]), data


HEAD = "POST /v1/datasets HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=line\r\n"


@pytest.mark.parametrize("framing", [f"Content-Length: {100 * MIB}", "Transfer-Encoding: chunked"])
def test_an_unkeyed_upload_is_refused_by_its_head(framing: str, own_api: Make) -> None:
    """The answer comes, and the connection ends, though not one byte of the body was sent."""
    with own_api() as api, raw(api) as connection:
        connection.sendall(f"{HEAD}{framing}\r\n\r\n".encode())
        status, data = answer(connection)
        assert (status, b"connection: close" in data.lower()) == (401, True)
        assert not (api.folder / "data").exists() or api.scratch == []


def test_an_unkeyed_100_mb_upload_writes_nothing(own_api: Make) -> None:
    with own_api() as api:
        sent, body = 0, bytes(MIB)

        def upload() -> Iterator[bytes]:
            nonlocal sent
            for _ in range(100):
                sent += len(body)
                yield body

        headers = {"Content-Type": "multipart/form-data; boundary=line", "Content-Length": str(100 * MIB)}
        response = httpx.post(api.url.join("/v1/datasets"), content=upload(), headers=headers, **CLIENT)
        problem(response, 401, "unauthenticated")
        assert sent < 20 * MIB, "the service went on reading"
        assert [path for path in api.folder.rglob("*") if path.is_file()] == []


def test_an_expected_continue_is_not_given_to_strangers(own_api: Make) -> None:
    with own_api() as api, raw(api) as connection:
        connection.sendall(f"{HEAD}Content-Length: 1000\r\nExpect: 100-continue\r\n\r\n".encode())
        status, data = answer(connection)
        assert (status, b"100 Continue" in data) == (401, False)


def chunks(count: int, *, size: int = 1000) -> Iterator[bytes]:
    for _ in range(count):
        yield b"x" * size


def test_bodies_are_limited_by_route(own_api: Make) -> None:
    with own_api(max_body_bytes=2_000, max_upload_bytes=20_000) as api, new_person(api) as person:
        json_type = {"Content-Type": "application/json"}
        form_type = {"Content-Type": "multipart/form-data; boundary=line"}
        for declared in (person.post("/v1/jobs", content=b"x" * 2_001, headers=json_type),
                         person.post("/v1/datasets", content=b"x" * 20_001, headers=form_type)):  # fmt: skip
            problem(declared, 413, "too_large")
            assert declared.headers["connection"] == "close"
        problem(person.post("/v1/jobs", content=chunks(3), headers=json_type), 413, "too_large")
        problem(person.post("/v1/datasets", content=chunks(21), headers=form_type), 413, "too_large")
        problem(person.post("/v1/jobs", content=chunks(1), headers=json_type), 422, "invalid")
        assert person.post("/v1/datasets", files=form(pngs(4))).status_code == 201
        assert len(api.stored) == 5
        assert api.scratch == []


def test_an_endless_upload_is_cut_off(own_api: Make) -> None:
    with own_api(max_upload_bytes=MIB) as api, new_person(api) as person, raw(api) as connection:
        key = person.headers["Authorization"]
        connection.sendall(f"{HEAD}Authorization: {key}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        part = b'--line\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
        connection.sendall(b"%x\r\n%s\r\n" % (len(part), part))
        sent = 0
        # Reset or broken pipe, as the kernel likes.
        with suppress(OSError):
            while sent < 100 * MIB:
                connection.sendall(b"10000\r\n" + bytes(0x10000) + b"\r\n")
                sent += 0x10000
        assert sent < 100 * MIB, "the service went on reading"
        assert api.scratch == []


def test_a_client_that_leaves_in_the_middle_leaves_nothing(own_api: Make) -> None:
    with own_api() as api, new_person(api) as person:
        with raw(api) as connection:
            key = person.headers["Authorization"]
            connection.sendall(f"{HEAD}Authorization: {key}\r\nContent-Length: 9000000\r\n\r\n".encode())
            connection.sendall(
                b'--line\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\nabc'
            )
            # An answer to another request proves that the upload is under way no longer than this block.
            assert person.get("/v1/jobs").status_code == 200
        for _ in range(200):
            if api.scratch == []:
                break
            assert person.get("/healthz").status_code == 200
        assert (api.scratch, api.stored) == ([], [])


def test_media_types(own_api: Make) -> None:
    with own_api() as api, new_person(api) as person:
        cases: list[dict[str, Any]] = [
            {"content": b"{}", "headers": {"Content-Type": "text/plain"}},
            {"content": b"{}"},
            {"data": {"dataset_id": "x"}},
            {"content": b"{}", "headers": {"Content-Type": "application/json", "Content-Encoding": "gzip"}},
        ]
        for case in cases:
            problem(person.post("/v1/jobs", **case), 415, "unsupported_media_type")
        charset = {"Content-Type": "application/json; charset=utf-8"}
        problem(person.post("/v1/jobs", content=b"{}", headers=charset), 422, "invalid")


def test_methods_and_addresses(own_api: Make) -> None:
    with own_api() as api, new_person(api) as person:
        for method, path, allowed in [
            ("PUT", "/v1/datasets", "GET, HEAD, POST"),
            ("OPTIONS", "/v1/jobs", "GET, HEAD, POST"),
            ("DELETE", "/v1/jobs/00000000-0000-0000-0000-000000000000", "GET, HEAD"),
            ("GET", "/v1/jobs/00000000-0000-0000-0000-000000000000/cancel", "POST"),
        ]:
            response = person.request(method, path)
            problem(response, 405, "method_not_allowed")
            assert response.headers["allow"] == allowed
        for path in ("/v2/jobs", "/v1/jobs/", "/v1", "/.env", "/v1/%00", "/v1/datasets/..%2f.."):
            problem(person.get(path), 404, "not_found")
        for path in ("/v1/jobs", "/healthz", "/openapi.json"):
            got, head = person.get(path), person.head(path)
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers["content-length"] == got.headers["content-length"]


def test_headers_of_every_answer(own_api: Make) -> None:
    with own_api() as api, new_person(api) as person:
        answers = [person.get(path) for path in ("/healthz", "/v1/jobs", "/v1/nope", "/docs")]
        assert len({answer.headers["x-request-id"] for answer in answers}) == 4
        for got in answers:
            assert got.headers["x-content-type-options"] == "nosniff"
            assert "server" not in got.headers


def test_a_head_that_is_too_long_is_refused(own_api: Make) -> None:
    with own_api() as api, raw(api) as connection:
        # Little more than is allowed: what the server had not read when it closed would reset the connection.
        connection.sendall(
            b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * (MAX_HEAD_BYTES + 1_000)
        )
        assert answer(connection)[0] in {400, 431}


@pytest.mark.parametrize("count", [1, 8])
def test_a_long_head_that_comes_at_once_is_refused(count: int, own_api: Make) -> None:
    with own_api() as api, raw(api) as connection:
        headers = b"".join(b"X: " + b"x" * (40_000 // count) + b"\r\n" for _ in range(count))
        connection.sendall(
            b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + headers + b"\r\n"
        )
        status, data = answer(connection)
        assert (status, b'"head_too_large"' in data) == (431, True)


def test_the_log_has_one_line_a_request_that_nobody_can_forge(
    own_api: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="slaegan.api")
    with own_api() as api, new_person(api) as person:
        response = person.get("/v1/jobs/%0Astatus=200?secret=1")
    # The line is written behind the answer; by now the server has stopped.
    lines = map(logbook.TextLines().format, caplog.records)
    [line] = [line for line in lines if response.headers["x-request-id"] in line]
    assert "\n" not in line
    assert "path=/v1/jobs/%0Astatus=200 status=422" in line
    assert "secret" not in line
    assert person.headers["Authorization"].removeprefix("Bearer ") not in caplog.text
