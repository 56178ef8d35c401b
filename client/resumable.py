"""Uploading a large file that goes on where it was after a broken connection, or in a later command (tus 1.0)."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import time
from contextlib import suppress
from functools import partial
from typing import IO, TYPE_CHECKING, Any, TypeVar

import httpx
import platformdirs

from client.flow import Once, Pause, Work
from client.problems import raise_for_problem
from client.transfer import files_of
from core.errors import (
    ArchiveRejected,
    ChecksumMismatch,
    Conflict,
    DatasetUnusable,
    InfrastructureError,
    LabelsUnusable,
    Locked,
    NotFound,
    StoreFull,
)
from core.files import atomic_path
from core.schemas.datasets import DatasetOut
from core.schemas.uploads import UploadOut

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from client.flow import Flow
    from core.schemas.datasets import LabelSource

Result = TypeVar("Result")
SMALLEST_BYTES = 16 * 1024 * 1024
CHUNK_BYTES = 8 * 1024 * 1024
# Together half a minute: long enough for the service to be started again, or to notice that a connection is dead.
_PAUSES_S = (0.5, 1, 2, 4, 5, 5, 5, 5)
_VERSION = {"Tus-Resumable": "1.0.0"}
# Looking at thousands of pictures takes the service a while; asked again meanwhile, it says so.
_LOOKING_S = 600


def fingerprint(source: Path, *, server: str, labels: LabelSource = "auto") -> str:
    """What tells whether an upload is this one: where to, and which files, with sizes and times of change.

    Args:
        source: a file, or a folder, of which the files count that are sent.
        server: the address of the service.
        labels: where the pictures' classes come from, which decides that.
    """
    paths = files_of(source, labels=labels)
    base = source.parent if source.is_file() else source
    files = [
        (str(path.relative_to(base)), facts.st_size, facts.st_mtime_ns)
        for path in paths
        for facts in (path.stat(),)
    ]
    return hashlib.sha256(json.dumps([server, str(source.resolve()), files]).encode()).hexdigest()


class Resumable:
    """A file on its way to a service; where it has got to is kept in this user's state folder.

    Args:
        file: open for reading; of one length as long as its fingerprint is the same.
        filename: as the service is to know it.
        mark: the file's fingerprint.
        from_folder: whether the file is packed from a folder, where labels can be repaired in place.
        progress: told how many bytes the service has, and of how many.
    """

    def __init__(
        self,
        file: IO[bytes],
        *,
        filename: str,
        mark: str,
        from_folder: bool,
        progress: Callable[[int, int], None],
    ) -> None:
        self._file = file
        self._filename = filename
        self._length = file.seek(0, os.SEEK_END)
        self._state = platformdirs.user_state_path("slaegan") / "uploads" / mark
        self._progress = progress
        self._at = 0
        # A folder with other labels has another fingerprint, so that nobody would find its upload again. One file stays
        # what it is: the service keeps it, and asked with labels from elsewhere, nothing is sent again.
        self._final = (ArchiveRejected, DatasetUnusable, *([LabelsUnusable] if from_folder else []))

    def create_dataset(self, wanted: dict[str, Any]) -> Flow[DatasetOut]:
        """Send what the service does not have yet, and have it make a dataset, or a version of one.

        Args:
            wanted: the body of the last request, as core.schemas.uploads.UploadDatasetIn; the service checks it.

        Raises:
            Conflict: a newer version than that one was made meanwhile; asked for that, nothing is sent again.
            ArchiveRejected, DatasetUnusable: no dataset can be made of the file; the service forgets the upload.
            LabelsUnusable: not with these labels. The upload of a folder is forgotten, since repairing them makes
                another of it; that of one file stays, for a request with labels from elsewhere.
            InfrastructureError: the connection was lost too often; asked again, this goes on from there.
        """
        url = yield from self._patiently(self._find)
        url = url or (yield from self._patiently(self._begin))
        yield from self._patiently(lambda: self._send(url))
        try:
            dataset = yield from self._patiently(lambda: self._finalise(url, wanted))
        except self._final:
            with suppress(httpx.TransportError):  # Then it expires.
                yield Once("DELETE", url, {"headers": _VERSION})
            self._state.unlink(missing_ok=True)
            raise
        self._state.unlink(missing_ok=True)
        return dataset

    def _find(self) -> Flow[str | None]:
        """The upload that an earlier command began, if the service still has it."""
        try:
            url = self._state.read_text(encoding="utf-8")
            upload = yield from self._facts(url)
        except (FileNotFoundError, NotFound):
            return None
        return url if upload.length_bytes == self._length else None

    def _begin(self) -> Flow[str]:
        metadata = f"filename {base64.b64encode(self._filename.encode()).decode()}"
        headers = {**_VERSION, "Upload-Length": str(self._length), "Upload-Metadata": metadata}
        response = yield from _accepted(Once("POST", "/v1/uploads", {"headers": headers}))
        with atomic_path(self._state) as temporary:
            temporary.write_text(response.headers["Location"], encoding="utf-8")
        return str(response.headers["Location"])

    def _send(self, url: str) -> Flow[None]:
        offset = (yield from self._facts(url)).received_bytes
        while True:
            self._at = offset
            self._progress(offset, self._length)
            chunk = yield Work(partial(self._chunk, offset))
            if not chunk:
                return
            digest = base64.b64encode(hashlib.sha256(chunk).digest()).decode()
            headers = {
                **_VERSION,
                "Content-Type": "application/offset+octet-stream",
                "Upload-Offset": str(offset),
                "Upload-Checksum": f"sha256 {digest}",
            }
            options = {"content": chunk, "headers": headers}
            response = yield from _accepted(Once("PATCH", url, options))
            offset = int(response.headers["Upload-Offset"])

    def _chunk(self, offset: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(CHUNK_BYTES)

    def _finalise(self, url: str, wanted: dict[str, Any]) -> Flow[DatasetOut]:
        deadline = time.monotonic() + _LOOKING_S
        options = {"json": wanted, "timeout": _LOOKING_S}
        while True:
            try:
                response = yield from _accepted(Once("POST", f"{url}/dataset", options))
                return DatasetOut.model_validate_json(response.content)
            except Locked:
                # The answer to an earlier request was lost, but not the request.
                if time.monotonic() > deadline:
                    raise
                yield Pause(1)

    def _facts(self, url: str) -> Flow[UploadOut]:
        response = yield from _accepted(Once("GET", url))
        return UploadOut.model_validate_json(response.content)

    def _patiently(self, work: Callable[[], Flow[Result]]) -> Flow[Result]:
        """Do something again where it failed for a reason that may pass; anew from where the service is."""
        at, pauses = self._at, iter(_PAUSES_S)
        while True:
            try:
                return (yield from work())
            except StoreFull:
                raise
            except (httpx.TransportError, InfrastructureError, Locked, Conflict, ChecksumMismatch) as error:
                if isinstance(error, Conflict) and "newest" in error.details:
                    raise  # Not of the upload, but of the dataset; it does not pass.
                if self._at > at:
                    # Something was got done since: patience begins anew.
                    at, pauses = self._at, iter(_PAUSES_S)
                if (pause_s := next(pauses, None)) is None:
                    raise
                yield Pause(pause_s)


def _accepted(once: Once) -> Flow[httpx.Response]:
    """The answer; a refusal is raised, and what gets lost is left to the upload's own patience."""
    response: httpx.Response = yield once
    raise_for_problem(response)
    return response
