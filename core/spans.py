"""What of tracing needs OpenTelemetry's SDK: only `core.tracing` imports it, and only where it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from core.logbook import without_secrets

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import Span


def exporting_provider(service: str) -> TracerProvider:
    """What makes spans and sends them, in a thread of its own, to the collector that the environment names.

    Args:
        service: whose spans they are.
    """
    # Who uses it ends it: at the interpreter's exit it would wait for a collector that is away.
    provider = TracerProvider(resource=Resource.create({"service.name": service}), shutdown_on_exit=False)
    provider.add_span_processor(_WithoutSecrets())
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


class _WithoutSecrets(SpanProcessor):
    """FastAPI keeps the query of a request, into which somebody may have written a key."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:  # noqa: ARG002  # the SDK's
        for name, value in (span.attributes or {}).items():
            if isinstance(value, str) and (clean := without_secrets(value)) != value:
                span.set_attribute(name, clean)
