"""The gateway's ASGI application: its parts and its routes.

app = make_app(parts)
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from serving.access.headers import SecurityHeaders
from serving.gateway.manual import completed
from serving.gateway.observed import Observed
from serving.gateway.parts import Parts
from serving.gateway.problems import problem_at
from serving.gateway.request_id import RequestIds
from serving.gateway.routes import inference_protocol, labels, mlflow, rollout, segment, state, status
from serving.gateway.tracing import traced
from serving.page.router import page_router


def make_app(parts: Parts) -> ASGIApp:
    """The application of one process."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        parts.desk.close()

    def live() -> str | None:
        answers = parts.fleet.on("production")
        return answers.service.identity.version if answers is not None else None

    app = FastAPI(
        title="ResUNet gateway",
        description="Segments microscopy images with the version that is live in the registry.",
        version="1",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # it would send clients to whatever host they say this is
    )
    app.state.parts = parts
    app.add_exception_handler(HTTPException, _told)
    for family in (segment, mlflow, inference_protocol, labels, rollout, state, status):
        app.include_router(family.router)
    app.include_router(page_router())
    plain = app.openapi
    app.openapi = lambda: app.openapi_schema or completed(plain())  # type: ignore[method-assign]
    return traced(Observed(SecurityHeaders(RequestIds(app, live)), parts.metrics, parts.failed))


async def _told(request: Request, error: Exception) -> Response:
    """What Starlette itself refuses: no such route, no such method."""
    status, path = error.status_code if isinstance(error, HTTPException) else 500, request.scope["path"]
    told = {404: f"there is no {path} here; /docs lists what there is", 405: "not by this method"}
    answer = problem_at(path, status, told.get(status, "the request was refused"))
    if isinstance(error, HTTPException) and error.headers:
        answer.headers.update(error.headers)
    return answer
