"""Spans of requests, sent by OpenTelemetry: an extra, `pip install 'registry-gateway[tracing]'`."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from gateway.errors import Invalid
from gateway.front import Application

_EDGES = frozenset({"v2", "token", "api", "console", "health", "metrics"})
_NEEDED = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http", "opentelemetry.instrumentation.asgi")


def require() -> None:
    """Raises `Invalid` if the extra is not installed."""
    for name in _NEEDED:
        try:
            found = find_spec(name)
        except ModuleNotFoundError:
            found = None
        if found is None:
            raise Invalid(
                "[metrics] trace_endpoint needs OpenTelemetry: pip install 'registry-gateway[tracing]', or leave it "
                "away."
            )


def traced(app: Application, endpoint: str) -> Application:
    """
    *app* with a span for each request, sent to *endpoint* by OTLP over HTTP in the background.

    A caller's `traceparent` is followed. The extra must be installed: see `require`.
    """
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": "registry-gateway"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    made: Any = OpenTelemetryMiddleware(
        app, tracer_provider=provider, exclude_spans=["receive", "send"], default_span_details=_named
    )
    follow: Application = made
    return follow


def _named(scope: Any) -> tuple[str, dict[str, str]]:
    """The span's name: the method and the edge, never what a client named."""
    edge = scope["path"][1:].partition("/")[0]
    return f"{scope['method']} /{edge if edge in _EDGES else ''}", {}
