"""A server that is stopped ends when its messages on decisions are out, or given up.

uvicorn ends by the signal that stopped it, without Python's own end, where a command would wait.
"""

from collections.abc import MutableMapping
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Scope, Send

from records.notify import finish


class LastWords:
    """ASGI middleware: goes anywhere."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def last(message: MutableMapping[str, Any]) -> None:
            if message["type"].startswith("lifespan.shutdown"):
                await run_in_threadpool(finish)
            await send(message)

        await self._app(scope, receive, last if scope["type"] == "lifespan" else send)
