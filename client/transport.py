"""How requests of the client go: connections, pages, streams, and errors as classes of core.errors."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self, TypeVar

import httpx
from pydantic import BaseModel

from client.problems import raise_for_problem
from client.sse import parse
from core.errors import InfrastructureError
from core.schemas.jobs import EventOut, LogOut
from core.schemas.pages import Page

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

Item = TypeVar("Item", bound=BaseModel)
Told = TypeVar("Told", EventOut, LogOut)


class Transport:
    """Connections to one service with one API key, and what becomes of its answers; see `client.http.Client`."""

    def __init__(self, url: str, key: str, *, timeout_s: float = 60) -> None:
        self._http = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {key}"},
            timeout=httpx.Timeout(timeout_s, connect=5),
            transport=httpx.HTTPTransport(retries=2) if _is_local(url) else None,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def _stream(self, what: str, item: type[Told], job_id: UUID, *, after: int) -> Iterator[Told]:
        headers = {"Last-Event-ID": str(after), "Accept": "text/event-stream"}
        with self._request("GET", f"/v1/jobs/{job_id}/{what}/stream", headers=headers) as response:
            for event in parse(response.iter_lines()):
                yield item.model_validate_json(event.data)

    def _pages(self, path: str, item: type[Item], **query: Any) -> Iterator[Item]:
        given = {name: value for name, value in query.items() if value is not None}
        while True:
            page = Page[item].model_validate(self._json("GET", path, params=given))  # type: ignore[valid-type]  # a class at run time
            yield from page.items
            if page.next_cursor is None:
                return
            given["cursor"] = page.next_cursor

    def _json(self, method: str, path: str, **options: Any) -> Any:
        with self._request(method, path, **options) as response:
            response.read()
            return response.json()

    @contextmanager
    def _request(self, method: str, path: str, **options: Any) -> Iterator[httpx.Response]:
        with self._reached(), self._http.stream(method, path, **options) as response:
            raise_for_problem(response)
            yield response

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except httpx.TransportError as error:
            raise InfrastructureError(
                f"The service at {self._http.base_url} cannot be reached ({error or type(error).__name__}): does "
                "`slaegan up` run, and is the address right?"
            ) from error


def _is_local(url: str) -> bool:
    return httpx.URL(url).host in ("127.0.0.1", "localhost", "::1")
