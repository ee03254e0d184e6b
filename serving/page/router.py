"""Routes of the pages and of their files, which need no key: they hold nothing, and ask the other routes.

    app = FastAPI(docs_url=None, redoc_url=None)
    app.include_router(page_router())                   # GET / and /docs, and below /page/ what they load

Every link is relative, so the server may stand below any path of a proxy. A browser asks each time whether its copy is
still the same, and is answered 304 where it is: nobody sees a page of the release before.
"""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from serving.access.headers import CONTENT_POLICY

_OWN: Final = "serving.page"
# Swagger UI as its makers publish it; the package is used for these two files alone.
_SWAGGER: Final = "fastapi_swagger.resources"
_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
}


@dataclass(frozen=True)
class Asset:
    """A file of a page."""

    content: bytes
    media_type: str
    etag: str

    @classmethod
    def read(cls, file: Traversable) -> "Asset":
        content = file.read_bytes()
        return cls(content, _TYPES[file.name.rpartition(".")[2]], f'"{hashlib.sha256(content).hexdigest()[:32]}"')


def assets() -> dict[str, Asset]:
    """Each path and its file."""
    own, swagger = resources.files(_OWN) / "static", resources.files(_SWAGGER)
    found = {"/": own / "index.html", "/docs": own / "docs.html"}
    found |= {f"/page/{name}": own / name for name in ("page.css", "page.js", "docs.css", "docs.js", "status.css")}
    found |= {f"/page/{name}": swagger / name for name in ("swagger-ui.css", "swagger-ui-bundle.js")}
    return {path: Asset.read(file) for path, file in found.items()}


def page_router() -> APIRouter:
    """Routes for all of them; none is part of the OpenAPI document."""
    router = APIRouter()
    for path, asset in assets().items():
        router.add_route(path, _serve(asset), methods=["GET"], include_in_schema=False)
    return router


def _serve(asset: Asset) -> Callable[[Request], Awaitable[Response]]:
    headers = {"ETag": asset.etag, "Cache-Control": "no-cache", "Content-Security-Policy": CONTENT_POLICY}

    async def serve(request: Request) -> Response:
        known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
        if asset.etag in known or "*" in known:
            return Response(status_code=304, headers=headers)
        return Response(asset.content, media_type=asset.media_type, headers=headers)

    return serve
