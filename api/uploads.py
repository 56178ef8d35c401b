"""A multipart upload, streamed into a scratch folder: never in memory, never outside that folder."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, cast, get_args

import anyio.to_thread
from fastapi import Depends, Request
from fastapi.concurrency import contextmanager_in_threadpool
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from core.datasets.ingest import Upload
from core.datasets.label_table import is_table
from core.datasets.making import title_of
from core.datasets.scratch import disk_errors, require_space, scratch_folder
from core.errors import InvalidRequest
from core.files import sha256_of
from core.schemas.datasets import LABELS_ADVICE, LabelSource
from core.settings import settings

if TYPE_CHECKING:
    from pathlib import Path

MAX_NAME_LENGTH = 200
_MAX_FIELD_BYTES = 1000
_BATCH_BYTES = 1024 * 1024
LABEL_SOURCES: tuple[str, ...] = get_args(LabelSource)


@dataclass
class Received:
    """What a form held: its files in the scratch folder, the name for the dataset, and which pictures to remove.

    `labels` is what the form says of where classes come from.
    """

    folder: Path
    files: list[Upload] = field(default_factory=list)
    name: str = ""
    remove: list[str] = field(default_factory=list)
    labels: LabelSource = "auto"

    @property
    def fingerprint(self) -> str:
        """A hash of names and contents: the same for the same pictures in another form."""
        files = (f"{upload.name}\0{sha256_of(upload.path)}" for upload in self.files)
        labels = [] if self.labels == "auto" else [f"\0labels={self.labels}"]
        return hashlib.sha256(
            "\0".join([self.name, *labels, *self.remove, *files]).encode(errors="surrogateescape")
        ).hexdigest()

    @property
    def title(self) -> str:
        """The name for the dataset: the given one, or else that of its first file, made fit to be shown.

        A table of labels gives its name only where there is nothing else.
        """
        first = next((upload for upload in self.files if not is_table(upload.name)), self.files[0])
        return self.name or title_of(first.name)


class _Form:
    """Callbacks of the multipart parser: `files` go to disk, `texts` to memory, anything else is an error."""

    def __init__(self, received: Received, *, max_files: int, texts: tuple[str, ...]) -> None:
        self.received = received
        self._max_files = max_files
        self._texts = texts
        self._field = ""
        self._header = (bytearray(), bytearray())
        self._disposition = b""
        self._file: BinaryIO | None = None
        self._text = bytearray()
        self._ended = False

    def parser(self, boundary: bytes) -> MultipartParser:
        return MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._open_part,
                "on_part_data": self._on_data,
                "on_part_end": self._end_part,
                "on_end": self._end,
            },
        )

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def require_end(self) -> None:
        if not self._ended:
            raise InvalidRequest("The form breaks off: its last boundary is missing.")

    def _begin_part(self) -> None:
        self._disposition = b""
        self._text = bytearray()

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header[0].extend(data[start:end])

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header[1].extend(data[start:end])

    def _end_header(self) -> None:
        name, value = self._header
        if name.lower() == b"content-disposition":
            self._disposition = bytes(value)
        self._header = (bytearray(), bytearray())

    def _open_part(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._field = _text(options.get(b"name", b""))
        match self._field, options.get(b"filename"):
            case name, _ if name in self._texts:
                if name == "remove" and len(self.received.remove) == self._max_files:
                    raise InvalidRequest(f"The form names more than {self._max_files} pictures to remove.")
            case "files", bytes(filename):
                if len(self.received.files) == self._max_files:
                    raise InvalidRequest(f"The form has more than {self._max_files} files: send an archive.")
                path = self.received.folder / f"{len(self.received.files):06d}.upload"
                self._file = path.open("wb")
                self.received.files.append(Upload(_text(filename) or "unnamed", path))
            case "files", _:
                raise InvalidRequest(
                    "The field files holds text: send files, as `curl -F files=@faces.zip` does."
                )
            case name, _:
                known = f"{', '.join(['files', *self._texts[:-1]])} and {self._texts[-1]}"
                raise InvalidRequest(f"The form has a field {name[:100]!r}; {known} are known.")

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(data[start:end])
            return
        self._text.extend(data[start:end])
        if len(self._text) > _MAX_FIELD_BYTES:
            raise InvalidRequest(
                f"The field {self._field} is too long: it has more than {_MAX_FIELD_BYTES} bytes."
            )

    def _end_part(self) -> None:
        if self._file is None:
            text = _text(bytes(self._text))
            self._take(text)
            return
        self._file.close()
        self._file = None

    def _take(self, text: str) -> None:
        match self._field:
            case "remove":
                self.received.remove.append(text)
            case "labels":
                if text not in LABEL_SOURCES:
                    raise InvalidRequest(
                        f"The field labels takes {', '.join(LABEL_SOURCES)}, not {text[:100]!r}."
                    )
                self.received.labels = cast("LabelSource", text)
            case _:
                self.received.name = text

    def _end(self) -> None:
        self._ended = True


async def _upload(request: Request) -> AsyncIterator[Received]:
    async with _received(request, texts=("name", "labels")) as received:
        if not received.files:
            raise InvalidRequest("The form has no files: send pictures or an archive in the field files.")
        yield received


async def _change(request: Request) -> AsyncIterator[Received]:
    async with _received(request, texts=("name", "remove", "labels")) as received:
        if not received.files and not received.remove:
            raise InvalidRequest(
                "The form changes nothing: send pictures or an archive in the field files, or name pictures in the "
                "field remove."
            )
        yield received


@asynccontextmanager
async def _received(request: Request, *, texts: tuple[str, ...]) -> AsyncIterator[Received]:
    boundary = parse_options_header(request.headers.get("content-type"))[1].get(b"boundary")
    if not boundary:
        raise InvalidRequest("Send a form: multipart/form-data with the field files and a boundary.")
    # Removing thousands of files takes a while: in a thread, like everything that touches the disk here.
    async with contextmanager_in_threadpool(scratch_folder()) as folder:
        require_space(folder, int(request.headers.get("content-length", "0")))
        form = _Form(Received(folder), max_files=settings().max_archive_entries, texts=texts)
        try:
            await _parse(request, form, boundary)
        finally:
            form.close()
        _check(form.received)
        yield form.received


async def _parse(request: Request, form: _Form, boundary: bytes) -> None:
    """Parse in a thread, a batch at a time: neither the disk nor the parser holds up other requests."""
    batch = bytearray()
    try:
        parser = form.parser(boundary)

        def write(data: bytes) -> None:
            require_space(form.received.folder, len(data))
            with disk_errors():
                parser.write(data)

        async for chunk in request.stream():
            batch.extend(chunk)
            if len(batch) >= _BATCH_BYTES:
                await anyio.to_thread.run_sync(write, bytes(batch))
                batch.clear()
        await anyio.to_thread.run_sync(write, bytes(batch))
    except FormParserError as error:
        raise InvalidRequest(f"The form cannot be read: {str(error)[:200]}.") from error
    form.require_end()


def _check(received: Received) -> None:
    if len(received.name) > MAX_NAME_LENGTH or not received.name.isprintable():
        raise InvalidRequest(f"The name may have {MAX_NAME_LENGTH} printable characters.")


def _text(data: bytes) -> str:
    return data.decode("utf-8", errors="replace").strip()


# scope="function": the folder goes away before the answer is sent.
ReceivedUpload = Annotated[Received, Depends(_upload, scope="function")]
ReceivedChange = Annotated[Received, Depends(_change, scope="function")]
_FIELDS: dict[str, dict[str, Any]] = {
    "files": {
        "type": "array",
        "items": {"type": "string", "format": "binary"},
        "description": "Pictures, and zip or tar archives of pictures",
    },
    "name": {"type": "string", "maxLength": MAX_NAME_LENGTH, "description": "For people"},
    "labels": {
        "type": "string",
        "enum": list(LABEL_SOURCES),
        "default": "auto",
        "description": LABELS_ADVICE,
    },
    "remove": {
        "type": "array",
        "items": {"type": "string"},
        "description": "Pictures to leave out: each a position, a sha256 or a name in the version that is changed",
    },
}


def _form(*fields: str, required: tuple[str, ...]) -> dict[str, Any]:
    """The part of an operation in the OpenAPI document that tells its form."""
    properties = {name: _FIELDS[name] for name in fields}
    schema = {"type": "object", "properties": properties} | ({"required": list(required)} if required else {})
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


FORM = _form("files", "name", "labels", required=("files",))
VERSION_FORM = _form("files", "name", "remove", "labels", required=())
