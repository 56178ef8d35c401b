"""The API's application and its process: `python -P -m api.main`."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import uvicorn
from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool

from api import errors, openapi
from api.envelope import Envelope
from api.feed import Feed
from api.gate import Gate
from api.routes import (
    artifacts,
    comparison,
    datasets,
    evaluations,
    events,
    health,
    jobs,
    logs,
    models,
    webhooks,
)
from api.sources import Events, Logs
from core.datasets.scratch import NEW_UPLOAD_S, clear_abandoned
from core.settings import settings

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Sequence

MAX_HEAD_BYTES = 32 * 1024
SHUTDOWN_S = 10


def create_app() -> FastAPI:
    """The application over the configured database, broker and store; nothing is contacted before it serves."""
    app = FastAPI(
        title="SLAE-GAN training service",
        version=version("slaegan"),
        description="Upload pictures, train a generator, watch its FID curve, download it.",
        openapi_url="/openapi.json",
        docs_url="/docs",
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        lifespan=_lifespan,
    )
    every = (datasets, jobs, comparison, evaluations, events, logs, artifacts, webhooks, models, health)
    for routes in every:
        app.include_router(routes.router)
    errors.install(app)
    app.openapi = lambda: openapi.describe(app)  # type: ignore[method-assign]  # FastAPI's documented way
    pace = {"poll_s": settings().stream_poll_s, "heartbeat_s": settings().stream_heartbeat_s}
    app.state.feed = Feed(Events(), **pace)
    app.state.log_feed = Feed(Logs(), **pace)
    app.state.readiness = health.Readiness()
    app.add_middleware(Gate, settings=settings())
    app.add_middleware(Envelope)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    await run_in_threadpool(clear_abandoned)
    clearing = asyncio.create_task(_clear_uploads())
    try:
        async with app.state.feed.running(), app.state.log_feed.running():
            yield
    finally:
        clearing.cancel()
        await asyncio.wait([clearing])


async def _clear_uploads() -> None:
    """Again and again: the garbage collection may run on another machine."""
    while True:
        await asyncio.sleep(settings().garbage_every_s)
        await run_in_threadpool(clear_abandoned, older_than_s=NEW_UPLOAD_S)


class _Server(uvicorn.Server):
    """Ends the event streams first: uvicorn would wait for them until its patience is over."""

    def __init__(self, config: uvicorn.Config, *, feeds: Sequence[Feed[Any]]) -> None:
        super().__init__(config)
        self._feeds = feeds

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for feed in self._feeds:
            feed.close()
        await super().shutdown(sockets)


def serve(app: FastAPI, **options: Any) -> uvicorn.Server:
    """A server for the application, not yet running.

    Args:
        app: of `create_app`.
        options: for uvicorn, over the settings'.
    """
    chosen: dict[str, Any] = {
        "host": settings().host,
        "port": settings().port,
        "http": "h11",
        "ws": "none",
        "h11_max_incomplete_event_size": MAX_HEAD_BYTES,
        "timeout_graceful_shutdown": SHUTDOWN_S,
        "proxy_headers": False,
        "server_header": False,
        "access_log": False,
        "log_config": None,
    }
    return _Server(uvicorn.Config(app, **chosen | options), feeds=(app.state.feed, app.state.log_feed))


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    serve(create_app()).run()


if __name__ == "__main__":
    main()
