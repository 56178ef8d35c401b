"""Query parameters that a route does not know are refused: a filter misspelt would find everything."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from uuid import uuid4

import httpx
import pytest

from tests.integration.api.conftest import CLIENT, problem

if TYPE_CHECKING:
    from tests.integration.api.conftest import Api, Person


def test_no_operation_takes_what_it_does_not_know(api: Api, owner: Person) -> None:
    asked = 0
    for path, item in api.app.openapi()["paths"].items():
        url = re.sub(r"\{[^}]*\}", str(uuid4()), path)
        for method in item.keys() & {"get", "post", "put", "patch", "delete"}:
            # Of resumable uploads: another version is refused before that.
            headers = {"Tus-Resumable": "1.0.0"} if path.startswith("/v1/uploads") else {}
            answer = owner.request(method, url, params={"nonsense": "1"}, headers=headers)
            body = problem(answer, 422, "invalid")
            assert [entry["where"] for entry in body["errors"]] == ["query.nonsense"], (method, path)
            asked += 1
    assert asked > 40


@pytest.mark.parametrize(
    ("path", "known"),
    [
        ("/v1/audit", "known here: .*action.*limit"),
        ("/v1/jobs", "known here: .*cursor.*status"),
        ("/v1/models", "none is known"),
    ],
)
def test_the_error_tells_what_is_known(path: str, known: str, owner: Person) -> None:
    body = problem(owner.get(path, params={"actor": "operator", "limit": "x"}), 422, "invalid")
    [entry] = [entry for entry in body["errors"] if entry["where"] == "query.actor"]
    assert re.search(known, entry["what"]), entry


def test_what_is_no_part_of_the_contract_takes_anything(api: Api) -> None:
    for path in ("/metrics", "/docs", "/openapi.json"):
        assert httpx.get(api.url.join(path), params={"nonsense": "1"}, **CLIENT).status_code == 200, path
