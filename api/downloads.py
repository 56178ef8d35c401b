"""Files out of the store: ETag, Range, Content-Length and the sha256, streamed while no connection is held."""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from itertools import chain
from typing import TYPE_CHECKING, Any

from fastapi.responses import Response, StreamingResponse

from api.errors import problem_response
from core.errors import RangeNotSatisfiable
from core.storage import store

if TYPE_CHECKING:
    from fastapi import Request
    from sqlalchemy.orm import Session

    from core.jobs.records import StoredFile

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    },
    206: {"description": "The part that Range asked for"},
    304: {"description": "The client has it already (If-None-Match)"},
    416: {"description": "The file does not reach that far"},
}


@dataclass(frozen=True)
class Artifact:
    """A file in the store, as a row describes it; `filename` is of our own making."""

    storage_key: str
    size_bytes: int
    sha256: str
    filename: str
    media_type: str
    disposition: str = "attachment"


def png_response(request: Request, database: Session, file: StoredFile, *, filename: str) -> Response:
    """Answer a request for a picture in the store; a browser shows it.

    Args:
        request: as of `artifact_response`.
        database: closed first, since the store may be slow.
        file: where it is.
        filename: of our own making.

    Raises:
        StoreUnavailable: the store does not give the file.
    """
    artifact = Artifact(
        storage_key=file.key,
        size_bytes=file.size_bytes,
        sha256=file.sha256,
        filename=filename,
        media_type="image/png",
        disposition="inline",
    )
    database.close()
    return artifact_response(request, artifact)


def artifact_response(request: Request, artifact: Artifact) -> Response:
    """Answer a request for an artifact (RFC 9110, sections 13 and 14; one range at a time).

    Args:
        request: its If-None-Match, Range and If-Range count.
        artifact: what to send.

    Raises:
        StoreUnavailable: the store does not give the file.
    """
    etag = f'"{artifact.sha256}"'
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        # An id stands for the same bytes for ever, but a key may be revoked: ask again, and mostly get a 304.
        "Cache-Control": "private, no-cache",
        "X-Content-SHA256": artifact.sha256,
        "Content-Disposition": f'{artifact.disposition}; filename="{artifact.filename}"',
    }
    if _matches(request.headers.get("if-none-match"), etag):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    start, end, status = 0, artifact.size_bytes, HTTPStatus.OK
    asked = request.headers.get("range")
    if asked and request.headers.get("if-range", etag) == etag and (match := _RANGE.fullmatch(asked.strip())):
        part = _part(*match.groups(), size_bytes=artifact.size_bytes)
        if part is None:
            error = RangeNotSatisfiable(f"The file has {artifact.size_bytes} bytes; {asked!r} lies outside.")
            return problem_response(
                request.scope, error, headers={"Content-Range": f"bytes */{artifact.size_bytes}"}
            )
        (start, end), status = part, HTTPStatus.PARTIAL_CONTENT
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{artifact.size_bytes}"
    headers["Content-Length"] = str(end - start)
    if request.state.head or start == end:
        return Response(status_code=status, headers=headers, media_type=artifact.media_type)
    chunks = store().read(artifact.storage_key, start=start, end=end)
    # The first chunk now: a store that is away gives a 503 rather than a file cut short.
    body = chain([next(chunks, b"")], chunks)
    return StreamingResponse(body, status_code=status, headers=headers, media_type=artifact.media_type)


def _matches(header: str | None, etag: str) -> bool:
    if header is None:
        return False
    return header.strip() == "*" or etag in (tag.strip().removeprefix("W/") for tag in header.split(","))


def _part(first: str, last: str, *, size_bytes: int) -> tuple[int, int] | None:
    """Start and exclusive end of a range; None if nothing of it exists."""
    if first:
        start, end = int(first), min(int(last) + 1 if last else size_bytes, size_bytes)
    else:
        start, end = max(0, size_bytes - int(last or "0")), size_bytes
    return (start, end) if start < end else None
