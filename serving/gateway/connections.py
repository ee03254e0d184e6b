"""One client's connection: uvicorn's own, and what a client must not do with it.

    uvicorn.Config(app, http=connections(patience_seconds=60), ws="none")

uvicorn bounds none of this, and each of it would cost all clients memory, time or their sockets:

- a head (request line and headers) of any size, whose unfinished lines are put together again at every piece;
- a head, or a body that nobody waits for, that comes so slowly that the connection never ends;
- an answer that is not fetched, or a little of it at a time, and stays in memory;
- requests sent behind each other in one go, each of which is an object at once.

And one thing clients may do: ask for another protocol, such as HTTP/2, together with a request. That is not spoken here
and may be ignored (RFC 9110, section 7.8); the parser would take the request's body for that other protocol's.
"""

import asyncio
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HEAD_BYTES: Final = 1 << 16
# A client that takes less, on average, holds an answer longer than any line that is of use for images needs.
_LEAST_BYTES_A_SECOND: Final = 50_000
_MOST_WAITING: Final = 16
_INVALID: Final = "Invalid HTTP request received."


class _TooMuchError(Exception):
    """Inside of the parser it becomes one of its own errors."""


class _Counted:
    """A transport that knows how much was written to it."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.written = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        self.written += len(data)
        self._transport.write(data)


class _Connection(HttpToolsProtocol):
    """A connection of at most so much patience, in seconds."""

    patience_seconds: float

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._unread = 0  # bytes since the parser last told something
        self._head_bytes = 0
        self._head_ended = self._upgrading = False
        self._idle_since = 0.0
        self._taken = 0  # bytes of answers, when it was last looked
        self._sending: tuple[float, int] | None = None  # since when, and how much had been taken then
        self._looks: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """As of asyncio."""
        self._counted = _Counted(transport)
        super().connection_made(self._counted)  # type: ignore[arg-type]
        self._idle_since = self.loop.time()
        self._look_later()

    def connection_lost(self, exc: Exception | None) -> None:
        """As of asyncio."""
        if self._looks is not None:
            self._looks.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """As of asyncio."""
        self._unset_keepalive_if_required()
        self._unread += len(data)
        try:
            while data:
                data = self._fed(data)
            if self._unread > MOST_HEAD_BYTES and not self._head_ended:
                raise httptools.HttpParserError
        except httptools.HttpParserError:
            self.logger.warning(_INVALID)
            self.send_400_response(_INVALID)

    def on_message_begin(self) -> None:
        """As of httptools."""
        super().on_message_begin()
        self._unread = self._head_bytes = 0
        self._head_ended = self._upgrading = False

    def on_url(self, url: bytes) -> None:
        """As of httptools."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """As of httptools; those behind a body are dropped: nobody waits for them, and they may say anything."""
        self._count(len(name) + len(value))
        if not self._head_ended:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """As of httptools."""
        self._head_ended = True
        self._upgrading = self.parser.should_upgrade()
        if not self._upgrading:
            if len(self.pipeline) >= _MOST_WAITING:
                raise _TooMuchError
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        """As of httptools."""
        if not self._upgrading:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """As of uvicorn."""
        self._idle_since = self.loop.time()
        super().on_response_complete()

    def _fed(self, data: bytes) -> bytes:
        """Parse; what is left to be parsed, because another protocol was asked for."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            return self._as_without_upgrade(data[upgrade.args[0] :])
        return b""

    def _as_without_upgrade(self, rest: bytes) -> bytes:
        method = self.parser.get_method()
        if method == b"CONNECT":
            raise httptools.HttpParserError
        kept = [(name, value) for name, value in self.headers if name not in (b"upgrade", b"connection")]
        lines = [b"%s %s HTTP/1.1" % (method, self.url), *(b"%s: %s" % header for header in kept)]
        self.parser = httptools.HttpRequestParser(self)
        return b"\r\n".join(lines) + b"\r\n\r\n" + rest

    def _count(self, size: int) -> None:
        self._unread = 0
        self._head_bytes += size
        if self._head_bytes > MOST_HEAD_BYTES:
            raise _TooMuchError

    def _look_later(self) -> None:
        self._looks = self.loop.call_later(self.patience_seconds / 2, self._look)

    def _look(self) -> None:
        """Drop a client that keeps the connection and does nothing with it."""
        now, unsent = self.loop.time(), self.transport.get_write_buffer_size()
        taken = self._counted.written - unsent
        if unsent:
            self._idle_since = now
            if self._sending is not None and (taken == self._taken or self._is_slow(now, taken, *self._sending)):
                self.transport.abort()
                return
        elif self._waits() and now - self._idle_since >= self.patience_seconds:
            self.transport.abort()
            return
        self._taken = taken
        self._sending = (self._sending or (now, taken)) if unsent else None
        self._look_later()

    def _is_slow(self, now: float, taken: int, since: float, before: int) -> bool:
        """Whether a client takes what waits for it more slowly than any may, after a while without haste."""
        return taken - before < (now - since - self.patience_seconds) * _LEAST_BYTES_A_SECOND

    def _waits(self) -> bool:
        """Whether no request of it is being answered."""
        return self.cycle is None or self.cycle.response_complete


def connections(patience_seconds: float) -> type[asyncio.Protocol]:
    """The kind of connection that uvicorn is to make.

    Args:
        patience_seconds: so long a head may take, an answer may be left untouched or be taken as slowly as one likes,
            and a connection may lie idle.
    """
    return type("Connection", (_Connection,), {"patience_seconds": patience_seconds})
