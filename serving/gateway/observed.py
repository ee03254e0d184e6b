"""Middleware that sees every request: it counts it, and writes one line of JSON about it, never of its content.

app = Observed(app, metrics, failed)
note(request, "version", "7")            # a route says which version its answer is of
"""

import logging
import time
from collections.abc import Callable
from typing import Any, Final, Literal

from opentelemetry import trace
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.gateway.metrics import Metrics

_log: Final = logging.getLogger("serving.requests")
_UNMATCHED: Final = "unmatched"
# A scrape a second would drown what people asked for.
_QUIET: Final = frozenset({"/metrics", "/ping", "/health", "/v2/health/live", "/v2/health/ready"})
# Who asks whether it is ready is told so: nothing has failed.
_PROBES: Final = _QUIET | {"/v2/models/{name}/ready", "/v2/models/{name}/versions/{version}/ready"}


class Observed:
    """Stands around the whole application.

    Args:
        app: the application.
        metrics: counts.
        failed: is told the route, a template, and the status of each request that this server failed (5xx).
        clock: seconds.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        failed: Callable[[str, int], None] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._app, self._metrics, self._failed, self._clock = app, metrics, failed, clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As of ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, seen = self._clock(), _Seen()
        scope.setdefault("state", {})

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen.status = int(message["status"])
            elif message["type"] == "http.response.body":
                seen.bytes_out += len(message.get("body", b""))
                if not message.get("more_body", False):  # whoever has the whole answer finds it counted
                    self._tell(scope, seen, self._clock() - started)
            await send(message)

        async def counted_in() -> Message:
            message = await receive()
            seen.bytes_in += len(message.get("body", b"")) if message["type"] == "http.request" else 0
            return message

        try:
            await self._app(scope, counted_in, counted)
        finally:
            self._tell(scope, seen, self._clock() - started)

    def _tell(self, scope: Scope, seen: "_Seen", seconds: float) -> None:
        """Once a request, and not of what is done after its answer."""
        if seen.told:
            return
        seen.told = True
        route = getattr(scope.get("route"), "path", _UNMATCHED)
        state: dict[str, Any] = scope["state"]
        version = state.get("version") or ""
        self._metrics.answered(route, seen.status, seconds, version)
        if seen.status >= 500 and route not in _PROBES and self._failed is not None:
            self._failed(route, seen.status)
        if route in _QUIET and seen.status < 400:
            return
        _log.info(
            "request",
            extra={
                "request_id": state.get("request_id"),
                "method": scope["method"],
                "route": route,
                "status": seen.status,
                "milliseconds": round(seconds * 1000, 2),
                "bytes_in": seen.bytes_in,
                "bytes_out": seen.bytes_out,
                "version": version or None,
                "caller": state.get("caller"),
            },
        )


class _Seen:
    """What went by of one request; a client that is gone before its answer counts as 499, as with nginx."""

    def __init__(self) -> None:
        self.status, self.bytes_in, self.bytes_out, self.told = 499, 0, 0, False


def note(request: Request, name: Literal["version", "caller"], value: str | None) -> None:
    """Say something of a request that is to be counted, written down and traced with it."""
    setattr(request.state, name, value)
    if value is not None:
        trace.get_current_span().set_attribute(f"resunet.{name}", value)
