from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from api.envelope import Envelope
from api.instruments import Instruments

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

INSTRUMENTS = Instruments(version="0", commit="")


def ask(app: ASGIApp, url: str = "http://localhost/v1/jobs") -> httpx.Response:
    async def get() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, verify=False) as client:  # noqa: S501  # no network
            return await client.get(url)

    return asyncio.run(get())


@pytest.mark.parametrize(("raised", "status", "code"), [
    (HTTPException(408, "slow"), 408, "too_slow"), (HTTPException(413, "long"), 413, "too_large"),
    (RuntimeError("secret"), 500, "internal"),
])  # fmt: skip
def test_what_a_middleware_raises_is_answered_as_a_problem(raised: Exception, status: int, code: str) -> None:
    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise raised

    answer = ask(Envelope(app, instruments=INSTRUMENTS))
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert "secret" not in answer.text
    assert answer.headers["x-frame-options"] == "DENY"


def test_what_a_route_says_of_itself_stands() -> None:
    own: dict[str, Any] = {
        "Cache-Control": "private, no-cache",
        "Content-Security-Policy": "default-src 'self'",
    }
    answer = ask(Envelope(JSONResponse({}, headers=own), instruments=INSTRUMENTS))
    for name, value in own.items():
        assert answer.headers.get_list(name) == [value]


def test_browsers_are_sent_to_tls_over_tls_only() -> None:
    app = Envelope(JSONResponse({}), instruments=INSTRUMENTS, hsts_s=600)
    assert ask(app, "https://localhost/").headers["strict-transport-security"] == "max-age=600"
    assert "strict-transport-security" not in ask(app).headers
    assert (
        "strict-transport-security"
        not in ask(Envelope(JSONResponse({}), instruments=INSTRUMENTS), "https://localhost/").headers
    )
