"""What routes depend on: a session, and whose request it is."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from uuid import UUID

import anyio
import anyio.to_thread
from fastapi import Depends, Query, Request, Response, Security
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from pydantic import BaseModel
from sqlalchemy.orm import Session

from api.gate import SAFE_METHODS
from core.audit import trail
from core.audit.trail import AuditedRequest
from core.db import reading, sessions
from core.errors import Forbidden, InvalidRequest
from core.keys import Identity

if TYPE_CHECKING:
    from fastapi.dependencies.models import Dependant

_DIGITS = 18


@contextmanager
def writing(request: Request) -> Iterator[Session]:
    """A session for a request's changes; who enters it waits for nobody, who leaves it may wait for a rollback."""
    with sessions()() as session:
        # A write's commit leaves an entry in the audit trail.
        if getattr(request.state, "identity", None) is not None and request.method not in SAFE_METHODS:
            trail.watch(session, _audited_request(request))
        yield session


def _session(request: Request) -> Iterator[Session]:
    with writing(request) as session:
        yield session


def _audited_request(request: Request) -> AuditedRequest:
    identity: Identity = request.state.identity
    return AuditedRequest(
        tenant_id=identity.tenant_id,
        key_id=identity.key_id,
        action=request.scope["route"].name,
        request_id=request.state.request_id,
        method=request.method,
        path=request.url.path,
        address=request.client.host if request.client else None,
    )


async def _audited(request: Request) -> AuditedRequest:
    return _audited_request(request)


async def _reading() -> AsyncIterator[Session]:
    # Neither end of it waits for the server, so neither needs a thread.
    with reading() as session:
        yield session


async def _who(request: Request) -> Identity:
    identity: Identity = request.state.identity
    return identity


async def _tenant(request: Request) -> UUID:
    identity: Identity = request.state.identity
    return identity.tenant_id


async def _admin(request: Request) -> None:
    identity: Identity = request.state.identity
    if "admin" not in identity.scopes:
        raise Forbidden("This key lacks the scope 'admin'.", needed="admin", scopes=sorted(identity.scopes))


# scope="function": the connection goes back when the route returns, not when the last byte of a slow download is sent.
Database = Annotated[Session, Depends(_session, scope="function")]
Reading = Annotated[Session, Depends(_reading, scope="function")]
Who = Annotated[Identity, Depends(_who)]
Tenant = Annotated[UUID, Depends(_tenant)]
# For a write whose service commits in a session of its own: that one is to be watched (core.audit.trail).
Audited = Annotated[AuditedRequest, Depends(_audited)]
Limit = Annotated[int, Query(ge=1, le=200, description="Items a page")]
Cursor = Annotated[str | None, Query(max_length=200, description="next_cursor of the page before")]
After = Annotated[int, Query(ge=0, lt=2**63, description="The number of the last item that you have")]
Run = Annotated[int | None, Query(ge=1, lt=2**31, description="One of the job's runs; by default its last")]


async def known_query(request: Request) -> None:
    """Refuse query parameters that a route of the contract does not know: a filter misspelt would find everything.

    Raises:
        RequestValidationError: it names them, and lists the known ones.
    """
    route = request.scope["route"]
    # What is no part of the contract, such as the pages for browsers and /metrics, takes what others append.
    if not request.scope["query_string"] or not isinstance(route, APIRoute) or not route.include_in_schema:
        return
    known = _query_names(route.dependant)
    which = f"known here: {', '.join(sorted(known))}" if known else "none is known here"
    wrong = [
        {
            "type": "unknown_parameter",
            "loc": ("query", name),
            "msg": f"Unknown parameter; {which}",
            "input": value,
        }
        for name, value in request.query_params.items()
        if name not in known
    ]
    if wrong:
        raise RequestValidationError(wrong)


def _query_names(dependant: Dependant) -> frozenset[str]:
    """The query parameters of a route and of what it depends on; those of a schema are its fields."""
    names: set[str] = set()
    for parameter in dependant.query_params:
        kind = parameter.field_info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            names.update(field.alias or name for name, field in kind.model_fields.items())
        else:
            names.add(parameter.alias)
    return frozenset(names).union(*map(_query_names, dependant.dependencies))


# For the OpenAPI document; the gate has checked the key before any route runs.
BEARER = Security(HTTPBearer(auto_error=False, scheme_name="api_key", description="A key of the service"))

# For what no method tells: the gate asks for read or write, such a route for admin as well.
ADMIN = Depends(_admin)


# On few cores more threads than this only take the interpreter's lock from each other, and from the loop.
_AT_ONCE = 3
_TURNS = anyio.CapacityLimiter(_AT_ONCE)
# Of their own: a write may wait for another one's lock, and reads are not to wait for that.
WRITES = anyio.CapacityLimiter(_AT_ONCE)
Result = TypeVar("Result")


async def in_turn(work: Callable[[], Result], *, turns: anyio.CapacityLimiter = _TURNS) -> Result:
    """Do a route's quick work in a thread, few at a time and in the order of arrival.

    For what is asked often and waits for the database alone. What waits for a store or for a client takes a thread
    of the framework's forty.
    """
    return await anyio.to_thread.run_sync(work, limiter=turns)


UNCHANGED: dict[int | str, dict[str, Any]] = {
    304: {"description": "It is as the client has it (If-None-Match)"}
}


def answer(request: Request, content: BaseModel, *, include: Any = None) -> Response:
    """The JSON of what a route says, written in the route's own thread; name its type as the route's response_model.

    FastAPI would check in a second thread what has its type already, and write it in the loop that serves everybody.

    Args:
        request: its If-None-Match counts.
        content: what the route says.
        include: the fields to tell, as pydantic has it; None: all.
    """
    body = content.model_dump_json(by_alias=True, include=include).encode()
    # Weak: it stands for what is told, not for bytes.
    etag = f'W/"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
    if matches(request.headers.get("if-none-match"), etag):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(body, headers=headers, media_type="application/json")


def matches(header: str | None, etag: str) -> bool:
    """Whether an If-None-Match names a tag, by the weak comparison of RFC 9110, section 13.1.2."""
    wanted = (candidate.strip().removeprefix("W/") for candidate in (header or "").split(","))
    return any(candidate in ("*", etag.removeprefix("W/")) for candidate in wanted)


def position(cursor: str | None, after: int) -> int:
    """Where a page of numbered items begins: behind the cursor, if there is one, else behind `after`.

    Raises:
        InvalidRequest: the cursor is none of ours.
    """
    if cursor is None:
        return after
    if not (cursor.isascii() and cursor.isdecimal() and len(cursor) <= _DIGITS):
        raise InvalidRequest("The cursor is not one that this service gave: pass next_cursor, unchanged.")
    return int(cursor)
