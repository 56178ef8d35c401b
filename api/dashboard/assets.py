"""Files of the pages, in memory, under addresses that change with their content: browsers keep them for a year."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import mimetypes
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from core.errors import NotFound

router = APIRouter(include_in_schema=False)
_PREFIX = "/static/"
_FOLDER = Path(__file__).parent / "static"
_PLOTLY = "plotly.min.js"
_KEPT = {"Cache-Control": "public, max-age=31536000, immutable", "Vary": "Accept-Encoding"}
# Of a page that another version of the service made: it gets the present file, and does not keep it.
_PASSING = {"Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
_MIN_PACKED = 1_000
_TYPES = {".js": "text/javascript"}


@dataclass(frozen=True)
class Asset:
    """One file, as it is and packed."""

    media_type: str
    plain: bytes
    packed: bytes


def is_static(path: str) -> bool:
    """Whether a path is one of those below which everything is public and alike for everybody."""
    return path.startswith(_PREFIX)


@cache
def tree_hash() -> str:
    """Of all our files together, so that modules find each other by relative addresses."""
    hashed = hashlib.sha256()
    for path in sorted(_FOLDER.rglob("*")):
        if path.is_file():
            hashed.update(str(path.relative_to(_FOLDER)).encode() + b"\0" + path.read_bytes() + b"\0")
    return hashed.hexdigest()[:16]


def address(name: str) -> str:
    """Where a page finds a file of ours, such as js/jobs.js; plotly.min.js comes from plotly's own wheel."""
    if name == _PLOTLY:
        return f"{_PREFIX}plotly-{version('plotly')}/{_PLOTLY}"
    assert (_FOLDER / name).is_file(), name
    return f"{_PREFIX}{tree_hash()}/{name}"


@router.get(_PREFIX + "{digest}/{name:path}")
async def static(name: str, request: Request) -> Response:
    asset = await run_in_threadpool(_read, name)
    if asset is None:
        raise NotFound(f"There is nothing at {request.url.path}.")
    headers = _KEPT if request.url.path == address(name) else _PASSING
    if len(asset.plain) >= _MIN_PACKED and "gzip" in request.headers.get("accept-encoding", ""):
        return Response(
            asset.packed, headers={**headers, "Content-Encoding": "gzip"}, media_type=asset.media_type
        )
    return Response(asset.plain, headers=headers, media_type=asset.media_type)


def _read(name: str) -> Asset | None:
    path = _paths().get(name)
    return _asset(path) if path is not None else None


@cache
def _paths() -> dict[str, Path]:
    """By name, so that no request's path is ever looked for on the disk."""
    package = importlib.util.find_spec("plotly")
    assert package is not None
    assert package.origin is not None
    ours = {str(path.relative_to(_FOLDER)): path for path in _FOLDER.rglob("*") if path.is_file()}
    return {**ours, _PLOTLY: Path(package.origin).parent / "package_data" / _PLOTLY}


@cache
def _asset(path: Path) -> Asset:
    plain = path.read_bytes()
    media_type = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return Asset(media_type, plain, gzip.compress(plain, mtime=0))
