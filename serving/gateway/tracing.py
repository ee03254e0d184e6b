"""OpenTelemetry, where its own variables ask for it: a span a request, with its route, status, version and id.

OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318 python -m serving up

app = traced(app)
"""

import os
from typing import Final

from starlette.types import ASGIApp

from resunet.errors import SettingsError

_ASKED_BY: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_SERVICE: Final = "resunet-gateway"


def traced(app: ASGIApp) -> ASGIApp:
    """The application, telling a collector of each request where the environment names one.

    Raises:
        SettingsError: it does, and the packages for it are not installed.
    """
    asked = any(os.environ.get(name) for name in _ASKED_BY)
    if not asked or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return app
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise SettingsError(
            f"{' or '.join(_ASKED_BY)} is set, and OpenTelemetry's packages are not installed: pip install "
            "'resunet-lifecycle[otel]', or unset it"
        ) from error
    # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES go before ours: the SDK reads them itself.
    named = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": _SERVICE}
    provider = TracerProvider(resource=Resource.create(named))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    # A span for each message of a body would say nothing.
    return OpenTelemetryMiddleware(app, tracer_provider=provider, exclude_spans=["receive", "send"])
