"""Load by HTTP: eight connections, each of which asks again as soon as it has an answer."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import TYPE_CHECKING
from uuid import uuid4

import httpx

from benchmarks.load.figures import Latencies, MeasurementFailed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.load.rig import Rig

CONNECTIONS = 8
# Requests by each connection.
_WARM_UP = 3


def client(rig: Rig, *, connections: int = CONNECTIONS) -> httpx.AsyncClient:
    """A client of the API that keeps so many connections; a request may wait for one as long as it likes."""
    return httpx.AsyncClient(
        base_url=rig.services.url,
        headers=rig.headers,
        limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        timeout=httpx.Timeout(60, pool=None),
        trust_env=False,
    )


def gets(rig: Rig, paths: Iterable[str], *, seconds: float, connections: int = CONNECTIONS) -> Latencies:
    """Ask for pages, again and again in turn, for a while."""
    return asyncio.run(_gets(rig, itertools.cycle(paths), seconds=seconds, connections=connections))


async def _gets(rig: Rig, paths: Iterable[str], *, seconds: float, connections: int) -> Latencies:
    found = Latencies()
    endless = iter(paths)
    async with client(rig, connections=connections) as api:

        async def ask() -> None:
            _check(await api.get(next(endless)), httpx.codes.OK)

        async def ask_again() -> None:
            asked = began
            while asked < began + seconds:
                await ask()
                answered = time.perf_counter()
                found.seconds.append(answered - asked)
                asked = answered

        # The first answers open connections and fill caches.
        for _ in range(_WARM_UP):
            await asyncio.gather(*(ask() for _ in range(connections)))
        began = time.perf_counter()
        await asyncio.gather(*(ask_again() for _ in range(connections)))
        found.wall_s = time.perf_counter() - began
    return found


def submit(rig: Rig, names: Sequence[str], *, connections: int = CONNECTIONS) -> Latencies:
    """Submit a job of each name, as fast as they are taken."""
    return asyncio.run(_submit(rig, names, connections=connections))


async def _submit(rig: Rig, names: Sequence[str], *, connections: int) -> Latencies:
    found = Latencies()
    left = iter(names)
    async with client(rig, connections=connections) as api:

        async def ask_again() -> None:
            for name in left:
                asked = time.perf_counter()
                body = {"dataset_id": str(rig.dataset_id), "name": name}
                once = {"Idempotency-Key": uuid4().hex}
                _check(await api.post("/v1/jobs", json=body, headers=once), httpx.codes.CREATED)
                found.seconds.append(time.perf_counter() - asked)

        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(connections):
                group.create_task(ask_again())
        found.wall_s = time.perf_counter() - began
    return found


def _check(answer: httpx.Response, status: int) -> None:
    if answer.status_code != status:
        asked = f"{answer.request.method} {answer.request.url}"
        raise MeasurementFailed(f"{asked}: {answer.status_code} {answer.text[:500]}")
