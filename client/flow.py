"""What the client does, said without doing it (sans-io): flows, which a sync and an async transport carry out alike.

A flow is a generator. It yields steps, and is sent what came of each: the answer to a request, the next piece of a
body. So a sequence of requests, with its retries and its files, is written once; client.transport has the two hands.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from client.problems import stranger
from core.schemas.pages import Page

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")
Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Once:
    """A request, sent once; its answer is an httpx.Response that was read whole, whatever its status.

    Args:
        options: as httpx's `build_request` takes them: params, json, content, files, headers, timeout.
    """

    method: str
    path: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Ask(Once):
    """A request, sent again where that may help (client.retries); a refusal is raised as the service meant it.

    Args:
        keyed: whether the service takes an Idempotency-Key with it, if it is a POST.
    """

    keyed: bool = True


@dataclass(frozen=True)
class Open(Once):
    """A request whose answer is read in pieces, by Read; that of a refusal is read whole. It follows redirects.

    Args:
        by: bytes as they come, or lines without their ends.
    """

    by: Literal["bytes", "lines"] = "bytes"


@dataclass(frozen=True)
class Opened:
    """An answer whose body is still to come."""

    response: httpx.Response
    pieces: Any = None


@dataclass(frozen=True)
class Read:
    """The next piece of a body, None at its end."""

    opened: Opened


@dataclass(frozen=True)
class Pause:
    """Wait for so many seconds."""

    seconds: float


@dataclass(frozen=True)
class Work:
    """Something that takes a while without the network, such as hashing a file: an event loop goes on meanwhile."""

    function: Callable[[], Any]


@dataclass(frozen=True)
class Item(Generic[T]):
    """One thing for whoever iterates."""

    value: T


Step = Once | Open | Read | Pause | Work
Flow = Generator[Step, Any, T]
Stream = Generator[Step | Item[T], Any, None]


def as_stream(flow: Flow[T]) -> Stream[T]:
    """A stream of one item: what a flow returns."""
    yield Item((yield from flow))


def fetch(model: type[Model], method: str, path: str, *, keyed: bool = True, **options: Any) -> Flow[Model]:
    """Ask, and read the answer as a model.

    Raises:
        SlaeganError: of the class that the service named.
        InfrastructureError: the answer is not one of this service's.
    """
    response: httpx.Response = yield Ask(method, path, given(options), keyed=keyed)
    try:
        return model.model_validate_json(response.content)
    except ValidationError:
        raise stranger(response) from None


def do(method: str, path: str) -> Flow[None]:
    """Ask, and expect no answer but that it was done."""
    yield Ask(method, path)


def pages(item: type[Model], path: str, **query: Any) -> Stream[Model]:
    """The items of all pages of a list; a page is asked for when the one before has been gone through."""
    params = given(query)
    while True:
        page = yield from _page(item, path, params)
        yield from map(Item, page.items)
        if page.next_cursor is None:
            return
        params["cursor"] = page.next_cursor


def listed(item: type[Model], path: str, **query: Any) -> Flow[list[Model]]:
    """The items of all pages of a list, at once."""
    params = given(query)
    found: list[Model] = []
    while True:
        page = yield from _page(item, path, params)
        found += page.items
        if page.next_cursor is None:
            return found
        params["cursor"] = page.next_cursor


def _page(item: type[Model], path: str, params: Mapping[str, Any]) -> Flow[Page[Model]]:
    return (yield from fetch(Page[item], "GET", path, params=params))  # type: ignore[valid-type]  # a class at run time


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that are set."""
    return {name: value for name, value in options.items() if value is not None}
