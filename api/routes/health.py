"""Liveness and readiness, for those who run the service; no key is needed."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Literal

import anyio.to_thread
import redis
from fastapi import APIRouter, Request
from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from core.db import sessions
from core.errors import (
    BrokerUnavailable,
    DatabaseUnavailable,
    InfrastructureError,
    SlaeganError,
    StoreUnavailable,
)
from core.settings import settings
from core.storage import store

if TYPE_CHECKING:
    from collections.abc import Callable

router = APIRouter(tags=["health"])

TIMEOUT_S = 3.0
FRESH_S = 1.0


class Healthy(BaseModel):
    status: Literal["ok"] = "ok"


class Readiness:
    """The last answer, kept for a second: the probe needs no key, and must not keep the service busy."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._checked_at = -FRESH_S
        self._errors: list[SlaeganError] = []

    async def errors(self) -> list[SlaeganError]:
        async with self._lock:
            if time.monotonic() - self._checked_at >= FRESH_S:
                found = await asyncio.gather(
                    _outcome(_check_database, DatabaseUnavailable),
                    _outcome(_check_broker, BrokerUnavailable),
                    _outcome(_check_store, StoreUnavailable),
                )
                self._errors = [error for error in found if error is not None]
                self._checked_at = time.monotonic()
            return self._errors


@router.get("/healthz", summary="The process answers")
async def healthz() -> Healthy:
    return Healthy()


@router.get("/readyz", summary="Database, broker and store answer, too")
async def readyz(request: Request) -> Healthy:
    readiness: Readiness = request.app.state.readiness
    errors = await readiness.errors()
    if errors:
        failing = {error.code: error.message for error in errors}
        raise type(errors[0])(" ".join(failing.values()), failing=sorted(failing))
    return Healthy()


async def _outcome(check: Callable[[], None], late: type[InfrastructureError]) -> SlaeganError | None:
    try:
        with anyio.fail_after(TIMEOUT_S):
            await anyio.to_thread.run_sync(check, abandon_on_cancel=True)
    except TimeoutError:
        return late(f"No answer came within {TIMEOUT_S:.0f} s.")
    except SlaeganError as error:
        return error
    return None


def _check_database() -> None:
    try:
        with sessions()() as session:
            session.execute(text("select 1"))
    except SQLAlchemyError as error:
        raise DatabaseUnavailable("The database does not answer.") from error


def _check_broker() -> None:
    try:
        with redis.Redis.from_url(
            settings().broker_url, socket_timeout=2, socket_connect_timeout=2
        ) as client:
            client.ping()
    except (redis.RedisError, OSError) as error:
        raise BrokerUnavailable("The broker does not answer.") from error


def _check_store() -> None:
    store().check()
