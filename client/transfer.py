"""Moving files: a folder as one archive to send, a download that resumes and proves its hash."""

from __future__ import annotations

import tempfile
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import IO, TYPE_CHECKING

import httpx

from client.flow import Open, Pause, Read, Work
from client.problems import raise_for_problem
from core.errors import InfrastructureError, InvalidRequest
from core.files import fsync, sha256_of
from core.schemas.datasets import PICTURE_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from client.flow import Flow
    from core.schemas.datasets import LabelSource

_TRIES = 5


def require_source(source: Path) -> None:
    """What is to be uploaded is there.

    Raises:
        InvalidRequest: it is not.
    """
    if not source.is_file() and not source.is_dir():
        raise InvalidRequest(f"There is no file or folder {source}.")


def files_of(source: Path, *, labels: LabelSource = "auto") -> list[Path]:
    """What of a folder is uploaded, hidden files left out; of a file that file.

    The files directly in it, and where labels want that also those of its folders: with `csv` and `folders` always,
    with `auto` where a labels.csv lies in it, or no picture does and two folders or more have files.
    """
    if source.is_file():
        return [source]
    shown = sorted(path for path in source.iterdir() if not path.name.startswith("."))
    direct = [path for path in shown if path.is_file()]
    if labels == "none":
        return direct
    folders = [
        sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
        for folder in shown
        if folder.is_dir()
    ]
    below = [path for folder in folders for path in folder]
    has_table = any(path.name.casefold() == "labels.csv" for path in direct)
    has_pictures = any(path.suffix.lower() in PICTURE_SUFFIXES for path in direct)
    are_classes = not has_pictures and sum(map(bool, folders)) > 1
    return [*direct, *below] if labels != "auto" or has_table or are_classes else direct


@contextmanager
def as_archive(source: Path, *, labels: LabelSource = "auto") -> Iterator[tuple[str, IO[bytes]]]:
    """Open what is to be uploaded: an archive as it is, a folder's files as a zip of them.

    Args:
        source: a zip or tar file, or a folder; `files_of` says what of that.
        labels: where the pictures' classes come from.

    Yields:
        A file name and a file, open for reading.

    Raises:
        InvalidRequest: there is nothing of that name, or a folder without files.
    """
    require_source(source)
    if source.is_file():
        with source.open("rb") as file:
            yield source.name, file
        return
    pictures = files_of(source, labels=labels)
    if not pictures:
        raise InvalidRequest(
            f"The folder {source} has no files directly in it: give the folder with the pictures."
        )
    with tempfile.TemporaryFile() as file:
        # Pictures are compressed already.
        with zipfile.ZipFile(file, "w", compression=zipfile.ZIP_STORED, strict_timestamps=False) as archive:
            for path in pictures:
                archive.write(path, arcname=path.relative_to(source))
        file.seek(0)
        yield f"{source.resolve().name}.zip", file


def download(
    url: str,
    *,
    to: Path,
    sha256: str,
    service: httpx.URL,
    progress: Callable[[int], None] = lambda _size_bytes: None,
) -> Flow[Path]:
    """Fetch a file, unless it is there already and right; what an earlier try left is gone on with.

    The result is under its name only if it is right. Where the service sends on to its object store, the key stays
    behind (httpx gives it to no other host); a store that cannot be reached from here is gone round.

    Args:
        url: path of the file.
        to: where it goes; `<name>.part` beside it holds it meanwhile, and `<name>.part.version` what a stranger's
            server calls this version of it. Only one process may fetch a file at a time.
        sha256: what the bytes must hash to, in hex.
        service: the address of the service.
        progress: told how many bytes are there, after every chunk.

    Returns:
        Where it is.

    Raises:
        InfrastructureError: the connection was lost too often, or the hash is wrong.
    """
    if to.is_file() and (yield Work(partial(sha256_of, to))) == sha256:
        progress(to.stat().st_size)
        return to
    part = to.with_name(f"{to.name}.part")
    version = part.with_name(f"{part.name}.version")
    failures = 0
    query: dict[str, str] = {}
    while True:
        rest = _Rest(part, version, sha256)
        try:
            yield from _fetch_rest(url, query, rest, service=service, progress=progress)
            break
        except (httpx.TransportError, _StoreFailed) as error:
            if isinstance(error, httpx.ConnectError) and not _is(service, error.request.url):
                query = {"redirect": "false"}
            failures += 1
            if failures == _TRIES:
                raise InfrastructureError(
                    f"The download of {to.name} broke off {_TRIES} times: {error}"
                ) from error
            yield Pause(min(2**failures / 4, 5))
    version.unlink(missing_ok=True)
    found = yield Work(partial(sha256_of, part))
    if found != sha256:
        part.unlink()
        raise InfrastructureError(
            f"The download of {to.name} is damaged: sha256 {found}, expected {sha256}. Try again.",
            found=found, expected=sha256,
        )  # fmt: skip
    yield Work(partial(fsync, part))
    part.replace(to)
    yield Work(partial(fsync, to.parent))
    return to


class _StoreFailed(Exception):
    """What the service's object store answers while it is in trouble; it goes by."""


def _is(service: httpx.URL, url: httpx.URL) -> bool:
    return (url.host, url.port) == (service.host, service.port)


@dataclass(frozen=True)
class _Rest:
    """What of a file is there, and what it is called by whoever has it."""

    part: Path
    version: Path
    sha256: str

    @property
    def headers(self) -> dict[str, str]:
        """If-Range: the rest, if the file is still the same; else all of it. The service calls a file by its hash."""
        there = self.part.stat().st_size if self.part.exists() else 0
        same = self.version.read_text() if self.version.exists() else f'"{self.sha256}"'
        return {"Range": f"bytes={there}-", "If-Range": same} if there else {}

    def remember(self, response: httpx.Response) -> None:
        """Keep what tells this version of a file from any other (RFC 9110, 13.1.5: no weak tag will do)."""
        tag = response.headers.get("ETag", "")
        if tag.startswith('"'):
            self.version.write_text(tag)
        else:
            self.version.unlink(missing_ok=True)


def _fetch_rest(
    url: str, query: dict[str, str], rest: _Rest, *, service: httpx.URL, progress: Callable[[int], None]
) -> Flow[None]:
    opened = yield Open("GET", url, {"params": query or None, "headers": rest.headers})
    response = opened.response
    if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
        return  # All bytes are there; the hash tells whether they are right.
    if response.is_server_error and not _is(service, response.url):
        raise _StoreFailed(f"{response.url.host} answered {response.status_code}")
    raise_for_problem(response)
    resumed = response.status_code == httpx.codes.PARTIAL_CONTENT
    if not resumed:
        rest.remember(response)
    with rest.part.open("ab" if resumed else "wb") as file:
        # As it comes, not in chunks of one size: what has come before a break is kept.
        while (chunk := (yield Read(opened))) is not None:
            file.write(chunk)
            progress(file.tell())
