"""What Prometheus gets: this process's own counters, and what the database says of the service.

The database is asked by one thread at a time, at most every few seconds, and for no longer than a scrape may wait: when
it is slow or away, a scrape has the process's own numbers, and says so.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import logging
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from anyio.to_thread import run_sync
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from core.db import reading
from core.errors import NotFound, Unauthenticated
from core.monitoring import state
from core.monitoring.totals import Totals

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable, Iterator, Sequence

    from starlette.datastructures import Headers
    from starlette.types import Scope

    from core.settings import Settings

PATH = "/metrics"
FRESH_S = 5.0
TIMEOUT_S = 3.0
_STATEMENT_MS = 2_000
_FORWARDING = ("forwarded", "x-forwarded-for", "x-real-ip")
_logger = logging.getLogger("slaegan.api")


def check_scraper(scope: Scope, headers: Headers, *, token: str) -> None:
    """Let in who knows the token; without a token, whoever asks on this machine.

    Args:
        scope: of the request.
        headers: of the request.
        token: the setting metrics_token.

    Raises:
        Unauthenticated: there is a token, and this is another.
        NotFound: there is none, and the request comes from elsewhere, perhaps through a proxy on this machine.
    """
    if token:
        given = headers.get("authorization", "")
        if not hmac.compare_digest(given.encode("latin-1"), f"Bearer {token}".encode()):
            raise Unauthenticated("Send the metrics token: `Authorization: Bearer …`.")
        return
    peer = scope["client"][0] if scope["client"] else ""
    if not _is_loopback(peer) or any(name in headers for name in _FORWARDING):
        raise NotFound(f"There is nothing at {PATH}.")


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:  # A unix socket's peer has no address: it is on this machine.
        return not address


@dataclass(eq=False)
class ServiceCollector:
    """Numbers of the whole service, for a registry of prometheus-client.

    Attributes:
        settings: times, and where the store is.
    """

    settings: Settings
    _totals: Totals = field(default_factory=Totals)
    _families: Sequence[Metric] = ()
    _asking: asyncio.Task[None] | None = None
    _read_at: float = float("-inf")

    async def refresh(self) -> None:
        """Ask the database, unless that was done a moment ago. Never raises, and never takes longer than TIMEOUT_S."""
        if self._asking is None and time.monotonic() - self._read_at < FRESH_S:
            return
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask())
        # One that does not come back is waited for by the next scrape: no thread is added to it.
        await asyncio.wait({self._asking}, timeout=TIMEOUT_S)
        if self._asking is not None:
            self._families = (_answers(up=False),)

    async def _ask(self) -> None:
        families = [_answers(up=False)]
        try:
            families = await run_sync(self._read, abandon_on_cancel=True)
        except (SQLAlchemyError, OSError) as error:
            _logger.warning("A scrape goes without the database's numbers: %s", error)
        except Exception:  # of whatever kind: the next scrape asks again
            _logger.exception("A scrape goes without the database's numbers.")
        finally:
            self._families, self._read_at, self._asking = families, time.monotonic(), None

    def collect(self) -> Iterable[Metric]:
        """The numbers of the last refresh, and the store's free space."""
        yield from self._families
        yield from _store(self.settings)

    def describe(self) -> Iterable[Metric]:
        """Nothing to compare with others' names when this is registered: that would ask the database."""
        return ()

    def _read(self) -> list[Metric]:
        with reading() as session:
            session.execute(text(f"set statement_timeout = {_STATEMENT_MS}"))
            try:
                gauges = [
                    _gauge(g, state.read(session, g, lease_s=self.settings.lease_s)) for g in state.GAUGES
                ]
                self._totals.advance(session, settle_s=self.settings.lease_s / 2)
            finally:
                session.execute(text("reset statement_timeout"))
        return [_answers(up=True), *gauges, *_counters(self._totals)]


def _answers(*, up: bool) -> Metric:
    return GaugeMetricFamily("slaegan_database_up", "Whether the database gave its numbers.", value=float(up))


def _gauge(gauge: state.Gauge, rows: Iterable[Sequence[Any]]) -> Metric:
    family = GaugeMetricFamily(gauge.name, gauge.about, labels=gauge.labels)
    for *labels, number in rows:
        family.add_metric(labels, float(number))
    return family


def _counters(totals: Totals) -> Iterator[Metric]:
    yield _plain("slaegan_jobs_submitted", "Runs that were asked for.", totals.jobs_submitted)
    yield _by("slaegan_jobs_ended", "Runs that are over.", "outcome", totals.jobs_ended)
    yield _by("slaegan_job_failures", "Runs that failed, by the error's code.", "code", totals.failures)
    yield _plain("slaegan_attempts_started", "Claims of jobs by workers.", totals.attempts_started)
    yield _by("slaegan_attempts_ended", "Attempts that are over.", "outcome", totals.attempts_ended)
    yield _by("slaegan_requeues", "Attempts that gave their job back, by why.", "code", totals.requeues)
    yield _plain("slaegan_device_seconds", "Time that ended attempts held a device.", totals.device_s)
    yield _by("slaegan_evaluations", "Evaluations that are over.", "outcome", totals.evaluations)
    about = "From a snapshot to its metrics."
    done = totals.evaluations["done"]
    yield SummaryMetricFamily(
        "slaegan_evaluation_seconds", about, count_value=done, sum_value=totals.evaluation_s
    )


def _plain(name: str, about: str, value: float) -> Metric:
    return CounterMetricFamily(name, about, value=value)


def _by(name: str, about: str, label: str, counts: Counter[str]) -> Metric:
    family = CounterMetricFamily(name, about, labels=[label])
    for value, count in sorted(counts.items()):
        family.add_metric([value], count)
    return family


def _store(settings: Settings) -> Iterator[Metric]:
    """Of a local store; an object store has no end that it tells."""
    parts = urlsplit(settings.storage_url)
    if parts.scheme != "file":
        return
    try:
        free_bytes = shutil.disk_usage(Path(unquote(parts.path))).free
    except OSError:  # It is made with the first upload.
        return
    about = "Of the store's disk."
    yield GaugeMetricFamily("slaegan_store_free_bytes", about, value=free_bytes)
    reserve = "Writes stop before less than this is free."
    yield GaugeMetricFamily("slaegan_store_reserve_bytes", reserve, value=settings.store_reserve_bytes)
