"""Every failure becomes one shape: RFC 9457 `application/problem+json`."""

from __future__ import annotations

import json
import logging
import reprlib
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi.exceptions import RequestValidationError
from sqlalchemy import exc as database
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from api.idempotency import Replay, replay
from api.openapi import PROBLEM_MEDIA_TYPE, allowed_methods
from core.errors import (
    DatabaseUnavailable,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    Overloaded,
    RateLimited,
    RequestError,
    SlaeganError,
    TooLarge,
    TooSlow,
    Unauthenticated,
    UnsupportedMedia,
)
from core.schemas.pages import Problem
from core.schemas.wording import place, wording

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import FastAPI
    from starlette.types import Scope

MAX_LISTED = 100
MAX_SHOWN = 200
_logger = logging.getLogger("slaegan.api")
_EXACT_IN_JSON = 2**53
_BY_STATUS = {
    error.status: error
    for error in (RequestError, NotFound, TooSlow, TooLarge, UnsupportedMedia, InvalidRequest)
}


def problem_response(
    scope: Scope,
    error: SlaeganError,
    *,
    errors: list[dict[str, Any]] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Render an error.

    Args:
        scope: of the request.
        error: one of the tree.
        errors: one entry a wrong value.
        headers: beside those that belong to the error's class.
    """
    problem = Problem(
        type=f"urn:slaegan:error:{error.code}",
        title=error.title,
        status=error.status,
        code=error.code,
        detail=error.message,
        instance=scope["path"],
        request_id=scope["state"]["request_id"],
        errors=errors or [],
        details=error.details,
    )
    # Plain ASCII: what a client sent may hold lone surrogates, which UTF-8 cannot carry.
    body = json.dumps(problem.model_dump(), allow_nan=False)
    return Response(
        body,
        status_code=error.status,
        headers=_headers(error) | dict(headers or {}),
        media_type=PROBLEM_MEDIA_TYPE,
    )


def install(app: FastAPI) -> None:
    """Make an application answer all failures in this shape."""
    app.add_exception_handler(SlaeganError, _on_slaegan_error)
    app.add_exception_handler(Replay, replay)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    app.add_exception_handler(database.DataError, _on_data_error)
    for kind in (database.OperationalError, database.InterfaceError, database.TimeoutError):
        app.add_exception_handler(kind, _on_database_away)


def database_away(error: Exception) -> DatabaseUnavailable:
    """What a client may know of a lost database; the rest goes to the log."""
    _logger.error("the database failed: %s", error)
    return DatabaseUnavailable("The database does not answer; nothing was changed. Try again in a moment.")


def of_http(error: HTTPException) -> RequestError:
    """The error of our tree that an HTTPException stands for."""
    return _BY_STATUS.get(error.status_code, RequestError)(error.detail)


def _headers(error: SlaeganError) -> dict[str, str]:
    match error:
        case Unauthenticated():
            return {"WWW-Authenticate": "Bearer"}
        case RateLimited() | Overloaded():
            return {"Retry-After": str(error.details["retry_after_s"])}
        case _:
            return {}


async def _on_slaegan_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, SlaeganError)
    if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        _logger.error("%s: %s", error.code, error.message)
    return problem_response(request.scope, error)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """What the framework itself raises: no such route, wrong method, a body that cannot be read."""
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = ", ".join(allowed_methods(request.app, request.url.path))
        refusal = MethodNotAllowed(f"{request.url.path} takes {allowed}, not {request.method}.")
        return problem_response(request.scope, refusal, headers={"Allow": allowed})
    if error.status_code == HTTPStatus.NOT_FOUND:
        return problem_response(request.scope, NotFound(f"There is nothing at {request.url.path}."))
    return problem_response(request.scope, of_http(error), headers=error.headers)


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # The factory of a default was not called since the field that it looks at is wrong: that one is listed.
    wrong = [entry for entry in error.errors() if entry["type"] != "default_factory_not_called"]
    entries = [_entry(entry) for entry in wrong[:MAX_LISTED]]
    message = (
        f"{len(wrong)} values are wrong: see errors."
        if len(wrong) != 1
        else "One value is wrong: see errors."
    )
    details = {"not_listed": len(wrong) - MAX_LISTED} if len(wrong) > MAX_LISTED else {}
    return problem_response(request.scope, InvalidRequest(message, **details), errors=entries)


async def _on_disconnect(request: Request, _error: Exception) -> Response:
    """Nobody will read this; it ends the request in order."""
    return problem_response(request.scope, RequestError("The client went away before the body was complete."))


async def _on_data_error(request: Request, error: Exception) -> Response:
    _logger.warning("the database refused a value: %s", error)
    return problem_response(request.scope, InvalidRequest("A value in the request cannot be stored."))


async def _on_database_away(request: Request, error: Exception) -> Response:
    return problem_response(request.scope, database_away(error))


def _entry(error: dict[str, Any]) -> dict[str, Any]:
    where = place(error)
    # Of broken JSON there is no value to show.
    value = None if error["type"] == "json_invalid" else error.get("input")
    return {
        "where": _cut(where, MAX_SHOWN),
        "what": _cut(wording(error), 2 * MAX_SHOWN),
        "input": _shown(value),
    }


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}…"


def _shown(value: Any) -> Any:
    """Echo a wrong value, but neither megabytes of it nor what JSON cannot say."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        # Lone surrogates, which JSON can escape and UTF-8 cannot hold, become question marks.
        value = value.encode(errors="replace").decode()
        return _cut(value, MAX_SHOWN)
    if isinstance(value, int | float) and -_EXACT_IN_JSON < value < _EXACT_IN_JSON:
        return value
    return reprlib.repr(value)
