"""A method that is written once, as a flow, and is sync on a sync client and async on an async one.

The descriptors below give it the type that belongs to its instance, so that editors and mypy know
`client.job(id)` as a Job, and `await asynchronous.job(id)` as an AsyncJob.
"""

from __future__ import annotations

from functools import wraps
from inspect import signature
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
    from uuid import UUID

    from client.bound import AsyncDataset, AsyncJob, Dataset, Job
    from client.flow import Flow, Stream
    from core.schemas.datasets import DatasetOut
    from core.schemas.jobs import JobOut

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S")  # what a sync client gives
A = TypeVar("A")  # what an async one gives


class Known(Protocol):
    """What has an id, and belongs to a client."""

    id: UUID

    @property
    def client(self) -> Any:
        """Whose it is."""


class Sync:
    """Whose methods return values."""

    def carry_out(self, flow: Flow[Any]) -> Any:
        """What a flow returns."""
        raise NotImplementedError

    def go_through(self, stream: Stream[Any]) -> Any:
        """The items of a stream."""
        raise NotImplementedError


class Async:
    """Whose methods return coroutines and async iterators."""

    def carry_out(self, flow: Flow[Any]) -> Any:
        """A coroutine of what a flow returns."""
        raise NotImplementedError

    def go_through(self, stream: Stream[Any]) -> Any:
        """The items of a stream, for `async for`."""
        raise NotImplementedError


class Call(Generic[P, S, A]):
    """A method that gives one answer."""

    def __init__(self, flow: Callable[..., Flow[Any]]) -> None:
        self.__doc__ = flow.__doc__
        self.flow = flow

    @overload
    def __get__(self, instance: None, owner: Any) -> Call[P, S, A]: ...
    @overload
    def __get__(self, instance: Sync, owner: Any) -> Callable[P, S]: ...
    @overload
    def __get__(self, instance: Async, owner: Any) -> Callable[P, Coroutine[Any, Any, A]]: ...
    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self
        method = self.flow.__get__(instance)

        @wraps(method)
        def carried_out(*args: Any, **kwargs: Any) -> Any:
            return instance.carry_out(method(*args, **kwargs))

        return carried_out


class Iteration(Generic[P, S, A]):
    """A method that gives one thing after another."""

    def __init__(self, stream: Callable[..., Stream[Any]]) -> None:
        self.__doc__ = stream.__doc__
        self.stream = stream

    @overload
    def __get__(self, instance: None, owner: Any) -> Iteration[P, S, A]: ...
    @overload
    def __get__(self, instance: Sync, owner: Any) -> Callable[P, Iterator[S]]: ...
    @overload
    def __get__(self, instance: Async, owner: Any) -> Callable[P, AsyncIterator[A]]: ...
    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self
        method = self.stream.__get__(instance)

        @wraps(method)
        def gone_through(*args: Any, **kwargs: Any) -> Any:
            return instance.go_through(method(*args, **kwargs))

        return gone_through


def call(flow: Callable[Concatenate[Any, P], Flow[T]]) -> Call[P, T, T]:
    """A method that returns what its flow does."""
    return Call(flow)


def calls_for_job(flow: Callable[Concatenate[Any, P], Flow[JobOut]]) -> Call[P, Job, AsyncJob]:
    """A method that returns a job, with methods of its own."""
    return Call(flow)


def calls_for_dataset(
    flow: Callable[Concatenate[Any, P], Flow[DatasetOut]],
) -> Call[P, Dataset, AsyncDataset]:
    """A method that returns a dataset, with methods of its own."""
    return Call(flow)


def iteration(stream: Callable[Concatenate[Any, P], Stream[T]]) -> Iteration[P, T, T]:
    """A method that gives the items of its stream."""
    return Iteration(stream)


def iterates_jobs(
    stream: Callable[Concatenate[Any, P], Stream[JobOut]],
) -> Iteration[P, Job, AsyncJob]:
    """A method that gives jobs, with methods of their own."""
    return Iteration(stream)


def iterates_datasets(
    stream: Callable[Concatenate[Any, P], Stream[DatasetOut]],
) -> Iteration[P, Dataset, AsyncDataset]:
    """A method that gives datasets, with methods of their own."""
    return Iteration(stream)


def of_itself(method: Call[Concatenate[UUID, P], S, A]) -> Call[P, S, A]:
    """A client's method as one of a thing, whose id it takes by itself."""

    @wraps(method.flow)
    def flow(thing: Known, *args: Any, **kwargs: Any) -> Flow[Any]:
        return method.flow(thing.client, thing.id, *args, **kwargs)

    return Call(_without_id(flow))


def iterates_itself(method: Iteration[Concatenate[UUID, P], S, A]) -> Iteration[P, S, A]:
    """As `of_itself`, of what gives one thing after another."""

    @wraps(method.stream)
    def stream(thing: Known, *args: Any, **kwargs: Any) -> Stream[Any]:
        return method.stream(thing.client, thing.id, *args, **kwargs)

    return Iteration(_without_id(stream))


def _without_id(function: Any) -> Any:
    """With the signature that `help` and editors show: self, then what stands behind the id."""
    shown = signature(function)
    itself, _, *rest = shown.parameters.values()
    function.__signature__ = shown.replace(parameters=[itself, *rest])
    return function
