"""Headers that keep a browser from being used against the server: a pure ASGI middleware.

    app = SecurityHeaders(FastAPI())
    uvicorn.run(app)

Wrap the whole application, as above. Added by `add_middleware` it would stand inside of what answers unforeseen errors,
and these answers would lack the headers. What a route sets itself is kept.
"""

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.access.addresses import host_name, is_loopback

ONE_YEAR_S: Final = 31_536_000
# No inline script or style, nothing of others. blob: and data: are pictures that the page itself makes of a dropped
# file; as pictures they run nothing.
CONTENT_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_ALWAYS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", CONTENT_POLICY.encode()),
    # Masks and keys' owners are nobody else's: a cache on the way keeps them only where a route says so.
    (b"cache-control", b"no-store"),
)


class SecurityHeaders:
    """Adds to the start of every HTTP answer; bodies pass through as they come, chunk by chunk.

    Args:
        app: the whole application.
        hsts_seconds: how long browsers keep to HTTPS, told only under TLS; 0: not told. It holds for all ports of the
            host's name, an MLflow server on plain HTTP beside this one included; for `localhost` it is never told.
    """

    def __init__(self, app: ASGIApp, hsts_seconds: int = ONE_YEAR_S) -> None:
        self._app = app
        self._hsts = (b"strict-transport-security", f"max-age={hsts_seconds}".encode()) if hsts_seconds else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        ours: tuple[tuple[bytes, bytes], ...] = _ALWAYS
        if self._hsts and scope.get("scheme") == "https" and not _asks_loopback(scope):
            ours = (*ours, self._hsts)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                theirs = list(message.get("headers", []))
                set_already = {bytes(name).lower() for name, _ in theirs}
                added = [(name, value) for name, value in ours if name not in set_already]
                message = {**message, "headers": [*theirs, *added]}
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _asks_loopback(scope: Scope) -> bool:
    hosts = [value.decode("latin-1") for name, value in scope.get("headers", []) if name.lower() == b"host"]
    return any(is_loopback(host_name(host)) for host in hosts)
