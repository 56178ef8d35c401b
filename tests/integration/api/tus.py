"""What tests of resumable uploads ask for, in words."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest

from core.uploads import files
from tests.integration.api.conftest import new_person
from tests.picture_files import pngs, zipped

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from tests.integration.api.conftest import Api, Person

MIB = 1024 * 1024
VERSION = {"Tus-Resumable": "1.0.0"}
OFFSET = {**VERSION, "Content-Type": "application/offset+octet-stream"}
ZIP = zipped(pngs(5))


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def begin(person: Person, length: int, *, filename: str = "cats.zip", **headers: str) -> str:
    """An upload's address."""
    named = {"Upload-Length": str(length), "Upload-Metadata": f"filename {b64(filename.encode())}"}
    response = person.post("/v1/uploads", headers={**VERSION, **named, **headers})
    assert response.status_code == 201, response.text
    return response.headers["location"]


def send(person: Person, url: str, data: Any, *, offset: int, **headers: str) -> httpx.Response:
    return person.patch(url, content=data, headers={**OFFSET, "Upload-Offset": str(offset), **headers})


def offset(person: Person, url: str) -> int:
    response = person.head(url, headers=VERSION)
    assert (response.status_code, response.content) == (200, b"")
    return int(response.headers["upload-offset"])


def whole(person: Person, data: bytes, *, filename: str = "cats.zip") -> str:
    url = begin(person, len(data), filename=filename)
    assert send(person, url, data, offset=0).status_code == 204
    return url


def here() -> list[bytes]:
    """The bytes of all uploads on this machine."""
    return [path.read_bytes() for path in files.home().glob("*")]


@pytest.fixture
def owner(api: Api) -> Iterator[Person]:
    """A person to whose uploads nothing was added by other tests, of this or another tenant."""
    with new_person(api) as person:
        yield person
        for item in person.get("/v1/uploads").json()["items"]:
            person.delete(f"/v1/uploads/{item['id']}")
