"""A multipart upload, streamed into a scratch folder: never in memory, never outside that folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Annotated, BinaryIO

import anyio.to_thread
from fastapi import Depends, Request
from fastapi.concurrency import contextmanager_in_threadpool
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from core.datasets.archives import sanitised
from core.datasets.ingest import Upload
from core.datasets.scratch import disk_errors, require_space, scratch_folder
from core.errors import InvalidRequest
from core.settings import settings

if TYPE_CHECKING:
    from pathlib import Path

MAX_NAME_LENGTH = 200
_MAX_FIELD_BYTES = 1000
_BATCH_BYTES = 1024 * 1024


@dataclass
class Received:
    """What a form held: its files in the scratch folder, and the name for the dataset."""

    folder: Path
    files: list[Upload] = field(default_factory=list)
    name: str = ""

    @property
    def title(self) -> str:
        """The name for the dataset: the given one, or else that of its first file, made fit to be shown."""
        stem = PurePosixPath(sanitised(self.files[0].name)).stem
        shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in stem)
        return self.name or shown[:MAX_NAME_LENGTH]


class _Form:
    """Callbacks of the multipart parser: `files` go to disk, `name` to memory, anything else is an error."""

    def __init__(self, received: Received, *, max_files: int) -> None:
        self.received = received
        self._max_files = max_files
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
        match options.get(b"name"), options.get(b"filename"):
            case b"name", _:
                return
            case b"files", bytes(filename):
                if len(self.received.files) == self._max_files:
                    raise InvalidRequest(f"The form has more than {self._max_files} files: send an archive.")
                path = self.received.folder / f"{len(self.received.files):06d}.upload"
                self._file = path.open("wb")
                self.received.files.append(Upload(_text(filename) or "unnamed", path))
            case b"files", _:
                raise InvalidRequest(
                    "The field files holds text: send files, as `curl -F files=@faces.zip` does."
                )
            case name, _:
                raise InvalidRequest(
                    f"The form has a field {_text(name or b'')[:100]!r}; files and name are known."
                )

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(data[start:end])
            return
        self._text.extend(data[start:end])
        if len(self._text) > _MAX_FIELD_BYTES:
            raise InvalidRequest(f"The name is too long: {MAX_NAME_LENGTH} characters are allowed.")

    def _end_part(self) -> None:
        if self._file is None:
            self.received.name = _text(bytes(self._text))
            return
        self._file.close()
        self._file = None

    def _end(self) -> None:
        self._ended = True


async def _received(request: Request) -> AsyncIterator[Received]:
    boundary = parse_options_header(request.headers.get("content-type"))[1].get(b"boundary")
    if not boundary:
        raise InvalidRequest("Send a form: multipart/form-data with the field files and a boundary.")
    # Removing thousands of files takes a while: in a thread, like everything that touches the disk here.
    async with contextmanager_in_threadpool(scratch_folder()) as folder:
        require_space(folder, int(request.headers.get("content-length", "0")))
        form = _Form(Received(folder), max_files=settings().max_archive_entries)
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
    if not received.files:
        raise InvalidRequest("The form has no files: send pictures or an archive in the field files.")
    if len(received.name) > MAX_NAME_LENGTH or not received.name.isprintable():
        raise InvalidRequest(f"The name may have {MAX_NAME_LENGTH} printable characters.")


def _text(data: bytes) -> str:
    return data.decode("utf-8", errors="replace").strip()


# scope="function": the folder goes away before the answer is sent.
ReceivedUpload = Annotated[Received, Depends(_received, scope="function")]
FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["files"],
                    "properties": {
                        "files": {
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                            "description": "Pictures, and zip or tar archives of pictures",
                        },
                        "name": {"type": "string", "maxLength": MAX_NAME_LENGTH, "description": "For people"},
                    },
                }
            }
        },
    }
}
