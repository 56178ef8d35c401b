"""S3, GCS, Azure and their likes as the artifact store, through obstore, which sends large files in parts."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, S3Store, from_url

from core.errors import StoreUnavailable
from core.storage.protocol import CHUNK_BYTES, Entry, cut_short, missing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# A store that is away is told of within seconds; whoever asked decides how long to go on trying. A transfer that moves
# may take its time. Waiting for an answer to an uploaded part counts as silence, so few parts go at once.
_CLIENT: Any = {
    "connect_timeout": timedelta(seconds=3),
    "read_timeout": timedelta(seconds=10),
    "timeout": timedelta(minutes=5),
    # These options replace those of the environment (AWS_ALLOW_HTTP): who names an endpoint with http:// means it.
    "allow_http": True,
}
_RETRIES: Any = {
    "max_retries": 2,
    "retry_timeout": timedelta(seconds=8),
    "backoff": {
        "init_backoff": timedelta(milliseconds=200),
        "max_backoff": timedelta(seconds=1),
        "base": 2,
    },
}
_PARTS_AT_ONCE = 4
_FAILURES = (BaseError, OSError, ValueError)
_SHOWN = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".mp4": "video/mp4",
}
_MAX_TOLD = 300


class ObjectStore:
    """A bucket, or what lies under a prefix of one; credentials come from the environment, as each provider has it.

    Args:
        url: as obstore knows it: s3://bucket/prefix, gs://bucket/prefix, az://container/prefix …
    """

    def __init__(self, url: str) -> None:
        # Not netloc: what stands before an @ may be a secret.
        self._name = urlsplit(url).hostname or "of STORAGE_URL"
        try:
            self._store: Any = from_url(url, client_options=_CLIENT, retry_config=_RETRIES)
        except _FAILURES as error:
            raise self._failed(error) from None

    def _failed(self, error: Exception) -> StoreUnavailable:
        # Raised `from None`: the library's own error would bring its whole text into a log with a traceback.
        return StoreUnavailable(f"The store {self._name} failed: {_told(error)}")

    def put(self, key: str, source: Path, *, filename: str | None = None) -> None:
        try:
            obstore.put(
                self._store,
                key,
                source,
                attributes=_attributes(key, filename=filename),
                max_concurrency=_PARTS_AT_ONCE,
            )
        except _FAILURES as error:
            raise self._failed(error) from None

    def fetch(self, key: str, target: Path) -> None:
        with target.open("wb") as file:
            for chunk in self.read(key):
                file.write(chunk)

    def read(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        position, version, fruitless = start, None, 0
        while end is None or position < end:
            result, before = self._get(key, _part(position, end, version=version)), position
            version = result.meta["e_tag"]
            try:
                for chunk in result.stream(min_chunk_size=CHUNK_BYTES):
                    position += len(chunk)
                    yield bytes(chunk)
            except _FAILURES as error:
                # A body that broke off, or outlived the time of one request, is gone on with.
                fruitless = fruitless + 1 if position == before else 0
                if fruitless > 1:
                    raise self._failed(error) from None
            else:
                break
        if end is not None and position < end:
            raise cut_short(key, missing_bytes=end - position)

    def _get(self, key: str, options: Any) -> obstore.GetResult:
        try:
            return obstore.get(self._store, key, options=options)
        except FileNotFoundError:
            raise missing(key) from None
        except _FAILURES as error:
            raise self._failed(error) from None

    def signed_url(self, key: str, *, expires_s: int) -> str | None:
        if not isinstance(self._store, S3Store | GCSStore | AzureStore):
            return None
        try:
            return obstore.sign(self._store, "GET", key, timedelta(seconds=expires_s))
        except _FAILURES as error:
            raise StoreUnavailable(
                f"The store {self._name} gives no signed URLs ({_told(error)}): let its credentials sign, or set "
                "SLAEGAN_SIGNED_URLS=false."
            ) from None

    def delete(self, key: str) -> None:
        try:
            obstore.delete(self._store, key)
        except FileNotFoundError:
            return
        except _FAILURES as error:
            raise self._failed(error) from None

    def keys(self, prefix: str) -> Iterator[str]:
        for entry in self.entries(prefix):
            yield entry.key

    def entries(self, prefix: str) -> Iterator[Entry]:
        last, fruitless = None, 0
        while True:
            before = last
            try:
                for batch in obstore.list(self._store, prefix=prefix, offset=last):
                    for found in batch:
                        last = found["path"]
                        yield Entry(last, found["size"], found["last_modified"])
            except _FAILURES as error:
                # The library tries a request again, but not one whose answer broke off.
                fruitless = fruitless + 1 if last == before else 0
                if fruitless > 1:
                    raise self._failed(error) from None
            else:
                return

    def unfinished(self) -> Iterator[Entry]:
        # Parts of uploads that never ended cannot be listed here: a lifecycle rule of the bucket ends them.
        return iter(())

    def check(self) -> None:
        try:
            obstore.put(self._store, "health/check", b"written to see that it can be")
        except _FAILURES as error:
            raise self._failed(error) from None


def _part(start: int, end: int | None, *, version: str | None) -> Any:
    """Options of a read: which bytes, and of which version once some of it were read."""
    options: dict[str, Any] = {}
    if end is not None:
        options["range"] = (start, end)
    elif start:
        options["range"] = {"offset": start}
    if version is not None:
        options["if_match"] = version
    return options


def _attributes(key: str, *, filename: str | None) -> dict[str, str]:
    """Headers that the store sends with an object; a signed URL cannot carry them, so they are stored with it."""
    shown = _SHOWN.get(PurePosixPath(key).suffix)
    attributes = {"Content-Type": shown or "application/octet-stream"}
    if filename is not None:
        attributes["Content-Disposition"] = f'{"inline" if shown else "attachment"}; filename="{filename}"'
    return attributes


def _told(error: Exception) -> str:
    """What people may read of a library's error: no secrets (queries, user names), nothing of its insides."""
    text = str(error).partition("Debug source")[0]
    said = re.search(r"<Message>(.*?)</Message>", text, re.DOTALL)
    text = re.sub(r"<\?xml.*|<Error>.*", said[1] if said else "", text, flags=re.DOTALL)
    text = re.sub(r"(\w+://)[^\s/@]*@", r"\1", text)
    text = re.sub(r"\?\S*", "", text)
    return " ".join(text.split())[:_MAX_TOLD]
