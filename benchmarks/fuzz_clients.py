"""Sends what `benchmarks.fuzz_requests` makes, and reads what comes back.

came = Client("127.0.0.1", 8000, stalls_seconds=20).send(sent)
came.status, came.body                      # None: the connection was closed without an answer, or we left
"""

import http.client
import socket
import struct
import time
from contextlib import suppress
from dataclasses import dataclass

from benchmarks.fuzz_requests import Sent

_PIECES = 8
_PAUSE_SECONDS = 0.02
_DEAF_SECONDS = 0.2
_LINGER = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Came:
    """What came back.

    Attributes:
        sent: the request.
        status: of the answer; None where there is none.
        body: of it.
        head: its headers, as text.
        hung: nothing came, and the connection was left open, for longer than anybody should wait.
    """

    sent: Sent
    status: int | None
    body: bytes = b""
    head: str = ""
    hung: bool = False


@dataclass(frozen=True)
class Client:
    """A client on a connection of its own a request.

    Attributes:
        wait_seconds: after so long without an answer, and without an end, the server hangs.
    """

    host: str
    port: int
    wait_seconds: float = 90.0

    def send(self, sent: Sent) -> Came:
        """Send a request and read its answer, as far as its pace does."""
        with socket.create_connection((self.host, self.port), timeout=self.wait_seconds) as connection:
            try:
                with suppress(ConnectionError):  # it may answer and close before all is sent
                    _write(connection, sent)
                if sent.pace in ("leaves", "resets", "deaf"):
                    if sent.pace == "deaf":
                        time.sleep(_DEAF_SECONDS)
                    if sent.pace != "leaves":
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
                    return Came(sent, None)
                if sent.kind == "broken":
                    with suppress(OSError):
                        connection.shutdown(socket.SHUT_WR)  # it may wait for more
                return _read(connection, sent)
            except TimeoutError:
                return Came(sent, None, hung=True)


def _write(connection: socket.socket, sent: Sent) -> None:
    data = sent.data
    match sent.pace:
        case "pieces":
            step = max(1, len(data) // _PIECES)
            for at in range(0, len(data), step):
                connection.sendall(data[at : at + step])
                time.sleep(_PAUSE_SECONDS)
        case "stalls":
            connection.sendall(data[: max(1, len(data) * 2 // 3)])
        case "leaves" | "resets" if len(data) % 2:
            connection.sendall(data[: len(data) // 2])
        case _:
            connection.sendall(data)


def _read(connection: socket.socket, sent: Sent) -> Came:
    answer = http.client.HTTPResponse(connection, method=sent.method)
    try:
        answer.begin()
        body = answer.read()
    except (http.client.HTTPException, ConnectionError, ValueError):
        return Came(sent, None)
    finally:
        answer.close()
    return Came(sent, answer.status, body, str(answer.headers))
