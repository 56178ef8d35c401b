"""Pictures of the service as notebooks and terminals show them."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from client.flow import Ask
from core.files import atomic_path

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import httpx

    from client.flow import Flow


@dataclass(frozen=True, repr=False)
class Picture:
    """A picture; a notebook shows it.

    Attributes:
        data: the bytes of its file.
        media_type: such as image/png.
    """

    data: bytes
    media_type: str

    def __repr__(self) -> str:
        return f"Picture({self.media_type}, {len(self.data)} bytes)"

    def save(self, path: Path) -> Path:
        """Write it to a file, whole or not at all."""
        with atomic_path(path) as temporary:
            temporary.write_bytes(self.data)
        return path

    @property
    def data_url(self) -> str:
        """For the `src` of an `img`."""
        return f"data:{self.media_type};base64,{b64encode(self.data).decode()}"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/html": f'<img src="{self.data_url}" alt="" style="max-width: 100%">'}


# Has the service send a file itself, also where its files are elsewhere; not all routes know it.
DIRECT = {"redirect": "false"}


def picture(path: str, params: Mapping[str, str] | None = None) -> Flow[Picture]:
    """Fetch a picture into memory."""
    response: httpx.Response = yield Ask("GET", path, {"params": params})
    media_type = response.headers.get("Content-Type", "application/octet-stream").partition(";")[0].strip()
    return Picture(response.content, media_type if media_type in _SHOWN else "application/octet-stream")


# What comes from elsewhere is put into a page: nothing but the types that the service has.
_SHOWN = frozenset({"image/png", "image/jpeg", "image/webp"})
