"""OpenTelemetry, where it is asked for: spans from a request to the ticks of the training that it asked for.

Off, and nothing of it imported, unless OTEL_EXPORTER_OTLP_ENDPOINT is set; needs the extra `otel`. The libraries read
the other variables of that standard themselves (headers, sampler, timeouts).
"""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from core import logbook
from core.settings import settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from opentelemetry.sdk.trace import TracerProvider

FLUSH_S = 2.0
_logger = logging.getLogger("slaegan.tracing")
_provider: TracerProvider | None = None


def setup(service: str) -> None:
    """Begin to trace, where it is asked for; in a process that forks, after the fork: a thread exports the spans.

    Args:
        service: of which process the spans are, if OTEL_SERVICE_NAME does not say.
    """
    global _provider  # noqa: PLW0603  # one a process, like its logging
    if not settings().otlp_endpoint or _provider is not None:
        return
    try:
        from core.spans import exporting_provider  # noqa: PLC0415  # takes its time, and needs the extra
    except ImportError as error:
        _logger.warning("Nothing is traced: install slaegan[otel], or unset the OTLP endpoint (%s).", error)
        return
    _provider = exporting_provider(settings().otel_service_name or service)


def provider() -> TracerProvider | None:
    """What makes this process's spans; None where nothing is traced."""
    return _provider


def stop() -> None:
    """Export what is left, for FLUSH_S at most, and trace no more."""
    global _provider  # noqa: PLW0603  # as above
    if _provider is not None:
        # A collector that does not answer would hold up the end of the process for longer.
        ending = threading.Thread(target=_provider.shutdown, daemon=True)
        ending.start()
        ending.join(FLUSH_S)
        _provider = None


def origin() -> dict[str, str] | None:
    """What is stored with a job of the request that asks for it: its id, and its trace where there is one."""
    known = {"request_id": logbook.field("request_id"), **environment()}
    return {name: value for name, value in known.items() if value is not None} or None


def environment() -> dict[str, str]:
    """The present span, for a child process or a row: TRACEPARENT, as W3C's Trace Context writes it."""
    if _provider is None:
        return {}
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return {"TRACEPARENT": carrier["traceparent"]} if carrier else {}


@contextmanager
def span(name: str, *, parent: Mapping[str, str] | None = None, **attributes: Any) -> Iterator[None]:
    """Trace what happens inside.

    Args:
        name: of the span; few different ones.
        parent: as `origin` gave it; by default the present span.
        attributes: what is worth knowing; values that are no numbers are written as strings.
    """
    if _provider is None:
        yield
        return
    tracer = _provider.get_tracer("slaegan")
    with tracer.start_as_current_span(name, context=_context(parent), attributes=_written(attributes)):
        yield


def note(**attributes: Any) -> None:
    """Add to the present span."""
    if _provider is not None:
        from opentelemetry import trace  # noqa: PLC0415

        trace.get_current_span().set_attributes(_written(attributes))


def past(name: str, *, began_ns: int, ended_ns: int, **attributes: Any) -> None:
    """Trace what has happened already, under the present span.

    Args:
        name: of the span.
        began_ns: when, in nanoseconds since 1970.
        ended_ns: likewise.
        attributes: as for `span`.
    """
    if _provider is not None:
        tracer = _provider.get_tracer("slaegan")
        tracer.start_span(name, start_time=began_ns, attributes=_written(attributes)).end(ended_ns)


def _context(parent: Mapping[str, str] | None) -> Any:
    if parent is None or "TRACEPARENT" not in parent:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

    return TraceContextTextMapPropagator().extract({"traceparent": parent["TRACEPARENT"]})


def _written(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: v if isinstance(v, int | float) else str(v) for name, v in attributes.items()}
