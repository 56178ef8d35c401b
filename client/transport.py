"""The two hands that carry out flows: one sync, one async. All that they have in common is above them."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, ExitStack, aclosing, closing
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

import httpx

from client.flow import Ask, Flow, Item, Once, Open, Opened, Pause, Read, Step, Stream, Work, as_stream
from client.retries import RETRIES, answered
from core.errors import InfrastructureError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

T = TypeVar("T")
_CONNECT_S = 5


def unreachable(base_url: httpx.URL, error: httpx.TransportError) -> InfrastructureError:
    """The error of a service that does not answer."""
    return InfrastructureError(
        f"The service at {base_url} cannot be reached ({error or type(error).__name__}): does "
        "`slaegan up` run, and is the address right?"
    )


class Transport:
    """What both know: where the service is, and how patient to be with it.

    Args:
        url: such as http://127.0.0.1:8000; empty where requests name the whole address.
        key: an API key; None where strangers are asked.
        timeout_s: how long the service may be silent.
        retries: how often a request is sent again.
    """

    def __init__(self, url: str, key: str | None, *, timeout_s: float, retries: int) -> None:
        self.base_url = httpx.URL(url.rstrip("/"))
        self.retries = retries
        self._options: dict[str, Any] = {
            "base_url": url,
            "headers": {} if key is None else {"Authorization": f"Bearer {key}"},
            "timeout": httpx.Timeout(timeout_s, connect=min(timeout_s, _CONNECT_S)),
        }


class SyncTransport(Transport):
    """Carries out flows while the caller waits."""

    def __init__(
        self, url: str = "", key: str | None = None, *, timeout_s: float = 60, retries: int = RETRIES
    ) -> None:
        super().__init__(url, key, timeout_s=timeout_s, retries=retries)
        self.http = httpx.Client(**self._options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self.http.close()

    def run(self, flow: Flow[T]) -> T:
        """What a flow returns."""
        with closing(self.iterate(as_stream(flow))) as only:
            return next(only)

    def iterate(self, stream: Stream[T]) -> Generator[T]:
        """The items of a stream."""
        with closing(stream), ExitStack() as opened:
            go_on = partial(next, stream)
            while True:
                try:
                    step = go_on()
                except StopIteration:
                    return
                except httpx.TransportError as error:
                    raise unreachable(self.base_url, error) from error
                go_on = partial(next, stream)
                if isinstance(step, Item):
                    yield step.value
                    continue
                try:
                    go_on = partial(stream.send, self._answer(step, opened))
                except Exception as error:  # noqa: BLE001  # it goes on into the stream
                    go_on = partial(stream.throw, error)

    def _answer(self, step: Step, opened: ExitStack) -> Any:
        match step:
            case Ask():
                return self.run(answered(step, retries=self.retries))
            case Open():
                return self._open(step, opened)
            case Once():
                return self.http.request(step.method, step.path, **step.options)
            case Read():
                return next(step.opened.pieces, None)
            case Pause():
                return time.sleep(step.seconds)
            case Work():
                return step.function()

    def _open(self, step: Open, opened: ExitStack) -> Opened:
        request = self.http.build_request(step.method, step.path, **step.options)
        response = self.http.send(request, stream=True, follow_redirects=True)
        opened.callback(response.close)
        if not response.is_success:
            response.read()
            return Opened(response)
        return Opened(response, response.iter_lines() if step.by == "lines" else response.iter_bytes())


class AsyncTransport(Transport):
    """Carries out flows on an event loop; as SyncTransport."""

    def __init__(
        self, url: str = "", key: str | None = None, *, timeout_s: float = 60, retries: int = RETRIES
    ) -> None:
        super().__init__(url, key, timeout_s=timeout_s, retries=retries)
        self.http = httpx.AsyncClient(**self._options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self.http.aclose()

    async def run(self, flow: Flow[T]) -> T:
        """What a flow returns."""
        async with aclosing(self.iterate(as_stream(flow))) as only:
            return await anext(only)

    async def iterate(self, stream: Stream[T]) -> AsyncGenerator[T]:
        """The items of a stream."""
        with closing(stream):
            async with AsyncExitStack() as opened:
                go_on = partial(next, stream)
                while True:
                    try:
                        step = go_on()
                    except StopIteration:
                        return
                    except httpx.TransportError as error:
                        raise unreachable(self.base_url, error) from error
                    go_on = partial(next, stream)
                    if isinstance(step, Item):
                        yield step.value
                        continue
                    try:
                        go_on = partial(stream.send, await self._answer(step, opened))
                    except Exception as error:  # noqa: BLE001  # it goes on into the stream
                        go_on = partial(stream.throw, error)

    async def _answer(self, step: Step, opened: AsyncExitStack) -> Any:
        match step:
            case Ask():
                return await self.run(answered(step, retries=self.retries))
            case Open():
                return await self._open(step, opened)
            case Once():
                return await self.http.request(step.method, step.path, **step.options)
            case Read():
                return await anext(step.opened.pieces, None)
            case Pause():
                return await asyncio.sleep(step.seconds)
            case Work():
                return await asyncio.to_thread(step.function)

    async def _open(self, step: Open, opened: AsyncExitStack) -> Opened:
        request = self.http.build_request(step.method, step.path, **step.options)
        response = await self.http.send(request, stream=True, follow_redirects=True)
        opened.push_async_callback(response.aclose)
        if not response.is_success:
            await response.aread()
            return Opened(response)
        return Opened(response, response.aiter_lines() if step.by == "lines" else response.aiter_bytes())
