"""Requests that somebody spoilt, as the bytes of a connection, and how they are sent.

    requests = Requests(random.Random(1), sources, token)
    sent = requests.make()                      # a Sent: what goes over the wire, and how

They go to every route that a gateway has, and to some that it has not. Most bring a valid key.
"""

import base64
import json
import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from benchmarks.fuzz_images import spoilt

# whole: at once; pieces: with pauses; stalls: half of it, and then nothing; leaves, resets: half of it, or all, and
# then gone; deaf: all, and its answer is not read.
Pace = Literal["whole", "pieces", "stalls", "leaves", "resets", "deaf"]
Headers = list[tuple[str, str]]

GETS: Final = (
    *("/", "/docs", "/openapi.json", "/health", "/metrics", "/ping", "/version", "/page/page.js", "/page/docs.css"),
    *("/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/resunet", "/v2/models/resunet/ready"),
    *("/v2/models/resunet/versions/1", "/v2/models/resunet/versions/1/ready"),
)
INFERS: Final = ("/v2/models/resunet/infer", "/v2/models/resunet/versions/1/infer")
LABELS: Final = "/labels"
ROLLOUT: Final = ("/rollout", "/rollout/start", "/rollout/finish", "/rollout/abort")
POSTS: Final = ("/segment", "/invocations", "/announce", *INFERS)
_IMAGE_KINDS: Final = ("image/png", "image/jpeg", "image/tiff", "image/bmp", "application/octet-stream")
_ODD_TEXTS: Final = (
    "",
    "\0",
    "a" * 300,
    "é—😀",
    "\ud800",
    "../../etc/passwd",
    "'; drop table predictions;--",
    "{{7*7}}",
)
_ODD: Final[tuple[Any, ...]] = (None, True, -1, 0, 1e308, float("nan"), 10**40, [], {}, [[]], {"a": {}}, *_ODD_TEXTS)
_METHODS: Final = ("HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "PROPFIND", "BREW", "get", "")
_ACCEPTS: Final = (
    *("image/png", "application/json", "*/*", "image/png;view=overlay", "image/png;view=probability;depth=16"),
    *("text/html", "image/*;q=0.1, application/json;q=nan", ",,;;==", "image/png;q=9" * 50, 'a/b;c="', "\xff\xfe"),
)
_QUERIES: Final = (
    *("", "", "", "?view=overlay", "?format=coco", "?format=contours", "?format=rle", "?view=probability&depth=16"),
    *("?threshold=nan", "?threshold=0.5", "?class=%00", "?view=heat", "?client=%ff%fe", "?slice=" + "x" * 300),
    *("?view=overlay&view=mask", "?%", "?a=" + "b" * 5000, "?format=coco&view=mask", "?;&;&=&=", "?depth=9"),
)


@dataclass(frozen=True)
class Sent:
    """A request.

    Attributes:
        kind: of what sort, for the table.
        data: all bytes of it.
        pace: how they are sent.
        method: of it, as far as it has one.
        due: it is well-formed, small and sent whole: there must be an answer.
    """

    kind: str
    data: bytes
    pace: Pace = "whole"
    method: str = "GET"
    due: bool = False


class Requests:
    """Makes them, one after another, the same ones from the same seed.

    Args:
        rng: seeded.
        sources: encoded images.
        token: an API key that is valid; empty where the gateway asks for none.
        slow: one body in a thousand stops in the middle, which takes the gateway's whole time for a request, and some
            images are as large as there may be.
    """

    def __init__(self, rng: random.Random, sources: Sequence[bytes], token: str, slow: bool = True) -> None:
        self._rng, self._sources, self._token, self._slow = rng, sources, token, slow
        kinds: list[tuple[float, Callable[[], Sent]]] = [
            *((30, self.image), (18, self.table), (12, self.form), (12, self.protocol)),
            *((12, self.route), (10, self.broken), (6, self.lies)),
        ]
        self._weights = [weight for weight, _ in kinds]
        self._kinds = [kind for _, kind in kinds]

    def make(self) -> Sent:
        """The next one."""
        return self._rng.choices(self._kinds, self._weights)[0]()

    def image(self) -> Sent:
        """An image as the body of `/segment`."""
        kind = self._rng.choice(_IMAGE_KINDS)
        return self._post("image", "/segment" + self._query(), kind, self._picture())

    def table(self) -> Sent:
        """A table of `/invocations`."""
        rows = [self._text(self._picture()) for _ in range(self._rng.choice((1, 1, 1, 2, 5)))]
        forms: tuple[Any, ...] = (
            {"dataframe_split": {"columns": ["image"], "data": [[row] for row in rows]}},
            {"dataframe_records": [{"image": row, "client": "a", "slice": None} for row in rows]},
            {"inputs": rows, "params": {"threshold": 0.5, "mask_format": "rle"}},
        )
        kind = self._rng.choices(("application/json", "text/csv", "application/json; charset=x", "a/b"), (17, 1, 1, 1))[
            0
        ]
        return self._post("table", "/invocations", kind, self._json(self._rng.choice(forms)))

    def form(self) -> Sent:
        """A form of `/segment`."""
        edge = self._rng.choice((b"x", b"----edge", b"a b", b"x" * 90))
        parts = [b'name="image"; filename="a.png"', b'name="threshold"', b'name="client"', b'name="image"', b"name="]
        chosen = [parts[0], *self._rng.sample(parts[1:], self._rng.randrange(3))]
        body = b""
        for part in chosen:
            content = self._picture() if b"file" in part else self._rng.choice(_ODD_TEXTS).encode("utf-8", "ignore")
            body += b"--" + edge + b"\r\nContent-Disposition: form-data; " + part + b"\r\n\r\n" + content + b"\r\n"
        body += b"--" + edge + b"--\r\n"
        charset = self._rng.choice(("", "", "; charset=utf-7", "; charset=idna", "; charset=rot13"))
        kind = f"multipart/form-data; boundary={edge.decode()}{charset}"
        return self._post("form", "/segment" + self._query(), kind, self._bytewise(body))

    def protocol(self) -> Sent:
        """A request of the Open Inference Protocol, as JSON or with bytes behind it."""
        pictures = [self._picture() for _ in range(self._rng.choice((1, 1, 3)))]
        given: dict[str, Any] = {"name": "image", "shape": [len(pictures)], "datatype": "BYTES"}
        asked: dict[str, Any] = {"id": "a", "inputs": [given], "parameters": {}}
        path = self._rng.choice(INFERS)
        if self._rng.random() < 0.5:
            given["data"] = [self._text(one) for one in pictures]
            return self._post("protocol", path, "application/json", self._json(asked))
        tail = b"".join(struct.pack("<I", len(one)) + one for one in pictures)
        given["parameters"] = {"binary_data_size": len(tail)}
        asked["parameters"]["binary_data_output"] = self._rng.choice((True, True, 1, None))
        head = self._json(asked)
        length = self._rng.choice((len(head),) * 6 + (0, len(head) - 1, len(head) + 4, 10**14, -1, "x", "1" * 99))
        more = [("Inference-Header-Content-Length", str(length))]
        return self._post("protocol", path, "application/octet-stream", head + self._bytewise(tail), more)

    def route(self) -> Sent:
        """Any route, by any method."""
        path = self._rng.choice(
            (*GETS, *POSTS, LABELS, *ROLLOUT, "/nowhere", "/%2e%2e/%00", "//health", "/health/", "/v2/models/%ff/x")
        )
        method = self._rng.choice(("GET", "GET", "GET", "POST", *_METHODS))
        return self._sent("route", method, path, self._headers(), b"")

    def broken(self) -> Sent:
        """What is no HTTP, or hardly."""
        good = self._head("GET", "/health", [("Host", "a")])
        picture = self._picture()[:20_000]
        data = self._rng.choice(
            (
                *(picture, self._flipped(good), good[: self._rng.randrange(len(good))], good * 300),
                *(
                    b"\r\n" * 500,
                    b"\0" * 2000,
                    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                    b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03",
                ),
                *(
                    b"GET /health\r\n\r\n",
                    b"GET / HTTP/9.9\r\n\r\n",
                    b"GET  / HTTP/1.1\r\n\r\n",
                    b"GET * HTTP/1.1\r\n\r\n",
                ),
                *(b"GET http://[ HTTP/1.1\r\nHost: [\r\n\r\n", b"GET /a\x80 HTTP/1.1\r\nHost: a\r\n\r\n"),
                b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n",
                b"GET / HTTP/1.1\r\nA: " + b"a" * 300_000 + b"\r\n\r\n",
                b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 20_000 + b"\r\n",
                b"POST /segment HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n" + picture,
                b"POST /segment HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
                b"POST /segment HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n" + picture,
                b"POST /segment HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff0\r\n"
                + picture,
                b"POST /segment HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n" + picture,
                b"POST /segment HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
                b"GET /health HTTP/1.1\r\nHost: [\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n" + picture,
                b"GET /nowhere HTTP/1.1\r\nHost: [\r\n\r\n",
                b"GET /health/ HTTP/1.1\r\nHost: ]:x@[\r\n\r\n",
            )
        )
        pace: Pace = self._rng.choice(("whole", "whole", "leaves", "resets"))
        return Sent("broken", data, pace)

    def lies(self) -> Sent:
        """A good request whose length is told wrong, or whose body comes in chunks."""
        body, headers = self._rng.choice(self._sources), [*self._key(), ("Content-Type", "image/png"), ("Host", "a")]
        match self._rng.randrange(5):
            case 0:
                length = self._rng.choice((len(body) + 100, 10**9, 10**15, 2**63, 10**30))
                headers.append(("Content-Length", str(length)))
                return self._sent("lies", "POST", "/segment", headers, body, "leaves")
            case 1:
                headers.append(("Content-Length", str(self._rng.randrange(len(body)))))
            case 2:
                headers.append(("Expect", self._rng.choice(("100-continue", "200-ok"))))
                headers.append(("Content-Length", str(len(body))))
            case 3:
                headers.append(("Transfer-Encoding", "chunked"))
                step = self._rng.choice((7, 500, 65_536))
                pieces = (body[at : at + step] for at in range(0, len(body), step))
                body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n"
                body += self._rng.choice((b"", b"Authorization: Bearer x\r\n", b"A: b\r\n" * 3000)) + b"\r\n"
            case _:
                headers += [("Content-Length", str(len(body))), ("Connection", "upgrade"), ("Upgrade", "h2c")]
        return self._sent("lies", "POST", "/segment", headers, body)

    def _post(self, kind: str, path: str, media_type: str, body: bytes, more: Sequence[tuple[str, str]] = ()) -> Sent:
        if self._rng.random() < 0.03:
            media_type = self._rng.choice(("", ";", "text/html", "x" * 500, "multipart/form-data", "image/png;" * 50))
        headers = [*self._headers(), ("Content-Type", media_type), ("Content-Length", str(len(body))), *more]
        paces: tuple[Pace, ...] = ("whole", "pieces", "stalls", "leaves", "resets", "deaf")
        pace = self._rng.choices(paces, (88, 4, 0.1 * self._slow, 3, 3, 2))[0]
        return self._sent(kind, "POST", path, headers, body, pace)

    def _sent(self, kind: str, method: str, path: str, headers: Headers, body: bytes, pace: Pace = "whole") -> Sent:
        due = pace == "whole" and kind not in ("broken", "lies", "route") and len(body) < 60_000
        return Sent(kind, self._head(method, path, headers) + body, pace, method, due)

    def _head(self, method: str, path: str, headers: Headers) -> bytes:
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
        return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n"

    def _headers(self) -> Headers:
        headers, rng = [("Host", "127.0.0.1"), *self._key()], self._rng
        if rng.random() < 0.4:
            headers.append(("Accept", rng.choice(_ACCEPTS)))
        if rng.random() < 0.2:
            headers.append(("X-Request-Id", rng.choice(("mine", "", "a" * 201, "\xff", 'a"b\\', "0" * 200))))
        if rng.random() < 0.1:
            headers += rng.choices(
                (("Accept", "a"), ("Cookie", "b" * 4000), ("Expect", "100-continue"), ("TE", "x")), k=2
            )
        if rng.random() < 0.05:
            headers += [("X-Request-Id", "twice")] * 2
        if rng.random() < 0.05:
            headers.append(("Connection", rng.choice(("close", "keep-alive, x", "upgrade", ""))))
        return headers

    def _key(self) -> Headers:
        """The valid one, most of the time."""
        good = ("Authorization", f"Bearer {self._token}")
        if not self._token or self._rng.random() < 0.9:
            return [good] if self._token else []
        odd = ("", "Bearer", "Basic YTpi", "Bearer " + "x" * 5000, "Bearer resunet_0", "\xff", f"bearer\t{self._token}")
        return self._rng.choice(([], [good, good], [("Authorization", self._rng.choice(odd))], [("X-Api-Key", "x")]))

    def _query(self) -> str:
        return self._rng.choice(_QUERIES)

    def _picture(self) -> bytes:
        return spoilt(self._rng, self._sources, self._slow)

    def _text(self, data: bytes) -> str:
        text = base64.b64encode(data).decode()
        return text[:-1] if self._rng.random() < 0.03 else text

    def _json(self, value: Any) -> bytes:
        """As JSON; a third of them with a value changed, some with bytes."""
        if self._rng.random() < 0.35:
            value = self._changed(value)
        text = json.dumps(value).encode()
        return self._bytewise(text) if self._rng.random() < 0.1 else text

    def _changed(self, value: Any) -> Any:
        """One value, somewhere in it, another, gone, or put deeper."""
        if self._rng.random() < 0.2 or not isinstance(value, dict | list) or not value:
            odd = self._rng.choice(_ODD)
            return self._rng.choice((odd, [value], {"a": value}, [value] * 3, odd))
        if isinstance(value, list):
            at = self._rng.randrange(len(value))
            return [*value[:at], self._changed(value[at]), *value[at + 1 :]]
        key = self._rng.choice(list(value))
        rest = {name: one for name, one in value.items() if name != key}
        changes: tuple[dict[str, Any], ...] = (rest, {**rest, key + "x": value[key]})
        return self._rng.choice((*changes, *({**value, key: self._changed(value[key])},) * 4))

    def _bytewise(self, data: bytes) -> bytes:
        if not data or self._rng.random() < 0.7:
            return data
        at = self._rng.randrange(len(data))
        odd = self._rng.choice((b"\xff", b"\0", b"[" * 5000, b"9" * 6000, b'"', b"\\ud800", b"\r\n--x\r\n"))
        return self._rng.choice((data[:at], data[:at] + odd + data[at:], self._flipped(data)))

    def _flipped(self, data: bytes) -> bytes:
        changed = bytearray(data)
        changed[self._rng.randrange(len(changed))] ^= 1 << self._rng.randrange(8)
        return bytes(changed)
