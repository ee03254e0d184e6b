"""What every answer carries: the id that the request goes by, its own or one that is made, and the version's.

app = RequestIds(app, live=lambda: "7")
request_id_of(request)
goes_by(request, "scan 7")              # as its body says
"""

import uuid
from collections.abc import Callable
from typing import Final

from opentelemetry import trace
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.gateway.problems import problem_at
from serving.request import MAX_TEXT

HEADER: Final = "X-Request-Id"
VERSION_HEADER: Final = "X-Model-Version"


class RequestIds:
    """Middleware: reads or makes the id of a request, and writes it and a version onto the answer.

    Args:
        app: the application.
        live: the version that answers now, which an answer names that no other one made; None: there is none.
    """

    def __init__(self, app: ASGIApp, live: Callable[[], str | None]) -> None:
        self._app, self._live = app, live

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As of ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).getlist(HEADER)
        fits = not given or (len(given) == 1 and _fits(given[0]))
        request_id = given[0] if given and fits else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        trace.get_current_span().set_attribute("resunet.request_id", request_id)

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers[HEADER] = scope["state"]["request_id"]
                if version := scope["state"].get("version") or self._live():
                    headers[VERSION_HEADER] = version
            await send(message)

        if fits:
            await self._app(scope, receive, named)
            return
        told = f"{HEADER} must be at most {MAX_TEXT} printable characters, once"
        await problem_at(scope["path"], 400, told)(scope, receive, named)


def _fits(request_id: str) -> bool:
    return 0 < len(request_id) <= MAX_TEXT and request_id.isascii() and request_id.isprintable()


def request_id_of(request: Request) -> str:
    """The id of this request."""
    return str(request.state.request_id)


def goes_by(request: Request, request_id: str) -> None:
    """Have the answer tell another id, by which the log knows the request's only image; a thread may say so.

    An id that a header cannot carry stays untold there: the body has it.
    """
    if _fits(request_id) and request_id == request_id.strip():  # blanks around it would be lost on the way
        request.state.request_id = request_id
