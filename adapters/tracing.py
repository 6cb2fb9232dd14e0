"""Traces for OpenTelemetry, where an endpoint is set (`OTEL_EXPORTER_OTLP_ENDPOINT`) and `netledger[otel]` is installed.

Without either, a span costs a function call, and nothing is imported.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

_log = logging.getLogger(__name__)
_NONE: AbstractContextManager[Any] = nullcontext()
_tracer: Any = None
_provider: Any = None


def begin() -> None:
    """Send traces to the endpoint that the environment names, if it names one."""
    global _tracer, _provider
    names = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    if _tracer is not None or not any(os.environ.get(name) for name in names):
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        _log.warning("an endpoint for traces is set, and nothing here can send them: pip install 'netledger[otel]'")
        return
    os.environ.setdefault("OTEL_SERVICE_NAME", "netledger")
    _provider = TracerProvider(resource=Resource.create())
    _provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _tracer = _provider.get_tracer("netledger")


def end() -> None:
    """Send what is left."""
    global _tracer, _provider
    if _provider is not None:
        _provider.force_flush(1_000)
        _provider.shutdown()
    _tracer = _provider = None


def span(
    name: str, attributes: Mapping[str, Any], carrier: Mapping[str, str] | None = None
) -> AbstractContextManager[Any]:
    """A span round a block. `carrier` is a request's headers: with a `traceparent` it continues the sender's trace."""
    if _tracer is None:
        return _NONE
    context = None
    if carrier is not None:
        from opentelemetry.propagate import extract

        context = extract(carrier)
    made: AbstractContextManager[Any] = _tracer.start_as_current_span(name, context, attributes=dict(attributes))
    return made
