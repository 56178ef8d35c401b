"""Delivery: many at once, each bounded in time, none able to hold up another tenant's."""

from __future__ import annotations

import logging
import random
import time
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache, partial
from http import HTTPStatus
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import httpx
from sqlalchemy.exc import SQLAlchemyError

from core.db import sessions
from core.errors import InvalidRequest
from core.settings import settings
from core.webhooks import outbox, signing
from core.webhooks.addresses import host_of, resolve
from core.webhooks.outbox import Claim, Outcome

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

logger = logging.getLogger(__name__)

# A run takes nothing new after so long, so that the other chores get their turn.
RUN_S = 10
_LOOK_S = 0.5
_DATABASE_THREADS = 4
_MAX_ANSWER_BYTES = 16 * 1024
_MAX_ERROR = 500
_JITTER = 0.2


async def deliver_due() -> bool:
    """Deliver what is due, and what becomes due meanwhile.

    Returns:
        Whether nothing was left; if not, there was no more time.
    """
    run = _Run()
    async with anyio.create_task_group() as group:
        until = time.monotonic() + RUN_S
        while time.monotonic() < until:
            idle = not run.under_way  # before the look: what fails during it may be due again at once
            claims = await run.claim()
            for claim in claims:
                group.start_soon(run.deliver, claim)
            if idle and not claims:
                return True
            if not claims or run.under_way >= settings().webhook_concurrency:
                await run.wait_for_an_end()
    return False


class _Run:
    """The deliveries under way in this process."""

    def __init__(self) -> None:
        self.under_way = 0
        self._ended = anyio.Event()
        self._database = anyio.CapacityLimiter(_DATABASE_THREADS)
        # A name service that does not answer holds a lookup's thread for longer than its delivery lasts.
        self._lookups = anyio.CapacityLimiter(2 * settings().webhook_concurrency)

    async def claim(self) -> list[Claim]:
        """Take what is due, as far as there is room; nothing while the database is away."""
        free = settings().webhook_concurrency - self.under_way
        try:
            claims = await anyio.to_thread.run_sync(partial(_claim, limit=free), limiter=self._database)
        except SQLAlchemyError as error:
            # What is under way goes on: its endpoints may have it already.
            logger.warning("The database gave no webhooks to deliver: %s", error)
            return []
        self.under_way += len(claims)
        return claims

    async def wait_for_an_end(self) -> None:
        """Until a delivery has ended, or something else may have become due."""
        with anyio.move_on_after(_LOOK_S):
            await self._ended.wait()
        self._ended = anyio.Event()

    async def deliver(self, claim: Claim) -> None:
        """One attempt, and its record. Whatever goes wrong with it concerns no other."""
        try:
            outcome = await attempt(claim, lookups=self._lookups)
            if outcome.error is not None:
                logger.info("Webhook %s, attempt %d: %s", claim.delivery_id, claim.attempt, outcome.error)
            held = await anyio.to_thread.run_sync(_settle, claim, outcome, limiter=self._database)
            if not held:
                logger.warning("Webhook %s was taken over or asked for again meanwhile.", claim.delivery_id)
        except SQLAlchemyError as error:
            # It is due again when its lease ends, under the same id.
            logger.warning("What became of webhook %s could not be written: %s", claim.delivery_id, error)
        finally:
            self.under_way -= 1
            self._ended.set()


async def attempt(claim: Claim, *, lookups: anyio.CapacityLimiter) -> Outcome:
    """Send one delivery once.

    Args:
        claim: what, and where to.
        lookups: how many names may be looked up at once.
    """
    timeout_s = settings().webhook_timeout_s
    answer: list[httpx.Response] = []
    error = None
    try:
        with anyio.fail_after(timeout_s):
            await _send(claim, answer, lookups=lookups)
    except (TimeoutError, httpx.TimeoutException):
        error = f"No answer came within {timeout_s:g} s."
    except InvalidRequest as refusal:
        error = refusal.message
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as failure:
        error = f"The endpoint could not be reached: {str(failure) or type(failure).__name__}"[:_MAX_ERROR]
    except Exception as failure:
        logger.exception("Webhook %s met an error that is not its endpoint's.", claim.delivery_id)
        error = f"The service could not send it: {type(failure).__name__}."
    # Once the status is there, it counts, whatever became of the rest of the answer.
    return _judged(answer[0].status_code, answer[0].headers) if answer else Outcome(error=error)


async def _send(claim: Claim, answer: list[httpx.Response], *, lookups: anyio.CapacityLimiter) -> None:
    """Send it; the response is appended to `answer` as soon as its head is there."""
    url = httpx.URL(claim.url)
    host = host_of(claim.url)
    # To the address that was checked, and to no other: asked twice, a name service may give two answers.
    address = await resolve(host, private=settings().webhook_private_addresses, threads=lookups)
    request_headers = {
        "Host": url.netloc.decode("ascii"),
        "Content-Type": "application/json",
        "User-Agent": "slaegan-webhooks",
        **signing.headers(claim.delivery_id, claim.body, keys=claim.keys),
    }
    # A client for each delivery: cookies and connections of one receiver are never another's.
    async with (
        httpx.AsyncClient(verify=_tls(), trust_env=False, timeout=settings().webhook_timeout_s) as http,
        http.stream(
            "POST",
            url.copy_with(host=address),
            content=claim.body,
            headers=request_headers,
            extensions={"sni_hostname": host.rstrip(".")},
            follow_redirects=False,
        ) as response,
    ):
        answer.append(response)
        seen_bytes = 0
        with suppress(httpx.HTTPError):
            # The body is only taken off the endpoint's hands: nobody is shown what hosts answer.
            async for chunk in response.aiter_raw():
                seen_bytes += len(chunk)
                if seen_bytes > _MAX_ANSWER_BYTES:
                    break


def _judged(status_code: int, headers: Mapping[str, str]) -> Outcome:
    if HTTPStatus(200) <= status_code < HTTPStatus(300):
        return Outcome(status_code)
    error = f"The endpoint answered {status_code}."
    if status_code == HTTPStatus.GONE:
        return Outcome(status_code, error=f"{error} It wants no more of this: not tried again.", final=True)
    if HTTPStatus(300) <= status_code < HTTPStatus(400):
        error = f"{error} Redirects are not followed: give the URL that they lead to."
    return Outcome(status_code, error=error, retry_after_s=_retry_after_s(headers.get("retry-after")))


def _retry_after_s(header: str | None) -> float:
    """Seconds of a Retry-After header, a number or a date; 0 where there is none that can be read."""
    if header is None:
        return 0
    if header.strip().isascii() and header.strip().isdecimal():
        return float(header[:10])
    try:
        moment = parsedate_to_datetime(header)
    except ValueError:
        return 0
    if moment.tzinfo is None:
        return 0
    return max(0.0, (moment - datetime.now(tz=UTC)).total_seconds())


def _claim(*, limit: int) -> list[Claim]:
    with sessions().begin() as session:
        return outbox.claim(
            session,
            limit=limit,
            per_tenant=settings().webhooks_per_tenant,
            lease_s=settings().webhook_timeout_s + settings().lease_s,
            overlap_s=settings().webhook_rotation_s,
        )


def _settle(claim: Claim, outcome: Outcome) -> bool:
    # Endpoints that failed together are not tried again all at once.
    longer = random.uniform(1, 1 + _JITTER)  # noqa: S311  # no secret
    retries_s = [pause_s * longer for pause_s in settings().webhook_retries_s]
    with sessions().begin() as session:
        return outbox.settle(session, claim, outcome, retries_s=retries_s)


@cache
def _tls() -> ssl.SSLContext:
    """Reading the certificates takes longer than a delivery: once a process."""
    return httpx.create_ssl_context(trust_env=False)
