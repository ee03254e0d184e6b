"""What every answer carries: the number that the request goes by, its own or one that is made, and the version's.

app.add_middleware(RequestIds)
request_id_of(request)
"""

import uuid
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
    """Middleware: reads or makes the id of a request, and writes it onto the answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As of ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).getlist(HEADER)
        request_id = given[0] if given else uuid.uuid4().hex
        if (
            len(given) > 1
            or not 0 < len(request_id) <= MAX_TEXT
            or not (request_id.isascii() and request_id.isprintable())
        ):
            told = f"{HEADER} must be at most {MAX_TEXT} printable characters, once"
            await problem_at(scope["path"], 400, told)(scope, receive, send)
            return
        scope.setdefault("state", {})["request_id"] = request_id
        trace.get_current_span().set_attribute("resunet.request_id", request_id)

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers[HEADER] = request_id
                if version := scope["state"].get("version"):  # of an answer that failed too, once it was chosen
                    headers[VERSION_HEADER] = version
            await send(message)

        await self._app(scope, receive, named)


def request_id_of(request: Request) -> str:
    """The id of this request."""
    return str(request.state.request_id)
