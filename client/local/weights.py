"""What `slaegan weights` finds and fetches on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import httpx
from filelock import FileLock

from client.transfer import download
from client.transport import SyncTransport
from core.errors import InfrastructureError, InvalidRequest, WeightsMissing
from core.settings import Settings
from core.weights import CATALOGUE, candidates, ensure, weights_hash, weights_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from core.schemas.judging import Extractor

_TIMEOUT_S = 60


@dataclass(frozen=True)
class File:
    """The weights of one extractor, or where to get them.

    Attributes:
        extractor: its name.
        state: "here" is verified; of "unverified" nobody has published a hash; "wrong" is damaged or something else.
        path: None where missing.
        size_bytes: None where missing.
        sha256: what is found; where missing, what is expected, if that is known.
        source: where it comes from.
    """

    extractor: str
    state: Literal["here", "unverified", "wrong", "missing"]
    path: Path | None
    size_bytes: int | None
    sha256: str | None
    source: str


def weights_files(folder: Path | None) -> list[File]:
    """All that is there, and what is missing; every file is hashed.

    Args:
        folder: of the weights; None: the service's own.
    """
    found = []
    for extractor, known in CATALOGUE.items():
        paths = candidates(extractor, folder or _own_folder())
        if not paths:
            found.append(File(extractor, "missing", None, None, known.sha256, known.source))
        for path in paths:
            sha256 = weights_hash(path)
            state: Literal["here", "unverified", "wrong"] = "here" if sha256 == known.sha256 else "wrong"
            if known.sha256 is None:
                state = "unverified"
            found.append(File(extractor, state, path, path.stat().st_size, sha256, known.source))
    return found


def known_extractor(name: str) -> Extractor:
    """The extractor of that name.

    Raises:
        InvalidRequest: there is none.
    """
    for extractor in CATALOGUE:
        if extractor == name:
            return extractor
    raise InvalidRequest(f"There is no extractor {name!r}; there are {', '.join(CATALOGUE)}.")


def fetch_weights(
    extractor: Extractor, folder: Path | None, *, progress: Callable[[int], None] = lambda _size_bytes: None
) -> Path:
    """Verified weights of an extractor, downloaded where they are not there.

    Args:
        extractor: whose.
        folder: of the weights, made if missing; None: the service's own.
        progress: told how many bytes are there, of what comes from an address.

    Returns:
        Where they are; in torch hub's cache, if they are there.

    Raises:
        WeightsMissing: they could not be fetched; the message says how to put them there by hand.
    """
    folder = folder or _own_folder()
    known = CATALOGUE[extractor]
    if known.converted is not None:
        return ensure(known.converted, folder)
    path = folder / known.files[0]
    if known.url is None or known.sha256 is None:
        raise WeightsMissing(
            f"The weights of {extractor} have no published hash to be verified by: download {known.source} yourself "
            f"and put it into {folder}.",
            extractor=extractor, folder=str(folder),
        )  # fmt: skip
    here = weights_path(extractor, folder, sha256=known.sha256)
    if here is not None:
        return here
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{path.name}.lock"), SyncTransport(timeout_s=_TIMEOUT_S) as strangers:
            # The address is none of the service's, and gets no key.
            nobody = httpx.URL()
            strangers.run(
                download(known.url, to=path, sha256=known.sha256, service=nobody, progress=progress)
            )
    except (InfrastructureError, httpx.HTTPError, OSError) as error:
        reason = str(error).rstrip(".")
        raise WeightsMissing(
            f"{known.url} could not be fetched into {folder} ({reason}). On a machine that reaches it, download it and "
            f"put it there as {path.name} (sha256 {known.sha256}).",
            folder=str(folder), file=path.name, sha256=known.sha256,
        ) from error  # fmt: skip
    return path


def _own_folder() -> Path:
    return Settings(database_url="", broker_url="", storage_url="").weights_dir
