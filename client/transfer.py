"""Moving files: a folder as one archive to send, a download that resumes and proves its hash."""

from __future__ import annotations

import tempfile
import time
import zipfile
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

import httpx

from client.problems import raise_for_problem
from core.errors import InfrastructureError, InvalidRequest
from core.files import fsync, sha256_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_TRIES = 5


@contextmanager
def as_archive(source: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Open what is to be uploaded: an archive as it is, a folder's files as a zip of them.

    Args:
        source: a zip or tar file, or a folder; of a folder the files directly in it, hidden ones left out.

    Yields:
        A file name and a file, open for reading.

    Raises:
        InvalidRequest: there is nothing of that name, or a folder without files.
    """
    if source.is_file():
        with source.open("rb") as file:
            yield source.name, file
        return
    if not source.is_dir():
        raise InvalidRequest(f"There is no file or folder {source}.")
    pictures = sorted(path for path in source.iterdir() if path.is_file() and not path.name.startswith("."))
    if not pictures:
        raise InvalidRequest(
            f"The folder {source} has no files directly in it: give the folder with the pictures."
        )
    with tempfile.TemporaryFile() as file:
        # Pictures are compressed already.
        with zipfile.ZipFile(file, "w", compression=zipfile.ZIP_STORED, strict_timestamps=False) as archive:
            for path in pictures:
                archive.write(path, arcname=path.name)
        file.seek(0)
        yield f"{source.resolve().name}.zip", file


def download(
    http: httpx.Client,
    url: str,
    *,
    to: Path,
    sha256: str,
    progress: Callable[[int], None] = lambda _size_bytes: None,
) -> None:
    """Fetch a file, unless it is there already and right; what an earlier try left is gone on with.

    The result is under its name only if it is right.

    Args:
        http: with the key in its headers.
        url: path of the file.
        to: where it goes; `<name>.part` beside it holds it meanwhile, and `<name>.part.version` what a stranger's
            server calls this version of it. Only one process may fetch a file at a time.
        sha256: what the bytes must hash to, in hex.
        progress: told how many bytes are there, after every chunk.

    Raises:
        InfrastructureError: the connection was lost too often, or the hash is wrong.
    """
    if to.is_file() and sha256_of(to) == sha256:
        progress(to.stat().st_size)
        return
    part = to.with_name(f"{to.name}.part")
    version = part.with_name(f"{part.name}.version")
    failures = 0
    while True:
        try:
            _fetch_rest(http, url, part=part, version=version, sha256=sha256, progress=progress)
            break
        except httpx.TransportError as error:
            failures += 1
            if failures == _TRIES:
                raise InfrastructureError(
                    f"The download of {to.name} broke off {_TRIES} times: {error}"
                ) from error
            time.sleep(min(2**failures / 4, 5))
    version.unlink(missing_ok=True)
    found = sha256_of(part)
    if found != sha256:
        part.unlink()
        raise InfrastructureError(
            f"The download of {to.name} is damaged: sha256 {found}, expected {sha256}. Try again.",
            found=found, expected=sha256,
        )  # fmt: skip
    fsync(part)
    part.replace(to)
    fsync(to.parent)


def _fetch_rest(
    http: httpx.Client, url: str, *, part: Path, version: Path, sha256: str, progress: Callable[[int], None]
) -> None:
    there = part.stat().st_size if part.exists() else 0
    # If-Range: the rest, if the file is still the same; else all of it. The service calls a file by its hash.
    same = version.read_text() if version.exists() else f'"{sha256}"'
    headers = {"Range": f"bytes={there}-", "If-Range": same} if there else {}
    with http.stream("GET", url, headers=headers, follow_redirects=True) as response:
        if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # All bytes are there; the hash tells whether they are right.
        raise_for_problem(response)
        resumed = response.status_code == httpx.codes.PARTIAL_CONTENT
        if not resumed:
            _remember(response, version)
        with part.open("ab" if resumed else "wb") as file:
            # As it comes, not in chunks of one size: what has come before a break is kept.
            for chunk in response.iter_bytes():
                file.write(chunk)
                progress(file.tell())


def _remember(response: httpx.Response, version: Path) -> None:
    """Keep what tells this version of a file from any other (RFC 9110, 13.1.5: no weak tag will do)."""
    tag = response.headers.get("ETag", "")
    if tag.startswith('"'):
        version.write_text(tag)
    else:
        version.unlink(missing_ok=True)
