"""What this process measures of its own work: requests, bytes, refusals, open streams.

On the way of a request there are only lookups in dictionaries, of counters that are bound to their labels already.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector

if TYPE_CHECKING:
    from collections.abc import Callable

_METHODS = frozenset({"GET", "POST", "PATCH", "PUT", "DELETE", "HEAD", "OPTIONS"})
_BUCKETS_S = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120)
# What no route took, or the gate refused before routing.
UNROUTED = "none"


class Instruments:
    """The counters of one application.

    Args:
        version: of the service.
        commit: of its code; empty where nobody said.
    """

    def __init__(self, *, version: str, commit: str) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=self.registry)
        Info("slaegan_build", "Which code runs.", registry=self.registry).info(
            {"version": version, "commit": commit}
        )
        self._durations = Histogram(
            "slaegan_http_request_duration_seconds",
            "From a request's head to the end of its answer; of event streams, to the answer's head.",
            ("method", "route", "status"),
            buckets=_BUCKETS_S,
            registry=self.registry,
        )
        self._in_flight = Gauge(
            "slaegan_http_requests_in_flight", "Requests not answered to the end.", registry=self.registry
        )
        self._received = Counter(
            "slaegan_http_received_bytes", "Of requests' bodies.", registry=self.registry
        )
        self._sent = Counter("slaegan_http_sent_bytes", "Of answers' bodies.", registry=self.registry)
        self._refused = Counter(
            "slaegan_http_refused",
            "Requests that the gate refused, by reason.",
            ("reason",),
            registry=self.registry,
        )
        # labels() takes a lock and makes a tuple of strings each time.
        self._duration = cache(self._durations.labels)
        self._refusal = cache(self._refused.labels)

    def began(self) -> None:
        """Count a request in."""
        self._in_flight.inc()

    def ended(
        self, *, method: str, route: str, status: int, took_s: float, received_bytes: int, sent_bytes: int
    ) -> None:
        """Count a request out.

        Args:
            method: as it came; unknown ones are counted together.
            route: its template, never its path: each value of a label is a series of numbers.
            status: of the answer; 0 when there was none.
            took_s: how long it took, in seconds.
            received_bytes: of its body.
            sent_bytes: of its answer's body.
        """
        self._in_flight.dec()
        known = method if method in _METHODS else "other"
        self._duration(known, route, f"{status // 100}xx" if status else "none").observe(took_s)
        self._received.inc(received_bytes)
        self._sent.inc(sent_bytes)

    def refused(self, reason: str) -> None:
        """Count a refusal of the gate by its error's code."""
        self._refusal(reason).inc()

    def watch_streams(self, **streams: Callable[[], float]) -> None:
        """Show how many event streams are open, by kind, as these functions tell when they are asked."""
        gauge = Gauge("slaegan_event_streams", "Open event streams.", ("kind",), registry=self.registry)
        for kind, count in streams.items():
            gauge.labels(kind).set_function(count)
