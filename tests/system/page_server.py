"""The pages with a small `POST /segment` behind them: a real server, a real version, no registry.

with page_server(folder, classes=1, key=None) as url:
    browser.new_page().goto(url)
"""

import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from version_factory import write_version
from waiting import until

from resunet.errors import ResunetError
from resunet.images import decode_image
from serving.errors import status_of
from serving.page.router import page_router
from serving.pictures.accept import choose
from serving.pictures.answers import Shown, draw, gather
from serving.predictor import Predictor

VERSION = "7"


def make_app(folder: Path, classes: int = 1, key: str | None = None) -> FastAPI:
    """The pages' routes and `POST /segment` of a version that finds bright spots, written to the folder."""
    write_version(folder, classes)
    predictor = Predictor.load(folder, "onnxruntime", threads=1)
    names = predictor.spec.class_names
    app = FastAPI(title="A small gateway", docs_url=None, redoc_url=None)
    app.include_router(page_router())

    @app.post("/segment", summary="Segment an image", description="The body is an image file.")
    async def segment(request: Request) -> Response:
        if key is not None and request.headers.get("authorization") != f"Bearer {key}":
            return JSONResponse({"error_code": "UNAUTHENTICATED", "message": "send the API key"}, 401)
        request_id = uuid.uuid4().hex
        headers = {"X-Request-Id": request_id, "X-Model-Version": VERSION}
        try:
            wanted = choose(request.headers.get("accept"), request.query_params)
            rgb = decode_image(await request.body())
            gathered = gather(wanted, *rgb.shape[:2], names)
            told = {} if gathered is None else {"on_tile": gathered.add}
            shown = Shown(rgb, predictor.predict(rgb, **told), names, VERSION, request_id)
            body = draw(wanted, shown, gathered)
        except ResunetError as error:
            return JSONResponse({"error_code": "X", "message": str(error)}, status_of(error), headers)
        return Response(body.join(), media_type=body.media_type, headers=headers)

    return app


@contextmanager
def page_server(folder: Path, classes: int = 1, key: str | None = None) -> Iterator[str]:
    """Its URL, while it runs."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        server = uvicorn.Server(uvicorn.Config(make_app(folder, classes, key), log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            until(lambda: server.started, seconds=30)
            yield f"http://127.0.0.1:{port}/"
        finally:
            server.should_exit = True
            thread.join(30)
