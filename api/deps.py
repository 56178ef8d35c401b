"""What routes depend on: a session, and whose request it is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Annotated, TypeVar
from uuid import UUID

import anyio
import anyio.to_thread
from fastapi import Depends, Query, Request, Response, Security
from fastapi.security import HTTPBearer
from sqlalchemy.orm import Session

from core.db import reading, sessions
from core.errors import Forbidden, InvalidRequest
from core.keys import Identity

if TYPE_CHECKING:
    from pydantic import BaseModel

_DIGITS = 18


def _session() -> Iterator[Session]:
    with sessions()() as session:
        yield session


async def _reading() -> AsyncIterator[Session]:
    # Neither end of it waits for the server, so neither needs a thread.
    with reading() as session:
        yield session


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
Tenant = Annotated[UUID, Depends(_tenant)]
Limit = Annotated[int, Query(ge=1, le=200, description="Items a page")]
Cursor = Annotated[str | None, Query(max_length=200, description="next_cursor of the page before")]
After = Annotated[int, Query(ge=0, lt=2**63, description="The number of the last item that you have")]
Run = Annotated[int | None, Query(ge=1, lt=2**31, description="One of the job's runs; by default its last")]

# For the OpenAPI document; the gate has checked the key before any route runs.
BEARER = Security(HTTPBearer(auto_error=False, scheme_name="API key", description="A key of the service"))

# For what no method tells: the gate asks for read or write, such a route for admin as well.
ADMIN = Depends(_admin)


# On few cores more threads than this only take the interpreter's lock from each other, and from the loop.
_AT_ONCE = 3
_TURNS = anyio.CapacityLimiter(_AT_ONCE)
Result = TypeVar("Result")


async def in_turn(work: Callable[[], Result]) -> Result:
    """Do a route's quick work in a thread, few at a time and in the order of arrival.

    For what is asked often and waits for the database alone. What waits for a store or for a client takes a thread
    of the framework's forty.
    """
    return await anyio.to_thread.run_sync(work, limiter=_TURNS)


def answer(content: BaseModel) -> Response:
    """The JSON of what a route says, written in the route's own thread; name its type as the route's response_model.

    FastAPI would check in a second thread what has its type already, and write it in the loop that serves everybody.
    """
    return Response(content.model_dump_json(by_alias=True), media_type="application/json")


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
