"""The routes of MLflow's scoring server: `/invocations`, `/ping`, `/version`, with its bodies and its statuses."""

from collections.abc import Callable
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from mlflow.pyfunc.scoring_server import InvocationsResponse
from mlflow.version import VERSION

from serving.gateway.answering import Answering
from serving.gateway.fleet import Live
from serving.gateway.manual import VERSION_HEADER, refusals
from serving.gateway.parts import ToldRoute, parts_of
from serving.plain import read_plain
from serving.request import Options
from serving.service import Call

router = APIRouter(route_class=ToldRoute, tags=["MLflow"])

_TABLE = {
    "application/json": {
        "schema": {
            "type": "object",
            "properties": {
                "dataframe_split": {
                    "type": "object",
                    "required": ["columns", "data"],
                    "properties": {
                        "columns": {"type": "array", "items": {"type": "string"}},
                        "data": {"type": "array", "items": {"type": "array"}},
                    },
                },
                "dataframe_records": {"type": "array", "items": {"type": "object"}},
                "params": {
                    "type": "object",
                    "properties": {
                        "threshold": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
                        "mask_format": {"type": "string", "enum": ["png", "rle"]},
                    },
                },
            },
            "oneOf": [{"required": ["dataframe_split"]}, {"required": ["dataframe_records"]}],
        },
        "example": {"dataframe_split": {"columns": ["image"], "data": [["<base64 of an image file>"]]}},
    }
}


_ANSWER: Final = {
    "application/json": {
        "schema": {
            "type": "object",
            "required": ["predictions"],
            "properties": {"predictions": {"type": "array", "items": {"type": "object"}}},
        }
    }
}


@router.post(
    "/invocations",
    openapi_extra={"requestBody": {"content": _TABLE, "required": True}},
    response_class=Response,
    responses={
        **refusals(400, 401, 403, 408, 413, 415, 429, 503, 504),
        200: {"description": "A row an image: its mask, and what else is known.", "content": _ANSWER}
        | {"headers": dict(VERSION_HEADER)},
    },
)
async def invocations(request: Request) -> Response:
    """Segment the images of a table, a row an image, as `mlflow models serve` does."""
    parts = parts_of(request)
    caller = parts.admit(request, "predict")
    async with parts.desk.visit(request) as visit:
        body = await visit.body()
        answering = Answering(parts, request, visit, caller)

        def score(live: Live, call_with: Callable[[Options], Call]) -> Any:
            kind = request.headers.get("content-type", "")
            if (table := read_plain(body, kind)) is not None:
                return InvocationsResponse(live.answer_plain(table, call_with), 200, "application/json")
            scorer = live.scorer(call_with)
            return parts.invocations(body, kind, scorer, scorer.metadata.get_input_schema())

        answer = await answering.work(score)
    return Response(answer.response, answer.status, media_type=answer.mimetype, background=answering.after())


@router.get(
    "/ping",
    response_class=Response,
    responses={
        200: {"description": "A version answers.", "content": {"application/json": {}}},
        404: {"description": "None does.", "content": {"application/json": {}}},
    },
)
async def ping(request: Request) -> Response:
    """200 while a version answers, else 404."""
    status = 404 if parts_of(request).fleet.on("production") is None else 200
    return Response("\n", status, media_type="application/json")


@router.get(
    "/version",
    response_class=Response,
    responses={200: {"description": "Such as 3.17.2, without quotes.", "content": {"application/json": {}}}},
)
async def version() -> Response:
    """MLflow's own version."""
    return Response(VERSION, media_type="application/json")
