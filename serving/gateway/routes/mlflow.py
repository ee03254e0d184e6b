"""The routes of MLflow's scoring server: `/invocations`, `/ping`, `/version`, with its bodies and its statuses."""

from typing import Any

from fastapi import APIRouter, Request, Response
from mlflow.version import VERSION

from serving.gateway.parts import ToldRoute, parts_of

router = APIRouter(route_class=ToldRoute, tags=["MLflow"])

_TABLE = {
    "application/json": {
        "schema": {"type": "object"},
        "example": {"dataframe_split": {"columns": ["image"], "data": [["<base64 of an image file>"]]}},
    }
}


@router.post("/invocations", openapi_extra={"requestBody": {"content": _TABLE, "required": True}})
async def invocations(request: Request) -> Response:
    """Segment the images of a table, a row an image, as `mlflow models serve` does."""
    parts = parts_of(request)
    caller = parts.admit(request, "predict")
    async with parts.desk.visit(request) as visit:
        body = await visit.body()
        live, call_with = parts.live(request), parts.call(request, visit, caller)

        def score() -> Any:
            scorer = live.scorer(call_with)
            kind = request.headers.get("content-type", "")
            return parts.invocations(body, kind, scorer, scorer.metadata.get_input_schema())

        answer = await visit.work(score)
    headers = {"X-Model-Version": live.loaded.identity.version} if answer.status == 200 else {}
    return Response(answer.response, answer.status, headers, media_type=answer.mimetype)


@router.get("/ping")
async def ping(request: Request) -> Response:
    """200 while a version answers, else 404."""
    status = 404 if parts_of(request).fleet.on("production") is None else 200
    return Response("\n", status, media_type="application/json")


@router.get("/version")
async def version() -> Response:
    """MLflow's own version."""
    return Response(VERSION, media_type="application/json")
