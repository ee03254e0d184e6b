"""Requests whose bodies, headers and paths Hypothesis makes: near what a route takes, and anything but that.

    for sent in generated(3000, seed=0, sources=images, token=key):     # `benchmarks.fuzz_requests.Sent`
        …

Where the hands of `fuzz_requests` spoil what is good, its strategies build from nothing: values of every type at every
place of a body that has the shape of one, texts of any letters, numbers of any size, bytes put into real image files.
"""

import base64
import json
import multiprocessing
import struct
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Final
from urllib.parse import quote

try:
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded
    from hypothesis import strategies as st
except ImportError:
    sys.exit("no Hypothesis to make requests with: pip install -e '.[dev]'")

from benchmarks.fuzz_requests import GETS, INFERS, LABELS, POSTS, ROLLOUT, Sent

Strategy = st.SearchStrategy[Any]
_TOKEN: Final = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
_MOST_DUE: Final = 60_000
_METHODS: Final = ("GET", "GET", "POST", "POST", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS")

_texts = st.text(max_size=30)
_scalars = st.none() | st.booleans() | st.integers() | st.floats() | _texts
_values = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_texts, inner, max_size=4),
    max_leaves=10,
)


def _often(good: Strategy) -> Strategy:
    """What belongs there, three times of four; else anything."""
    return st.integers(0, 3).flatmap(lambda drawn: good if drawn else _values)


def _keyed(required: dict[str, Strategy], *names: str) -> Strategy:
    """An object with its fields, some of them left out, and with others that have any value."""
    more = st.dictionaries(st.sampled_from(names) | _texts, _values, max_size=2) if names else st.just({})
    fields = st.fixed_dictionaries({}, optional=required) | st.fixed_dictionaries(required)
    return st.builds(lambda own, others: {**others, **own}, fields, more)


def _images(sources: Sequence[bytes]) -> Strategy:
    """Real files, whole or with bytes put into them, and bytes that are no file."""

    @st.composite
    def changed(draw: Any) -> bytes:
        data: bytes = draw(st.sampled_from(sources))
        for _ in range(draw(st.integers(0, 3))):
            start = draw(st.integers(0, len(data)))
            stop = draw(st.integers(start, min(len(data), start + draw(st.sampled_from((0, 1, 4, 300))))))
            data = data[:start] + draw(st.binary(max_size=40)) + data[stop:]
        return data

    whole: Strategy = st.sampled_from(sources)
    return whole | changed() | changed() | st.binary(max_size=300)


def _base64(images: Strategy) -> Strategy:
    return images.map(lambda data: base64.b64encode(data).decode()) | _texts


def _tables(images: Strategy) -> Strategy:
    """Bodies of /invocations."""
    columns = st.lists(st.sampled_from(("image", "client", "slice", "request_id")) | _texts, max_size=5)
    cells = _often(_base64(images))
    split = _keyed(
        {"columns": _often(columns), "data": _often(st.lists(_often(st.lists(cells, max_size=5)), max_size=3))}
    )
    record = _keyed({"image": cells}, "client", "slice", "request_id", "width")
    params = _keyed({"threshold": _often(st.floats()), "mask_format": _often(st.sampled_from(("png", "rle")))})
    rows = st.lists(cells, max_size=3)
    forms = (
        {"dataframe_split": _often(split)},
        {"dataframe_records": _often(st.lists(_often(record), max_size=3))},
        {"inputs": _often(rows | _keyed({"image": rows}))},
        {"instances": _often(st.lists(record, max_size=3))},
    )
    return st.one_of(*(_keyed(form, "params") | _keyed({**form, "params": _often(params)}) for form in forms))


def _protocol(images: Strategy) -> Strategy:
    """Bodies of the Open Inference Protocol."""
    tensor = _keyed(
        {
            "name": _often(st.just("image")),
            "shape": _often(st.lists(st.integers(-2, 3), max_size=3)),
            "datatype": _often(st.sampled_from(("BYTES", "UINT8", "FP32"))),
            "data": _often(st.lists(_base64(images), max_size=3)),
        },
        "parameters",
    )
    parameters = _keyed({}, "threshold", "client", "slice", "binary_data_output", "binary_data_size")
    outputs = st.lists(_keyed({"name": _often(st.sampled_from(("mask", "confidence")))}), max_size=2)
    fields = {"inputs": _often(st.lists(_often(tensor), max_size=2)), "outputs": _often(outputs)}
    return _keyed({**fields, "id": _often(_texts), "parameters": _often(parameters)}, "timeout")


def _labels(images: Strategy) -> Strategy:
    """Bodies of /labels."""
    fields = {"request_id": _often(_texts), "dice": _often(st.floats()), "mask": _often(_base64(images))}
    return _keyed(fields, "source", "class")


def _posts(images: Strategy) -> Strategy:
    """Path, media type, body and headers of what has a body."""
    as_json = st.just("application/json") | st.just("application/json; charset=utf-8")
    odd = st.sampled_from(("text/csv", "text/plain", "multipart/form-data", "")) | _texts

    def of(paths: Sequence[str], bodies: Strategy) -> Strategy:
        texts = bodies.map(lambda value: json.dumps(value).encode()) | bodies.map(_surrogates)
        return st.tuples(st.sampled_from(paths), as_json | as_json | odd, texts, st.just([]))

    pictures: Strategy = st.tuples(
        st.just("/segment"), st.sampled_from(("image/png", "image/jpeg", "image/tiff")) | odd, images, st.just([])
    )
    binary = st.builds(
        _with_bytes, st.sampled_from(INFERS), _protocol(images), st.lists(images, max_size=2), st.integers(-9, 9)
    )
    return st.one_of(
        pictures,
        of(("/invocations",), _tables(images)),
        of(INFERS, _protocol(images)),
        binary,
        st.builds(
            _form, st.lists(st.tuples(_texts | st.sampled_from(("image", "client")), images | _texts), max_size=4)
        ),
        of((LABELS,), _labels(images)),
        of(("/announce", *ROLLOUT), _keyed({"reason": _often(_texts)}, "name", "version")),
        of(POSTS, _values),
    )


def _surrogates(value: object) -> bytes:
    """JSON with its letters as they are, one of them half a pair where there is any."""
    text = json.dumps(value, ensure_ascii=False)
    return text.replace("e", "\ud800", 1).encode("utf-8", "surrogatepass")


def _with_bytes(path: str, asked: object, images: list[bytes], off: int) -> tuple[str, str, bytes, Any]:
    head = json.dumps(asked).encode()
    tail = b"".join(struct.pack("<I", len(one)) + one for one in images)
    more = [("Inference-Header-Content-Length", str(len(head) + (off if abs(off) > 6 else 0)))]
    return path, "application/octet-stream", head + tail, more


def _form(fields: list[tuple[str, bytes | str]]) -> tuple[str, str, bytes, Any]:
    body = b""
    for name, content in fields:
        head = f'--edge\r\nContent-Disposition: form-data; name="{name}"'
        if isinstance(content, bytes):
            head += '; filename="a.png"\r\nContent-Type: image/png'
        data = content if isinstance(content, bytes) else content.encode()
        body += head.encode() + b"\r\n\r\n" + data + b"\r\n"
    return "/segment", "multipart/form-data; boundary=edge", body + b"--edge--\r\n", []


def _requests(sources: Sequence[bytes], token: str) -> Strategy:
    headers = st.lists(
        st.tuples(
            st.sampled_from(("Accept", "X-Request-Id", "Accept-Encoding", "Range", "If-None-Match", "Origin"))
            | st.text(_TOKEN, min_size=1, max_size=20),
            st.text(st.characters(codec="latin-1", exclude_characters="\r\n"), max_size=40),
        ),
        max_size=3,
    )
    names = st.sampled_from(("view", "format", "threshold", "client", "slice", "depth", "class")) | _texts
    queries = st.dictionaries(names, _texts | st.floats().map(str), max_size=3)
    key = [("Authorization", f"Bearer {token}")] if token else []

    def posted(parts: tuple[str, str, bytes, Any], more: Any, query: dict[str, str]) -> Sent:
        path, kind, body, own = parts
        return _sent("POST", path + _query(query), [*key, *own, *more, ("Content-Type", kind)], body)

    def routed(method: str, path: str, below: str, more: Any, query: dict[str, str]) -> Sent:
        return _sent(method, path + quote(below) + _query(query), [*key, *more], b"")

    posts = st.builds(posted, _posts(_images(sources)), headers, queries)
    below = st.just("") | _texts.map(lambda text: "/" + text)
    routes = st.builds(
        routed, st.sampled_from(_METHODS), st.sampled_from((*GETS, *POSTS, LABELS, *ROLLOUT)), below, headers, queries
    )
    return posts | posts | posts | routes


def _query(query: dict[str, str]) -> str:
    return "?" + "&".join(f"{quote(name)}={quote(value)}" for name, value in query.items()) if query else ""


def _sent(method: str, path: str, headers: list[tuple[str, str]], body: bytes) -> Sent:
    # A header that lies about the body's length or form makes another request of the rest: `fuzz_requests` has those.
    own = {"content-length", "transfer-encoding", "connection", "expect", "host", "upgrade"}
    named = [(name, value) for name, value in headers if name.lower() not in own]
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in named]
    head = "\r\n".join(lines).encode("latin-1", "replace").replace(b"\0", b"")
    clean = all(value.isascii() and value.isprintable() for _, value in named)
    return Sent("hypothesis", head + b"\r\n\r\n" + body, "whole", method, clean and len(body) < _MOST_DUE)


def generated(count: int, seed: int, sources: Sequence[bytes], token: str) -> list[Sent]:
    """Make requests, the same ones from the same seed.

    Hypothesis also takes constants of whatever project's modules are loaded, so it works in a process of its own.

    Args:
        count: how many at most.
        sources: encoded images.
        token: an API key that is valid; empty where the gateway asks for none.
    """
    if count == 0:
        return []
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_generated, count, seed, sources, token).result()


def _generated(count: int, seed: int, sources: Sequence[bytes], token: str) -> list[Sent]:
    made: list[Sent] = []

    @seeded(seed)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(_requests(sources, token))
    def collect(sent: Sent) -> None:
        made.append(sent)

    collect()
    return made
