"""For Prometheus: not a part of the REST contract, and nothing that a tenant's key opens."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from prometheus_client.exposition import choose_encoder

from api.instruments import Instruments
from api.scrape import PATH, ServiceCollector

router = APIRouter()


@router.get(PATH, include_in_schema=False)
async def scrape(request: Request) -> Response:
    """Text, or OpenMetrics where that is accepted."""
    service: ServiceCollector = request.app.state.service_collector
    instruments: Instruments = request.app.state.instruments
    await service.refresh()
    encode, media_type = choose_encoder(request.headers.get("accept", ""))
    body = await run_in_threadpool(encode, instruments.registry)
    return Response(body, headers={"Content-Type": media_type, "Cache-Control": "no-store"})
