"""The clients of `benchmarks.gateway`, in a process of their own, so that their CPU time can be told apart.

    with clients() as pool:
        asked = pool.submit(ask, Ask(url, "/segment", body, headers), 8, 20).result()
        asked.rate, asked.rate_apart(cores=2)

What a client spends is spent on the cores that the server computes on. Of the wall time of a run, the time in which the
clients' process kept those cores busy (its user and system time, by `getrusage`, over their number) is set apart: what
is left is what the server had. Clients do as little as they can: bytes out, bytes in, nothing is decoded.
"""

import contextlib
import http.client
import multiprocessing
import resource
import statistics
import subprocess
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass

TIMEOUT_SECONDS = 120.0


@dataclass(frozen=True)
class Ask:
    """One request, as bytes."""

    url: str
    path: str
    body: bytes
    headers: Mapping[str, str]

    def connect(self) -> contextlib.closing[http.client.HTTPConnection]:
        """A connection that is kept from one request to the next."""
        address = self.url.removeprefix("http://")
        return contextlib.closing(http.client.HTTPConnection(address, timeout=TIMEOUT_SECONDS))

    def once(self, connection: http.client.HTTPConnection) -> tuple[http.client.HTTPResponse, bytes]:
        """Send it; the response, and its body."""
        connection.request("POST", self.path, self.body, dict(self.headers))
        response = connection.getresponse()
        return response, response.read()


@dataclass(frozen=True)
class Asked:
    """What came of a run: requests, seconds of wall time, seconds of the clients' CPU, median latency in ms."""

    requests: int
    wall: float
    clients_cpu: float
    p50_ms: float

    @property
    def rate(self) -> float:
        """Requests a second, the clients' work included."""
        return self.requests / self.wall

    def rate_apart(self, cores: int) -> float:
        """Requests a second of the time that the clients left to the server."""
        return self.requests / (self.wall - self.clients_cpu / cores)


def ask(what: Ask, clients: int, requests: int) -> Asked:
    """Have clients ask, each after each.

    Args:
        what: the request.
        clients: how many at a time.
        requests: of each.

    Raises:
        RuntimeError: an answer other than 200.
    """

    def client(count: int) -> list[float]:
        times = []
        with what.connect() as connection:
            for _ in range(count):
                started = time.perf_counter()
                response, answer = what.once(connection)
                times.append((time.perf_counter() - started) * 1000)
                if response.status != 200:
                    raise RuntimeError(f"{what.path} answered {response.status}: {answer[:500]!r}")
        return times

    client(1)
    cpu, started = _cpu_seconds(), time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        times = [each for done in pool.map(client, [requests] * clients) for each in done]
    wall = time.perf_counter() - started
    return Asked(clients * requests, wall, _cpu_seconds() - cpu, statistics.median(times))


def wait_for_answer(process: "subprocess.Popen[bytes]", what: Ask, seconds: float) -> None:
    """Ask a server that starts until it answers.

    Raises:
        RuntimeError: it ended, or took longer than that.
    """
    until = time.perf_counter() + seconds
    while time.perf_counter() < until and process.poll() is None:
        with contextlib.suppress(OSError, http.client.HTTPException), what.connect() as connection:
            response, _ = what.once(connection)
            if response.status == 200:
                return
        time.sleep(0.005)
    raise RuntimeError(f"a server did not come up to answer {what.path}; its log says why")


@contextlib.contextmanager
def clients() -> Iterator[ProcessPoolExecutor]:
    """A process for clients; it has none of this one's threads."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        yield pool


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
