"""The headers of tus 1.0, the protocol of resumable uploads, and the bytes that come with them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from datetime import UTC
from email.utils import format_datetime
from typing import TYPE_CHECKING, Annotated

import anyio.to_thread
from fastapi import Header
from fastapi.concurrency import contextmanager_in_threadpool
from starlette.datastructures import MutableHeaders

from core.datasets.archives import sanitised
from core.errors import InvalidRequest, RequestError, TusVersion
from core.settings import MIB, settings
from core.uploads.appending import ALGORITHMS, Checksum, appending

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from fastapi import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from core.uploads.tables import Upload

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,termination,checksum,expiration"
MEDIA_TYPE = "application/offset+octet-stream"
MAX_METADATA_LENGTH = 4_000
_BATCH_BYTES = MIB
_KEY = re.compile(r"[!-+\--~]+")  # printable ASCII without space and comma

Version = Annotated[
    str | None,
    Header(
        alias="Tus-Resumable",
        description=f"The protocol: {VERSION}",
        json_schema_extra={"enum": [VERSION]},
    ),
]
Length = Annotated[int, Header(alias="Upload-Length", ge=0, lt=2**63, description="Bytes of the whole file")]
Offset = Annotated[
    int | None, Header(alias="Upload-Offset", ge=0, lt=2**63, description="Where the bytes belong")
]
Metadata = Annotated[
    str,
    Header(
        alias="Upload-Metadata",
        max_length=MAX_METADATA_LENGTH,
        description="`filename <base64>`; more pairs after commas are kept and told again",
    ),
]
Digest = Annotated[
    str | None,
    Header(
        alias="Upload-Checksum",
        description="`sha256 <base64>` or `sha1 <base64>` of the body",
        json_schema_extra={
            "type": "string",
            "pattern": "^sha(1|256) [A-Za-z0-9+/]+=*$",
        },
    ),
]
# Parameters that may be left out only to be told so in tus's own words: by operation, for the document.
NEEDED = {"create_upload": {"Tus-Resumable"}, "append": {"Tus-Resumable", "Upload-Offset"}}
BODY = {"content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}}


class Tus:
    """ASGI middleware: every answer about uploads tells the version of the protocol, refusals at the gate too.

    Args:
        app: what lies inside.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Tus-Resumable"] = VERSION
                if message["status"] == TusVersion.status:
                    headers["Tus-Version"] = VERSION
            await send(message)

        is_ours = scope["type"] == "http" and f"{scope['path']}/".startswith("/v1/uploads/")
        await self._app(scope, receive, told if is_ours else send)


def abilities() -> dict[str, str]:
    """What OPTIONS answers."""
    return {
        "Tus-Version": VERSION,
        "Tus-Max-Size": str(settings().max_upload_bytes),
        "Tus-Extension": EXTENSIONS,
        "Tus-Checksum-Algorithm": ",".join(ALGORITHMS),
    }


def state(upload: Upload) -> dict[str, str]:
    """Where an upload is and until when, as headers; nobody may keep them."""
    metadata = {"Upload-Metadata": upload.metadata_header} if upload.metadata_header else {}
    return metadata | {
        "Upload-Offset": str(upload.received_bytes),
        "Upload-Length": str(upload.length_bytes),
        "Upload-Expires": format_datetime(upload.expires_at.astimezone(UTC), usegmt=True),
        "Cache-Control": "no-store",
    }


def require_version(given: str | None, *, needed: bool = True) -> None:
    """Refuse what speaks another version; where tus is not needed, a request may also speak none.

    Raises:
        TusVersion: with the version that is spoken here.
    """
    if given != VERSION and (needed or given is not None):
        raise TusVersion(
            f"Send the header Tus-Resumable: {VERSION}, not {(given or 'none')[:100]!r}.", version=VERSION
        )


def filename_of(metadata: str) -> str:
    """The file's name, fit to be shown, among the pairs of Upload-Metadata.

    Raises:
        InvalidRequest: they are no such pairs.
    """
    pairs: dict[str, bytes] = {}
    for pair in metadata.split(",") if metadata else ():
        key, _, value = pair.strip().partition(" ")
        if not _KEY.fullmatch(key) or key in pairs:
            raise InvalidRequest(
                f"Upload-Metadata has the key {key[:100]!r}: keys are printable ASCII, each given once."
            )
        pairs[key] = _decoded(value, header="Upload-Metadata")
    name = pairs.get("filename") or pairs.get("name") or b"upload"
    return sanitised(name.decode("utf-8", errors="replace"))


def checksum_of(header: str | None) -> Checksum | None:
    """What the body must hash to.

    Raises:
        RequestError: by an algorithm that is not known here.
        InvalidRequest: the hash is none of that algorithm's.
    """
    if header is None:
        return None
    algorithm, _, value = header.partition(" ")
    if algorithm not in ALGORITHMS:
        raise RequestError(
            f"Upload-Checksum names the algorithm {algorithm[:100]!r}; {' and '.join(ALGORITHMS)} are known.",
            algorithms=list(ALGORITHMS),
        )
    digest = _decoded(value, header="Upload-Checksum")
    size_bytes = hashlib.new(algorithm, usedforsecurity=False).digest_size
    if len(digest) != size_bytes:
        raise InvalidRequest(
            f"The {algorithm} in Upload-Checksum has {len(digest)} bytes, not {size_bytes}: send the hash itself in "
            "base64, not its hex digits."
        )
    return Checksum(algorithm, digest)


async def take(request: Request, *, tenant: UUID, upload_id: UUID, offset: int, digest: str | None) -> Upload:
    """Write a request's body to an upload: in threads, a batch at a time, so that nobody else is held up.

    What has come when a client breaks off is kept, unless there is a checksum for all of it.

    Raises:
        SlaeganError: as `appending` and its turns.
    """
    turn = appending(
        tenant_id=tenant,
        upload_id=upload_id,
        offset=offset,
        size_bytes=int(request.headers.get("content-length", "0")),
        checksum=checksum_of(digest),
    )
    batch = bytearray()
    async with contextmanager_in_threadpool(turn) as writer:
        try:
            async for chunk in request.stream():
                batch.extend(chunk)
                if len(batch) >= _BATCH_BYTES:
                    data, batch = bytes(batch), bytearray()
                    await anyio.to_thread.run_sync(writer.write, data)
        finally:
            if batch:
                await anyio.to_thread.run_sync(writer.write, bytes(batch))
        return await anyio.to_thread.run_sync(writer.finish)


def has_body(headers: Mapping[str, str]) -> bool:
    """Whether a request brings bytes, by its head."""
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


def _decoded(value: str, *, header: str) -> bytes:
    try:
        return base64.b64decode(value.strip(), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest(f"{header} has {value[:100]!r}, which is no base64.") from error
