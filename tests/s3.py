"""S3 for tests: moto's server, which checks no signatures, and a network in front of it that fails on demand."""

from __future__ import annotations

import http.client
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import TYPE_CHECKING
from uuid import uuid4

import boto3
import pytest
from moto.server import ThreadedMotoServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

AWS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "the-secret-of-the-test",
    "AWS_REGION": "us-east-1",
}
# What moto needs to be told of a bucket, beside where it is.
_BOTO = {
    "region_name": "us-east-1",
    "aws_access_key_id": AWS["AWS_ACCESS_KEY_ID"],
    "aws_secret_access_key": AWS["AWS_SECRET_ACCESS_KEY"],
}


@pytest.fixture(scope="module")
def s3_endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@dataclass(frozen=True)
class Bucket:
    """A new bucket behind an endpoint, as boto3 sees it."""

    endpoint: str
    name: str = field(default_factory=lambda: uuid4().hex)

    def __post_init__(self) -> None:
        self._s3.create_bucket(Bucket=self.name)

    @property
    def _s3(self) -> boto3.client:
        return boto3.client("s3", endpoint_url=self.endpoint, **_BOTO)

    @property
    def url(self) -> str:
        """A store's, with a prefix."""
        return f"s3://{self.name}/some/prefix"

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to reach it."""
        return AWS | {"AWS_ENDPOINT": self.endpoint}

    def keys(self) -> list[str]:
        """Everything in it, whatever the prefix."""
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self.name)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]

    def head(self, key: str) -> dict[str, str]:
        """The headers of an object."""
        answer = self._s3.head_object(Bucket=self.name, Key=key)["ResponseMetadata"]["HTTPHeaders"]
        return {str(name).lower(): str(value) for name, value in answer.items()}

    def unfinished(self) -> list[str]:
        """Keys of uploads in parts that have not ended."""
        uploads = self._s3.list_multipart_uploads(Bucket=self.name).get("Uploads", [])
        return [upload["Key"] for upload in uploads]


@dataclass(frozen=True)
class Seen:
    """A request that came through the network."""

    method: str
    path: str
    headers: dict[str, str]


class Network(ThreadingHTTPServer):
    """Hands every request on to an S3, unless `fault` says what happens to it instead.

    Args:
        endpoint: of the S3.
        fault: given a request and its number from 1 on: None, "503", "cut" (no answer), or "half" (half an answer).
    """

    daemon_threads = True

    def __init__(self, endpoint: str, *, fault: Callable[[Seen, int], str | None]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = endpoint.removeprefix("http://")
        self.fault = fault
        self.seen: list[Seen] = []
        self.numbers = count(1)

    @property
    def endpoint(self) -> str:
        """Where a store finds it."""
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def network(
    endpoint: str, *, fault: Callable[[Seen, int], str | None] = lambda _seen, _number: None
) -> Iterator[Network]:
    """Run a network in front of an S3."""
    with Network(endpoint, fault=fault) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        try:
            yield running
        finally:
            running.shutdown()
            thread.join()


def every_third(_seen: Seen, number: int) -> str | None:
    """Every third request fails, one way after the other."""
    return None if number % 3 else ("503", "cut", "half")[number // 3 % 3]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Network

    def _handle(self) -> None:
        seen = Seen(self.command, self.path, {name.lower(): value for name, value in self.headers.items()})
        body = self.rfile.read(int(seen.headers.get("content-length", "0")))
        self.server.seen.append(seen)
        match self.server.fault(seen, next(self.server.numbers)):
            case "503":
                self._answer(503, {}, b"<Error><Code>SlowDown</Code><Message>Please wait.</Message></Error>")
            case "cut":
                self.close_connection = True
            case "half":
                status, headers, answer = self._forward(body)
                self._answer(status, headers, answer, sent=len(answer) // 2)
                self.close_connection = True
            case _:
                self._answer(*self._forward(body))

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle

    def _forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.server.upstream, timeout=30)
        try:
            connection.request(self.command, self.path, body=body, headers=dict(self.headers.items()))
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def _answer(self, status: int, headers: dict[str, str], body: bytes, *, sent: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in ("connection", "date", "server", "content-length", "transfer-encoding"):
                self.send_header(name, value)
        length = headers.get("content-length", "0") if self.command == "HEAD" else str(len(body))
        self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(body[:sent])

    def log_message(self, *_: object) -> None:
        pass
