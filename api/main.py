"""The API's application and its process: `python -P -m api.main`."""

from __future__ import annotations

import asyncio
import gc
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING

from fastapi import Depends, FastAPI
from fastapi.concurrency import run_in_threadpool
from starlette.middleware.cors import CORSMiddleware

from api import errors, openapi, scrape
from api.binding import await_key
from api.chores import clear_uploads, write_key_uses
from api.deps import known_query
from api.envelope import Envelope
from api.feed import Feed
from api.gate import PROBES, Gate
from api.identities import Identities
from api.instruments import Instruments
from api.listeners import Listeners
from api.proxies import Proxies
from api.routes import (
    artifacts,
    audit,
    comparison,
    datasets,
    docs,
    evaluations,
    events,
    generations,
    health,
    jobs,
    keys,
    logs,
    models,
    monitoring,
    uploads,
    usage,
    webhooks,
)
from api.scrape import ServiceCollector
from api.server import allow_files, serve
from api.shell import CORS, Shell
from api.sources import Events, Logs
from api.tus import Tus
from core import logbook, tracing
from core.datasets.scratch import clear_abandoned
from core.keys.uses import KeyUses
from core.settings import settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_NOT_TRACED = PROBES | {scrape.PATH}


def create_app() -> FastAPI:
    """The application over the configured database, broker and store; nothing is contacted before it serves."""
    app = FastAPI(
        title="SLAE-GAN training service",
        version=version("slaegan"),
        description="Upload pictures, train a generator, watch its FID curve, download it.",
        openapi_url="/openapi.json",
        docs_url=None,  # api.routes.docs
        redoc_url=None,
        redirect_slashes=False,
        dependencies=[Depends(known_query)],
        generate_unique_id_function=lambda route: route.name,
        lifespan=_lifespan,
        telemetry={
            "tracer_provider": tracing.provider(),
            "tracing": tracing.provider() is not None,
            "metrics": False,
            "logs": False,
            "operation_spans": False,
            "auto_configure": False,
            "exclude": lambda scope: scope["path"] in _NOT_TRACED,
        },
    )
    every = (
        *(datasets, uploads, jobs, comparison, evaluations, generations, events, logs, artifacts),
        *(webhooks, models, keys, audit, usage, health, monitoring, docs),
    )
    for routes in every:
        app.include_router(routes.router)
    errors.install(app)
    app.openapi = lambda: openapi.describe(app)  # type: ignore[method-assign]  # FastAPI's documented way
    pace = {"poll_s": settings().stream_poll_s, "heartbeat_s": settings().stream_heartbeat_s}
    app.state.feed = Feed(Events(), **pace)
    app.state.log_feed = Feed(Logs(), **pace)
    app.state.listeners = Listeners(max_streams=settings().max_streams, check_s=settings().stream_key_check_s)
    app.state.key_uses = KeyUses()
    app.state.readiness = health.Readiness()
    instruments = _instruments(app)
    app.state.identities = Identities(settings().key_cache_s)
    app.add_middleware(
        Gate,
        settings=settings(),
        identities=app.state.identities,
        on_refusal=instruments.refused,
    )
    app.add_middleware(Tus)
    if settings().cors_origins:
        app.add_middleware(CORSMiddleware, allow_origins=settings().cors_origins, **CORS)
    app.add_middleware(Shell, settings=settings())
    app.add_middleware(Envelope, instruments=instruments, hsts_s=settings().hsts_s)
    if settings().trusted_proxies:
        app.add_middleware(Proxies, networks=settings().trusted_proxies)
    return app


def _instruments(app: FastAPI) -> Instruments:
    instruments = Instruments(version=app.version, commit=settings().commit)
    instruments.watch_streams(events=app.state.feed.open_streams, logs=app.state.log_feed.open_streams)
    app.state.instruments = instruments
    app.state.service_collector = ServiceCollector(settings())
    instruments.registry.register(app.state.service_collector)
    return instruments


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    await run_in_threadpool(clear_abandoned)
    chores = [
        asyncio.create_task(chore)
        for chore in (clear_uploads(), write_key_uses(app.state.key_uses), app.state.listeners.check_keys())
    ]
    try:
        async with app.state.feed.running(), app.state.log_feed.running():
            yield
    finally:
        for chore in chores:
            chore.cancel()
        await asyncio.wait(chores)
        await run_in_threadpool(tracing.stop)


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    logbook.setup(settings().log_format)
    tracing.setup("slaegan-api")
    allow_files()
    await_key(settings().host)
    app = create_app()
    app.openapi()
    # What lives as long as the process needs no collector: a full collection of it all held every request up, 0.1 s.
    gc.collect()
    gc.freeze()
    serve(app).run()


if __name__ == "__main__":
    main()
