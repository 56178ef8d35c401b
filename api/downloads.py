"""Files out of the store: by a signed URL of an object store, or streamed from here, with no connection held.

Streams have ETag, Range, Content-Length and the sha256. What needs no byte of the file (HEAD, a 304) is answered here.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from http import HTTPStatus
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, Query
from fastapi.responses import RedirectResponse, Response, StreamingResponse

from api.deps import matches
from api.errors import problem_response
from core.errors import InfrastructureError, RangeNotSatisfiable
from core.settings import settings
from core.storage import store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import Request
    from sqlalchemy.orm import Session

    from core.jobs.records import StoredFile

_logger = logging.getLogger("slaegan.api")
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file",
        "content": {"application/octet-stream": {}},
    },
    206: {"description": "The part that Range asked for"},
    307: {
        "description": "The file is at this address of the object store for a while; no key is needed there"
    },
    304: {"description": "The client has it already (If-None-Match)"},
    416: {"description": "The file does not reach that far"},
}
_RENDERED_TYPES = (
    "application/zip",
    "application/octet-stream",
    "image/png",
    "image/gif",
    "image/webp",
    "video/mp4",
)
RENDERED_RESPONSES = RESPONSES | {
    200: {"description": "The file", "content": {kind: {} for kind in _RENDERED_TYPES}}
}
PNG_RESPONSES = RESPONSES | {200: {"description": "The picture", "content": {"image/png": {}}}}


async def _may_redirect(
    *,
    redirect: Annotated[
        bool,
        Query(description="Whether you may be sent on to the object store; false: the bytes come from here"),
    ] = True,
) -> bool:
    return redirect


Redirect = Annotated[bool, Depends(_may_redirect)]


@dataclass(frozen=True)
class Artifact:
    """A file in the store, as a row describes it; `filename` is of our own making."""

    storage_key: str
    size_bytes: int
    sha256: str
    filename: str
    media_type: str
    disposition: str = "attachment"


def png_response(
    request: Request, database: Session, file: StoredFile, *, filename: str, redirect: bool
) -> Response:
    """Answer a request for a picture in the store; a browser shows it.

    Args:
        request: as of `artifact_response`.
        database: closed first, since the store may be slow.
        file: where it is.
        filename: of our own making.
        redirect: as of `artifact_response`.

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
    return artifact_response(request, artifact, redirect=redirect)


def artifact_response(request: Request, artifact: Artifact, *, redirect: bool) -> Response:
    """Answer a request for an artifact (RFC 9110, sections 13 and 14; one range at a time).

    Args:
        request: its If-None-Match, Range and If-Range count.
        artifact: what to send.
        redirect: whether the client may be sent to the store.

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
    if matches(request.headers.get("if-none-match"), etag):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    if redirect and not request.state.head and (url := signed_url(artifact.storage_key)):
        return redirection(url, headers={"ETag": etag, "X-Content-SHA256": artifact.sha256})
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
    body = _told(artifact.storage_key, chain([next(chunks, b"")], chunks))
    return StreamingResponse(body, status_code=status, headers=headers, media_type=artifact.media_type)


def signed_url(key: str) -> str | None:
    """Where the store itself gives a file to whoever has this address; None where the API is to give it.

    Raises:
        StoreUnavailable: the store's credentials cannot sign.
    """
    if not settings().signed_urls:
        return None
    return store().signed_url(key, expires_s=settings().signed_url_s)


def redirection(url: str, *, headers: dict[str, str]) -> Response:
    """Send a client to a signed URL, which nobody may keep: it is a key to the file for a while."""
    kept = {"Cache-Control": "private, no-store", "Referrer-Policy": "no-referrer"}
    return RedirectResponse(url, status_code=HTTPStatus.TEMPORARY_REDIRECT, headers=headers | kept)


def _told(key: str, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Log a store that fails in mid-stream; the error breaks the connection: nobody takes that for the end."""
    try:
        yield from chunks
    except InfrastructureError as error:
        _logger.warning("the download of %s breaks off: %s", key, error)
        raise


def _part(first: str, last: str, *, size_bytes: int) -> tuple[int, int] | None:
    """Start and exclusive end of a range; None if nothing of it exists."""
    if first:
        start, end = int(first), min(int(last) + 1 if last else size_bytes, size_bytes)
    else:
        start, end = max(0, size_bytes - int(last or "0")), size_bytes
    return (start, end) if start < end else None
