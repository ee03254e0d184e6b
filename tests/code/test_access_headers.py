"""Security headers: on every answer, once, and without holding a stream back."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.access.headers import CONTENT_POLICY, SecurityHeaders

ALWAYS = {"x-content-type-options", "x-frame-options", "referrer-policy", "content-security-policy", "cache-control"}
Message = MutableMapping[str, Any]


async def _receive() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


def ask(app: ASGIApp, path: str = "/", scheme: str = "http", host: str = "segment.example") -> list[tuple[str, str]]:
    """The headers of an answer."""
    scope: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "path": path,
        "query_string": b"",
        "scheme": scheme,
        "root_path": "",
    }
    scope |= {"headers": [(b"host", host.encode())], "client": None}
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def run() -> None:
        try:
            await app(scope, _receive, send)
        except RuntimeError as error:
            assert str(error) == "unforeseen"

    asyncio.run(run())
    return [(name.decode().lower(), value.decode()) for name, value in sent[0]["headers"]]


async def _plain(request: Request) -> Response:
    return PlainTextResponse("mask")


async def _cached(request: Request) -> Response:
    return PlainTextResponse("style", headers={"Cache-Control": "max-age=60", "X-Frame-Options": "SAMEORIGIN"})


async def _broken(request: Request) -> Response:
    raise RuntimeError("unforeseen")


@pytest.fixture
def app() -> Starlette:
    return Starlette(routes=[Route("/", _plain), Route("/cached", _cached), Route("/broken", _broken)])


@pytest.mark.parametrize("path", ["/", "/nowhere", "/broken"])
def test_every_answer_has_them_once_errors_included(app: Starlette, path: str) -> None:
    headers = ask(SecurityHeaders(app), path)
    names = [name for name, _ in headers]
    assert set(names) >= ALWAYS and len(names) == len(set(names))
    found = dict(headers)
    assert found["x-content-type-options"] == "nosniff" and found["x-frame-options"] == "DENY"
    assert found["referrer-policy"] == "no-referrer" and found["cache-control"] == "no-store"
    assert "content-length" in found


def test_what_a_route_sets_is_kept(app: Starlette) -> None:
    headers = ask(SecurityHeaders(app), "/cached")
    assert [value for name, value in headers if name == "cache-control"] == ["max-age=60"]
    assert [value for name, value in headers if name == "x-frame-options"] == ["SAMEORIGIN"]


def test_the_content_policy_allows_this_origin_alone_and_nothing_inline() -> None:
    policy = {words.split()[0]: words.split()[1:] for words in CONTENT_POLICY.split(";")}
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == ["'none'"]
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == policy["form-action"] == ["'self'"]
    allowed = {source for sources in policy.values() for source in sources}
    assert allowed <= {"'self'", "'none'", "blob:", "data:"}
    assert {name for name, sources in policy.items() if {"blob:", "data:"} & set(sources)} == {"img-src"}


def test_browsers_are_told_to_keep_to_https_only_by_https(app: Starlette) -> None:
    def told(scheme: str, host: str = "segment.example", **options: int) -> str | None:
        return dict(ask(SecurityHeaders(app, **options), "/", scheme, host)).get("strict-transport-security")

    assert told("https") == "max-age=31536000"
    assert told("https", hsts_seconds=60) == "max-age=60"
    assert told("https", hsts_seconds=0) is None
    assert told("http") is None
    # The name of every developer's other servers.
    assert told("https", "localhost:8443") is None and told("https", "127.0.0.1") is None


def test_a_stream_passes_chunk_by_chunk() -> None:
    async def run() -> list[Message]:
        seen: asyncio.Queue[Message] = asyncio.Queue()

        async def streaming(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": [], "trailers": True})
            for number in range(3):
                chunk = {"type": "http.response.body", "body": b"%d" % number, "more_body": True}
                await send(chunk)
                # Goes on only when the client has this very chunk.
                assert await asyncio.wait_for(seen.get(), 30) is not None
                assert seen.empty() and sent[-1] is chunk
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            await send({"type": "http.response.trailers", "headers": [], "more_trailers": False})

        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)
            if message["type"] == "http.response.body":
                await seen.put(message)

        await SecurityHeaders(streaming)({"type": "http", "scheme": "http", "headers": []}, _receive, send)
        return sent

    sent = asyncio.run(run())
    assert [message["type"].rpartition(".")[2] for message in sent] == ["start", *["body"] * 4, "trailers"]
    assert sent[0]["trailers"] is True


@pytest.mark.parametrize("kind", ["lifespan", "websocket"])
def test_what_is_no_http_passes_untouched(kind: str) -> None:
    got: list[object] = []

    async def app(*given: object) -> None:
        got.extend(given)

    async def send(message: Message) -> None: ...

    scope = {"type": kind}
    asyncio.run(SecurityHeaders(app)(scope, _receive, send))
    assert got == [scope, _receive, send]
