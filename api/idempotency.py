"""`Idempotency-Key`: a POST that is sent again has its effect once, and the same answer.

A route takes `once: Once`, calls `once.begin(database)` before it does anything, and ends with `once.commit(...)`;
one that takes an upload has `OnceUpload` and `look`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, Header, Request, Response
from fastapi.concurrency import contextmanager_in_threadpool

from core import idempotency
from core.idempotency import Given
from core.settings import settings

if TYPE_CHECKING:
    from pathlib import Path
    from uuid import UUID

    from pydantic import BaseModel
    from sqlalchemy.orm import Session

    from api.uploads import Received

MAX_KEY_LENGTH = 255
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=MAX_KEY_LENGTH,
        pattern=r"^[\x21-\x7e]+$",
        description="Of your choice, a UUID for example: the same request under the same key is carried out once "
        "and answered alike for 24 hours",
    ),
]


class Replay(Exception):  # no error: it ends a request early, with the answer that was given before
    """The request was answered before.

    Args:
        given: with what.
    """

    def __init__(self, given: Given) -> None:
        super().__init__()
        self.given = given


class Idempotency:
    """What makes a request the same as an earlier one.

    Args:
        tenant_id: whose request it is.
        key: of the header; without one, nothing is looked up and nothing kept.
        fingerprint: hash of the request's method, path and body.
    """

    def __init__(self, *, tenant_id: UUID, key: str | None, fingerprint: str) -> None:
        self.key = key
        self.tenant_id = tenant_id
        self._fingerprint = fingerprint
        self._begun = self._lasts = False

    def covers(self, *parts: str) -> None:
        """Let what else was asked, beside method, path and JSON, make requests differ: headers, for example."""
        self._fingerprint = _hash(self._fingerprint, *parts)

    def begin(self, session: Session) -> None:
        """Take the key for the transaction.

        Raises:
            Replay: the request was answered before; the framework gives that answer.
            Conflict: it is being answered.
            KeyReused: another request was answered under this key.
        """
        self._take(session, wait=False)

    def look(self, session: Session, upload: Received) -> None:
        """As `begin`, before work that lasts: no connection is held meanwhile, and `commit` looks again.

        Args:
            session: has no changes yet.
            upload: belongs to what was asked; its boundary and the order of its headers do not.

        Raises:
            Replay, Conflict, KeyReused: as for `begin`.
        """
        if self.key is not None:
            self.covers(upload.fingerprint)
            self._lasts = True
            self._take(session, wait=False)
            session.rollback()
        self._begun = True

    def commit(
        self,
        session: Session,
        answer: BaseModel,
        *,
        status: int = 201,
        location: str | None = None,
        kept: BaseModel | None = None,
    ) -> Response:
        """Commit what the route did together with its answer.

        Args:
            session: what the answer tells was read back from it, since the database sets some values.
            answer: of the type that the route declares as its response_model.
            status: of HTTP.
            location: where the new thing is to be found.
            kept: what a repetition is told, where the answer holds a secret that nobody is to keep.

        Raises:
            Replay: another machine was faster; what this one did is rolled back.
        """
        assert self._begun, "a route begins before it works"
        if self.key is not None:
            if self._lasts:
                self._take(session, wait=True)
            told_again = Given(status, (kept or answer).model_dump_json(by_alias=True), location)
            idempotency.keep(session, told_again, **self._whose)
        session.commit()
        return respond(Given(status, answer.model_dump_json(by_alias=True), location))

    def _take(self, session: Session, *, wait: bool) -> None:
        self._begun = True
        if self.key is not None:
            given = idempotency.begin(session, wait=wait, **self._whose)
            if given is not None:
                raise Replay(given)

    @property
    def _whose(self) -> dict[str, Any]:
        return {"tenant_id": self.tenant_id, "key": self.key, "fingerprint": self._fingerprint}


def respond(given: Given, *, replayed: bool = False) -> Response:
    """An answer as HTTP."""
    headers = {"Location": given.location} if given.location else {}
    if replayed:
        headers["Idempotency-Replayed"] = "true"
    return Response(given.body, status_code=given.status, headers=headers, media_type="application/json")


async def replay(_request: Request, error: Exception) -> Response:
    """The handler of `Replay`."""
    assert isinstance(error, Replay)
    return respond(error.given, replayed=True)


async def _once(request: Request, key: Key = None) -> Idempotency:
    # The framework has read a JSON body by now; forms are still to come: `look`.
    body = await request.body() if key is not None and _is_json(request) else b""
    return Idempotency(
        tenant_id=request.state.identity.tenant_id,
        key=key,
        fingerprint=_hash(
            request.method, request.url.path, request.url.query, hashlib.sha256(body).hexdigest()
        ),
    )


async def _alone(once: Annotated[Idempotency, Depends(_once)]) -> AsyncIterator[Idempotency]:
    """For uploads: the key is held on this machine while the body comes in and is worked on, without a connection.

    What happens on several machines at once is settled by the commit, which waits for the other's.
    """
    if once.key is None:
        yield once
        return
    async with contextmanager_in_threadpool(_held(settings().data_dir / "uploads", once)):
        yield once


@contextmanager
def _held(folder: Path, once: Idempotency) -> Iterator[None]:
    """Lock one byte of one file for a key: nothing is left to clear away, also after a kill."""
    assert once.key is not None, "only a key can be held"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    place = int(_hash(once.tenant_id.hex, once.key)[:15], 16)
    lock = os.open(folder / "keys.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        # Locks of this kind belong to the open file; those of fcntl.lockf would belong to the whole process.
        fcntl.fcntl(lock, fcntl.F_OFD_SETLK, struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, place, 1, 0))
        yield
    except BlockingIOError as error:
        raise idempotency.in_flight(once.key) from error
    finally:
        os.close(lock)


def _is_json(request: Request) -> bool:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json"


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode(errors="surrogateescape")).hexdigest()


Once = Annotated[Idempotency, Depends(_once)]
# scope="function": the key is free before the answer is sent.
OnceUpload = Annotated[Idempotency, Depends(_alone, scope="function")]
