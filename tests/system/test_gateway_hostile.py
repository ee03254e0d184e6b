"""Clients that mean no good, or do not know better, against real gateways: they harm nobody but themselves.

`benchmarks.fuzz` is the same with 10,000 requests.
"""

import base64
import collections
import functools
import json
import random
import re
import socket
import struct
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import numpy as np
import psutil
import pytest
from gateway_scene import BODY, IMAGE, Gateway, GatewayScene
from version_factory import draw, encode
from waiting import until

from benchmarks.fuzz_clients import Client
from benchmarks.fuzz_hypothesis import generated
from benchmarks.fuzz_requests import Requests

FUZZED, CLIENTS = 200, 6
PLACES = 8
SMALL = {
    "RESUNET_GATEWAY_THREADS": "3",
    "RESUNET_GATEWAY_WAITING": str(PLACES - 3),
    "RESUNET_GATEWAY_HELD_MB": "3",
    "RESUNET_MAX_IMAGE_MB": "1",
}
PNG = {"Content-Type": "image/png"}
START = b"POST /segment HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\n"


@functools.cache
def large() -> bytes:
    """An image that takes seconds."""
    return encode(np.zeros((9000, 9000, 3), np.uint8), "PNG")


@pytest.fixture(scope="module")
def registry(gateway_registry: GatewayScene) -> GatewayScene:
    gateway_registry.promote(gateway_registry.add_version())
    return gateway_registry


@pytest.fixture(scope="module")
def gateway(registry: GatewayScene) -> Iterator[Gateway]:
    """Few places, little memory, and as much time as there is by default."""
    with registry.gateway(**SMALL) as running:
        yield running


@pytest.fixture(scope="module")
def hasty(registry: GatewayScene) -> Iterator[Gateway]:
    """A request has two seconds."""
    with registry.gateway(**SMALL, RESUNET_GATEWAY_REQUEST_SECONDS="2") as running:
        yield running


def address(gateway: Gateway) -> tuple[str, int]:
    host, port = gateway.url.removeprefix("http://").split(":")
    return host, int(port)


@contextmanager
def connected(gateway: Gateway, data: bytes) -> Iterator[socket.socket]:
    """A connection on which something was sent."""
    with socket.create_connection(address(gateway), timeout=30) as connection:
        connection.sendall(data)
        yield connection


def half_sent(size: int = 1000) -> bytes:
    """A body that lacks a byte."""
    return START + b"Content-Length: %d\r\n\r\n" % (size + 1) + bytes(size)


def answer_of(connection: socket.socket) -> tuple[int, bytes]:
    """The status of an answer, and all of it; of one whose connection is cut, what came."""
    came = b""
    with suppress(ConnectionError):
        while not _whole(came) and (part := connection.recv(65536)):
            came += part
    return int(came.split(b" ", 2)[1]), came


def _whole(came: bytes) -> bool:
    """Whether the body that the head announces is there."""
    head, end, body = came.partition(b"\r\n\r\n")
    announced = re.search(rb"(?i)^content-length: *(\d+)", head, re.MULTILINE)
    return bool(end) and len(body) >= (int(announced[1]) if announced else 0)


def holds(gateway: Gateway) -> tuple[float, float]:
    """Requests and bytes that it holds."""
    lines = gateway.http.get("/metrics").text.splitlines()
    numbers = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return float(numbers["resunet_requests_here"]), float(numbers["resunet_held_bytes"])


def comes_to_rest(gateway: Gateway) -> bool:
    return until(lambda: holds(gateway) == (0, 0), gateway.words)


def test_400_spoilt_requests_break_leak_and_leave_nothing(gateway: Gateway) -> None:
    rng = random.Random(0)
    sources = [encode(draw(48 + 8 * n, 64, seed=n), kind) for n in range(4) for kind in ("PNG", "JPEG", "TIFF", "BMP")]
    makes, client = Requests(rng, sources, "", slow=False), Client(*address(gateway))
    before, process = gateway.ask().json()["predictions"][0], psutil.Process(gateway.process.pid)
    started, log_before = process.create_time(), gateway.log.stat().st_size
    with ThreadPoolExecutor(CLIENTS) as pool:
        came = list(pool.map(client.send, [*(makes.make() for _ in range(FUZZED)), *generated(FUZZED, 0, sources, "")]))
    pieces = [piece for data in sources for piece in _pieces(data)]
    wrong = [
        (one.status, one.sent.data[:200], one.body[:300])
        for one in came
        if one.hung
        or (one.sent.due and one.status is None)
        or ((one.status or 0) in range(500, 600) and one.status != 503)
        or ((one.status or 0) >= 400 and (len(one.body) > 4000 or _told(one.body, pieces)))
    ]
    assert not wrong
    assert len(collections.Counter(one.status for one in came)) > 6  # they reach more than one refusal
    assert comes_to_rest(gateway)
    after = gateway.ask().json()["predictions"][0]
    assert after["mask"] == before["mask"]
    assert process.is_running() and process.create_time() == started
    log = gateway.log.read_bytes()[log_before:]
    assert not _told(log, pieces)
    assert all(json.loads(line)["level"] for line in log.splitlines())  # nothing writes beside the log


def test_a_size_that_is_announced_is_no_line_of_the_log(gateway: Gateway) -> None:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    before = gateway.log.stat().st_size
    for side in (10_001, 10_002, 10_003):
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, 10_000, 8, 2, 0, 0, 0))
        pixels = chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
        refused = gateway.http.post("/segment", content=b"\x89PNG\r\n\x1a\n" + header + pixels, headers=PNG)
        assert refused.status_code == 400
    assert [json.loads(line)["message"] for line in gateway.log.read_bytes()[before:].splitlines()] == ["request"] * 3


def _pieces(data: bytes) -> Iterator[bytes]:
    """As an image would show: as it is sent in JSON, and as Python prints bytes."""
    for at in range(len(data) // 4, len(data) - 16, len(data) // 5):
        if len(set(data[at : at + 16])) > 8:
            yield base64.b64encode(data[at - at % 3 : at - at % 3 + 15])
            yield repr(data[at : at + 16])[2:-1].encode()


def _told(text: bytes, pieces: list[bytes]) -> list[bytes]:
    return [word for word in (b"Traceback", b'File "', b"site-packages", *pieces) if word in text]


def test_slow_senders_hold_nobody_up(gateway: Gateway) -> None:
    with ExitStack() as stack:
        for _ in range(PLACES - 1):
            stack.enter_context(connected(gateway, half_sent()))
        until(lambda: holds(gateway)[0] == PLACES - 1)
        assert gateway.ask().status_code == 200


def test_a_full_queue_is_told_and_who_leaves_frees_its_place(gateway: Gateway) -> None:
    assert comes_to_rest(gateway)
    with ExitStack() as stack:
        for _ in range(PLACES):
            stack.enter_context(connected(gateway, half_sent()))
        until(lambda: holds(gateway)[0] == PLACES)
        for path in ("/segment", "/invocations", "/v2/models/resunet/infer"):
            refused = gateway.http.post(path, content=IMAGE, headers=PNG)
            assert refused.status_code == 503 and int(refused.headers["Retry-After"]) > 0
            assert "queue is full" in refused.text
        assert gateway.http.get("/health").status_code == 200
    assert comes_to_rest(gateway)
    assert gateway.ask().status_code == 200


def test_bodies_are_bounded_together(gateway: Gateway) -> None:
    assert comes_to_rest(gateway)
    with connected(gateway, half_sent(1_400_000)), connected(gateway, half_sent(1_400_000)):
        until(lambda: holds(gateway)[1] == 2_800_000, gateway.words)
        refused = gateway.http.post("/segment", content=bytes(1_000_000), headers=PNG)
        assert refused.status_code == 503 and refused.headers["Retry-After"]
        assert "as many images as it may" in refused.json()["message"]
        assert gateway.ask().status_code == 200  # a small one fits
    assert comes_to_rest(gateway)


def test_a_body_above_the_limit_is_refused_before_it_is_there(gateway: Gateway) -> None:
    with connected(gateway, START + b"Content-Length: 900000000000\r\n\r\nabc") as connection:
        assert answer_of(connection)[0] == 413
    chunk = b"%x\r\n" % 3_000_000 + bytes(3_000_000)  # and no end
    with connected(gateway, START + b"Transfer-Encoding: chunked\r\n\r\n" + chunk) as connection:
        assert answer_of(connection)[0] == 413


@pytest.mark.parametrize("path", ["/invocations", "/v2/models/resunet/infer"])
@pytest.mark.parametrize("value", ["[]", "{}", "1"])
def test_a_body_of_a_million_values_is_not_parsed(gateway: Gateway, path: str, value: str) -> None:
    body = '{"dataframe_split": [' + ",".join([value] * 700_000) + "]}" if value != "1" else "[" + "1," * 1_050_000
    refused = gateway.http.post(path, content=body, headers={"Content-Type": "application/json"})
    assert refused.status_code == 413 and "1,000,000 values" in refused.text


def test_a_million_empty_elements_are_not_counted(gateway: Gateway) -> None:
    tensor = {"name": "image", "shape": [500_000], "datatype": "BYTES", "parameters": {"binary_data_size": 2_000_000}}
    head = json.dumps({"inputs": [tensor]}).encode()
    refused = gateway.http.post(
        "/v2/models/resunet/infer",
        content=head + bytes(2_000_000),
        headers={"Inference-Header-Content-Length": str(len(head))},
    )
    assert refused.status_code == 413 and "100,000 elements" in refused.json()["error"]


@pytest.mark.parametrize(
    ("start", "again", "times"),
    [
        (b"GET / HTTP/1.1\r\nA: ", b"a", 100_000_000),
        (b"GET /", b"a", 100_000_000),
        (b"GET / HTTP/1.1\r\n", b"A: b\r\n", 10_000_000),
        (b"GET / HTTP/1.1\r\n", b"a", 100_000_000),
        (b"", b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n", 1_000_000),
    ],
    ids=["value", "path", "headers", "name", "pipelined"],
)
def test_no_head_grows_without_end(gateway: Gateway, start: bytes, again: bytes, times: int) -> None:
    with socket.create_connection(address(gateway), timeout=30) as connection, pytest.raises(ConnectionError):
        connection.sendall(start + again * times)
    assert gateway.ask().status_code == 200


def test_what_follows_a_body_does_not_count_as_its_headers(gateway: Gateway) -> None:
    chunked = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n" % (len(IMAGE), IMAGE)
    with connected(gateway, START + chunked + b"X-Request-Id: late\r\n\r\n") as connection:
        status, answer = answer_of(connection)
        assert status == 200 and b"late" not in answer


def test_a_client_that_asks_for_another_protocol_is_answered_in_this_one(gateway: Gateway) -> None:
    for protocol in ("h2c", "websocket", "TLS/1.0"):
        headers = PNG | {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": protocol, "HTTP2-Settings": "AAMAAABk"}
        answer = gateway.http.post("/segment", content=IMAGE, headers=headers)
        assert answer.status_code == 200 and answer.content.startswith(b"\x89PNG")
    assert gateway.http.get("/health", headers={"Connection": "upgrade", "Upgrade": "websocket"}).status_code == 200


def test_methods_that_a_route_does_not_have_are_told(gateway: Gateway) -> None:
    for method in ("HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND"):
        for path in ("/segment", "/invocations", "/v2/models/resunet/infer"):
            refused = gateway.http.request(method, path)
            assert refused.status_code == 405 and refused.headers["Allow"] == "POST"
    with connected(gateway, b"BREW /segment HTTP/1.1\r\nHost: a\r\n\r\n") as connection:
        assert answer_of(connection)[0] == 400
    with connected(gateway, b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n") as connection:
        assert answer_of(connection)[0] == 400


def test_a_header_that_counts_once_comes_once(gateway: Gateway) -> None:
    twice: list[tuple[list[tuple[str, str]], int]] = [
        ([("X-Request-Id", "a"), ("X-Request-Id", "b")], 400),
        ([("Content-Length", "4"), ("Content-Length", "5")], 400),
        ([("Content-Length", "4"), ("Transfer-Encoding", "chunked")], 400),
        ([("Inference-Header-Content-Length", "x")], 200),
    ]
    for headers, status in twice:
        lines = b"".join(f"{name}: {value}\r\n".encode() for name, value in headers)
        with connected(gateway, b"GET /health HTTP/1.1\r\nHost: a\r\n" + lines + b"\r\n") as connection:
            assert answer_of(connection)[0] == status, headers


def test_nobody_is_sent_where_a_header_says(gateway: Gateway) -> None:
    for path in ("/health/", "/segment/", "/docs/"):
        answer = gateway.http.get(path, headers={"Host": "evil.example"}, follow_redirects=False)
        assert answer.status_code == 404 and "Location" not in answer.headers


def test_work_for_a_client_that_left_is_stopped(gateway: Gateway) -> None:
    assert comes_to_rest(gateway)
    head = START + b"X-Request-Id: left\r\nContent-Length: %d\r\n\r\n" % len(large())
    with connected(gateway, head + large()):
        until(lambda: holds(gateway)[1] == len(large()))
    assert comes_to_rest(gateway)
    (line,) = until(lambda: _lines(gateway, "left"), gateway.words)
    assert line["status"] == 504  # what it would have been told; worked on to its end it had been 200
    assert "Traceback" not in gateway.log.read_text()


def _lines(gateway: Gateway, request_id: str) -> list[dict[str, Any]]:
    told = [json.loads(line) for line in gateway.log.read_text().splitlines() if line.startswith("{")]
    return [line for line in told if line.get("request_id") == request_id]


def test_a_request_above_its_time_is_late_and_its_thread_is_free(hasty: Gateway) -> None:
    for _ in range(2):  # of three threads one may work on large images
        late = hasty.http.post("/segment", content=large(), headers=PNG)
        assert late.status_code == 504 and "time for a request is over" in late.json()["message"]
        assert comes_to_rest(hasty)
    assert hasty.ask(BODY).status_code == 200
    assert "Traceback" not in hasty.log.read_text()


def test_a_body_that_does_not_come_is_late(hasty: Gateway) -> None:
    with connected(hasty, half_sent()) as connection:
        status, answer = answer_of(connection)
        assert status == 408 and b"did not come in time" in answer
    assert comes_to_rest(hasty)


@pytest.mark.parametrize("data", [b"", b"GET / HTTP/1.1\r\nA: b"], ids=["nothing", "half a head"])
def test_a_head_that_does_not_come_ends_the_connection(hasty: Gateway, data: bytes) -> None:
    with connected(hasty, data) as connection, pytest.raises(ConnectionError):
        if connection.recv(100) == b"":
            raise ConnectionAbortedError


def test_an_answer_that_is_not_fetched_is_dropped(hasty: Gateway) -> None:
    bundle = b"GET /page/swagger-ui-bundle.js HTTP/1.1\r\nHost: a\r\n\r\n"
    process = psutil.Process(hasty.process.pid)
    with connected(hasty, bundle * 10) as connection:
        port = connection.getsockname()[1]

        def here() -> bool:
            return any(one.raddr and one.raddr.port == port for one in process.net_connections("tcp"))

        until(here)
        until(lambda: not here(), hasty.words)
    assert hasty.ask().status_code == 200
