"""A request that is sent again where that may help, with the same Idempotency-Key: its effect comes once.

Sent again is what got lost on the way, and what the service was too busy for (429 with Retry-After, 503). A request
that may have had its effect, and that the service could not know again, is not.
"""

from __future__ import annotations

import random
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from time import time
from typing import TYPE_CHECKING
from uuid import uuid4

import httpx

from client.flow import Ask, Flow, Once, Pause
from client.problems import raise_for_problem
from core.errors import Conflict, NotFound, SlaeganError

if TYPE_CHECKING:
    from collections.abc import Mapping

RETRIES = 3
FIRST_PAUSE_S = 0.4
# A service that wants to be left alone for longer has its refusal told.
LONGEST_WAIT_S = 60.0
# What these say has not been done: nothing has been sent, or the service has not begun.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


def answered(ask: Ask, *, retries: int) -> Flow[httpx.Response]:
    """The answer to a request, with its body.

    Args:
        ask: the request.
        retries: how often it may be sent again.

    Raises:
        SlaeganError: of the class that the service named.
        httpx.TransportError: the service could not be reached.
    """
    headers = dict(ask.options.get("headers", {}))
    if ask.method == "POST" and ask.keyed:
        headers["Idempotency-Key"] = str(uuid4())
    once = Once(ask.method, ask.path, {**ask.options, "headers": headers})
    lost = False
    for tried in range(retries + 1):
        response: httpx.Response | None = None
        try:
            answer: httpx.Response = yield once
            response = answer
            raise_for_problem(answer)
        except (httpx.TransportError, SlaeganError) as error:
            if lost and response is not None and isinstance(error, NotFound) and ask.method == "DELETE":
                return response  # The request whose answer got lost has done it.
            pause_s = _pause_s(error, response, once=once, lost=lost)
            if pause_s is None or pause_s > LONGEST_WAIT_S or tried == retries:
                raise
            lost = lost or (response is None and not isinstance(error, _NOT_SENT))
        else:
            return answer
        yield Pause(max(pause_s, _backoff_s(tried)))
    raise AssertionError("the last try returns or raises")


def _pause_s(
    error: httpx.TransportError | SlaeganError, response: httpx.Response | None, *, once: Once, lost: bool
) -> float | None:
    """How long to wait before a request is sent again; None: that would not help, or not be right.

    Args:
        error: what became of it.
        response: the refusal, if there is one.
        once: the request.
        lost: whether the answer to an earlier try got lost, so that this one may meet its effect.
    """
    key = once.options["headers"].get("Idempotency-Key")
    repeatable = once.method != "POST" or key is not None
    if response is None:
        return 0.0 if repeatable or isinstance(error, _NOT_SENT) else None
    if isinstance(error, Conflict) and lost and key is not None and error.details.get("key") == key:
        return 1.0  # The request whose answer got lost is still being carried out.
    asked_s = _retry_after_s(response.headers)
    match response.status_code:
        case HTTPStatus.TOO_MANY_REQUESTS:
            return asked_s  # Without a time a share is used up, which lasts.
        case HTTPStatus.SERVICE_UNAVAILABLE if repeatable:
            return asked_s or 0.0
    return None


def _backoff_s(tried: int) -> float:
    """Twice as long each time; not all clients at the same moment."""
    return random.uniform(0.5, 1) * FIRST_PAUSE_S * float(2**tried)  # noqa: S311  # no secret


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds of a Retry-After header, a number or a date; None where there is none that can be read."""
    text = headers.get("Retry-After", "")
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time())
    except ValueError:
        return None
