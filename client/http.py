"""The Python client of the REST API, version 1: sync and async. Errors are raised as the classes of core.errors.

Every request is written once (client.datasets, client.jobs, client.artifacts, client.generations, client.account); what
a sync and an async client do apart is in client.transport.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from client import connection
from client.account import Account
from client.artifacts import Artifacts
from client.bound import AsyncDataset, AsyncJob, Dataset, Job
from client.datasets import Datasets
from client.generations import Generations
from client.jobs import Jobs
from client.operation import Async, Sync
from client.retries import RETRIES
from client.transport import AsyncTransport, SyncTransport
from core.schemas.datasets import DatasetOut
from core.schemas.jobs import JobOut

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    import httpx

    from client.flow import Flow, Stream


class Operations(Datasets, Jobs, Artifacts, Generations, Account):
    """All that can be asked of a service, sync or async."""


class SlaeGan(Operations, Sync):
    """A connection to one service with one API key; close it, or use it in a `with` block.

    Every method raises InfrastructureError when the service cannot be reached, and the error that the service
    names (NotFound, Conflict …) when it refuses. A request is sent again after a lost connection, and when the service
    asks for it (429 with Retry-After, 503), under one Idempotency-Key.

    Args:
        url: such as http://127.0.0.1:8000. By default SLAEGAN_URL, or what `slaegan up` left.
        key: an API key. By default SLAEGAN_API_KEY, or what `slaegan up` left.
        data: the data folder of a stack, which tells both. By default SLAEGAN_DATA, or that of the newest stack.
        timeout_s: how long the service may be silent.
        retries: how often a request is sent again.

    Raises:
        Unauthenticated: no address or no key is given or found.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        data: Path | None = None,
        timeout_s: float = 60,
        retries: int = RETRIES,
    ) -> None:
        found = connection.known(url=url, key=key, data=data)
        self._transport = SyncTransport(found.url, found.key, timeout_s=timeout_s, retries=retries)

    def __repr__(self) -> str:
        return f"SlaeGan({str(self.base_url)!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._transport.close()

    @property
    def base_url(self) -> httpx.URL:
        """Where the service is."""
        return self._transport.base_url

    def carry_out(self, flow: Flow[Any]) -> Any:
        return self._bound(self._transport.run(flow))

    def go_through(self, stream: Stream[Any]) -> Iterator[Any]:
        return map(self._bound, self._transport.iterate(stream))

    def _bound(self, value: Any) -> Any:
        match value:
            case JobOut():
                return Job.of(value, self)
            case DatasetOut():
                return Dataset.of(value, self)
        return value


class AsyncSlaeGan(Operations, Async):
    """As SlaeGan, with coroutines and async iterators; use it in an `async with` block, or `await` its `close()`."""

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        data: Path | None = None,
        timeout_s: float = 60,
        retries: int = RETRIES,
    ) -> None:
        found = connection.known(url=url, key=key, data=data)
        self._transport = AsyncTransport(found.url, found.key, timeout_s=timeout_s, retries=retries)

    def __repr__(self) -> str:
        return f"AsyncSlaeGan({str(self.base_url)!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._transport.close()

    @property
    def base_url(self) -> httpx.URL:
        """Where the service is."""
        return self._transport.base_url

    async def carry_out(self, flow: Flow[Any]) -> Any:
        return self._bound(await self._transport.run(flow))

    async def go_through(self, stream: Stream[Any]) -> AsyncIterator[Any]:
        async for value in self._transport.iterate(stream):
            yield self._bound(value)

    def _bound(self, value: Any) -> Any:
        match value:
            case JobOut():
                return AsyncJob.of(value, self)
            case DatasetOut():
                return AsyncDataset.of(value, self)
        return value
